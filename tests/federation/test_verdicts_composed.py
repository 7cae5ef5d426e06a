"""Registry, checks and peers composed: the worst word wins, groups are counted once, nothing is said of what is well."""

from __future__ import annotations

import pytest

from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service
from federation import verdicts
from gateway.snapshot import Backend, EndpointSet, LbEndpoint, Snapshot
from gateway.verdicts import AddressState, Verdict, Verdicts

HOST = "web.shop.svc.cluster.local"
NAME = f"outbound|80||{HOST}"
WEST = Locality("west")


def workload(address: str, health: Health = Health.UNKNOWN) -> Endpoint:
    return Endpoint(address, ports=(("http", 8080),), health=health)


def peer(address: str, healthy: int, total: int) -> Endpoint:
    return Endpoint(address, ports=(("http", 15443),), peer="west", locality=WEST, healthy=healthy, total=total)


def service(*endpoints: Endpoint) -> dict[str, Service]:
    return {HOST: Service(HOST, ports=(Port(80, "http", Protocol.HTTP),), endpoints=endpoints)}


def snapshot(*ids: str) -> Snapshot:
    endpoints = tuple(LbEndpoint(each, each, 1) for each in ids)
    return Snapshot.of([Backend(NAME, HOST, 80), EndpointSet(NAME, endpoints)])


def composed(services: dict[str, Service], ids: list[str], checks: dict[str, Verdict] | None = None) -> dict[str, Verdict]:
    found = verdicts.compose(snapshot(*ids), services, checks={NAME: checks or {}}, addresses={})
    return dict(found.endpoints.get(NAME, {}))


def test_what_is_well_is_not_named() -> None:
    assert composed(service(workload("10.0.0.1"), workload("10.0.0.2", Health.HEALTHY)), ["10.0.0.1:8080", "10.0.0.2:8080"]) == {}


@pytest.mark.parametrize(
    ("registry", "check", "health", "healthy"),
    [
        (Health.UNHEALTHY, None, Health.UNHEALTHY, 0),
        (Health.DRAINING, None, Health.DRAINING, 0),
        (Health.DEGRADED, None, Health.DEGRADED, 1),
        (Health.UNKNOWN, Health.UNHEALTHY, Health.UNHEALTHY, 0),
        (Health.DRAINING, Health.HEALTHY, Health.DRAINING, 0),
        (Health.DEGRADED, Health.UNHEALTHY, Health.UNHEALTHY, 0),
        (Health.HEALTHY, Health.HEALTHY, Health.HEALTHY, 1),
    ],
)
def test_the_worst_word_wins(registry: Health, check: Health | None, health: Health, healthy: int) -> None:
    checks = {} if check is None else {"10.0.0.1:8080": Verdict(check, int(check is Health.HEALTHY), 1)}
    verdict = composed(service(workload("10.0.0.1", registry)), ["10.0.0.1:8080"], checks)["10.0.0.1:8080"]
    assert (verdict.health, verdict.healthy) == (health, healthy)


def test_a_peers_addresses_are_one_group_whose_counts_are_not_summed() -> None:
    ids = ["west/west/192.0.2.1:15443", "west/west/192.0.2.2:15443"]
    found = composed(service(peer("192.0.2.1", 3, 4), peer("192.0.2.2", 3, 4)), ids)
    assert found == {"west/west": Verdict(Health.HEALTHY, 3, 4, "peer")}


def test_a_peer_that_lost_every_workload_is_unhealthy() -> None:
    found = composed(service(peer("192.0.2.1", 0, 4)), ["west/west/192.0.2.1:15443"])
    assert found["west/west"].health is Health.UNHEALTHY


def test_endpoints_that_the_backend_does_not_have_are_not_named() -> None:
    assert composed(service(workload("10.0.0.9", Health.UNHEALTHY)), ["10.0.0.1:8080"]) == {}


def test_recompose_touches_only_what_it_is_told_and_ends_like_compose() -> None:
    other = "outbound|80||other"
    before = service(workload("10.0.0.1"))
    after = service(workload("10.0.0.1", Health.UNHEALTHY))
    running = snapshot("10.0.0.1:8080")
    start = Verdicts(endpoints={other: {"x": Verdict(Health.UNHEALTHY)}}, addresses={"192.0.2.1:15443": AddressState.SUSPECT})
    first = verdicts.recompose(start, running, before, checks={}, touched=[NAME])
    assert first.endpoints == start.endpoints
    second = verdicts.recompose(first, running, after, checks={}, touched=[NAME, other])
    assert second.endpoints == verdicts.compose(running, after, checks={}, addresses={}).endpoints
    assert second.addresses == start.addresses
    third = verdicts.recompose(second, running, after, checks={}, touched=[NAME])
    assert third.endpoints[NAME] is second.endpoints[NAME]
    assert not verdicts.recompose(third, Snapshot(), after, checks={}, touched=[NAME]).endpoints
