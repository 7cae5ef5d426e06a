"""Which blocks apply (traps 6 and 9, FIELD c2 to c4), and what they come to under both defaults."""

from __future__ import annotations

import pytest
from compiling import inputs_of

from discovery.model import Endpoint, Locality
from federation.compile.policies import (
    ISTIO_OUTLIER,
    ONE_PLACE_OUTLIER,
    PLACES_OUTLIER,
    Policy,
    Spread,
    effective,
    policy,
)
from federation.compile.priorities import ALL_EQUAL, LocalityPolicy
from federation.compile.scope import Rule, scope
from federation.resources.fedgate import Failback as WrittenFailback
from federation.resources.fedgate import HealthCheck, ServicePolicy, TcpCheck
from gateway.snapshot import Balance, Failback, Outlier, Silence

RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: web
  %s
"""


def rule(*specs: str) -> Rule | None:
    documents = [(RULE % spec.strip().replace("\n", "\n  ")).replace("name: web", f"name: web-{i}") for i, spec in enumerate(specs)]
    return scope(inputs_of("\n---\n".join(documents))).rule("web.shop.svc.cluster.local", "shop")


def made(spec: str, *, fedgate: bool = True, spread: Spread = Spread.PLACES, port: int = 80, subset: str = "") -> Policy:
    return policy(effective(rule(spec), port, subset), spread, None, own_defaults=fedgate)


LAYERS = """
trafficPolicy:
  loadBalancer: {simple: RANDOM}
  outlierDetection: {consecutive5xxErrors: 7}
  portLevelSettings:
    - {port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}
subsets:
  - {name: plain, labels: {v: '1'}}
  - {name: own, labels: {v: '2'}, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}
  - name: ports
    labels: {v: '3'}
    trafficPolicy:
      connectionPool: {tcp: {connectTimeout: 4s}}
      portLevelSettings: [{port: {number: 80}, outlierDetection: {consecutive5xxErrors: 9}}]
