"""What every exchange leaves behind: Istio's standard metrics as plain integers, and a line of the access log.

Label tuples are resolved once per (source, endpoint, status, flag): then an exchange costs a look-up, three bisections and a few
additions. `Statistics` is put together when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import structlog

from gateway.engine import RequestSeries
from gateway.native.accesslog import FOLLOW, Format, LogFile, Stamps, json_line, text_line
from gateway.native.connection import ConnectionContext
from gateway.native.host import Host
from gateway.native.observe_tcp import TcpObserver
from gateway.snapshot import AccessLog, Backend, ListenerKind, Node

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

log = structlog.get_logger("gateway.observe")

BOUNDS = (0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000, 3_600_000)
"""Envoy's default histogram buckets, which Istio uses for milliseconds and for bytes alike."""

_SMALL = [b"%d" % number for number in range(1000)]  # formatting one costs ten times a look-up
_UNKNOWN = "unknown"

Labels = tuple[tuple[str, str], ...]
Key = tuple[Host | None, int, bytes]
"""(endpoint, status, flag), for gRPC with a space and its status after the flag."""


class Series:
    """Counts of one label combination."""

    __slots__ = ("count", "duration_sum", "durations", "request_bytes", "request_sizes", "response_bytes", "response_sizes")

    def __init__(self) -> None:
        self.count = self.request_bytes = self.response_bytes = 0
        self.duration_sum = 0.0
        self.durations = [0] * (len(BOUNDS) + 1)
        self.request_sizes = [0] * (len(BOUNDS) + 1)
        self.response_sizes = [0] * (len(BOUNDS) + 1)


class Source:
    """Whom requests come from, as far as labels tell: one for each (reporter, principal). series: resolved so far."""

    __slots__ = ("labels", "reporter", "series")

    def __init__(self, reporter: str, labels: Labels) -> None:
        self.reporter = reporter
        self.labels = labels
        self.series: dict[Key, Series] = {}


class Observer:
    """Of one worker. refused: reason → connections or requests refused before routing. routes: (statPrefix, class of status) → requests
    of the routes that have one."""

    __slots__ = (
        "_access_log",
        "_bounds",
        "_by_labels",
        "_file",
        "_format",
        "_lines",
        "_look_again",
        "_node",
        "_over",
        "_sources",
        "_stamps",
        "refused",
        "routes",
        "tcp",
    )

    def __init__(self, wall: Callable[[], float]) -> None:
        self._stamps = Stamps(wall)
        self._node = Node(name="", cluster="")
        self._access_log = AccessLog()
        self._file: LogFile | None = None
        self._lines: list[bytes] | None = None
        self._look_again = 0.0
        self._format: Format = text_line
        self._sources: dict[tuple[str, str], Source] = {}
        self._by_labels: dict[Labels, Series] = {}
        self._over: list[Exchange] = []
        self.refused: dict[str, int] = {}
        self.routes: dict[tuple[str, str], int] = {}
        self.tcp = TcpObserver(self._stamps, _source_labels, _destination_labels)

    # ------------------------------------------------------------------------------------------------- configuration

    def configure(self, node: Node) -> list[str]:
        """Take over a Snapshot's node; endpoints may have changed too, so labels are resolved anew. Returns faults."""
        self.record_all()
        self.tcp.configure(node)
        if node != self._node:
            self._node = node
            self._sources.clear()
        for source in self._sources.values():
            source.series.clear()
        if node.access_log == self._access_log:
            return []
        wanted = node.access_log
        opened = None
        if wanted.path:
            try:
                opened = LogFile(wanted.path)
            except OSError as error:
                return [f"node: access log {wanted.path} cannot be opened: {error.strerror}; the log stays as it was"]
        self.close()
        self._access_log, self._file = wanted, opened
        self._lines = opened.lines if opened is not None else None
        self._format = json_line if wanted.format == "json" else text_line
        return []

    def close(self) -> None:
        self.record_all()
        if self._file is not None:
            self._file.close()
            self._file = self._lines = None

    # ----------------------------------------------------------------------------------------------------- recording

    def source(self, context: ConnectionContext) -> Source:
        """For a new connection: where its requests are counted."""
        reporter = "destination" if context.listener.kind is ListenerKind.EAST_WEST else "source"
        key = (reporter, context.identity)
        found = self._sources.get(key)
        if found is None:
            found = self._sources[key] = Source(reporter, _source_labels(self._node, reporter, context.identity))
        return found

    def record(self, x: Exchange, now: float) -> None:
        """An exchange is over. It is counted and logged at the end of the turn, with all others: the same work costs about a third
        less when it is done in one go."""
        x.ended = now
        x.unrecorded = True
        self._over.append(x)

    def record_all(self) -> None:
        """Count and log what is over. An exchange that begins anew in the same turn (a pipelined request) calls this before."""
        if self.tcp.over:
            self.tcp.record(self._lines, json=self._format is json_line)
        over, self._over = self._over, []
        lines, line, start = self._lines, self._format, self._stamps.text
        for x in over:
            x.unrecorded = False
            elapsed = (x.ended - x.began) * 1000.0
            key = (x.host, x.status, x.flag) if not x.grpc else (x.host, x.status, x.flag + b" " + x.grpc_status)
            series = x.source.series.get(key)
            if series is None:
                series = self._resolve(x, key)
            series.count += 1
            if x.stat_prefix:
                route = (x.stat_prefix.decode("latin-1"), f"{x.status // 100}xx")
                self.routes[route] = self.routes.get(route, 0) + 1
            series.duration_sum += elapsed
            series.durations[bisect_left(BOUNDS, elapsed)] += 1
            received, sent = x.received, x.sent
            series.request_sizes[bisect_left(BOUNDS, received) if received else 0] += 1
            series.response_sizes[bisect_left(BOUNDS, sent)] += 1
            series.request_bytes += received
            series.response_bytes += sent
            if lines is not None:
                service = b"-"
                if x.answered_at:
                    milliseconds = int((x.answered_at - x.attempt_began) * 1000.0)
                    service = _SMALL[milliseconds] if milliseconds < 1000 else b"%d" % milliseconds
                lines.append(line(x, start(x.began), int(elapsed), service))

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def wall_time(self, now: float) -> float:
        """Seconds since 1970 of a time of the reactor, as the access log has it."""
        return self._stamps.wall_time(now)

    def turn_ended(self) -> None:
        """At the end of every turn of the reactor."""
        if self._over or self.tcp.over:
            self.record_all()
        if self._file is not None:
            self._file.flush_many()

    def tick(self, now: float) -> None:
        """Every accesslog.FLUSH seconds."""
        self._stamps.synchronise(now)
        if self._file is not None:
            self._file.flush()
            if now >= self._look_again:
                self._look_again = now + FOLLOW
                self._file.follow()

    def _resolve(self, x: Exchange, key: Key) -> Series:
        host, status, words = key
        flag, _, grpc_status = words.partition(b" ")
        backend = x.state.backend if host is not None and x.state is not None else None
        labels = x.source.labels + _destination_labels(self._node, backend, host, x.source.reporter)
        secured = "mutual_tls" if x.source.reporter == "destination" else _UNKNOWN
        labels += (
            ("request_protocol", "grpc" if x.grpc else "http"),
            ("response_code", str(status)),
            ("grpc_response_status", grpc_status.decode()),
            ("response_flags", flag.decode()),
            ("connection_security_policy", secured),
        )
        series = self._by_labels.get(labels)
        if series is None:
            series = self._by_labels[labels] = Series()
        x.source.series[key] = series
        return series

    # ---------------------------------------------------------------------------------------------------- statistics

    def series(self) -> Iterable[RequestSeries]:
        self.record_all()
        for labels, one in self._by_labels.items():
            yield RequestSeries(
                labels=labels,
                count=one.count,
                duration_buckets=tuple(one.durations),
                duration_sum_ms=one.duration_sum,
                request_bytes=one.request_bytes,
                response_bytes=one.response_bytes,
                request_bytes_buckets=tuple(one.request_sizes),
                response_bytes_buckets=tuple(one.response_sizes),
            )


