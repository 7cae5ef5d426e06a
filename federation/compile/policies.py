"""What a DestinationRule, a ServicePolicy and the node's defaults make of one backend.

Theory of operation. First the blocks that apply (`effective`): a portLevelSettings entry replaces the destination's whole policy for
its port; a subset's policy overrides block by block, and its own portLevelSettings replace all blocks. Then each block is read,
and where nothing is written the node's defaults hold: Istio's exactly, traps included, or ours (DESIGN section 6).

Ours, by what there is to choose from: with one endpoint there is nothing to go to, so nothing is ejected. With several in one place,
those that cannot be reached or answer nothing are ejected, at most half of them, and answers of the service's own (5xx) are left
to the client: nobody else would answer better. With several places everything may be ejected, as another place takes over.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from discovery.model import Endpoint, Protocol
from federation.compile.priorities import ALL_EQUAL, LocalityPolicy
from federation.compile.scope import Rule
from federation.resources import destination_rule as written
from federation.resources import fedgate
from federation.resources.connection_pool import HTTPSettings, TCPSettings
from federation.resources.health_check import parse_statuses
from federation.resources.load_balancer import ConsistentHashLB, LoadBalancerSettings
from federation.resources.locality import SMALLEST_ZONED
from federation.resources.message import Message
from federation.resources.node import DefaultTrafficPolicy
from gateway.snapshot import (
    Balance,
    Failback,
    HashPolicy,
    HealthCheck,
    Http2,
    Keepalive,
    Limits,
    Outlier,
    RetryBudget,
    Silence,
    Tunnel,
    Warmup,
)

M = TypeVar("M", bound=Message)

CONNECT_MS = 10_000  # Istio's connectTimeout
QUICK_CONNECT_MS = 1_000  # fedgate, where there is somewhere else to go: long for any network, short for a person
IDLE_MS = 3_600_000  # Istio and Envoy: an hour
RING_SIZE = 1024  # Istio's and Envoy's minimum
PLACES_OUTLIER = Outlier(
    consecutive_5xx=5, consecutive_gateway_errors=3, interval_ms=1_000, base_ejection_ms=5_000, max_ejection_percent=100
)
ONE_PLACE_OUTLIER = Outlier(
    consecutive_5xx=0, consecutive_gateway_errors=3, interval_ms=1_000, base_ejection_ms=5_000, max_ejection_percent=50
)
ISTIO_OUTLIER = Outlier()

_BALANCE = {
    written.SimpleLB.UNSPECIFIED: Balance.LEAST_REQUEST,
    written.SimpleLB.LEAST_REQUEST: Balance.LEAST_REQUEST,
    written.SimpleLB.ROUND_ROBIN: Balance.ROUND_ROBIN,
    written.SimpleLB.RANDOM: Balance.RANDOM,
    written.SimpleLB.PASSTHROUGH: Balance.PASSTHROUGH,
}

BALANCE_ANNOTATION = "fedgate.io/balance"
"""On a DestinationRule: `PEAK_EWMA`, which Istio has no word for."""

_UNLIMITED = 2**31 - 1  # from here on "no limit": Istio's fields are int32, its default 2^32 - 1
HTTP2_PORTS = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})  # Istio: spoken to in HTTP/2


class Spread(enum.Enum):
    """What a backend has to choose from."""

    ONE_ENDPOINT = "one endpoint"
    ONE_PLACE = "several endpoints in one place"
    PLACES = "several localities or clusters"

    @classmethod
    def of(cls, endpoints: Sequence[Endpoint]) -> Spread:
        if len({(each.cluster, each.peer, each.locality) for each in endpoints}) > 1:
            return cls.PLACES
        return cls.ONE_PLACE if len(endpoints) > 1 else cls.ONE_ENDPOINT


@dataclass(frozen=True)
class Blocks:
    """The blocks of traffic policy that apply to one backend; None = not written. by_latency: the rule's annotation asks for it."""

    load_balancer: written.LoadBalancerSettings | None = None
    connection_pool: written.ConnectionPoolSettings | None = None
    outlier_detection: written.OutlierDetection | None = None
    tls: written.ClientTLSSettings | None = None
    tunnel: written.TunnelSettings | None = None
    proxy_protocol: written.ProxyProtocol | None = None
    retry_budget: written.RetryBudget | None = None
    by_latency: bool = False


