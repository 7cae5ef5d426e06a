"""The registries of this cluster that the Node names: a source and a follower for each, begun, begun anew and ended as the Node changes.

Theory of operation. The desired mapping is `spec.sources[]` by name; a TaskSet keeps a follower running for each. One that changes is
followed anew, and what it said before stands until its next Reset; the shard of one that was taken out goes. `dns` is not among them: the
plane feeds the one source of all names to be resolved by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import structlog
import trio

from discovery.feed import CatalogFeed
from discovery.here import HOSTNAME, Here
from discovery.loss import KEEP_FOREVER
from discovery.merge import Finding
from discovery.model import ShardKey
from discovery.source import Follower, Source, SourceStatus
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable
from federation.resources import node as nodes

_log = structlog.get_logger("registries")


@dataclass(frozen=True)
class Registry:
    """One of the Node's sources, and where this gateway stands. folder: what paths in it are relative to."""

    written: nodes.Source
    here: Here
    folder: str = ""


@runtime_checkable
class Shows(Protocol):
    """A Source that shows its registry what the merge of all sources found (Kubernetes: the Conflict condition of a ServiceExport)."""

    def report(self, findings: Iterable[Finding]) -> None:
        """All findings there are; the latest call wins. Never blocks."""
        ...


MakeRegistry = Callable[[Registry], Source]
"""Makes the source of one entry; connects nowhere yet. Raises ValueError or OSError when that cannot be."""


def registries(node: nodes.Node, folder: str = "") -> dict[str, Registry]:
    """By name, those that a MakeRegistry makes."""
    found = {}
    for written in node.sources:
        kind = next((kind for kind in written.kinds if kind != "dns"), None)
        if kind is not None:
            template = getattr(getattr(written, kind), "hostname", HOSTNAME)
            here = Here(node.cluster, node.network or node.cluster, node.locality, node.cluster_domain, template)
            found[written.name] = Registry(written, here, folder)
    return found


class Registries:
    """`run` it, and tell it what is wanted."""

    def __init__(self, feed: CatalogFeed, make: MakeRegistry | None, cluster: str, *, rng: Callable[[], float]) -> None:
        self._feed, self._make, self._cluster, self._rng = feed, make, cluster, rng
        self._wanted: Watchable[Mapping[str, Registry]] = Watchable({})
        self._followers: dict[str, Follower] = {}
        self._showing: dict[str, Shows] = {}
        self._findings: Mapping[str, tuple[Finding, ...]] = {}
        self._tasks = TaskSet(self._follow, rng=rng, report=self._failed)

    def want(self, wanted: Mapping[str, Registry]) -> None:
        """Follow these from now on. Never blocks."""
        if self._make is not None and wanted != self._wanted.value:
            self._wanted.set(dict(wanted))

    def report(self, findings: Mapping[str, tuple[Finding, ...]]) -> None:
        """What the catalog found, by hostname: told to the sources that show it. The same object as before costs nothing. Never blocks."""
        if findings is not self._findings:
            self._findings = findings
            for source in self._showing.values():
                source.report(self._every())

    def _every(self) -> list[Finding]:
        return [finding for found in self._findings.values() for finding in found if finding.conflict]

    @property
    def keys(self) -> Iterable[ShardKey]:
        """The shards of what is wanted."""
        return [ShardKey(self._cluster, name) for name in self._wanted.value]

    def statuses(self) -> tuple[SourceStatus, ...]:
        """In the order of the Node. One that cannot even be made has its error too."""
        states = self._tasks.states()
        found = []
        for name in self._wanted.value:
            follower = self._followers.get(name)
            error = states[name].error if name in states else ""
            found.append(follower.status.value if follower else SourceStatus(ShardKey(self._cluster, name), error=error))
        return tuple(found)

    async def run(self) -> None:
        """Until cancelled, which leaves every shard in the catalog."""
        await self._tasks.run(self._wanted)

    async def _follow(self, name: str, registry: Registry) -> None:
        assert self._make is not None
        source, written = self._make(registry), registry.written.on_loss
        loss = written.policy if written is not None else KEEP_FOREVER
        follower = Follower(source, self._feed, clock=time.time, rng=self._rng, loss=loss)
        self._followers[name] = follower
        if isinstance(source, Shows):
            self._showing[name] = source
            source.report(self._every())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_tell, follower, follower.status.version, follower.status.value)
                await follower.run()
        finally:
            del self._followers[name]
            self._showing.pop(name, None)
            if name not in self._wanted.value:
                with trio.CancelScope(shield=True):  # a second at most, of which each turn is a few milliseconds
                    await self._feed.drop_slowly(follower.key)

    def _failed(self, name: str, error: Exception) -> None:
        _log.error("registry.failed", source=name, error=describe(error), action="it is begun anew; what it said before stands")

    def __repr__(self) -> str:
        return f"<Registries {', '.join(self._wanted.value)}>"


async def _tell(follower: Follower, seen: int, before: SourceStatus) -> None:
    """Log what becomes of a registry from the status `before`, of version `seen`, on: a line for a change, none for each try."""
    name = follower.key.source
    while True:
        seen, now = await follower.status.newer_than(seen)
        if now.connected and not before.connected:
            _log.info("registry.read", source=name, services=now.services)
        elif now.error and not before.error:
            _log.warning("registry.lost", source=name, error=now.error, action="it is tried again; what it said stands")
        if now.shard != before.shard and now.shard in ("expired", "degraded"):
            _log.warning("registry.lease_ended", source=name, shard=now.shard, error=now.error)
        if now.remark and now.remark != before.remark:
            _log.warning("registry.doubted", source=name, reason=now.remark)
        before = now
