"""The control process: what decides, and what answers questions. Workers serve on when it dies.

Theory of operation. The supervisor says with what documents to begin. What was last good is published first, from the state
directory, so that workers started after this process have something to run at once; then the plane (documents, sources, peers,
compile) publishes what it makes, and that is passed on as it comes. A plane that cannot begin (a Node document that is broken) does not
stop a gateway that was running: the last good Snapshot stays published, the admin API says what is wrong, and a reload tries again.
"""

from __future__ import annotations

import gc
import math
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import structlog
import trio
from starlette.types import ASGIApp

from appliance.admin import app, workloads
from appliance.admin.app import View
from appliance.admin.server import serve, unix_socket
from appliance.admin.workloads import Registry
from appliance.channel import Closed, Descriptors, Frames, Packets
from appliance.children import EXIT_CONFIG, parse_child
from appliance.conversation import Conversation
from appliance.messages import (
    AdminSocket,
    BeginControl,
    Bound,
    FromWorker,
    Listen,
    Reload,
    Settings,
    Stop,
    ToControl,
    Wanted,
    WorkerGone,
    WorkerPipe,
)
from appliance.state import StateDirectory
from appliance.telemetry import logs
from appliance.telemetry.journal import Journal
from appliance.workers import Workers
from discovery.watch import Watchable
from federation.remembered import Remembered
from gateway.engine import Report
from gateway.native.off_limits import ADMIN_SOCKET
from gateway.secret import Secrets
from gateway.snapshot import Snapshot
from gateway.verdicts import Verdicts

log = structlog.get_logger("control")

_REPORTS = 1000
# What a killed worker had counted since the last reading is lost; Istio's proxies report as often.
_COLLECT_EVERY_S = 5.0


