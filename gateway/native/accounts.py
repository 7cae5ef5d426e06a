"""What a backend and its endpoints have done, as Statistics tell it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gateway.engine import BackendStatistics, EndpointStatistics
from gateway.native.guard import Guarded
from gateway.native.host import Host
from gateway.native.spread import Spread

Where = tuple[int, str, str]
"""(priority, locality, cluster)."""
_MEANT: Where = (0, "", "")


def where(host: Host) -> Where:
    return host.priority, str(host.endpoint.locality), host.endpoint.cluster


def backend_statistics(
    name: str, spread: Spread, hosts: Iterable[Host], gone: Mapping[Where, int], *, retries: int, overflow: int, guarded: Guarded
) -> BackendStatistics:
    """gone: traffic of hosts that are no more, or were elsewhere before. guarded: whose endpoints that clients meant, and who was let in."""
    traffic = dict(gone)
    if guarded.originals is not None:
        traffic[_MEANT] = traffic.get(_MEANT, 0) + guarded.originals.requests
    access = guarded.access.counts if guarded.access is not None else {}
    for host in hosts:
        if host.requests != host.folded:
            key = where(host)
            traffic[key] = traffic.get(key, 0) + host.requests - host.folded
    return BackendStatistics(
        backend=name,
        loads=spread.loads,
        panic=spread.panic,
        traffic=tuple((*key, count) for key, count in sorted(traffic.items()) if count),
        retries=retries,
        overflow=overflow,
        access=tuple((*key, count) for key, count in sorted(access.items())),
    )


def endpoint_statistics(
    name: str, hosts: Iterable[Host], now: float, connections: Callable[[Host], int]
) -> list[EndpointStatistics]:
    """connections: how many the pool has open to a host. Only of those that something was sent to or is wrong with: of 100,000 most are
    neither, and all of them would keep worker and control busy for half a second each time they are counted."""
    return [
        EndpointStatistics(
            backend=name,
            id=host.id,
            active=host.active,
            connections=connections(host),
            requests=host.requests,
            failures=host.failures,
            ejected_for_ms=max(1, int((host.ejected_until - now) * 1000)) if host.ejected else 0,
            ejected_reason=host.reason if host.ejected or host.half_open else "",
            p50_us=int(host.latencies.percentile(50) * 1_000_000),
            p99_us=int(host.latencies.percentile(99) * 1_000_000),
        )
        for host in hosts
        if host.requests or host.active or host.ejected or host.half_open or connections(host)
    ]


def carrying(loads: Sequence[int]) -> frozenset[int]:
    """The priorities that have a share."""
    return frozenset(priority for priority, load in enumerate(loads) if load)