"""


@pytest.mark.parametrize(
    ("port", "subset", "balance", "errors", "connect"),
    [
        (80, "", Balance.RANDOM, 7, 10_000),
        (81, "", Balance.ROUND_ROBIN, None, 10_000),  # the port's settings replace everything
        (80, "plain", Balance.RANDOM, 7, 10_000),
        (80, "own", Balance.RANDOM, 7, 3_000),  # the subset overrides block by block
        (81, "own", Balance.ROUND_ROBIN, None, 3_000),
        (80, "ports", Balance.LEAST_REQUEST, 9, 10_000),  # a subset's port settings replace all blocks
        (81, "ports", Balance.ROUND_ROBIN, None, 4_000),
        (80, "nosuch", Balance.RANDOM, 7, 10_000),
    ],
)
def test_layers_of_policy(port: int, subset: str, balance: Balance, errors: int | None, connect: int) -> None:
    found = made(LAYERS, fedgate=False, port=port, subset=subset)
    assert (found.balance, found.connect_timeout_ms) == (balance, connect)
    assert (found.outlier.consecutive_5xx if found.outlier else None) == errors


def test_of_two_rules_the_first_policy_holds_and_subsets_are_joined() -> None:
    joined = rule(
        "subsets: [{name: a, labels: {v: '1'}}]",
        "trafficPolicy: {loadBalancer: {simple: RANDOM}}\nsubsets: [{name: a, labels: {v: '2'}}, {name: b, labels: {v: '3'}}]",
        "trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}",
    )
    assert joined is not None
    assert {name: dict(subset.labels) for name, subset in joined.subsets.items()} == {"a": {"v": "1"}, "b": {"v": "3"}}
    assert policy(effective(joined, 80, ""), Spread.PLACES, None, own_defaults=False).balance is Balance.RANDOM


def endpoints(*places: tuple[str, str, str]) -> list[Endpoint]:
    return [Endpoint("a", cluster=cluster, peer=peer, locality=Locality.parse(where)) for cluster, peer, where in places]


@pytest.mark.parametrize(
    ("places", "spread"),
    [
        ([], Spread.ONE_ENDPOINT),
        ([("east", "", "r1")], Spread.ONE_ENDPOINT),
        ([("east", "", "r1"), ("east", "", "r1")], Spread.ONE_PLACE),
        ([("east", "", "r1"), ("east", "", "r1/z2")], Spread.PLACES),
        ([("east", "", "r1"), ("west", "west", "r1")], Spread.PLACES),
    ],
)
def test_what_there_is_to_choose_from(places: list[tuple[str, str, str]], spread: Spread) -> None:
    assert Spread.of(endpoints(*places)) is spread


def test_nothing_written_under_our_defaults() -> None:
    several = made("", spread=Spread.PLACES)
    assert several.outlier == PLACES_OUTLIER == Outlier(5, 3, interval_ms=1000, base_ejection_ms=5000, max_ejection_percent=100)
    assert (several.silence, several.failback, several.connect_timeout_ms) == (Silence(), Failback(), 1000)
    assert (several.panic_percent, several.panic_last_resort) == (0, True)
    assert several.locality == LocalityPolicy(own_cluster_first=True)
    place = made("", spread=Spread.ONE_PLACE)
    assert (place.outlier, place.silence, place.failback) == (ONE_PLACE_OUTLIER, Silence(), None)
    assert ONE_PLACE_OUTLIER.max_ejection_percent < 100 * 2 / 2  # of two, one stays whatever it does
    alone = made("", spread=Spread.ONE_ENDPOINT)
    assert (alone.outlier, alone.silence, alone.connect_timeout_ms) == (None, None, 10_000)


@pytest.mark.parametrize("spread", list(Spread))
def test_nothing_written_under_istios_defaults(spread: Spread) -> None:
    found = made("", fedgate=False, spread=spread)
    assert (found.outlier, found.silence, found.failback, found.connect_timeout_ms) == (None, None, None, 10_000)
    assert (found.panic_percent, found.panic_last_resort, found.locality) == (0, False, ALL_EQUAL)


OUTLIER = "trafficPolicy: {outlierDetection: {consecutiveGatewayErrors: 2, baseEjectionTime: 400s, minHealthPercent: 30}}"


def test_what_is_written_is_followed_and_the_rest_is_default() -> None:
    istio = made(OUTLIER, fedgate=False)
    assert istio.outlier == Outlier(5, 2, base_ejection_ms=400_000, max_ejection_ms=400_000)
    assert istio.outlier.max_ejection_percent == ISTIO_OUTLIER.max_ejection_percent == 10
    assert istio.panic_percent == 30
    assert istio.locality == LocalityPolicy()
    ours = made(OUTLIER, spread=Spread.ONE_PLACE)
    assert ours.outlier == Outlier(
        5, 2, interval_ms=1000, base_ejection_ms=400_000, max_ejection_ms=400_000, max_ejection_percent=100
    )


LOCALITY = "trafficPolicy: {loadBalancer: {localityLbSetting: %s}%s}"


@pytest.mark.parametrize(
    ("setting", "detection", "fedgate", "expected"),
    [
        ("{failover: [{from: r1, to: r2}]}", "", False, ALL_EQUAL),  # trap 9
        ("{failover: [{from: r1, to: r2}]}", ", outlierDetection: {}", False, LocalityPolicy(failover=(("r1", "r2"),))),
        ("{enabled: false}", ", outlierDetection: {}", False, ALL_EQUAL),
        ("{enabled: true}", "", True, LocalityPolicy()),
        ("{failover: [{from: r1, to: r2}]}", "", True, LocalityPolicy(failover=(("r1", "r2"),))),
        ("{enabled: false}", "", True, ALL_EQUAL),
    ],
)
def test_locality(setting: str, detection: str, fedgate: bool, expected: LocalityPolicy) -> None:
    assert made(LOCALITY % (setting, detection), fedgate=fedgate).locality == expected


def test_service_policy() -> None:
    written = ServicePolicy(
        hosts=("web",),
        health_check=HealthCheck(tcp=TcpCheck(port=99)),
        failback=WrittenFailback.model_validate({"holdDown": "1s", "ramp": "0s"}),
    )
    found = policy(effective(None, 80, ""), Spread.ONE_ENDPOINT, written, own_defaults=False)
    assert found.failback == Failback(1000, 0)
    assert found.health_check is not None
    assert (found.health_check.kind, found.health_check.port, found.health_check.interval_ms) == ("tcp", 99, 1000)


def test_limits() -> None:
    found = made("trafficPolicy: {connectionPool: {http: {http2MaxRequests: 5, maxRequestsPerConnection: 7, idleTimeout: 2s}}}")
    assert (found.max_requests, found.max_requests_per_connection, found.idle_timeout_ms) == (5, 7, 2000)
