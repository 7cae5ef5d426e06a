"""`/metrics`: Istio's standard metrics, and what Istio has no name for as `fedgate_*`, in Prometheus' text format. Pure.

Counters of traffic come from the workers (`Reading.statistics`, already merged); states come from what control knows at this
moment. Nothing here is kept: a scrape is a function of one Reading, except for the few counters and histograms that only control
can count (`Instruments`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.engine import RequestSeries, Statistics

# From a local file's change (10 ms) to a federation that is being cut off (a minute).
_CONVERGENCE_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class WorkerReading(msgspec.Struct, frozen=True):
    worker: int
    up: bool
    restarts: int


class PeerReading(msgspec.Struct, frozen=True):
    """up: its session is established."""

    peer: str
    up: bool


class ShardReading(msgspec.Struct, frozen=True):
    """age_s: since the source last said anything, its keep-alive included."""

    cluster: str
    source: str
    age_s: float


class CertificateReading(msgspec.Struct, frozen=True):
    """expires: seconds since 1970."""

    name: str
    serial: str
    expires: float


class Reading(msgspec.Struct, frozen=True):
    """One look at a gateway. localities of backends: see gateway.engine.BackendStatistics.traffic."""

    statistics: Statistics = Statistics()
    workers: Sequence[WorkerReading] = ()
    peers: Sequence[PeerReading] = ()
    shards: Sequence[ShardReading] = ()
    certificates: Sequence[CertificateReading] = ()
    documents: Mapping[str, int] = {}  # good, bad → how many
    parts: int = 0


class Instruments:
    """What control itself counts."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # the start of a series is the collector's business; it doubles the lines
        self.registry = CollectorRegistry()
        self.failovers = Counter(
            "fedgate_failover",
            "Times that the share of a backend's priorities moved.",
            ["backend"],
            registry=self.registry,
        )
        self.convergence = Histogram(
            "fedgate_snapshot_convergence_seconds",
            "From a Snapshot's publication until every worker runs it.",
            registry=self.registry,
            buckets=_CONVERGENCE_BUCKETS,
        )


def exposition(reading: Reading, instruments: Instruments | None = None) -> bytes:
    """The text of `/metrics`."""
    registry = CollectorRegistry()
    registry.register(_Families(reading))
    text = generate_latest(registry)
    return text + generate_latest(instruments.registry) if instruments is not None else text


class _Families(Collector):
    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def collect(self) -> Iterator[Metric]:
        yield from _istio(self._reading.statistics)
        yield from _istio_tcp(self._reading.statistics)
        yield _counter(
            "fedgate_route_requests",
            "Requests of routes with a statPrefix.",
            ["stat_prefix", "response_code_class"],
            [(labels, count) for labels, count in self._reading.statistics.routes],
        )
        yield from _backends(self._reading.statistics)
        yield from _gateway(self._reading)

    def describe(self) -> Iterable[Metric]:
        return ()  # names depend on the reading; registering must not take one


# ---------------------------------------------------------------------------------------------------------------- Istio


def _istio(statistics: Statistics) -> Iterator[Metric]:
    requests = Metric("istio_requests", "Requests, by Istio's standard labels.", "counter")
    duration = Metric("istio_request_duration_milliseconds", "Duration of requests.", "histogram")
    received = Metric("istio_request_bytes", "Size of requests.", "histogram")
    sent = Metric("istio_response_bytes", "Size of responses.", "histogram")
    for series in statistics.requests:
        labels = dict(series.labels)
        requests.add_sample("istio_requests_total", labels, series.count)
        _histogram(duration, labels, series, statistics.duration_bounds, series.duration_buckets, series.duration_sum_ms)
        _histogram(received, labels, series, statistics.size_bounds, series.request_bytes_buckets, series.request_bytes)
        _histogram(sent, labels, series, statistics.size_bounds, series.response_bytes_buckets, series.response_bytes)
    yield from (requests, duration, received, sent)


def _istio_tcp(statistics: Statistics) -> Iterator[Metric]:
    opened = Metric("istio_tcp_connections_opened", "Relayed connections that were opened, by Istio's standard labels.", "counter")
    closed = Metric("istio_tcp_connections_closed", "Relayed connections that ended.", "counter")
    sent = Metric("istio_tcp_sent_bytes", "Bytes relayed to clients.", "counter")
    received = Metric("istio_tcp_received_bytes", "Bytes relayed from clients.", "counter")
    for series in statistics.tcp:
        labels = dict(series.labels)
        opened.add_sample("istio_tcp_connections_opened_total", labels, series.opened)
        closed.add_sample("istio_tcp_connections_closed_total", labels, series.closed)
        sent.add_sample("istio_tcp_sent_bytes_total", labels, series.sent_bytes)
        received.add_sample("istio_tcp_received_bytes_total", labels, series.received_bytes)
    yield from (opened, closed, sent, received)


