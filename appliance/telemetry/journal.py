"""What happened, as control hears it from the workers: each event is logged, counted where a metric asks for it, and the last ones
are remembered."""

from __future__ import annotations

from collections import deque

import structlog
import trio

from appliance.telemetry.metrics import Instruments
from discovery.watch import Watchable
from gateway.engine import Applied, Confirmed, Ejected, PriorityMoved, Report, Restored
from gateway.snapshot import Snapshot

log = structlog.get_logger("gateway")

# Publications that no worker has applied yet; more than a few mean that workers are stuck, and the oldest is forgotten.
_PUBLISHED = 100


class Journal:
    """`applied` is what all workers run, None until they do."""

    def __init__(self) -> None:
        self.instruments = Instruments()
        self.applied: Applied | None = None
        self._published: deque[tuple[str, float]] = deque(maxlen=_PUBLISHED)

    def note(self, report: Report, now: float) -> None:
        """Log and count one report. now: on the clock of `published`."""
        match report:
            case Applied(version, faults):
                self._note_applied(report, now)
                log.info("snapshot.applied", version=version[:12], faults=faults)
            case Ejected(backend, endpoint, reason, for_ms):
                log.warning("endpoint.ejected", backend=backend, endpoint=endpoint, reason=reason, for_ms=for_ms)
            case Restored(backend, endpoint):
                log.info("endpoint.restored", backend=backend, endpoint=endpoint)
            case Confirmed(address, alive, took_ms):
                log.warning("peer.confirmed", address=address, alive=alive, took_ms=took_ms)
            case PriorityMoved(backend, before, after):
                self.instruments.failovers.labels(backend).inc()
                log.warning("backend.moved", backend=backend, before=before, after=after)

    def published(self, version: str, now: float) -> None:
        """A Snapshot of this version was published."""
        self._published.append((version, now))

    def _note_applied(self, report: Applied, now: float) -> None:
        if self.applied is None or report.version != self.applied.version:
            waiting = list(self._published)
            for index, (version, since) in enumerate(waiting):
                if version == report.version:
                    self.instruments.convergence.observe(now - since)
                    # Those before it were overtaken.
                    self._published = deque(waiting[index + 1 :], maxlen=_PUBLISHED)
                    break
        self.applied = report

    async def time_convergence(self, snapshots: Watchable[Snapshot]) -> None:
        """Note each publication until cancelled."""
        seen = snapshots.version
        if snapshots.value.parts:
            self.published(snapshots.value.version, trio.current_time())
        while True:
            seen, snapshot = await snapshots.newer_than(seen)
            self.published(snapshot.version, trio.current_time())
