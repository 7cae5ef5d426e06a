"""The admin API's view of a running gateway: workers, what is published, and what the plane knows, read at this moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

import trio

from appliance.admin import views
from appliance.admin.certificates import certificates, expiries
from appliance.admin.rows import (
    BackendRow,
    CertificateRow,
    DocumentRow,
    EndpointRow,
    ListenerRow,
    PeerRow,
    PublisherRow,
    RouteRow,
    ServiceRow,
    SnapshotRow,
    SourceRow,
    WinnerRow,
    WorkerRow,
)
from appliance.admin.views import Seen
from appliance.control import Parts
from appliance.telemetry.metrics import PeerReading, Reading, ShardReading, WorkerReading, exposition

# Several questions at once (a page, a script) are answered from one reading.
_FRESH_S = 0.1


class Knowledge(Protocol):
    """What the plane knows beside the Snapshot that it publishes."""

    def services(self) -> Sequence[ServiceRow]: ...
    def service(self, hostname: str) -> ServiceRow | None: ...
    def winners(self, hostname: str) -> Sequence[WinnerRow] | None: ...
    def peers(self) -> Sequence[PeerRow]: ...
    def sources(self) -> Sequence[SourceRow]: ...
    def publishers(self) -> Sequence[PublisherRow]: ...
    def documents(self) -> Sequence[DocumentRow]: ...


class Nothing:
    """What is known without a plane."""

    def services(self) -> Sequence[ServiceRow]:
        return ()

    def service(self, hostname: str) -> ServiceRow | None:
        return None

    def winners(self, hostname: str) -> Sequence[WinnerRow] | None:
        return None

    def peers(self) -> Sequence[PeerRow]:
        return ()

    def sources(self) -> Sequence[SourceRow]:
        return ()

    def publishers(self) -> Sequence[PublisherRow]:
        return ()

    def documents(self) -> Sequence[DocumentRow]:
        return ()


class GatewayView:
    """appliance.admin.app.View of one gateway."""

    def __init__(self, parts: Parts, knowledge: Knowledge) -> None:
        self._parts = parts
        self._knowledge = knowledge
        self._read_at = -_FRESH_S
        self._reading = trio.Lock()

    async def refresh(self) -> None:
        """Ask the workers for their counters unless that was just done. Cancelled: what is known stays."""
        async with self._reading:
            if trio.current_time() - self._read_at >= _FRESH_S:
                await self._parts.workers.collect()
                self._read_at = trio.current_time()

    def ready(self) -> str:
        """Of the gateway, as its workers see it."""
        workers = self._parts.workers.workers()
        if not any(worker.up and worker.version for worker in workers):
            return "no worker serves a Snapshot yet" if self._parts.snapshots.value.parts else "there is no Snapshot yet"
        return ""

    def _seen(self) -> Seen:
        parts = self._parts
        return Seen(
            parts.snapshots.value,
            parts.verdicts.value,
            total=parts.workers.statistics(),
            by_worker=dict(parts.workers.by_worker()),
            listener_faults=parts.workers.listener_faults,
        )

    def backends(self) -> Sequence[BackendRow]:
        return views.backends(self._seen())

    def routes(self) -> Sequence[RouteRow]:
        return views.routes(self._seen())

    def listeners(self) -> Sequence[ListenerRow]:
        return views.listeners(self._seen())

    def endpoints(self, backend: str) -> Sequence[EndpointRow]:
        return views.endpoints(self._seen(), backend)

    def certificates(self) -> Sequence[CertificateRow]:
        return certificates(self._parts.snapshots.value, datetime.now(UTC))

    def services(self) -> Sequence[ServiceRow]:
        return self._knowledge.services()

    def service(self, hostname: str) -> ServiceRow | None:
        return self._knowledge.service(hostname)

    def winners(self, hostname: str) -> Sequence[WinnerRow] | None:
        return self._knowledge.winners(hostname)

    def peers(self) -> Sequence[PeerRow]:
        return self._knowledge.peers()

    def sources(self) -> Sequence[SourceRow]:
        return self._knowledge.sources()

    def publishers(self) -> Sequence[PublisherRow]:
        return self._knowledge.publishers()

    def documents(self) -> Sequence[DocumentRow]:
        return self._knowledge.documents()

    def snapshot(self) -> SnapshotRow:
        parts = self._parts
        snapshot, applied = parts.snapshots.value, parts.journal.applied
        workers = parts.workers.workers()
        versions = {worker.version for worker in workers if worker.up}
        return SnapshotRow(
            version=snapshot.version,
            running=versions.pop() if len(versions) == 1 else "",
            parts=len(snapshot.parts),
            node=snapshot.node.name if snapshot.node else "",
            cluster=snapshot.node.cluster if snapshot.node else "",
            workers=tuple(
                WorkerRow(worker=w.worker, up=w.up, pid=w.pid, restarts=w.restarts, version=w.version, faults=w.faults)
                for w in workers
            ),
            faults=applied.faults if applied else (),
            problem=parts.problem,
        )

    def dump(self) -> bytes:
        return self._parts.snapshots.value.json()

    def metrics(self) -> bytes:
        parts, documents = self._parts, self._knowledge.documents()
        good = sum(document.good for document in documents)
        reading = Reading(
            statistics=parts.workers.statistics(),
            workers=[WorkerReading(w.worker, w.up, w.restarts) for w in parts.workers.workers()],
            peers=[PeerReading(peer.name, peer.state == "connected") for peer in self._knowledge.peers()],
            shards=[ShardReading(source.cluster, source.name, source.age_s) for source in self._knowledge.sources()],
            certificates=expiries(parts.snapshots.value),
            documents={"good": good, "bad": len(documents) - good},
            parts=len(parts.snapshots.value.parts),
        )
        return exposition(reading, parts.journal.instruments)