@dataclass(frozen=True)
class Policy:
    """What a backend gets, by the names of gateway.snapshot.Backend; locality decides its priorities."""

    locality: LocalityPolicy
    balance: Balance
    hash: HashPolicy | None
    warmup: Warmup | None
    connect_timeout_ms: int
    idle_timeout_ms: int
    tcp_idle_timeout_ms: int
    max_connection_ms: int
    max_requests_per_connection: int
    keepalive: Keepalive | None
    http2: Http2 | None
    limits: Limits
    retry_budget: RetryBudget | None
    outlier: Outlier | None
    silence: Silence | None
    failback: Failback | None
    panic_percent: int
    panic_last_resort: bool
    zone_aware: int
    proxy_protocol: str
    tunnel: Tunnel | None
    health_check: HealthCheck | None


def effective(rule: Rule | None, port: int, subset: str) -> Blocks:
    """The blocks for one port and subset ("" = the whole service)."""
    whole = _for_port(rule.policy, port) if rule and rule.policy else Blocks()
    blocks = replace(whole, by_latency=_annotation(rule) == Balance.PEAK_EWMA.value)
    chosen = rule.subsets.get(subset) if rule and subset else None
    if chosen is None or chosen.traffic_policy is None:
        return blocks
    own = _for_port(chosen.traffic_policy, port)
    if any(entry.port.number == port for entry in chosen.traffic_policy.port_level_settings):
        # The port's settings replace; what they have no field for is overridden as in any subset.
        blocks = replace(blocks, load_balancer=None, connection_pool=None, outlier_detection=None, tls=None)
    overridden = {each.name: value for each in fields(own) if (value := getattr(own, each.name)) is not None}
    return replace(blocks, **{**overridden, "by_latency": blocks.by_latency})


def with_baseline(blocks: Blocks, base: DefaultTrafficPolicy | None) -> Blocks:
    """What the Node says for all services, where the rule does not: field by field, as Istio's mesh-wide default traffic policy."""
    if base is None:
        return blocks
    return replace(
        blocks,
        connection_pool=_over(base.connection_pool, blocks.connection_pool),
        outlier_detection=_over(base.outlier_detection, blocks.outlier_detection),
    )


def _over(base: M | None, own: M | None) -> M | None:
    if base is None or own is None:
        return own if base is None else base
    update: dict[str, object] = {}
    for name in own.model_fields_set:
        value, below = getattr(own, name), getattr(base, name)
        update[name] = _over(below, value) if isinstance(value, Message) and isinstance(below, Message) else value
    return base.model_copy(update=update)


def unknown_balance(rule: Rule | None) -> str:
    """What stands in the rule's annotation and is no balance that can be asked for there; "" when all is well."""
    word = _annotation(rule)
    return "" if word in ("", Balance.PEAK_EWMA.value) else word


def _annotation(rule: Rule | None) -> str:
    found = [each.metadata.annotations.get(BALANCE_ANNOTATION, "") for each in rule.documents] if rule else []
    return next((word for word in found if word), "")


def policy(
    blocks: Blocks,
    spread: Spread,
    service: fedgate.ServicePolicy | None,
    *,
    own_defaults: bool,
    protocol: Protocol = Protocol.UNKNOWN,
) -> Policy:
    """own_defaults: fedgate's hold where nothing is written, else Istio's. protocol: of the service's port."""
    balancer = blocks.load_balancer or LoadBalancerSettings()
    pool = blocks.connection_pool or written.ConnectionPoolSettings()
    http, tcp = pool.http or HTTPSettings(), pool.tcp or TCPSettings()
    detection = blocks.outlier_detection
    several = own_defaults and spread is not Spread.ONE_ENDPOINT
    hashing = balancer.consistent_hash
    zones = balancer.zone_aware_lb_setting
    return Policy(
        locality=locality_policy(balancer, detection, own_defaults=own_defaults),
        balance=_balance(balancer, by_latency=blocks.by_latency),
        hash=_hash(hashing) if hashing else None,
        warmup=_warmup(balancer, own_defaults=own_defaults),
        connect_timeout_ms=_or(tcp.connect_timeout, QUICK_CONNECT_MS if several else CONNECT_MS),
        idle_timeout_ms=_or(http.idle_timeout, IDLE_MS),
        tcp_idle_timeout_ms=_or(tcp.idle_timeout, IDLE_MS),
        max_connection_ms=tcp.max_connection_duration or 0,
        max_requests_per_connection=http.max_requests_per_connection or 0,
        keepalive=_keepalive(tcp),
        http2=_http2(http, protocol),
        limits=Limits(
            connections=_limit(tcp.max_connections),
            pending=_limit(http.http1_max_pending_requests),
            requests=_limit(http.http2_max_requests),
            retries=_limit(http.max_retries),
        ),
        retry_budget=_retry_budget(blocks.retry_budget),
        outlier=outlier(detection, spread, own_defaults=own_defaults),
        silence=Silence() if several else None,
        failback=_failback(service, spread, own_defaults=own_defaults),
        panic_percent=(detection.min_health_percent or 0) if detection else 0,
        panic_last_resort=own_defaults,
        zone_aware=_or(zones.min_cluster_size, SMALLEST_ZONED) or 1 if zones and zones.enabled is not False else 0,
        proxy_protocol=blocks.proxy_protocol.version.value if blocks.proxy_protocol else "",
        tunnel=_tunnel(blocks.tunnel),
        health_check=_health_check(service),
    )


