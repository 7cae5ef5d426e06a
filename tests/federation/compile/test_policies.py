"""Which blocks apply (traps 6 and 9, FIELD c2 to c4), and what they come to under both defaults."""

from __future__ import annotations

import pytest
import yaml
from compiling import inputs_of

from discovery.model import Endpoint, Locality, Protocol
from federation.compile.policies import (
    ISTIO_OUTLIER,
    ONE_PLACE_OUTLIER,
    PLACES_OUTLIER,
    Policy,
    Spread,
    effective,
    policy,
    with_baseline,
)
from federation.compile.priorities import ALL_EQUAL, LocalityPolicy
from federation.compile.scope import Rule, scope
from federation.resources.fedgate import Failback as WrittenFailback
from federation.resources.fedgate import HealthCheck, ServicePolicy, TcpCheck
from federation.resources.node import DefaultTrafficPolicy
from gateway.snapshot import (
    Balance,
    Failback,
    HashPolicy,
    Http2,
    Keepalive,
    Limits,
    Outlier,
    RetryBudget,
    Silence,
    Tunnel,
    Warmup,
)

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
    assert (found.limits.requests, found.max_requests_per_connection, found.idle_timeout_ms) == (5, 7, 2000)


def test_every_field_of_the_connection_pool() -> None:
    pool = """
trafficPolicy:
  connectionPool:
    tcp:
      maxConnections: 100
      connectTimeout: 30ms
      tcpKeepalive: {probes: 3, time: 7200s, interval: 75s}
      maxConnectionDuration: 1h
      idleTimeout: 0s
    http:
      http1MaxPendingRequests: 1
      http2MaxRequests: 2
      maxRequestsPerConnection: 3
      maxRetries: 4294967295
      idleTimeout: 5s
      maxConcurrentStreams: 6
      http2KeepAlive: {interval: 10s, timeout: 2s}
"""
    found = made(pool)
    assert found.limits == Limits(connections=100, pending=1, requests=2, retries=0)  # 2^32 - 1 is no limit
    assert found.keepalive == Keepalive(probes=3, time_ms=7_200_000, interval_ms=75_000)
    assert (found.max_connection_ms, found.tcp_idle_timeout_ms, found.idle_timeout_ms) == (3_600_000, 0, 5000)
    assert (found.connect_timeout_ms, found.max_requests_per_connection) == (30, 3)
    assert found.http2 == Http2(streams=6, ping_ms=10_000, ping_timeout_ms=2000)
    default = made("subsets: []")
    assert (default.limits, default.keepalive, default.http2, default.tcp_idle_timeout_ms) == (Limits(), None, None, 3_600_000)


@pytest.mark.parametrize(
    ("http", "protocol", "expected"),
    [
        ("maxRetries: 1", Protocol.HTTP, None),
        ("maxRetries: 1", Protocol.HTTP2, Http2(always=True)),
        ("maxRetries: 1", Protocol.GRPC, Http2(always=True)),
        ("maxRetries: 1", Protocol.GRPC_WEB, Http2(always=True)),
        ("h2UpgradePolicy: UPGRADE", Protocol.HTTP, Http2(always=True)),
        ("h2UpgradePolicy: UPGRADE", Protocol.TCP, None),
        ("h2UpgradePolicy: DO_NOT_UPGRADE", Protocol.GRPC, Http2(always=True)),
        ("useClientProtocol: true", Protocol.HTTP, Http2(client=True)),
        ("useClientProtocol: true", Protocol.GRPC, Http2(client=True)),
    ],
)
def test_http2(http: str, protocol: Protocol, expected: Http2 | None) -> None:
    written = effective(rule(f"trafficPolicy: {{connectionPool: {{http: {{{http}}}}}}}"), 80, "")
    assert policy(written, Spread.PLACES, None, own_defaults=True, protocol=protocol).http2 == expected


@pytest.mark.parametrize(
    ("text", "balance", "expected"),
    [
        ("useSourceIp: true", Balance.RING_HASH, HashPolicy("source-ip", size=1024)),
        ("httpHeaderName: X-User, ringHash: {minimumRingSize: 7}", Balance.RING_HASH, HashPolicy("header", "x-user", size=7)),
        ("httpQueryParameterName: Q, maglev: {}", Balance.MAGLEV, HashPolicy("query", "Q", size=65537)),
        ("useSourceIp: true, minimumRingSize: 2048", Balance.RING_HASH, HashPolicy("source-ip", size=2048)),
        (
            "httpCookie: {name: c, path: /, ttl: 60s, attributes: [{name: Secure}]}, maglev: {tableSize: 13}",
            Balance.MAGLEV,
            HashPolicy("cookie", "c", path="/", ttl_ms=60_000, attributes=(("Secure", ""),), size=13),
        ),
        ("httpCookie: {name: c}", Balance.RING_HASH, HashPolicy("cookie", "c")),
    ],
)
def test_consistent_hash(text: str, balance: Balance, expected: HashPolicy) -> None:
    found = made(f"trafficPolicy: {{loadBalancer: {{consistentHash: {{{text}}}}}}}")
    assert (found.balance, found.hash) == (balance, expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("simple: ROUND_ROBIN", None),
        ("warmupDurationSecs: 30s", Warmup(30_000, across=True)),
        ("warmup: {duration: 30s, minimumPercent: 0, aggression: 2}", Warmup(30_000, 0, 2.0, across=True)),
    ],
)
def test_warmup(text: str, expected: Warmup | None) -> None:
    assert made(f"trafficPolicy: {{loadBalancer: {{{text}}}}}").warmup == expected
    istio = made(f"trafficPolicy: {{loadBalancer: {{{text}}}}}", fedgate=False).warmup
    assert istio is None or not istio.across


