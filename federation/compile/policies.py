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
from dataclasses import dataclass

from discovery.model import Endpoint
from federation.compile.priorities import ALL_EQUAL, LocalityPolicy
from federation.compile.scope import Rule
from federation.resources import destination_rule as written
from federation.resources import fedgate
from gateway.snapshot import Balance, Failback, HealthCheck, Outlier, Silence

CONNECT_MS = 10_000  # Istio's connectTimeout
QUICK_CONNECT_MS = 1_000  # fedgate, where there is somewhere else to go: long for any network, short for a person
IDLE_MS = 3_600_000  # Istio and Envoy: an hour
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
}


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
    """The blocks of traffic policy that apply to one backend; None = not written."""

    load_balancer: written.LoadBalancerSettings | None = None
    connection_pool: written.ConnectionPoolSettings | None = None
    outlier_detection: written.OutlierDetection | None = None
    tls: written.ClientTLSSettings | None = None


@dataclass(frozen=True)
class Policy:
    """What a backend gets, by the names of gateway.snapshot.Backend; locality decides its priorities."""

    locality: LocalityPolicy
    balance: Balance
    connect_timeout_ms: int
    idle_timeout_ms: int
    max_requests_per_connection: int
    max_requests: int
    outlier: Outlier | None
    silence: Silence | None
    failback: Failback | None
    panic_percent: int
    panic_last_resort: bool
    health_check: HealthCheck | None


def effective(rule: Rule | None, port: int, subset: str) -> Blocks:
    """The blocks for one port and subset ("" = the whole service)."""
    blocks = _for_port(rule.policy, port) if rule and rule.policy else Blocks()
    chosen = rule.subsets.get(subset) if rule and subset else None
    if chosen is None or chosen.traffic_policy is None:
        return blocks
    own = chosen.traffic_policy
    for entry in own.port_level_settings:
        if entry.port.number == port:
            return _blocks(entry)
    return Blocks(
        load_balancer=own.load_balancer or blocks.load_balancer,
        connection_pool=own.connection_pool or blocks.connection_pool,
        outlier_detection=own.outlier_detection or blocks.outlier_detection,
        tls=own.tls or blocks.tls,
    )


def policy(blocks: Blocks, spread: Spread, service: fedgate.ServicePolicy | None, *, own_defaults: bool) -> Policy:
    """own_defaults: fedgate's hold where nothing is written, else Istio's."""
    balancer = blocks.load_balancer or written.LoadBalancerSettings()
    pool = blocks.connection_pool or written.ConnectionPoolSettings()
    http = pool.http or written.HTTPSettings()
    detection = blocks.outlier_detection
    several = own_defaults and spread is not Spread.ONE_ENDPOINT
    connect = pool.tcp.connect_timeout if pool.tcp else None
    return Policy(
        locality=locality_policy(balancer.locality_lb_setting, detection, own_defaults=own_defaults),
        balance=_BALANCE[balancer.simple],
        connect_timeout_ms=(QUICK_CONNECT_MS if several else CONNECT_MS) if connect is None else connect,
        idle_timeout_ms=IDLE_MS if http.idle_timeout is None else http.idle_timeout,
        max_requests_per_connection=http.max_requests_per_connection or 0,
        max_requests=http.http2_max_requests or 0,
        outlier=outlier(detection, spread, own_defaults=own_defaults),
        silence=Silence() if several else None,
        failback=_failback(service, spread, own_defaults=own_defaults),
        panic_percent=(detection.min_health_percent or 0) if detection else 0,
        panic_last_resort=own_defaults,
        health_check=_health_check(service),
    )


def locality_policy(
    setting: written.LocalityLbSetting | None, detection: written.OutlierDetection | None, *, own_defaults: bool
) -> LocalityPolicy:
    """Istio: nothing without outlierDetection (the best known trap), else by locality unless switched off. Ours: always, the own
    cluster first unless a localityLbSetting says what decides."""
    if not own_defaults and detection is None:
        return ALL_EQUAL
    if setting is None:
        return LocalityPolicy(own_cluster_first=own_defaults)
    if setting.enabled is False:
        return ALL_EQUAL
    return LocalityPolicy(failover=tuple((each.from_, each.to) for each in setting.failover))


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
    http, tcp = check.http, check.tcp
    return HealthCheck(
        kind="tcp" if http is None else "http",
        path=http.path if http else "/",
        host=http.host if http else "",
        port=http.port if http else tcp.port if tcp else 0,
        interval_ms=int(check.interval),
        timeout_ms=int(check.timeout),
        unhealthy_threshold=check.unhealthy_threshold,
        healthy_threshold=check.healthy_threshold,
    )


def _for_port(whole: written.TrafficPolicy, port: int) -> Blocks:
    for entry in whole.port_level_settings:
        if entry.port.number == port:
            return _blocks(entry)
    return _blocks(whole)


def _blocks(source: written.TrafficPolicy | written.PortTrafficPolicy) -> Blocks:
    return Blocks(source.load_balancer, source.connection_pool, source.outlier_detection, source.tls)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
