"""Where relayed connections go: order, subnets, weights, names of AUTO_PASSTHROUGH."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.native.targets import Targets, automatic, host_allowed
from gateway.snapshot import TcpRoute, TcpSplit


def route(name, *splits, subnets=()):
    return TcpRoute(name, tuple(TcpSplit(*split) for split in splits), tuple(subnets))


def never():
    raise AssertionError("nothing is drawn")


def test_the_first_route_whose_subnets_hold_the_address():
    targets = Targets(
        [route("a", ("a",), subnets=["10.0.0.0/8", "fd00::/8"]), route("b", ("b",), subnets=["192.0.2.7"]), route("c", ("c",))]
    )
    half = lambda: 0.5  # noqa: E731
    found = [targets.choose(local, half) for local in ("10.9.9.9", "fd00::1", "192.0.2.7", "192.0.2.8", "", "::ffff:10.1.1.1")]
    assert found == ["a", "a", "b", "c", "c", "a"]


def test_no_route():
    assert Targets([]).choose("10.0.0.1", never) == ""
    assert Targets([route("a", ("a",), subnets=["10.0.0.0/8"])]).choose("11.0.0.1", never) == ""
    assert Targets([route("a", ("a",), subnets=["10.0.0.0/8"])]).choose("", never) == ""
    assert Targets([route("a", ("a", 0), ("b", 0))]).choose("11.0.0.1", never) == ""


def test_a_single_target_is_not_drawn():
    assert Targets.one("a").choose("", never) == "a"
    assert Targets([route("a", ("a", 0))]).choose("10.0.0.1", never) == "a"


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_shares_are_as_weighted(weights):
    targets = Targets([route("r", *((f"b{n}", weight) for n, weight in enumerate(weights)))])
    total = sum(weights)
    drawn = [targets.choose("", lambda point=point: (point + 0.5) / total) for point in range(total)]
    assert [drawn.count(f"b{n}") for n in range(len(weights))] == weights


def test_a_subnet_that_is_none_is_a_fault():
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        Targets([route("a", ("a",), subnets=["10.0.0.0/99"])])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("outbound_.80_._.a.b.svc.cluster.local", ("inbound|80||a.b.svc.cluster.local", "a.b.svc.cluster.local")),
        ("outbound_.80_.v1_.a.example", ("inbound|80|v1|a.example", "a.example")),
        ("outbound_.http_._.a", ("", "")),
        ("inbound_.80_._.a", ("", "")),
        ("outbound_.80_._.", ("", "")),
        ("a.example", ("", "")),
        ("", ("", "")),
    ],
)
def test_the_names_of_auto_passthrough(name, wanted):
    assert automatic(name) == wanted


@pytest.mark.parametrize(
    ("host", "allowed", "wanted"),
    [
        ("a.local", ["*"], True),
        ("a.local", ["*.local"], True),
        ("local", ["*.local"], False),
        (".local", ["*.local"], False),
        ("a.local", ["A.local"], True),
        ("a.locals", ["*.local", "b.local"], False),
        ("a.local", [], False),
    ],
)
def test_hosts_that_are_allowed(host, allowed, wanted):
    assert host_allowed(host, allowed) is wanted
