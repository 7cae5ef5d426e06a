"""A Snapshot, its Verdicts and the workers' counters as rows for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from appliance.admin.matches import action_text, match_text
from appliance.admin.rows import (
    BackendRow,
    ChainRow,
    DestinationRow,
    EndpointRow,
    ListenerRow,
    PriorityRow,
    RouteRow,
)
from discovery.model import Health
from gateway.engine import BackendStatistics, EndpointStatistics, Statistics
from gateway.native.sockets import datagrams_key
from gateway.policy.balance import Count, loads
from gateway.snapshot import Backend, FilterChain, Forward, LbEndpoint, Listener, Snapshot, VirtualHost
from gateway.verdicts import AddressState, Verdict, Verdicts

_GOOD = Verdict(Health.HEALTHY)


class Seen(msgspec.Struct, frozen=True):
    """What a view is made from. by_worker: each living worker's counters; total: their sum, the dead included."""

    snapshot: Snapshot
    verdicts: Verdicts = Verdicts()
    total: Statistics = Statistics()
    by_worker: Mapping[int, Statistics] = {}
    listener_faults: Mapping[str, str] = {}


def listeners(seen: Seen) -> list[ListenerRow]:
    """By address and port."""
    rows = [
        ListenerRow(
            address=listener.address,
            port=listener.port,
            kind=listener.kind.value,
            bound=not _fault(listener, seen),
            error=_fault(listener, seen),
            chains=tuple(_chain(chain) for chain in listener.chains),
        )
        for listener in seen.snapshot.listeners()
    ]
    return sorted(rows, key=lambda row: (row.port, row.address))


def _fault(listener: Listener, seen: Seen) -> str:
    """Why it does not listen, or not by UDP."""
    return seen.listener_faults.get(listener.key) or seen.listener_faults.get(datagrams_key(listener), "")


def _chain(chain: FilterChain) -> ChainRow:
    tls = chain.tls
    return ChainRow(
        name=chain.name,
        server_names=chain.server_names,
        table=chain.table,
        tls=tls.mode.value if tls else "",
        certificates=tuple(certificate.name for certificate in tls.certificates) if tls else (),
        redirect_https=chain.redirect_https,
    )


def routes(seen: Seen) -> list[RouteRow]:
    """By table and virtual host, then in the order in which they are matched."""
    hosts = [part for part in seen.snapshot.parts.values() if isinstance(part, VirtualHost)]
    rows = []
    for host in sorted(hosts, key=lambda host: (host.table, host.name)):
        for route in host.routes:
            forward = route.action if isinstance(route.action, Forward) else None
            rows.append(
                RouteRow(
                    table=host.table,
                    virtual_host=host.name,
                    domains=host.domains,
                    name=route.name,
                    match=match_text(route.match),
                    action=action_text(route.action),
                    destinations=tuple(DestinationRow(backend=s.backend, weight=s.weight) for s in forward.splits)
                    if forward
                    else (),
                    timeout_ms=forward.timeout_ms if forward else 0,
                    retries=forward.retry.attempts if forward and forward.retry else 0,
                )
            )
    return rows


def backends(seen: Seen) -> list[BackendRow]:
    """By name."""
    statistics = {each.backend: each for each in seen.total.backends}
    rows = []
    for backend in sorted(seen.snapshot.backends(), key=lambda backend: backend.name):
        known = statistics.get(backend.name, BackendStatistics(backend.name))
        rows.append(
            BackendRow(
                name=backend.name,
                host=backend.host,
                port=backend.port,
                subset=backend.subset,
                balance=backend.balance.value,
                panic=known.panic,
                priorities=_priorities(seen, backend, known.loads),
                requests=sum(count for *_, count in known.traffic),
                retries=known.retries,
                overflow=known.overflow,
                tls=backend.tls.mode.value if backend.tls else "",
                policy=_policy(backend),
            )
        )
    return rows


def _policy(backend: Backend) -> dict[str, object]:
    """What a DestinationRule or the defaults put in force, with its numbers."""
    named: dict[str, object] = {
        "connectTimeoutMs": backend.connect_timeout_ms,
        "maxConnections": backend.limits.connections,
        "maxPendingRequests": backend.limits.pending,
        "maxRequests": backend.limits.requests,
        "maxRetries": backend.limits.retries,
        "retryBudget": backend.retry_budget and msgspec.to_builtins(backend.retry_budget),
        "rateLimits": [limit.name or f"{limit.tokens}/{limit.per_ms}ms" for limit in backend.rate_limits],
        "panicPercent": backend.panic_percent,
        "outlier": backend.outlier and msgspec.to_builtins(backend.outlier),
        "silence": backend.silence and msgspec.to_builtins(backend.silence),
        "failback": backend.failback and msgspec.to_builtins(backend.failback),
        "healthCheck": backend.health_check and msgspec.to_builtins(backend.health_check),
    }
    return {name: value for name, value in named.items() if value}