def locality_policy(
    balancer: LoadBalancerSettings, detection: written.OutlierDetection | None, *, own_defaults: bool
) -> LocalityPolicy:
    """Istio: nothing without outlierDetection (the best known trap), else by locality unless switched off; distribute and zone-aware
    need none. Ours: always, the own cluster first unless a setting says what decides."""
    setting, zones = balancer.locality_lb_setting, balancer.zone_aware_lb_setting
    if zones is not None and zones.enabled is not False:
        return LocalityPolicy(
            regions_only=True,
            failover=tuple((each.from_, each.to) for each in zones.failover),
            failover_priority=zones.failover_priority,
        )
    if setting is not None and setting.distribute and setting.enabled is not False:
        rules = tuple((each.from_, tuple(each.to.items())) for each in setting.distribute)
        return LocalityPolicy(enabled=False, distribute=rules)
    if not own_defaults and detection is None:
        return ALL_EQUAL
    if setting is None:
        return LocalityPolicy(own_cluster_first=own_defaults)
    if setting.enabled is False:
        return ALL_EQUAL
    return LocalityPolicy(
        failover=tuple((each.from_, each.to) for each in setting.failover), failover_priority=setting.failover_priority
    )


def _balance(balancer: LoadBalancerSettings, *, by_latency: bool) -> Balance:
    """The annotation holds where the rule does not name another way than the default one."""
    hashing, simple = balancer.consistent_hash, balancer.simple or written.SimpleLB.UNSPECIFIED
    if hashing is not None:
        return Balance.MAGLEV if hashing.maglev is not None else Balance.RING_HASH
    found = _BALANCE[simple]
    return Balance.PEAK_EWMA if by_latency and found is Balance.LEAST_REQUEST else found


def _hash(written_hash: ConsistentHashLB) -> HashPolicy:
    if written_hash.maglev is not None:
        size = written_hash.maglev.table_size
    elif written_hash.ring_hash is not None:
        size = written_hash.ring_hash.minimum_ring_size
    else:
        size = written_hash.minimum_ring_size or RING_SIZE
    size = max(1, size)
    cookie = written_hash.http_cookie
    if cookie is not None:
        attributes = tuple((each.name, each.value) for each in cookie.attributes)
        return HashPolicy("cookie", cookie.name, path=cookie.path, ttl_ms=cookie.ttl, attributes=attributes, size=size)
    if written_hash.http_header_name:
        return HashPolicy("header", written_hash.http_header_name.lower(), size=size)
    if written_hash.use_source_ip:
        return HashPolicy("source-ip", size=size)
    return HashPolicy("query", written_hash.http_query_parameter_name, size=size)


def _warmup(balancer: LoadBalancerSettings, *, own_defaults: bool) -> Warmup | None:
    given = balancer.warmup
    duration = balancer.warmup_duration_secs if given is None else given.duration
    if duration is None:
        return None
    least = 10.0 if given is None else given.minimum_percent
    return Warmup(
        duration_ms=duration,
        minimum_percent=10 if least is None else round(least),
        aggression=1.0 if given is None or given.aggression is None else given.aggression,
        across=own_defaults,
    )


def _keepalive(tcp: TCPSettings) -> Keepalive | None:
    given = tcp.tcp_keepalive
    return Keepalive(probes=given.probes, time_ms=given.time or 0, interval_ms=given.interval or 0) if given else None


