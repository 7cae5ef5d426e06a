"""Least privilege: what a peer is offered, and how its workloads are counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service
from federation.peering.offer import MAX_GROUPS, offers
from federation.peering.terms import ExportTerms, PeerTerms
from federation.peering.wire import ExportedPort, LocalityCount
from gateway.verdicts import Verdict, Verdicts

WEST = PeerTerms("west", "west.example.com")
R1, R2 = Locality("r1", "z1"), Locality("r2")


def endpoint(address, **options):
    return Endpoint(address, (("http", 8080),), **({"cluster": "east", "locality": R1} | options))


def service(hostname, *endpoints):
    return Service(hostname, "shop", (Port(80, "http", Protocol.HTTP),), endpoints or (endpoint("10.0.0.1"),))


def offered(services, *exports, verdicts=None, peer=WEST):
    return offers(services, exports, verdicts or Verdicts(), cluster="east", peer=peer)


def names(*args, **options):
    return [each.hostname for each in offered(*args, **options)]


def test_nothing_unless_named():
    assert offered([service("a.shop")]) == ()
    assert offered([service("a.shop")], ExportTerms("x", ("b.shop",), ("west",))) == ()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("a.shop.local", ["a.shop.local"]),
        ("A.Shop.Local", ["a.shop.local"]),
        ("*.shop.local", ["a.shop.local", "b.c.shop.local"]),
        ("*", ["a.shop.local", "b.c.shop.local", "shop.local", "xshop.local"]),
        ("*.local", ["a.shop.local", "b.c.shop.local", "shop.local", "xshop.local"]),
        ("shop.local.", []),
        ("a.*", []),
    ],
)
def test_patterns(pattern, found):
    services = [service(name) for name in ("a.shop.local", "b.c.shop.local", "shop.local", "xshop.local")]
    assert names(services, ExportTerms("x", (pattern,), ("west",))) == found


def test_only_the_named_peer():
    assert names([service("a")], ExportTerms("x", ("a",), ("north",))) == []
    assert names([service("a")], ExportTerms("x", ("a",), ("north", "west"))) == ["a"]
    assert names([service("a")], ExportTerms("x", ("a",), ("*",))) == ["a"]
    assert names([service("a")], ExportTerms("x", ("a",), ("wes*",))) == []


def test_what_came_from_another_peer_is_never_passed_on():
    foreign = endpoint("192.0.2.1", peer="north", cluster="north", healthy=5, total=5)
    pretender = endpoint("192.0.2.2", peer="north", cluster="east")
    other = endpoint("10.9.9.9", cluster="south")
    every = ExportTerms("x", ("*",), ("*",))
    assert names([service("a", foreign), service("b", pretender), service("c", other)], every) == []
    [mixed] = offered([service("a", foreign, pretender, other, endpoint("10.0.0.1"))], every)
    assert mixed.localities == (LocalityCount("r1/z1", 1, 1),)


def test_a_wildcard_service_is_not_offered():
    assert names([service("*.example.com")], ExportTerms("x", ("*",), ("*",))) == []


def test_an_own_service_without_endpoints_is_offered_as_empty():
    [empty] = offered([Service("a", ports=(Port(80, "http"),))], ExportTerms("x", ("*",), ("*",)))
    assert empty.localities == ()


def test_says_ports_namespace_and_form():
    [found] = offered([service("a")], ExportTerms("x", ("a",), ("west",), "passthrough"))
    assert (found.namespace, found.tls, found.ports) == ("shop", "passthrough", (ExportedPort(80, "http", "HTTP"),))


def test_counts_by_locality_and_labels_without_noise():
    v1, v2 = (("version", "v1"), ("pod-template-hash", "x1")), (("version", "v2"), ("pod-template-hash", "x2"))
    [found] = offered(
        [
            service(
                "a",
                endpoint("10.0.0.1", labels=v1),
                endpoint("10.0.0.2", labels=(("pod-template-hash", "x9"), ("version", "v1")), health=Health.UNHEALTHY),
                endpoint("10.0.0.3", labels=v2),
                endpoint("10.0.0.4", labels=v2, locality=R2, health=Health.DRAINING),
            )
        ],
        ExportTerms("x", ("a",), ("west",)),
    )
    assert set(found.localities) == {
        LocalityCount("r1/z1", 1, 1, (("version", "v2"),)),
        LocalityCount("r1/z1", 1, 2, (("version", "v1"),)),
        LocalityCount("r2", 0, 1, (("version", "v2"),)),
    }


def test_too_many_groups_are_counted_without_labels():
    many = [endpoint(f"10.0.{n}.1", labels=(("pod", str(n)),)) for n in range(MAX_GROUPS + 1)]
    [found] = offered([service("a", *many)], ExportTerms("x", ("a",), ("west",)))
    assert found.localities == (LocalityCount("r1/z1", MAX_GROUPS + 1, MAX_GROUPS + 1),)


@pytest.mark.parametrize(
    ("backend", "identifier", "health", "healthy"),
    [
        ("outbound|80||a", "10.0.0.1:8080", Health.UNHEALTHY, 1),
        ("inbound|80|v1|a", "10.0.0.1:8080", Health.UNHEALTHY, 1),
        ("outbound|80||a", "10.0.0.1:8080", Health.DRAINING, 1),
        ("outbound|80||a", "10.0.0.1:8080", Health.DEGRADED, 2),
        ("outbound|80||b", "10.0.0.1:8080", Health.UNHEALTHY, 2),
        ("outbound|80||a", "10.0.0.1:9090", Health.UNHEALTHY, 2),
        ("outbound|80||a", "10.0.0.10:8080", Health.UNHEALTHY, 2),
    ],
)
def test_verdicts_count(backend, identifier, health, healthy):
    verdicts = Verdicts(endpoints={backend: {identifier: Verdict(health, int(health.usable), 1)}})
    [found] = offered(
        [service("a", endpoint("10.0.0.1"), endpoint("10.0.0.2"))], ExportTerms("x", ("a",), ("west",)), verdicts=verdicts
    )
    assert found.localities == (LocalityCount("r1/z1", healthy, 2),)


def test_ipv6_verdicts_count():
    verdicts = Verdicts(endpoints={"outbound|80||a": {"[fd00::1]:8080": Verdict(Health.UNHEALTHY, 0, 1)}})
    [found] = offered([service("a", endpoint("fd00::1"))], ExportTerms("x", ("a",), ("west",)), verdicts=verdicts)
    assert found.localities == (LocalityCount("r1/z1", 0, 1),)


hosts = st.sampled_from(["a.shop", "b.shop", "c.bank", "d"])
patterns = st.sampled_from(["a.shop", "*.shop", "*.bank", "*", "d", "zzz"])


@given(st.sets(hosts), st.lists(st.tuples(patterns, st.sampled_from(["west", "north", "*"])), max_size=4))
def test_whatever_is_offered_was_named_for_this_peer(services, exports):
    found = names([service(name) for name in services], *(ExportTerms("x", (p,), (peer,)) for p, peer in exports))
    for name in found:
        assert any(peer != "north" and (p in ("*", name) or (p[0] == "*" and name.endswith(p[1:]))) for p, peer in exports)
    assert found == sorted(found)
