"""The contract of a data plane: what it is given, what it says back.

An Engine is given three Watchables (Snapshot, Verdicts, Secrets) and a channel for reports; it serves until cancelled or
drained. The native engine, the one made of worker processes and the recording fake pass the same conformance test.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import trio

from discovery.watch import Watchable
from gateway.secret import Secrets
from gateway.snapshot import Snapshot
from gateway.verdicts import Verdicts

# ------------------------------------------------------------------------------------------------ reports: engine → control


class Applied(msgspec.Struct, frozen=True, tag="applied"):
    """The engine now runs this Snapshot version. faults: what of it could not be used (a certificate that does not load …)."""

    version: str
    faults: tuple[str, ...] = ()


class Ejected(msgspec.Struct, frozen=True, tag="ejected"):
    """An endpoint was taken out. reason: consecutive-5xx, consecutive-gateway-errors, local-origin, silence, connect-timeout, unconfirmed."""

    backend: str
    endpoint: str
    reason: str
    for_ms: int


class Restored(msgspec.Struct, frozen=True, tag="restored"):
    backend: str
    endpoint: str


class Confirmed(msgspec.Struct, frozen=True, tag="confirmed"):
    """Answer to a SUSPECT address: alive = it completed TLS and was read from."""

    address: str
    alive: bool
    took_ms: int


class PriorityMoved(msgspec.Struct, frozen=True, tag="moved"):
    """The share of priorities of a backend changed: loads in per cent, before and after. For the journal and fedgate_failover metrics."""

    backend: str
    before: tuple[int, ...]
    after: tuple[int, ...]


Report = Applied | Ejected | Restored | Confirmed | PriorityMoved

# --------------------------------------------------------------------------------------------------------- statistics


class EndpointStatistics(msgspec.Struct, frozen=True):
    """Of one endpoint in one backend, as this engine sees it. latency in microseconds."""

    backend: str
    id: str
    active: int
    connections: int
    requests: int
    failures: int
    ejected_for_ms: int = 0  # 0 = not ejected
    ejected_reason: str = ""
    p50_us: int = 0
    p99_us: int = 0


class RequestSeries(msgspec.Struct, frozen=True):
    """One label combination of istio_requests_total and its histograms. Buckets are cumulative-free counts, one per bound + 1."""

    labels: tuple[tuple[str, str], ...]
    count: int
    duration_buckets: tuple[int, ...]
    duration_sum_ms: float
    request_bytes: int
    response_bytes: int
    request_bytes_buckets: tuple[int, ...] = ()
    response_bytes_buckets: tuple[int, ...] = ()


class TcpSeries(msgspec.Struct, frozen=True):
    """One label combination of Istio's TCP metrics. sent_bytes: response direction."""

    labels: tuple[tuple[str, str], ...]
    opened: int = 0
    closed: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0


class BackendStatistics(msgspec.Struct, frozen=True):
    """loads: per cent by priority now. traffic: (priority, locality text, cluster) → requests sent there. access: (allowed, why, requests
    and connections), where not everybody may use it."""

    backend: str
    loads: tuple[int, ...] = ()
    panic: bool = False
    traffic: tuple[tuple[int, str, str, int], ...] = ()
    retries: int = 0
    overflow: int = 0
    access: tuple[tuple[bool, str, int], ...] = ()


class Statistics(msgspec.Struct, frozen=True):
    """Counters since the process started. duration bounds are milliseconds, size bounds bytes (Istio's standard buckets)."""

    version: str = ""
    worker: int = 0
    duration_bounds: tuple[float, ...] = ()
    size_bounds: tuple[float, ...] = ()
    requests: tuple[RequestSeries, ...] = ()
    backends: tuple[BackendStatistics, ...] = ()
    endpoints: tuple[EndpointStatistics, ...] = ()
    downstream_connections: int = 0
    downstream_connections_total: int = 0
    tls_handshakes: int = 0
    tls_failures: int = 0
    refused: tuple[tuple[str, int], ...] = ()  # reason → connections or requests refused before routing
    draining: bool = False
    tcp: tuple[TcpSeries, ...] = ()
    routes: tuple[tuple[tuple[str, str], int], ...] = ()  # (statPrefix, "2xx") → requests
    dns: tuple[tuple[str, int], ...] = ()  # how a question was answered → questions (native/nameserver)


class Engine(Protocol):
    """A data plane."""

    async def run(
        self,
        snapshots: Watchable[Snapshot],
        verdicts: Watchable[Verdicts],
        secrets: Watchable[Secrets],
        reports: trio.MemorySendChannel[Report],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled. `started()` once the first Snapshot is applied and its listeners accept.

        A Snapshot that cannot be applied changes nothing and is reported as Applied with the running version and its faults.
        Reports are dropped when the channel is full. Cancellation closes every connection at once."""
        ...

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what runs with `connection: close`, return when nothing is left or trio's clock reads `deadline`."""
        ...

    def statistics(self) -> Statistics:
        """A reading of the counters, taken between two turns."""
        ...