def _histogram(
    metric: Metric,
    labels: Mapping[str, str],
    series: RequestSeries,
    bounds: Sequence[float],
    buckets: Sequence[int],
    total: float,
) -> None:
    """Counts per bucket, as engines keep them, become Prometheus' cumulative ones."""
    cumulative = 0
    for bound, count in zip(bounds, buckets, strict=False):
        cumulative += count
        upper: str = floatToGoString(bound)  # type: ignore[no-untyped-call]
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": upper}, cumulative)
    metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, series.count)
    metric.add_sample(f"{metric.name}_sum", dict(labels), total)
    metric.add_sample(f"{metric.name}_count", dict(labels), series.count)


# -------------------------------------------------------------------------------------------------------------- fedgate


def _backends(statistics: Statistics) -> Iterator[Metric]:
    traffic = CounterMetricFamily(
        "fedgate_backend_requests",
        "Requests sent to a backend's endpoints, by the priority, locality and cluster they went to.",
        labels=["backend", "priority", "locality", "cluster"],
    )
    load = GaugeMetricFamily(
        "fedgate_backend_priority_load", "Per cent of a backend's traffic that a priority gets.", labels=["backend", "priority"]
    )
    panic = GaugeMetricFamily("fedgate_backend_panic", "1 while health is not looked at.", labels=["backend"])
    retries = CounterMetricFamily("fedgate_backend_retries", "Requests that were tried again.", labels=["backend"])
    overflow = CounterMetricFamily("fedgate_backend_overflow", "Requests refused by a circuit breaker.", labels=["backend"])
    access = CounterMetricFamily(
        "fedgate_access",
        "Requests and connections to a backend that not everybody may use: whether they were let through (ALLOW, DENY), and why.",
        labels=["backend", "verdict", "reason"],
    )
    for backend in statistics.backends:
        for allowed, why, count in backend.access:
            access.add_metric([backend.backend, "ALLOW" if allowed else "DENY", why], count)
        for priority, locality, cluster, count in backend.traffic:
            traffic.add_metric([backend.backend, str(priority), locality, cluster], count)
        for priority, share in enumerate(backend.loads):
            load.add_metric([backend.backend, str(priority)], share)
        panic.add_metric([backend.backend], int(backend.panic))
        retries.add_metric([backend.backend], backend.retries)
        overflow.add_metric([backend.backend], backend.overflow)
    ejected = GaugeMetricFamily("fedgate_endpoint_ejected", "1 while an endpoint is ejected.", labels=["backend", "endpoint"])
    for endpoint in statistics.endpoints:
        ejected.add_metric([endpoint.backend, endpoint.id], int(endpoint.ejected_for_ms > 0))
    yield from (traffic, load, panic, retries, overflow, access, ejected)


def _gateway(reading: Reading) -> Iterator[Metric]:
    statistics = reading.statistics
    yield GaugeMetricFamily(
        "fedgate_downstream_connections", "Connections of clients, open now.", statistics.downstream_connections
    )
    yield CounterMetricFamily(
        "fedgate_downstream_connections_opened", "Connections of clients.", statistics.downstream_connections_total
    )
    yield CounterMetricFamily("fedgate_tls_handshakes", "TLS handshakes with clients.", statistics.tls_handshakes)
    yield CounterMetricFamily("fedgate_tls_failures", "TLS handshakes that failed.", statistics.tls_failures)
    yield _counter(
        "fedgate_refused",
        "Connections and requests that were refused: before routing, by a rate limit, or to shed load.",
        ["reason"],
        [([r], n) for r, n in statistics.refused],
    )
    yield _counter(
        "fedgate_dns", "The nameserver's questions by how they were answered.", ["result"], [([r], n) for r, n in statistics.dns]
    )
    yield _gauge(
        "fedgate_worker_up", "1 while the worker process runs.", ["worker"], [([str(w.worker)], w.up) for w in reading.workers]
    )
    restarts = [([str(w.worker)], w.restarts) for w in reading.workers]
    yield _counter("fedgate_worker_restarts", "Times that a worker process was started again.", ["worker"], restarts)
    yield _gauge("fedgate_peer_up", "1 while a peer's session is established.", ["peer"], [([p.peer], p.up) for p in reading.peers])
    ages = [([s.cluster, s.source], s.age_s) for s in reading.shards]
    yield _gauge("fedgate_shard_age_seconds", "Since a source last confirmed what it says.", ["cluster", "source"], ages)
    expiry = [([c.name, c.serial], c.expires) for c in reading.certificates]
    yield _gauge("fedgate_certificate_expiry_timestamp_seconds", "When a certificate expires.", ["name", "serial"], expiry)
    documents = [([state], count) for state, count in reading.documents.items()]
    yield _gauge("fedgate_documents", "Documents of the configuration, by their status.", ["status"], documents)
    yield GaugeMetricFamily("fedgate_snapshot_parts", "Parts of the Snapshot that is published.", reading.parts)


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, float(value))
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family