def _http2(http: HTTPSettings, protocol: Protocol) -> Http2 | None:
    """None: HTTP/1.1. A port that speaks HTTP/2 is spoken to so whatever h2UpgradePolicy says, as in Istio; useClientProtocol
    goes before both."""
    ping = http.http2_keep_alive
    upgraded = http.h2_upgrade_policy is written.H2UpgradePolicy.UPGRADE and protocol.is_http
    streams = http.max_concurrent_streams or 0
    found = Http2(
        always=not http.use_client_protocol and (upgraded or protocol in HTTP2_PORTS),
        client=http.use_client_protocol,
        streams=0 if streams >= _UNLIMITED else streams,
        ping_ms=(ping.interval or 0) if ping else 0,
        ping_timeout_ms=(ping.timeout or 0) if ping else 0,
    )
    return None if found == Http2() else found


def _retry_budget(given: written.RetryBudget | None) -> RetryBudget | None:
    return RetryBudget(percent=round(given.percent), least=given.min_retry_concurrency) if given else None


def _tunnel(given: written.TunnelSettings | None) -> Tunnel | None:
    return Tunnel(given.protocol or "CONNECT", given.target_host, given.target_port) if given else None


def _limit(value: int | None) -> int:
    return 0 if value is None or value >= _UNLIMITED else value


def outlier(detection: written.OutlierDetection | None, spread: Spread, *, own_defaults: bool) -> Outlier | None:
    """What is written, over the defaults; nothing written is nothing under Istio's."""
    if detection is None:
        return _unasked(spread) if own_defaults else None
    base = PLACES_OUTLIER if own_defaults else ISTIO_OUTLIER
    ejection = _or(detection.base_ejection_time, base.base_ejection_ms)
    return Outlier(
        consecutive_5xx=_or(detection.consecutive_5xx_errors, base.consecutive_5xx),
        consecutive_gateway_errors=_or(detection.consecutive_gateway_errors, base.consecutive_gateway_errors),
        split_local_origin=detection.split_external_local_origin_errors,
        consecutive_local_origin=_or(detection.consecutive_local_origin_failures, base.consecutive_local_origin),
        interval_ms=_or(detection.interval, base.interval_ms),
        base_ejection_ms=ejection,
        max_ejection_ms=max(base.max_ejection_ms, ejection),  # FIELD section 0: 300 s, or the base if that is longer
        max_ejection_percent=_or(detection.max_ejection_percent, base.max_ejection_percent),
        error_codes=tuple(detection.outlier_detection_http_error_codes),
    )


def _unasked(spread: Spread) -> Outlier | None:
    if spread is Spread.ONE_ENDPOINT:
        return None
    return PLACES_OUTLIER if spread is Spread.PLACES else ONE_PLACE_OUTLIER


def _failback(service: fedgate.ServicePolicy | None, spread: Spread, *, own_defaults: bool) -> Failback | None:
    if service is not None and service.failback is not None:
        return Failback(int(service.failback.hold_down), int(service.failback.ramp))
    return Failback() if own_defaults and spread is Spread.PLACES else None


def _health_check(service: fedgate.ServicePolicy | None) -> HealthCheck | None:
    check = service.health_check if service else None
    if check is None:
        return None
    http, grpc = check.http, check.grpc
    asked = http or check.tcp or grpc
    assert asked is not None  # the document would have a fault
    return HealthCheck(
        kind="http" if http else "grpc" if grpc else "tcp",
        path=http.path if http else "/",
        host=http.host if http else grpc.host if grpc else "",
        port=asked.port,
        interval_ms=int(check.interval),
        timeout_ms=int(check.timeout),
        unhealthy_threshold=check.unhealthy_threshold,
        healthy_threshold=check.healthy_threshold,
        statuses=_statuses(http.statuses if http else ()),
        service=grpc.service if grpc else "",
    )


def _statuses(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Envoy's default is 200 only."""
    return tuple(found for text in texts if (found := parse_statuses(text)) is not None) or ((200, 201),)


def _for_port(whole: written.TrafficPolicy, port: int) -> Blocks:
    """A port's settings replace the four blocks that they can write; tunnel, proxyProtocol and retryBudget have no place there."""
    four = next((_blocks(entry) for entry in whole.port_level_settings if entry.port.number == port), _blocks(whole))
    return replace(four, tunnel=whole.tunnel, proxy_protocol=whole.proxy_protocol, retry_budget=whole.retry_budget)


def _blocks(source: written.TrafficPolicy | written.PortTrafficPolicy) -> Blocks:
    return Blocks(source.load_balancer, source.connection_pool, source.outlier_detection, source.tls)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