# -------------------------------------------------------------------------------------------------------------- labels


def _source_labels(node: Node, reporter: str, identity: str) -> Labels:
    """Of the gateway itself when it reports as the source; of who called when it reports as the destination."""
    own = reporter == "source"
    name = node.name if own else _UNKNOWN
    return (
        ("reporter", reporter),
        ("source_workload", name),
        ("source_workload_namespace", node.namespace if own else _UNKNOWN),
        ("source_principal", identity or _UNKNOWN),
        ("source_app", name),
        ("source_version", _UNKNOWN),
        ("source_cluster", node.cluster if own else _UNKNOWN),
        ("source_canonical_service", name),
        ("source_canonical_revision", "latest" if own else _UNKNOWN),
    )


def _destination_labels(node: Node, backend: Backend | None, host: Host | None, reporter: str) -> Labels:
    labels = dict(host.endpoint.labels) if host is not None else {}
    app = labels.get("app") or labels.get("app.kubernetes.io/name") or _UNKNOWN
    version = labels.get("version") or labels.get("app.kubernetes.io/version") or _UNKNOWN
    namespace = (backend.namespace if backend is not None else "") or _UNKNOWN
    return (
        ("destination_workload", labels.get("workload") or app),
        ("destination_workload_namespace", namespace),
        ("destination_principal", _UNKNOWN),
        ("destination_app", app),
        ("destination_version", version),
        ("destination_service", backend.host if backend is not None else _UNKNOWN),
        ("destination_service_name", _service_name(backend.host) if backend is not None else _UNKNOWN),
        ("destination_service_namespace", namespace),
        ("destination_cluster", (host.endpoint.cluster if host is not None else "") or _UNKNOWN),
        ("destination_canonical_service", labels.get("service.istio.io/canonical-name") or app),
        (
            "destination_canonical_revision",
            labels.get("service.istio.io/canonical-revision") or (version if app != _UNKNOWN else "latest"),
        ),
    )


def _service_name(host: str) -> str:
    """`reviews` of `reviews.shop.svc.cluster.local`; another host is its own name, as in Istio."""
    name, _, rest = host.partition(".")
    return name if rest.partition(".")[2].startswith("svc.") else host