def _priorities(seen: Seen, backend: Backend, shares: Sequence[int]) -> tuple[PriorityRow, ...]:
    by_priority: dict[int, list[LbEndpoint]] = {}
    for endpoint in seen.snapshot.endpoints(backend.name):
        by_priority.setdefault(endpoint.priority, []).append(endpoint)
    highest = max(by_priority, default=-1)
    counts = [_count(seen, backend.name, by_priority.get(priority, [])) for priority in range(highest + 1)]
    if len(shares) != len(counts):
        # No worker has used this backend yet: the arithmetic without anybody's ejections.
        shares = loads(counts, overprovisioning=backend.overprovisioning, panic_percent=backend.panic_percent).total
    return tuple(
        PriorityRow(
            priority=priority,
            load=shares[priority],
            endpoints=len(by_priority.get(priority, [])),
            healthy=count.healthy + count.degraded,
            total=count.hosts,
            localities=tuple(sorted({str(each.locality) for each in by_priority.get(priority, [])})),
        )
        for priority, count in enumerate(counts)
    )


def _count(seen: Seen, backend: str, endpoints: Iterable[LbEndpoint]) -> Count:
    """Workloads of one priority; a peer's group is counted once, by what the peer says of it."""
    ejected = _ejected(seen)
    hosts = healthy = degraded = 0
    groups: set[str] = set()
    for endpoint in endpoints:
        if endpoint.group in groups:
            continue
        if endpoint.group:
            groups.add(endpoint.group)
        verdict = _verdict(seen, backend, endpoint)
        hosts += verdict.total
        down = seen.verdicts.addresses.get(endpoint.key) is AddressState.DOWN
        if down or (backend, endpoint.id) in ejected or not verdict.health.usable:
            continue
        if verdict.health is Health.DEGRADED:
            degraded += verdict.healthy
        else:
            healthy += verdict.healthy
    return Count(hosts, healthy, degraded)


def _verdict(seen: Seen, backend: str, endpoint: LbEndpoint) -> Verdict:
    return seen.verdicts.endpoints.get(backend, {}).get(endpoint.group or endpoint.id, _GOOD)


def _ejected(seen: Seen) -> Mapping[tuple[str, str], tuple[int, EndpointStatistics]]:
    """(backend, endpoint) → the worker that holds the longest ejection, and its reading."""
    found: dict[tuple[str, str], tuple[int, EndpointStatistics]] = {}
    for worker, statistics in seen.by_worker.items():
        for each in statistics.endpoints:
            key = (each.backend, each.id)
            if each.ejected_for_ms > 0 and (key not in found or found[key][1].ejected_for_ms < each.ejected_for_ms):
                found[key] = (worker, each)
    return found


def endpoints(seen: Seen, backend: str = "") -> list[EndpointRow]:
    """Of one backend, or of all; by backend, priority and id."""
    statistics = {(each.backend, each.id): each for each in seen.total.endpoints}
    ejected = _ejected(seen)
    rows = []
    for each in seen.snapshot.backends():
        if backend and each.name != backend:
            continue
        for endpoint in seen.snapshot.endpoints(each.name):
            key = (each.name, endpoint.id)
            known = statistics.get(key) or EndpointStatistics(each.name, endpoint.id, 0, 0, 0, 0)
            rows.append(_endpoint(seen, each.name, endpoint, known, ejected.get(key)))
    return sorted(rows, key=lambda row: (row.backend, row.priority, row.id))


def _endpoint(
    seen: Seen,
    backend: str,
    endpoint: LbEndpoint,
    known: EndpointStatistics,
    ejected: tuple[int, EndpointStatistics] | None,
) -> EndpointRow:
    verdict = _verdict(seen, backend, endpoint)
    health, reason = _health(seen, endpoint, verdict, ejected)
    return EndpointRow(
        backend=backend,
        id=endpoint.id,
        address=endpoint.key if endpoint.port else endpoint.address,
        cluster=endpoint.cluster,
        locality=str(endpoint.locality),
        priority=endpoint.priority,
        weight=endpoint.weight,
        peer=endpoint.peer,
        health=health,
        reason=reason,
        healthy=verdict.healthy if verdict.health.usable else 0,
        total=verdict.total,
        active=known.active,
        connections=known.connections,
        requests=known.requests,
        failures=known.failures,
        p50_ms=known.p50_us / 1000,
        p99_ms=known.p99_us / 1000,
    )


def _health(seen: Seen, endpoint: LbEndpoint, verdict: Verdict, ejected: tuple[int, EndpointStatistics] | None) -> tuple[str, str]:
    """The worst that is known, and who says so."""
    state = seen.verdicts.addresses.get(endpoint.key)
    if state is AddressState.DOWN:
        return "down", "the peer's gateway does not answer"
    if not verdict.health.usable:
        return verdict.health.value, verdict.reason
    if ejected is not None:
        worker, reading = ejected
        return "ejected", f"{reading.ejected_reason} for {reading.ejected_for_ms} ms more, by worker {worker}"
    if state is AddressState.SUSPECT:
        return "suspect", "the peer's session is silent; workers are finding out"
    return ("degraded" if verdict.health is Health.DEGRADED else "healthy"), verdict.reason