class CannotBegin(Exception):
    """There is no usable Node document; `lines` say why, for people."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


class Plane(Protocol):
    """What control runs: see federation.plane."""

    snapshots: Watchable[Snapshot]
    verdicts: Watchable[Verdicts]
    secrets: Watchable[Secrets]
    rounds: Watchable[int]

    @property
    def remembered(self) -> Remembered:
        """What the next process should be told, for the state directory."""
        ...

    async def run(self) -> None:
        """Publish until cancelled."""
        ...

    def reload(self) -> None:
        """Read every document again now."""
        ...

    async def leave(self) -> None:
        """Take back what was written to registries, for good."""
        ...

    def report(self, report: Report) -> None:
        """Hear what the engine says."""
        ...

    def hand_off(self, connection: socket.socket, hello: bytes) -> None:
        """Take over a peering connection, as gateway.native.sockets.Handoff."""
        ...


class Begun(msgspec.Struct, frozen=True):
    """A plane that can run, and what the supervisor must know of its node. workloads: who registers those that come by themselves."""

    plane: Plane
    settings: Settings
    workloads: Registry | None = None


class Parts(msgspec.Struct, frozen=True):
    """What a view is made over."""

    snapshots: Watchable[Snapshot]
    verdicts: Watchable[Verdicts]
    workers: Workers
    journal: Journal
    plane: Plane | None
    problem: str


BeginPlane = Callable[[Sequence[str]], Begun]
"""Reads the Node document in these paths. Raises CannotBegin."""

MakeView = Callable[[Parts], View]


class Control:
    """The life of one control process on its conversation with the supervisor."""

    def __init__(self, packets: Packets[ToControl], begin: BeginPlane, view: MakeView) -> None:
        self._packets = packets
        self._begin = begin
        self._make_view = view
        self._outbox, self._waiting = trio.open_memory_channel[Settings | Listen](math.inf)
        self.snapshots: Watchable[Snapshot] = Watchable(Snapshot())
        self.verdicts: Watchable[Verdicts] = Watchable(Verdicts())
        self.secrets: Watchable[Secrets] = Watchable({})
        self.workers = Workers(listen=self._listen, handoff=self._hand_off)
        self.journal = Journal()
        self._plane: Plane | None = None
        self._paths: tuple[str, ...] = ()
        self._wanted: frozenset[str] = frozenset()
        self._admin: dict[str, trio.CancelScope] = {}

    async def run(self) -> int:
        """Until told to stop; returns the exit status. Raises Closed when the supervisor is gone."""
        message, descriptors = await self._packets.receive()
        with descriptors:
            if not isinstance(message, BeginControl):
                raise Closed(f"the supervisor began with {type(message).__name__}")
        self._paths = message.paths
        try:
            begun = self._begin(self._paths)
        except CannotBegin as exc:
            if message.settings is None:
                for line in exc.lines:
                    print(f"fedgate: {line}", file=sys.stderr)
                return EXIT_CONFIG
            log.error("node.broken", errors=exc.lines, action="the last good Snapshot stays; mend it and reload (SIGHUP)")
            return await self._serve(None, message.settings, str(exc))
        return await self._serve(begun.plane, begun.settings, "", begun.workloads)

    async def _serve(self, plane: Plane | None, settings: Settings, problem: str, registry: Registry | None = None) -> int:
        self._plane = plane
        # What was imported lives to the end, and a walk of the collector over it takes as long as a turn may (DESIGN section 2: 20 ms).
        gc.collect()
        gc.freeze()
        self._outbox.send_nowait(settings)
        state = StateDirectory(Path(settings.state_dir))
        self._restore(state)
        parts = Parts(self.snapshots, self.verdicts, self.workers, self.journal, plane, problem)
        self.view = self._make_view(parts)
        reports, heard = trio.open_memory_channel[Report](_REPORTS)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for task in (self._write, self._collect):
                nursery.start_soon(task)
            nursery.start_soon(self._report, heard)
            nursery.start_soon(self.workers.run, self.snapshots, self.verdicts, self.secrets, reports)
            nursery.start_soon(self.journal.time_convergence, self.snapshots)
            nursery.start_soon(state.follow, self.snapshots, self.secrets)
            more = workloads.routes(registry) if registry is not None else []
            nursery.start_soon(self._serve_unix, state.path / ADMIN_SOCKET, app.writing(self.view, self, more))
            if registry is not None:
                nursery.start_soon(self._serve_unix, state.path / workloads.REGISTRATION, workloads.registration(registry))
            if plane is not None:
                nursery.start_soon(plane.run)
                nursery.start_soon(self._relay, plane)
                nursery.start_soon(state.follow_remembered, plane.rounds, lambda: plane.remembered)
            await self._hear()
            nursery.cancel_scope.cancel()
        return 0

    def _restore(self, state: StateDirectory) -> None:
        """Publish what was last good."""
        try:
            state.prepare()
            stored = state.load()
        except OSError as exc:
            log.error("state.unusable", directory=str(state.path), error=str(exc), action="make it writable for this user")
            return
        if stored is not None:
            snapshot, secrets = stored
            self.secrets.set(secrets)
            self.snapshots.set(snapshot)
            self.workers.restored = snapshot
            log.info("state.restored", version=snapshot.version[:12], parts=len(snapshot.parts))

    # -------------------------------------------------------------------------------------------------- the supervisor

    async def _hear(self) -> None:
        while True:
            message, descriptors = await self._packets.receive()
            with descriptors:
                if isinstance(message, Stop):
                    return
                self._obey(message, descriptors)

    def _obey(self, message: ToControl, descriptors: Descriptors) -> None:
        match message:
            case WorkerPipe(worker, pid, restarts):
                frames: Frames[FromWorker] = Frames.over(descriptors.socket(), FromWorker)
                handoffs = descriptors.socket()
                self.workers.join(Conversation(worker=worker, pid=pid, restarts=restarts, frames=frames, handoffs=handoffs))
            case WorkerGone(worker, _):
                self.workers.lost(worker)
            case Bound(_, faults):
                self.workers.bound(faults)
            case AdminSocket(key):
                self._nursery.start_soon(self._serve_admin, key, descriptors.socket())
            case Reload():
                self.reload()
            case BeginControl() | Stop():
                raise Closed("the supervisor began twice")

    async def _write(self) -> None:
        async for message in self._waiting:
            await self._packets.send(message)

    def _listen(self, wanted: tuple[Wanted, ...]) -> None:
        self._wanted = frozenset(each.key for each in wanted if each.admin)
        for key in [key for key in self._admin if key not in self._wanted]:
            self._admin.pop(key).cancel()
        self._outbox.send_nowait(Listen(wanted))

    def reload(self) -> None:
        """Read everything again: what SIGHUP and the admin API's reload do."""
        log.info("control.reload")
        if self._plane is not None:
            self._plane.reload()
            return
        try:
            self._begin(self._paths)
        except CannotBegin as exc:
            log.error("node.broken", errors=exc.lines, action="the last good Snapshot stays; mend it and reload (SIGHUP)")
            return
        # The Node document is good again: a new process begins with it, as after any other end of this one.
        log.info("control.restart", reason="the Node document is good again")
        self._nursery.start_soon(self._end)

    async def leave(self) -> None:
        """Take back what was written to registries: what the admin API's leave does. Without a plane nothing was."""
        log.info("control.leave")
        if self._plane is not None:
            await self._plane.leave()

    async def _end(self) -> None:
        raise Closed("to begin again with the Node document")

    def set_level(self, level: str) -> None:
        """Of this process and all workers. Raises ValueError."""
        logs.set_level(level)
        self.workers.set_level(level)

    # ----------------------------------------------------------------------------------------------- plane and workers

    async def _relay(self, plane: Plane) -> None:
        """Publish what the plane publishes, once it has anything: keys before the Snapshot that names them."""
        async with trio.open_nursery() as nursery:
            for slot in (plane.snapshots, plane.verdicts, plane.secrets):
                nursery.start_soon(self._pass_on, slot, plane)

    async def _pass_on(self, slot: Watchable[Snapshot] | Watchable[Verdicts] | Watchable[Secrets], plane: Plane) -> None:
        seen = slot.version
        while True:
            if plane.snapshots.value.parts:
                self.secrets.set(plane.secrets.value)
                self.verdicts.set(plane.verdicts.value)
                # Also when it equals what was restored: only now is it what workers shall run.
                self.snapshots.set(plane.snapshots.value)
            seen, _ = await slot.newer_than(seen)

    async def _report(self, heard: trio.MemoryReceiveChannel[Report]) -> None:
        async for report in heard:
            self.journal.note(report, trio.current_time())
            if self._plane is not None:
                self._plane.report(report)

    def _hand_off(self, connection: socket.socket, hello: bytes) -> None:
        if self._plane is None:
            raise ConnectionRefusedError("control runs without its Node document, so it speaks to no peer")
        self._plane.hand_off(connection, hello)

    async def _collect(self) -> None:
        while True:
            await self.workers.collect()
            await trio.sleep(_COLLECT_EVERY_S)

    # ------------------------------------------------------------------------------------------------------- admin API

    async def _serve_admin(self, key: str, sock: socket.socket) -> None:
        with trio.CancelScope() as scope:
            if key in self._admin:
                self._admin[key].cancel()
            self._admin[key] = scope
            log.info("admin.serving", listener=key)
            await serve(app.reading(self.view), sock)

    async def _serve_unix(self, path: Path, application: ASGIApp) -> None:
        try:
            sock = unix_socket(path)
        except OSError as exc:
            log.error("admin.failed", path=str(path), error=str(exc))
            return
        await serve(application, sock)


def main(arguments: Sequence[str], begin: BeginPlane, view: MakeView) -> int:
    """The process: `--channel FD --parent PID`, as the supervisor appends. Returns the exit status."""
    options = parse_child(arguments)
    # The supervisor says when to stop and when to reload; a terminal or service manager that signals the whole group is not obeyed,
    # so that health checks and peers go on while workers drain.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    logs.configure("control")
    packets: Packets[ToControl] = Packets(socket.socket(fileno=options.channel), ToControl)
    status = 1
    try:
        status = trio.run(Control(packets, begin, view).run)
    except* Closed as group:
        log.info("control.ended", reason=str(group.exceptions[0]))
    return status
