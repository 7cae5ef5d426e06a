"""One reading of counters out of those of several workers, the dead included. Pure.

A worker's counters begin at 0 with its process. What a dead one had counted is kept as a base, so that no total ever falls when a
worker dies; what it had counted since it was last asked is lost with it. Gauges (active, connections, ejections) die with it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from typing import TypeVar

import msgspec

from gateway.engine import BackendStatistics, EndpointStatistics, RequestSeries, Statistics, TcpSeries

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Totals:
    """The last statistics of each living worker, and the base that dead ones left."""

    def __init__(self) -> None:
        self.living: dict[int, Statistics] = {}
        self._base = Statistics()

    def update(self, worker: int, statistics: Statistics) -> None:
        self.living[worker] = statistics

    def died(self, worker: int) -> None:
        """Its counters become part of the base; calling it again for the same worker changes nothing."""
        last = self.living.pop(worker, None)
        if last is not None:
            self._base = merge([self._base, without_gauges(last)])

    def keep(self, backends: Collection[str], endpoints: Collection[tuple[str, str]]) -> None:
        """Forget in the base what the Snapshot no longer has, as engines do: names come and go, memory must not grow with them."""
        self._base = msgspec.structs.replace(
            self._base,
            backends=tuple(b for b in self._base.backends if b.backend in backends),
            endpoints=tuple(e for e in self._base.endpoints if (e.backend, e.id) in endpoints),
        )

    def merged(self) -> Statistics:
        """Everything: living first, so that gauges and bounds are theirs."""
        return merge([*(self.living[worker] for worker in sorted(self.living)), self._base])


def without_gauges(statistics: Statistics) -> Statistics:
    """Only what counts on after a process is gone."""
    replace = msgspec.structs.replace
    return replace(
        statistics,
        version="",
        downstream_connections=0,
        draining=False,
        backends=tuple(replace(backend, loads=(), panic=False) for backend in statistics.backends),
        endpoints=tuple(
            replace(e, active=0, connections=0, ejected_for_ms=0, ejected_reason="", p50_us=0, p99_us=0)
            for e in statistics.endpoints
        ),
    )


def merge(readings: Iterable[Statistics]) -> Statistics:
    """The sum of counters; of gauges that cannot be summed (loads, version) the first reading's that has one."""
    all_of = list(readings)
    return Statistics(
        version=next((r.version for r in all_of if r.version), ""),
        duration_bounds=next((r.duration_bounds for r in all_of if r.duration_bounds), ()),
        size_bounds=next((r.size_bounds for r in all_of if r.size_bounds), ()),
        requests=_fold((s for r in all_of for s in r.requests), lambda s: s.labels, _add_series),
        backends=_fold((b for r in all_of for b in r.backends), lambda b: b.backend, _add_backends),
        endpoints=_fold((e for r in all_of for e in r.endpoints), lambda e: (e.backend, e.id), _add_endpoints),
        downstream_connections=sum(r.downstream_connections for r in all_of),
        downstream_connections_total=sum(r.downstream_connections_total for r in all_of),
        tls_handshakes=sum(r.tls_handshakes for r in all_of),
        tls_failures=sum(r.tls_failures for r in all_of),
        refused=tuple(_sum(r.refused for r in all_of).items()),
        draining=bool(all_of) and any(r.draining for r in all_of),
        routes=tuple(_sum(r.routes for r in all_of).items()),
        tcp=_fold((s for r in all_of for s in r.tcp), lambda s: s.labels, _add_tcp),
        dns=tuple(_sum(r.dns for r in all_of).items()),
    )


def _fold(items: Iterable[T], key: Callable[[T], K], add: Callable[[T, T], T]) -> tuple[T, ...]:
    found: dict[K, T] = {}
    for item in items:
        known = found.get(key(item))
        found[key(item)] = item if known is None else add(known, item)
    return tuple(found.values())


def _sum(readings: Iterable[Iterable[tuple[K, int]]]) -> Mapping[K, int]:
    total: dict[K, int] = {}
    for reading in readings:
        for key, count in reading:
            total[key] = total.get(key, 0) + count
    return total


def _buckets(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    if not left or not right:
        return left or right
    return tuple(a + b for a, b in zip(left, right, strict=True))


def _add_series(left: RequestSeries, right: RequestSeries) -> RequestSeries:
    return RequestSeries(
        labels=left.labels,
        count=left.count + right.count,
        duration_buckets=_buckets(left.duration_buckets, right.duration_buckets),
        duration_sum_ms=left.duration_sum_ms + right.duration_sum_ms,
        request_bytes=left.request_bytes + right.request_bytes,
        response_bytes=left.response_bytes + right.response_bytes,
        request_bytes_buckets=_buckets(left.request_bytes_buckets, right.request_bytes_buckets),
        response_bytes_buckets=_buckets(left.response_bytes_buckets, right.response_bytes_buckets),
    )


def _add_tcp(left: TcpSeries, right: TcpSeries) -> TcpSeries:
    return TcpSeries(
        labels=left.labels,
        opened=left.opened + right.opened,
        closed=left.closed + right.closed,
        sent_bytes=left.sent_bytes + right.sent_bytes,
        received_bytes=left.received_bytes + right.received_bytes,
    )


def _add_backends(left: BackendStatistics, right: BackendStatistics) -> BackendStatistics:
    traffic = _sum([(((p, loc, cl), n) for p, loc, cl, n in left.traffic), (((p, loc, cl), n) for p, loc, cl, n in right.traffic)])
    access = _sum([(((a, why), n) for a, why, n in left.access), (((a, why), n) for a, why, n in right.access)])
    return BackendStatistics(
        backend=left.backend,
        loads=left.loads or right.loads,
        panic=left.panic or right.panic,
        traffic=tuple((*key, count) for key, count in traffic.items()),
        retries=left.retries + right.retries,
        overflow=left.overflow + right.overflow,
        access=tuple((*key, count) for key, count in access.items()),
    )


def _add_endpoints(left: EndpointStatistics, right: EndpointStatistics) -> EndpointStatistics:
    """Latency cannot be summed: the median of who saw more requests, and the worse 99th percentile."""
    longer = left if left.ejected_for_ms >= right.ejected_for_ms else right
    return EndpointStatistics(
        backend=left.backend,
        id=left.id,
        active=left.active + right.active,
        connections=left.connections + right.connections,
        requests=left.requests + right.requests,
        failures=left.failures + right.failures,
        ejected_for_ms=longer.ejected_for_ms,
        ejected_reason=longer.ejected_reason,
        p50_us=max((left, right), key=lambda e: (e.p50_us > 0, e.requests)).p50_us,
        p99_us=max(left.p99_us, right.p99_us),
    )
