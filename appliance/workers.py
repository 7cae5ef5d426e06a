"""An Engine made of worker processes, seen from control.

It does not start them (the supervisor does): it is told of each by `join` and `lost`, gives every one the same Snapshot, Verdicts
and keys, says what must listen, and makes one engine's voice out of theirs: a Snapshot is applied when all have applied it, a
priority's move is told once, counters are summed and survive a worker's death.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
import structlog
import trio

from appliance.conversation import Conversation, Encoder, State
from appliance.messages import Drain, SetLogLevel, Wanted
from appliance.telemetry.merge import Totals
from discovery.watch import Watchable
from gateway.engine import Applied, PriorityMoved, Report, Statistics
from gateway.faults import validating
from gateway.native.sockets import Handoff, datagrams_key
from gateway.secret import Secrets
from gateway.snapshot import Listener, ListenerKind, Snapshot
from gateway.verdicts import Verdicts

log = structlog.get_logger("control")

# A worker that does not answer within this is busy or stopped; its last reading is used.
_COLLECT_S = 1.0


class WorkerStatus(msgspec.Struct, frozen=True):
    """What is known of one worker number."""

    worker: int
    up: bool
    pid: int = 0
    restarts: int = 0
    version: str = ""
    faults: tuple[str, ...] = ()


class Workers:
    """listen: says which sockets there shall be. handoff: takes peering connections."""

    def __init__(self, *, listen: Callable[[tuple[Wanted, ...]], None], handoff: Handoff) -> None:
        self._listen = listen
        self._handoff = handoff
        self._encoder = Encoder()
        self._talks: dict[int, Conversation] = {}
        self._status: dict[int, WorkerStatus] = {}
        self._totals = Totals()
        self._moved: dict[str, tuple[int, ...]] = {}
        self._told: Applied | None = None
        self._first = trio.Event()
        self._ended = trio.Event()
        self._send, self._joining = trio.open_memory_channel[Conversation](1000)
        self._reports: trio.MemorySendChannel[Report] | None = None
        self._snapshots: Watchable[Snapshot] = Watchable(Snapshot())
        self.listener_faults: Mapping[str, str] = {}
        self.restored: Snapshot | None = None  # set before `run`: see conversation.State

    # ---------------------------------------------------------------------------------------------- the supervisor says

    def join(self, talk: Conversation) -> None:
        """A worker process is there. One that has this number already is gone."""
        self._send.send_nowait(talk)

    def lost(self, worker: int) -> None:
        """The process of this number has ended."""
        self._totals.died(worker)
        self._forget_what_is_not_in(self._snapshots.value)
        if (status := self._status.get(worker)) is not None:
            self._status[worker] = msgspec.structs.replace(status, up=False, version="", faults=())
        self._tell_applied()

    def bound(self, faults: Mapping[str, str]) -> None:
        """Which of the wanted sockets could not be bound, and why."""
        self.listener_faults = dict(faults)
        self._tell_applied()

    # -------------------------------------------------------------------------------------------------------- Engine

    async def run(
        self,
        snapshots: Watchable[Snapshot],
        verdicts: Watchable[Verdicts],
        secrets: Watchable[Secrets],
        reports: trio.MemorySendChannel[Report],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """As Engine.run, except that cancellation leaves the workers serving: they are not this process's."""
        self._reports = reports
        self._snapshots = snapshots
        state = State(snapshots, verdicts, secrets, self._handoff, self.restored)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, snapshots)
            nursery.start_soon(self._start, task_status)
            async for talk in self._joining:
                if (old := self._talks.pop(talk.worker, None)) is not None:
                    old.scope.cancel()
                    self._totals.died(talk.worker)
                self._talks[talk.worker] = talk
                self._status[talk.worker] = WorkerStatus(talk.worker, True, talk.pid, talk.restarts)
                nursery.start_soon(self._converse, talk, state)

    async def drain(self, deadline: float) -> None:
        """As Engine.drain. The supervisor starts successors of workers that are drained one by one in this way."""
        ms = max(0, round((deadline - trio.current_time()) * 1000))
        for talk in self._talks.values():
            talk.say(Drain(ms))
        with trio.move_on_at(deadline):
            while self._talks:
                await self._ended.wait()

    def statistics(self) -> Statistics:
        """The sum over workers as of the last `collect`, dead workers' counters included."""
        return self._totals.merged()

    # ------------------------------------------------------------------------------------------------------- more

    async def collect(self) -> None:
        """Ask every worker for its counters, at most a second."""
        with trio.move_on_after(_COLLECT_S):
            async with trio.open_nursery() as nursery:
                for talk in self._talks.values():
                    nursery.start_soon(talk.collect)

    def by_worker(self) -> Mapping[int, Statistics]:
        """Each living worker's counters as of the last `collect`."""
        return self._totals.living

    def workers(self) -> list[WorkerStatus]:
        """Every worker number that was ever there, in order."""
        return [self._status[number] for number in sorted(self._status)]

    def set_level(self, level: str) -> None:
        for talk in self._talks.values():
            talk.say(SetLogLevel(level))

    # ------------------------------------------------------------------------------------------------------ internals

    async def _start(self, task_status: trio.TaskStatus[None]) -> None:
        await self._first.wait()
        task_status.started()

    async def _follow(self, snapshots: Watchable[Snapshot]) -> None:
        wanted: tuple[Wanted, ...] | None = None
        known: Snapshot | None = None
        seen, snapshot = snapshots.version, snapshots.value
        while True:
            names = snapshot.differing(known)
            known = snapshot
            if snapshot.parts and (names is None or any(name.startswith("listener/") for name in names)):
                new = wanted_sockets(snapshot)
                # Engines refuse a Snapshot with faults; nothing of it must be bound either.
                if new != wanted:
                    if await _valid(snapshot):
                        wanted = new
                        self._listen(new)
                    else:
                        known = None
            seen, snapshot = await snapshots.newer_than(seen)

    def _forget_what_is_not_in(self, snapshot: Snapshot) -> None:
        backends = {backend.name for backend in snapshot.backends()}
        self._totals.keep(backends, {(name, each.id) for name in backends for each in snapshot.endpoints(name)})
        self._moved = {name: loads for name, loads in self._moved.items() if name in backends}

    async def _converse(self, talk: Conversation, state: State) -> None:
        try:
            await talk.run(state, self._encoder, hear=self._hear, counted=self._counted)
        finally:
            if self._talks.get(talk.worker) is talk:
                del self._talks[talk.worker]
                self.lost(talk.worker)
            ended, self._ended = self._ended, trio.Event()
            ended.set()

    def _counted(self, talk: Conversation, statistics: Statistics) -> None:
        if self._talks.get(talk.worker) is talk:
            self._totals.update(talk.worker, statistics)

    def _hear(self, talk: Conversation, report: Report) -> None:
        match report:
            case Applied(version, faults):
                status = self._status[talk.worker]
                self._status[talk.worker] = msgspec.structs.replace(status, version=version, faults=faults)
                self._tell_applied()
            case PriorityMoved(backend, _, after):
                # Every worker sees the same move; the first one tells it.
                if self._moved.get(backend) != after:
                    self._moved[backend] = after
                    self._tell(report)
            case _:
                self._tell(report)

    def _tell_applied(self) -> None:
        """Say Applied when all workers run one version, and again when its faults change."""
        living = [status for status in self._status.values() if status.up]
        versions = {status.version for status in living}
        if not living or len(versions) != 1 or "" in versions:
            return
        faults = dict.fromkeys(fault for status in living for fault in status.faults)
        faults |= dict.fromkeys(f"listener/{key}: {fault}" for key, fault in self.listener_faults.items())
        applied = Applied(versions.pop(), tuple(faults))
        if applied != self._told:
            self._told = applied
            self._tell(applied)
            self._first.set()

    def _tell(self, report: Report) -> None:
        if self._reports is not None:
            with suppress(trio.WouldBlock, trio.BrokenResourceError):
                self._reports.send_nowait(report)


async def _valid(snapshot: Snapshot) -> bool:
    """Whether it has no faults; others have turns meanwhile."""
    for faults in validating(snapshot, None):
        if faults:
            return False
        await trio.lowlevel.checkpoint()
    return True


def wanted_sockets(snapshot: Snapshot) -> tuple[Wanted, ...]:
    """What a Snapshot listens on, in the order of its keys; a nameserver by UDP too."""
    listeners: list[Listener] = sorted(snapshot.listeners(), key=lambda listener: listener.key)
    found = [Wanted(each.key, each.address, each.port, each.kind) for each in listeners]
    for each in listeners:
        if each.kind is ListenerKind.DNS:
            found.append(Wanted(datagrams_key(each), each.address, each.port, each.kind, datagrams=True))
    return tuple(found)
