"""Where documents come from: the paths given at the start, and the places that the Node's `spec.resources` names besides.

Theory of operation. The paths are read for as long as the process runs. The Node is among what they say, so the other places can only be
known after the first reading; a TaskSet keeps a DocumentSource running for each. A place that was not read yet counts as one that cannot be
read: what its documents said in an earlier process stands meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
import trio

from discovery.document import DocumentError, Documents, DocumentSource, Origin, Outcome
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable
from federation.resources.node import ResourcesFrom

_log = structlog.get_logger("places")


@dataclass(frozen=True)
class Place:
    """One entry of `spec.resources`. folder: what paths in it are relative to. cluster: this gateway's."""

    written: ResourcesFrom
    folder: str = ""
    cluster: str = ""

    @property
    def kind(self) -> str:
        return "consul" if self.written.consul is not None else "kubernetes"


MakeDocuments = Callable[[Place], DocumentSource]
"""Makes the DocumentSource of one entry; connects nowhere yet. Raises ValueError or OSError when that cannot be."""


class Places:
    """`run` it, and tell it what is wanted. changed: counts up whenever the documents of a place, or the places, are others."""

    def __init__(self, fixed: Sequence[DocumentSource], make: MakeDocuments | None, *, rng: Callable[[], float]) -> None:
        self.changed: Watchable[int] = Watchable(0)
        self._fixed = tuple(fixed)
        self._make = make
        self._wanted: Watchable[Mapping[str, Place]] = Watchable({})
        self._running: dict[str, DocumentSource] = {}
        self._read: set[str] = set()
        self._tasks = TaskSet(self._follow, rng=rng, report=self._failed)

    def want(self, places: Sequence[Place]) -> None:
        """Read these besides the fixed ones from now on. Never blocks."""
        wanted = {f"{place.kind} {index}": place for index, place in enumerate(places)}
        if wanted != self._wanted.value and self._make is not None:
            self._wanted.set(wanted)
            self._bump()

    @property
    def ready(self) -> bool:
        """Every place that is wanted was read, or said why it cannot be."""
        return self._read >= self._wanted.value.keys()

    @property
    def shown(self) -> bool:
        """Whether anybody shows what `report` tells."""
        return any(source.shows for source in (*self._fixed, *self._running.values()))

    def documents(self) -> list[Documents]:
        """What they say now: the fixed ones first, which so win over others (of two documents of one name the first stands)."""
        found = [source.documents.value for source in self._fixed]
        for key, place in self._wanted.value.items():
            source = self._running.get(key)
            if source is not None and key in self._read:
                found.append(source.documents.value)
            else:
                state = self._tasks.states().get(key)
                why = state.error if state is not None and state.error else "has not been read yet"
                found.append(Documents((), (DocumentError(Origin(place.kind), why, "its last good documents stand meanwhile"),)))
        return found

    def reload(self) -> None:
        for source in (*self._fixed, *self._running.values()):
            source.reload()

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        for source in (*self._fixed, *self._running.values()):
            source.report(outcomes)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; `started()` once the fixed ones were read."""
        async with trio.open_nursery() as nursery:
            for source in self._fixed:
                await nursery.start(source.run)
                nursery.start_soon(self._mark, source, source.documents.version)  # the version of now: the task begins later
            nursery.start_soon(self._tasks.run, self._wanted)
            task_status.started()

    async def _follow(self, key: str, place: Place) -> None:
        assert self._make is not None
        self._running[key] = source = self._make(place)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(source.run)
                self._read.add(key)
                self._bump()
                await self._mark(source, source.documents.version)
        finally:
            del self._running[key]
            self._read.discard(key)
            self._bump()

    async def _mark(self, source: DocumentSource, seen: int) -> None:
        while True:
            seen, _ = await source.documents.newer_than(seen)
            self._bump()

    def _bump(self) -> None:
        self.changed.set(self.changed.value + 1)

    def _failed(self, key: str, error: Exception) -> None:
        _log.error("documents.failed", place=key, error=describe(error), action="it is begun anew; the last good documents stand")

    def __repr__(self) -> str:
        return f"<Places {', '.join(source.name for source in (*self._fixed, *self._running.values()))}>"
