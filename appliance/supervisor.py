"""`fedgate run`: a process with no logic of its own, that keeps the others running and holds what must outlive them.

Theory of operation. It holds every listening socket and the shared memory; it starts one control process and N workers, and
starts each again when it ends. Control says which sockets there shall be (`Listen`) and how many workers (`Settings`); all workers
are handed all sockets. Whenever control or a worker starts, the two get a fresh pair of sockets to talk over, one end each. So a
worker's or control's death closes no port and loses nothing that the others need, and this process, which parses nothing from
outside, has no reason to die; if it is killed all the same, the kernel kills its children (see children.py).

SIGTERM and SIGINT drain: workers finish what runs and exit, then control is told to stop. A second one ends everything at once.
SIGHUP is passed on to control, which reads everything again.
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog
import trio

from appliance.binding import CannotBind, bind, forget
from appliance.channel import DESCRIPTOR_LIMIT, packet_pair, stream_pair
from appliance.children import EXIT_CONFIG, Child, pause_before_restart, settled
from appliance.messages import (
    AdminSocket,
    BeginControl,
    BeginWorker,
    Bound,
    ControlPipe,
    Drain,
    FromControl,
    Leave,
    Listen,
    Reload,
    Settings,
    Stop,
    Take,
    Wanted,
    WorkerGone,
    WorkerPipe,
)
from gateway.native.shared import Shared
from gateway.snapshot import ListenerKind

M = TypeVar("M")

log = structlog.get_logger("supervisor")

# A port that is taken may be free again: tried again so often, cheap (a bind is 10 µs) and fast enough for a person who waits.
_TRY_BINDING_AGAIN_S = 1.0
# Past its drain time a worker gets this much longer to say its last words, and control to close its links.
_GRACE_S = 2.0
# Workers take what waits in their accept queues when they are told to drain; this long, then the queues are closed.
_LAST_ACCEPT_S = 0.1
_STOP_CONTROL_S = 5.0


class Supervisor:
    """Runs a gateway. control, worker: the commands that start those processes."""

    def __init__(self, paths: Sequence[str], *, control: Sequence[str], worker: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._command = {"control": tuple(control), "worker": tuple(worker)}
        self._settings: Settings | None = None
        self._wanted: dict[str, Wanted] = {}
        self._sockets: dict[str, tuple[socket.socket, ...]] = {}
        self._faults: dict[str, str] = {}
        self._shared: Shared | None = None
        self._control: Child[FromControl] | None = None
        self._workers: dict[int, Child[object]] = {}
        self._restarts: dict[int, int] = {}
        self._draining = False
        self._worker_ended = trio.Event()
        self._exit: int | None = None

    async def run(self) -> int:
        """Run until drained; returns the exit status. Cancelled: all children are killed."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._signals)
                nursery.start_soon(self._keep_control)
                nursery.start_soon(self._bind_again)
        finally:
            for sockets in self._sockets.values():
                _close(sockets)
        return self._exit or 0

    def _finish(self, status: int) -> None:
        self._exit = status
        self._nursery.cancel_scope.cancel()

    # -------------------------------------------------------------------------------------------------------- signals

    async def _signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
            async for number in received:
                if number == signal.SIGHUP:
                    log.info("gateway.reload")
                    self._tell_control(Reload())
                elif self._draining:
                    log.warning("gateway.stopped", reason="a second signal while draining")
                    self._finish(1)
                else:
                    self._draining = True
                    self._nursery.start_soon(self._drain)

    async def _drain(self) -> None:
        seconds = self._settings.drain_ms / 1000 if self._settings else 0.0
        log.info("gateway.draining", seconds=seconds, workers=len(self._workers))
        for child in self._workers.values():
            child.tell(Drain(ms=round(seconds * 1000)))
        await trio.sleep(_LAST_ACCEPT_S)
        for key, sockets in self._sockets.items():
            # Nobody accepts any more: clients are better refused than kept waiting. Readiness is still asked for and admin works, and
            # datagrams are answered to the end.
            if self._wanted[key].kind not in (ListenerKind.HEALTH, ListenerKind.ADMIN) and not self._wanted[key].datagrams:
                _stop_listening(sockets)
        with trio.move_on_after(seconds + _GRACE_S):
            while self._workers:
                await self._worker_ended.wait()
        for child in list(self._workers.values()):
            log.warning("worker.killed", worker=child.name, reason="it did not end in its drain time")
            child.kill()
        if self._control is not None:
            self._control.tell(Stop())
            with trio.move_on_after(_STOP_CONTROL_S):
                await self._control.ended()
        log.info("gateway.drained")
        self._finish(0)

    # ------------------------------------------------------------------------------------------------------- children

    async def _keep_control(self) -> None:
        failures = 0
        while not self._draining:
            began = trio.current_time()
            child = await self._start("control", "control", FromControl)
            self._control = child
            child.tell(BeginControl(self._paths, self._settings))
            for key, sockets in self._sockets.items():
                if self._wanted[key].admin:
                    child.tell(AdminSocket(key), [sockets[0].fileno()])
            for number in self._workers:
                self._join(number)
            status = await self._attend(child, self._control_says)
            self._control = None
            if self._draining:
                return
            if status == EXIT_CONFIG and self._settings is None:
                return self._finish(1)
            failures = await self._pause("control", child.pid, status, trio.current_time() - began, failures)

    async def _start(self, name: str, role: str, incoming: Any) -> Child[Any]:
        while True:
            try:
                return Child.start(name, self._command[role], incoming)
            except OSError as exc:
                log.error("process.failed", name=name, error=f"cannot start {self._command[role][0]}: {exc.strerror}")
                await trio.sleep(pause_before_restart(0.0, 99))

    def _control_says(self, message: FromControl) -> None:
        match message:
            case Settings():
                self._take_settings(message)
            case Listen():
                self._wanted = {wanted.key: wanted for wanted in message.wanted}
                self._bind(always_answer=True)

    def _take_settings(self, settings: Settings) -> None:
        if self._settings is None:
            self._settings = settings
            self._shared = Shared.create(min(settings.workers, DESCRIPTOR_LIMIT))
            for number in range(self._shared.workers):
                self._nursery.start_soon(self._keep_worker, number, self._shared)
        elif settings.workers != self._settings.workers:
            log.warning("settings.workers", running=self._settings.workers, wanted=settings.workers, action="restart fedgate run")
        self._settings = Settings(workers=self._settings.workers, drain_ms=settings.drain_ms, state_dir=settings.state_dir)

    async def _keep_worker(self, number: int, shared: Shared) -> None:
        failures = 0
        while not self._draining:
            began = trio.current_time()
            child = await self._start(f"worker {number}", "worker", object)
            self._workers[number] = child
            child.tell(BeginWorker(number, shared.workers), [shared.fd])
            for key, sockets in self._sockets.items():
                self._hand(child, key, sockets)
            self._join(number)
            if self._draining:
                child.tell(Drain(ms=0))  # it was being started when the signal came
            status = await self._attend(child, lambda message: None)
            del self._workers[number]
            shared.clear(number)
            self._restarts[number] = self._restarts.get(number, 0) + 1
            self._tell_control(WorkerGone(number, status))
            ended, self._worker_ended = self._worker_ended, trio.Event()
            ended.set()
            if self._draining:
                return
            failures = await self._pause(f"worker {number}", child.pid, status, trio.current_time() - began, failures)

    async def _attend(self, child: Child[M], say: Callable[[M], None]) -> int:
        """Carry a child's conversation until it ends; returns its status."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child.write)
                nursery.start_soon(self._hear, child, say)
                status = await child.ended()
                nursery.cancel_scope.cancel()
            return status
        finally:
            child.kill()  # only when cancelled: otherwise it has ended
            child.close()

    async def _hear(self, child: Child[M], say: Callable[[M], None]) -> None:
        while (message := await child.hear()) is not None:
            say(message)
        await child.last_breath()

    async def _pause(self, name: str, pid: int, status: int, lived: float, failures: int) -> int:
        """Log an end that was not asked for and wait before the next start; returns how many in a row died young."""
        failures = 0 if settled(lived) else failures + 1
        seconds = pause_before_restart(lived, failures)
        log.warning("process.ended", name=name, pid=pid, status=_status(status), lived_s=round(lived, 1), restart_in_s=seconds)
        await trio.sleep(seconds)
        return failures

    def _join(self, number: int) -> None:
        """A fresh pair of pipes between control and one worker, when both are there."""
        worker, control = self._workers.get(number), self._control
        if worker is None or control is None:
            return
        frames, packets = stream_pair(), packet_pair()
        worker.tell(ControlPipe(), [frames[0].fileno(), packets[0].fileno()])
        told = WorkerPipe(number, worker.pid, self._restarts.get(number, 0))
        control.tell(told, [frames[1].fileno(), packets[1].fileno()])
        _close([*frames, *packets])

    def _tell_control(self, message: Reload | WorkerGone | Bound) -> None:
        if self._control is not None:
            self._control.tell(message)

    # -------------------------------------------------------------------------------------------------------- sockets

    def _bind(self, *, always_answer: bool) -> None:
        """Make what listens be what is wanted. Existing sockets stay as they are."""
        for key in [key for key in self._sockets if key not in self._wanted]:
            sockets = self._sockets.pop(key)
            _stop_listening(sockets)
            _close(sockets)
            for child in self._workers.values():
                child.tell(Leave(key))
        faults: dict[str, str] = {}
        for key, wanted in self._wanted.items():
            if key not in self._sockets and (fault := self._bind_one(wanted)):
                faults[key] = fault
        if always_answer or faults != self._faults:
            for key, fault in faults.items():
                if self._faults.get(key) != fault:
                    log.error("listener.failed", listener=key, error=fault)
            self._tell_control(Bound(tuple(self._sockets), faults))
        self._faults = faults

    def _bind_one(self, wanted: Wanted) -> str:
        """Bind one and hand it out; returns what is wrong, "" if nothing."""
        count = self._shared.workers if self._shared and not wanted.admin else 1
        beside = any(_overlap(wanted, self._wanted[key]) for key in self._sockets if key in self._wanted)
        try:
            sockets = bind(wanted.address, wanted.port, count, datagrams=wanted.datagrams, beside=beside)
        except CannotBind as exc:
            return str(exc)
        self._sockets[wanted.key] = sockets
        log.info("listener.bound", listener=wanted.key)
        if wanted.admin and self._control is not None:
            self._control.tell(AdminSocket(wanted.key), [sockets[0].fileno()])
        for child in self._workers.values():
            self._hand(child, wanted.key, sockets)
        return ""

    def _hand(self, child: Child[object], key: str, sockets: Sequence[socket.socket]) -> None:
        if not self._wanted[key].admin:
            child.tell(Take(key), [sock.fileno() for sock in sockets])

    async def _bind_again(self) -> None:
        while True:
            await trio.sleep(_TRY_BINDING_AGAIN_S)
            if self._faults and not self._draining:
                self._bind(always_answer=False)


def _overlap(one: Wanted, other: Wanted) -> bool:
    """Whether one of two listeners on a port is on every address, so that the other's is among them."""
    if (one.port, one.datagrams) != (other.port, other.datagrams) or (":" in one.address) != (":" in other.address):
        return False
    return not {"0.0.0.0", "::"}.isdisjoint({one.address, other.address})


def _status(status: int) -> str:
    if status >= 0:
        return str(status)
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def _stop_listening(sockets: Sequence[socket.socket]) -> None:
    """For all processes that hold them: from now on clients are refused, and the port, or path, is free for another listener."""
    for sock in sockets:
        if sock.type == socket.SOCK_DGRAM:
            continue  # it would be readable for ever; it is free when the last one has closed it
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
            forget(sock)


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def raise_descriptor_limit() -> None:
    """As many descriptors as this process may have: connections of all workers are limited by what they inherit from here."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def supervise(paths: Sequence[str], *, control: Sequence[str], worker: Sequence[str]) -> int:
    """`fedgate run`'s whole life; returns the exit status."""
    raise_descriptor_limit()
    return trio.run(Supervisor(paths, control=control, worker=worker).run)
