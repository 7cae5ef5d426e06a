"""Shares of localities: by weight, and zone-aware with Envoy's own example."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.zones import weighted_shares, zone_shares


@pytest.mark.parametrize(
    ("healthy", "expected"),
    [
        # Envoy's documentation of locality_weighted_lb: 10 hosts each, weights 1 and 2 (rounded there).
        ((10, 10), (0.333, 0.667)),
        ((8, 10), (0.333, 0.667)),
        ((7, 10), (0.329, 0.671)),  # 0.98 of weight 1
        ((5, 10), (0.259, 0.741)),
        ((3, 10), (0.174, 0.826)),
        ((0, 10), (0.0, 1.0)),
    ],
)
def test_a_locality_counts_its_weight_times_what_is_left_of_it(healthy, expected):
    found = weighted_shares({"x": 1, "y": 2}, {"x": 10, "y": 10}, dict(zip("xy", healthy, strict=True)), 140)
    assert [found.get(name, 0.0) for name in "xy"] == pytest.approx(expected, abs=0.001)


def test_what_has_no_weight_gets_nothing_even_when_the_rest_is_dead():
    assert weighted_shares({"x": 100}, {"x": 3, "y": 3}, {"y": 3}, 140) == {}
    assert weighted_shares({"x": 80, "z": 20}, {"x": 3, "y": 3}, {"x": 3, "y": 3}, 140) == {"x": 1.0}


def test_envoys_example_of_residual_capacity():
    # From the comments of its code: gateways 40/40/20 %, endpoints 25/50/25 %: 62.5 % stay, the rest goes 2 : 1.
    found = zone_shares("a", {"a": 40, "b": 40, "c": 20}, {"a": 25, "b": 50, "c": 25})
    assert found == pytest.approx({"a": 0.625, "b": 0.25, "c": 0.125})


@pytest.mark.parametrize(
    ("gateways", "endpoints", "expected"),
    [
        ({"a": 1, "b": 1}, {"a": 5, "b": 5}, {"a": 1.0}),
        ({"a": 1, "b": 1}, {"a": 6, "b": 4}, {"a": 1.0}),
        ({"a": 1, "b": 1}, {"a": 4, "b": 6}, {"a": 0.8, "b": 0.2}),
        ({"a": 1}, {"a": 1, "b": 3}, {"a": 0.25, "b": 0.75}),  # one gateway that knows no other
        ({"a": 1}, {"b": 3, "c": 1}, None),  # nothing here
        ({"a": 1}, {"a": 3}, None),  # nowhere else
        ({"b": 1}, {"a": 3, "b": 1}, None),  # we are not among the gateways
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": 1.0}),
        ({"a": 9999, "b": 1}, {"a": 9998, "b": 1}, {"a": 0.9999, "b": 0.0001}),
    ],
)
def test_zone_aware(gateways, endpoints, expected):
    found = zone_shares("a", gateways, endpoints)
    assert found == (None if expected is None else pytest.approx(expected, abs=0.0002))


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50), min_size=2),
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 50)),
)
def test_all_of_it_goes_somewhere_that_has_endpoints(endpoints, gateways):
    found = zone_shares("a", gateways, endpoints)
    if found is not None:
        assert sum(found.values()) == pytest.approx(1.0)
        assert found.keys() <= endpoints.keys()