def test_the_annotation_asks_for_the_quickest_endpoint() -> None:
    def balance(annotation: str, simple: str) -> Balance:
        text = RULE % f"trafficPolicy: {{loadBalancer: {{{simple}}}}}"
        text = text.replace("namespace: shop", f"namespace: shop, annotations: {{fedgate.io/balance: {annotation}}}")
        found = scope(inputs_of(text)).rule("web.shop.svc.cluster.local", "shop")
        return policy(effective(found, 80, ""), Spread.PLACES, None, own_defaults=True).balance

    assert balance("PEAK_EWMA", "simple: UNSPECIFIED") is Balance.PEAK_EWMA
    assert balance("PEAK_EWMA", "simple: LEAST_REQUEST") is Balance.PEAK_EWMA
    assert balance("PEAK_EWMA", "simple: ROUND_ROBIN") is Balance.ROUND_ROBIN  # what is named holds
    assert balance("PEAK_EWMA", "consistentHash: {useSourceIp: true}") is Balance.RING_HASH
    assert balance("QUICK", "simple: UNSPECIFIED") is Balance.LEAST_REQUEST


RARE = """
trafficPolicy:
  tunnel: {targetHost: proxy.example, targetPort: 3128}
  retryBudget: {percent: 25}
  loadBalancer: {simple: RANDOM}
  portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]
subsets:
  - {name: budget, trafficPolicy: {retryBudget: {minRetryConcurrency: 9}}}
  - {name: proxied, trafficPolicy: {proxyProtocol: {}}}
  - name: ports
    trafficPolicy:
      retryBudget: {percent: 1}
      portLevelSettings: [{port: {number: 80}, outlierDetection: {}}]
"""


def test_what_a_port_has_no_field_for_stays_the_destinations() -> None:
    plain = made(RARE)
    assert plain.tunnel == Tunnel("CONNECT", "proxy.example", 3128)
    assert (plain.retry_budget, plain.proxy_protocol) == (RetryBudget(25, 3), "")
    other = made(RARE, port=81)
    assert (other.tunnel, other.retry_budget, other.balance) == (plain.tunnel, plain.retry_budget, Balance.ROUND_ROBIN)
    assert made(RARE, subset="budget").retry_budget == RetryBudget(20, 9)  # the subset's block replaces the whole block
    assert made(RARE, subset="proxied").proxy_protocol == "V1"
    ports = made(RARE, subset="ports")
    assert (ports.balance, ports.retry_budget, ports.tunnel) == (Balance.LEAST_REQUEST, RetryBudget(1, 3), plain.tunnel)


@pytest.mark.parametrize(
    ("setting", "locality", "zone_aware"),
    [
        ("zoneAwareLbSetting: {}", LocalityPolicy(regions_only=True), 6),
        ("zoneAwareLbSetting: {enabled: false}", ALL_EQUAL, 0),
        (
            "zoneAwareLbSetting: {minClusterSize: 2, failover: [{from: a, to: b}], failoverPriority: [x]}",
            LocalityPolicy(regions_only=True, failover=(("a", "b"),), failover_priority=("x",)),
            2,
        ),
        (
            "localityLbSetting: {distribute: [{from: a, to: {a: 80, b: 20}}]}",
            LocalityPolicy(enabled=False, distribute=(("a", (("a", 80), ("b", 20))),)),
            0,
        ),
        ("localityLbSetting: {enabled: false, distribute: [{from: a, to: {a: 100}}]}", ALL_EQUAL, 0),
        ("localityLbSetting: {failoverPriority: [x]}", ALL_EQUAL, 0),  # Istio: not without outlierDetection
    ],
)
def test_localities_without_outlier_detection_under_istios_defaults(
    setting: str, locality: LocalityPolicy, zone_aware: int
) -> None:
    found = made(f"trafficPolicy: {{loadBalancer: {{{setting}}}}}", fedgate=False)
    assert (found.locality, found.zone_aware) == (locality, zone_aware)


def test_labels_decide_priorities() -> None:
    text = "trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [x, y=1]}}%s}"
    assert made(text % "").locality == LocalityPolicy(failover_priority=("x", "y=1"))
    assert made(text % ", outlierDetection: {}", fedgate=False).locality == LocalityPolicy(failover_priority=("x", "y=1"))


BASE = """
connectionPool: {tcp: {connectTimeout: 2s, maxConnections: 9}, http: {maxRetries: 3}}
outlierDetection: {consecutive5xxErrors: 7, interval: 3s}
"""


@pytest.mark.parametrize(
    ("spec", "connect", "connections", "retries", "errors"),
    [
        ("subsets: []", 2000, 9, 3, (7, 3000)),
        ("trafficPolicy: {connectionPool: {tcp: {connectTimeout: 5s}}}", 5000, 9, 3, (7, 3000)),
        ("trafficPolicy: {connectionPool: {http: {maxRetries: 0}}}", 2000, 9, 0, (7, 3000)),
        ("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}", 2000, 9, 3, (0, 3000)),
    ],
)
def test_the_nodes_policy_holds_where_no_rule_says_otherwise(
    spec: str, connect: int, connections: int, retries: int, errors: tuple[int, int]
) -> None:
    base = DefaultTrafficPolicy.model_validate(yaml.safe_load(BASE))
    blocks = with_baseline(effective(rule(spec), 80, ""), base)
    found = policy(blocks, Spread.PLACES, None, own_defaults=False)
    assert (found.connect_timeout_ms, found.limits.connections, found.limits.retries) == (connect, connections, retries)
    assert found.outlier is not None
    assert (found.outlier.consecutive_5xx, found.outlier.interval_ms) == errors
    assert with_baseline(blocks, None) is blocks
