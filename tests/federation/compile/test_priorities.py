"""FIELD section 0, rows "Locality priority" and "failoverPriority", as tables; compaction as a property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Endpoint, Locality
from federation.compile.priorities import (
    ALL_EQUAL,
    LocalityPolicy,
    Place,
    distribution,
    label_level,
    locality_level,
    locality_matches,
    priorities,
)

HERE = Place(cluster="east", network="east", locality=Locality.parse("r1/z1/s1"), labels=(("tier", "gold"),))
ISTIO = LocalityPolicy()
FEDGATE = LocalityPolicy(own_cluster_first=True)


def at(*places: str) -> list[Endpoint]:
    return [Endpoint(f"10.0.0.{index}", locality=Locality.parse(place)) for index, place in enumerate(places)]


@pytest.mark.parametrize(
    ("there", "level"),
    [("r1/z1/s1", 0), ("r1/z1/s2", 1), ("r1/z1", 1), ("r1/z2/s1", 2), ("r1", 2), ("r2/z1/s1", 3), ("", 3)],
)
def test_locality_levels(there: str, level: int) -> None:
    assert locality_level(HERE.locality, Locality.parse(there)) == level


def test_failover_puts_what_it_does_not_name_last() -> None:
    rules = [("r9", "r3"), ("r1", "r2")]
    assert locality_level(HERE.locality, Locality("r2"), rules) == 3
    assert locality_level(HERE.locality, Locality("r3"), rules) == 4
    assert locality_level(HERE.locality, Locality("r1", "z9"), rules) == 2


def test_without_a_rule_for_the_own_region_failover_changes_nothing() -> None:
    assert locality_level(HERE.locality, Locality("r3"), [("r7", "r2")]) == 3


@pytest.mark.parametrize(
    ("labels", "level"),
    [({"a": "1", "b": "2", "c": "3"}, 0), ({"a": "1", "b": "2"}, 1), ({"a": "1", "c": "3"}, 2), ({"b": "2", "c": "3"}, 3), ({}, 3)],
)
def test_failover_priority_counts_the_matched_prefix(labels: dict[str, str], level: int) -> None:
    assert label_level(("a", "b", "c"), {"a": "1", "b": "2", "c": "3"}, labels) == level


def test_failover_priority_value_overrides_the_gateways() -> None:
    assert label_level(("version=v2",), {"version": "v1"}, {"version": "v2"}) == 0
    assert label_level(("version=v2",), {"version": "v1"}, {"version": "v1"}) == 1


def test_priorities_have_no_holes() -> None:
    assert priorities(at("r1/z1/s1", "r1/z2", "r2", "r1/z1/s1"), HERE, ISTIO) == [0, 1, 2, 0]
    assert priorities(at("r2", "r3"), HERE, ISTIO) == [0, 0]
    assert priorities(at("r2", "r3"), HERE, LocalityPolicy(failover=(("r1", "r3"),))) == [1, 0]


def test_without_locality_policy_all_are_equal() -> None:
    assert priorities(at("r1/z1/s1", "r2"), HERE, ALL_EQUAL) == [0, 0]


def test_own_cluster_first_then_peers_by_locality() -> None:
    endpoints = [
        Endpoint("10.0.0.1", cluster="east", locality=Locality("r2")),
        Endpoint("10.0.0.2", cluster="east", locality=Locality("r1", "z1", "s1")),
        Endpoint("192.0.2.1", cluster="west", peer="west", locality=Locality("r1", "z1", "s1")),
        Endpoint("192.0.2.2", cluster="south", peer="south", locality=Locality("r3")),
        Endpoint("192.0.2.3", cluster="north", locality=Locality("r3")),
    ]
    assert priorities(endpoints, HERE, FEDGATE) == [1, 0, 2, 3, 3]
    assert priorities(endpoints, HERE, ISTIO) == [1, 0, 0, 1, 1]


def test_failover_priority_by_network_then_region() -> None:
    endpoints = [
        Endpoint("1", network="east", locality=Locality("r2")),
        Endpoint("2", network="west", locality=Locality("r1")),
        Endpoint("3", network="east", locality=Locality("r1")),
    ]
    rules = LocalityPolicy(failover_priority=("topology.istio.io/network", "topology.kubernetes.io/region"))
    assert priorities(endpoints, HERE, rules) == [1, 2, 0]


def test_failover_priority_with_failover_is_composed() -> None:
    endpoints = [
        Endpoint("1", labels=(("tier", "gold"),), locality=Locality("r3")),
        Endpoint("2", labels=(("tier", "lead"),), locality=Locality("r1", "z1", "s1")),
        Endpoint("3", labels=(("tier", "gold"),), locality=Locality("r2")),
    ]
    rules = LocalityPolicy(failover_priority=("tier",), failover=(("r1", "r2"),))
    assert priorities(endpoints, HERE, rules) == [1, 2, 0]


_localities = st.builds(
    Locality, st.sampled_from(["r1", "r2", "r3"]), st.sampled_from(["", "z1", "z2"]), st.sampled_from(["", "s1"])
)
_endpoints = st.lists(
    st.builds(Endpoint, st.just("a"), locality=_localities, cluster=st.sampled_from(["east", "west"])), max_size=12
)
_policies = st.builds(
    LocalityPolicy,
    enabled=st.booleans(),
    own_cluster_first=st.booleans(),
    failover=st.sampled_from([(), (("r1", "r2"),)]),
    failover_priority=st.sampled_from([(), ("topology.istio.io/cluster",)]),
)


@given(_endpoints, _policies)
def test_priorities_are_always_compact_and_equal_places_are_equal(endpoints: list[Endpoint], policy: LocalityPolicy) -> None:
    ranks = priorities(endpoints, HERE, policy)
    assert sorted(set(ranks)) == list(range(len(set(ranks))))
    by_place: dict[tuple[Locality, str], int] = {}
    for endpoint, rank in zip(endpoints, ranks, strict=True):
        assert by_place.setdefault((endpoint.locality, endpoint.cluster), rank) == rank


ZONED = LocalityPolicy(regions_only=True)


def test_zone_aware_ranks_regions_only() -> None:
    assert priorities(at("r1/z1/s1", "r1/z2", "r2", "r1"), HERE, ZONED) == [0, 0, 1, 0]
    assert priorities(at("r1", "r2", "r3"), HERE, LocalityPolicy(regions_only=True, failover=(("r1", "r3"),))) == [0, 2, 1]


def test_labels_come_before_regions_when_zone_aware() -> None:
    gold = [Endpoint(each.address, locality=each.locality, labels=(("tier", "gold"),)) for each in at("r2", "r1")]
    rules = LocalityPolicy(regions_only=True, failover_priority=("tier",))
    assert priorities([*gold, *at("r1/z2", "r2")], HERE, rules) == [1, 0, 2, 3]


@pytest.mark.parametrize(
    ("pattern", "locality", "expected"),
    [
        ("*", "", True),
        ("r1", "r1/z1/s1", True),
        ("r1/*", "r1", True),
        ("r1/z1", "r1/z1/s9", True),
        ("r1/z1/*", "r1/z1", True),
        ("r1/z1/s1", "r1/z1", False),
        ("r1/z1", "r1/z2", False),
        ("r1", "r10", False),
    ],
)
def test_patterns_of_localities(pattern: str, locality: str, expected: bool) -> None:
    assert locality_matches(pattern, Locality.parse(locality)) is expected


def distributing(*rules: tuple[str, dict[str, int]]) -> LocalityPolicy:
    return LocalityPolicy(enabled=False, distribute=tuple((source, tuple(to.items())) for source, to in rules))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([("r1/z1/*", {"r1/z1/s1": 80, "r2/*": 20})], {"r1/z1/s1": 80, "r2/z1": 20}),
        (
            [("r9", {"r2": 100}), ("*", {"r1": 100}), ("r1", {"r2": 100})],
            {"r1/z1/s1": 50, "r1/z2": 50},
        ),  # the first `from` that fits
        ([("r1", {"r1": 1, "r2": 99})], {"r1/z1/s1": 1, "r1/z2": 1, "r2/z1": 99}),  # rounded up
        ([("r1", {"r7": 100})], {}),  # nothing is named that is there
        ([("r9", {"r1": 100})], None),
        ([], None),
    ],
)
def test_distribute(rules: list[tuple[str, dict[str, int]]], expected: dict[str, int] | None) -> None:
    assert distribution(at("r1/z1/s1", "r1/z2", "r2/z1"), HERE.locality, distributing(*rules)) == expected


def test_a_pattern_divides_its_weight_by_the_weights_of_the_endpoints() -> None:
    endpoints = [Endpoint("10.0.0.1", locality=Locality("r2", "a"), weight=3), *at("r2/b")]
    assert distribution(endpoints, HERE.locality, distributing(("r1", {"r2": 100}))) == {"r2/a": 75, "r2/b": 25}


def test_a_registrys_own_order_decides_last_and_without_localities_too() -> None:
    near, backup = Endpoint("a", locality=Locality("r1", "z1")), Endpoint("b", locality=Locality("r1", "z1"), tier=1)
    far, far_backup = Endpoint("c", locality=Locality("r2", "z9")), Endpoint("d", locality=Locality("r2", "z9"), tier=1)
    place = Place("east", "", Locality("r1", "z1"))
    assert priorities([near, backup, far, far_backup], place, LocalityPolicy()) == [0, 1, 2, 3]
    assert priorities([backup, far], place, LocalityPolicy()) == [0, 1], "a backup nearby comes before what is far away"
    assert priorities([near, backup, far, far_backup], place, ALL_EQUAL) == [0, 1, 0, 1]
