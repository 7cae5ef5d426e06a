"""A worker process: one engine, fed from a pipe.

Theory of operation. The supervisor hands over everything as messages with descriptors: the number and the shared memory first,
then listening sockets, and a pipe to control whenever a control process starts. From the pipe come keys, Deltas and Verdicts; each
ends in a Watchable that the engine reads. When the pipe ends nothing changes here: the engine goes on with what the Watchables
hold until the next pipe comes, whose first words are the whole again.

This module and what it imports is all the code the exposed processes load: no registry, no document, no federation.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import structlog
import trio

from appliance.channel import Closed, Descriptors, Frames, Packets, send_packet
from appliance.children import parse_child
from appliance.feed import Feed
from appliance.messages import (
    BeginWorker,
    Collect,
    Collected,
    ControlPipe,
    Drain,
    FromControlToWorker,
    Have,
    Leave,
    Reported,
    Resend,
    SetLogLevel,
    Take,
    ToWorker,
)
from appliance.telemetry import logs
from discovery.watch import Watchable
from gateway.engine import Applied, Engine, Report
from gateway.native.shared import Shared
from gateway.native.sockets import Handoff, Sockets

log = structlog.get_logger("worker")

# Messages that wait for control. They are events, at most some per endpoint and second; when control is slow or away, newer ones
# are dropped, and the state that matters (ejections) is in shared memory.
_WAITING = 1000
_LAST_WORDS_S = 1.0


class Place(msgspec.Struct, frozen=True):
    """What an engine in a worker process is made from."""

    worker: int
    sockets: Watchable[Sockets]
    shared: Shared
    handoff: Handoff


EngineFactory = Callable[[Place], Engine]


class Pipe:
    """One conversation with one control process."""

    def __init__(self, frames: Frames[FromControlToWorker], handoff: socket.socket) -> None:
        self.frames = frames
        self.handoff = handoff
        self.scope = trio.CancelScope()
        self._said, self._unsaid = trio.open_memory_channel[msgspec.Struct](_WAITING)
        self._written = trio.Event()

    def say(self, message: msgspec.Struct) -> None:
        """Queue a message; dropped when too many wait or the conversation has ended."""
        with contextlib.suppress(trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
            self._said.send_nowait(message)

    async def write(self) -> None:
        """Send what is said until cancelled. Raises Closed."""
        async for message in self._unsaid:
            await self.frames.send(message)
        self._written.set()

    async def finish(self, last: msgspec.Struct) -> None:
        """Say a last message and wait until everything said is sent."""
        self.say(last)
        self._said.close()
        await self._written.wait()

    async def close(self) -> None:
        self._unsaid.close()
        self.handoff.close()
        await self.frames.aclose()


class Worker:
    """The life of one worker on its conversation with the supervisor."""

    def __init__(
        self, packets: Packets[ToWorker], make: EngineFactory, identify: Callable[[int], None] = lambda worker: None
    ) -> None:
        """identify: told this worker's number when it is known, for the log."""
        self._packets = packets
        self._make = make
        self._identify = identify
        self._sockets: Watchable[Sockets] = Watchable({})
        self._feed = Feed()
        self._pipe: Pipe | None = None
        self._applied: Applied | None = None
        self._serving = False
        self._draining = False

    def begin_drain(self) -> None:
        """Drain as long as the Snapshot's node says; `run` returns then. For SIGTERM that is meant for this process alone."""
        node = self._feed.snapshots.value.node
        self._nursery.start_soon(self._drain, node.drain_ms / 1000 if node else 0.0)

    async def run(self) -> None:
        """Serve until drained. Raises Closed when the supervisor is gone. Cancelled: every connection is closed."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._engine = await self._begin()
            nursery.start_soon(self._serve)
            nursery.start_soon(self._listen)

    async def _begin(self) -> Engine:
        message, descriptors = await self._packets.receive()
        with descriptors:
            if not isinstance(message, BeginWorker):
                raise Closed(f"the supervisor began with {type(message).__name__}")
            shared = Shared.attach(descriptors.take(), message.worker)
        self._identify(message.worker)
        return self._make(Place(message.worker, self._sockets, shared, self.hand_off))

    # ------------------------------------------------------------------------------------------------- the supervisor

    async def _listen(self) -> None:
        while True:
            message, descriptors = await self._packets.receive()
            with descriptors:
                await self._obey(message, descriptors)

    async def _obey(self, message: ToWorker, descriptors: Descriptors) -> None:
        match message:
            case Take(key):
                sockets = tuple(descriptors.socket() for _ in range(len(descriptors)))
                self._sockets.set({**self._sockets.value, key: sockets})
            case Leave(key):
                # The engine lets go of them at its next turn; closing is the garbage collector's only when nobody reads any more.
                self._sockets.set({known: socks for known, socks in self._sockets.value.items() if known != key})
            case ControlPipe():
                frames: Frames[FromControlToWorker] = Frames.over(descriptors.socket(), FromControlToWorker)
                self._nursery.start_soon(self._converse, Pipe(frames, descriptors.socket()))
            case Drain(ms):
                self._nursery.start_soon(self._drain, ms / 1000)
            case BeginWorker():
                raise Closed("the supervisor began twice")

    async def _drain(self, seconds: float) -> None:
        if self._draining:
            return
        self._draining = True
        log.info("worker.draining", seconds=seconds)
        if self._serving:
            await self._engine.drain(trio.current_time() + seconds)
            with trio.move_on_after(_LAST_WORDS_S):
                if self._pipe is not None:
                    await self._pipe.finish(Collected(0, self._engine.statistics()))
        self._nursery.cancel_scope.cancel()

    # ----------------------------------------------------------------------------------------------------- the engine

    async def _serve(self) -> None:
        """Run the engine from the first Snapshot on; tell control what it says."""
        await self._feed.snapshots.newer_than(0)
        reports: trio.MemorySendChannel[Report]
        reports, said = trio.open_memory_channel[Report](_WAITING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report, said)
            feed = self._feed
            await nursery.start(self._engine.run, feed.snapshots, feed.verdicts, feed.secrets, reports)
            self._serving = True
            log.info("worker.serving", version=feed.snapshots.value.version[:12])
            # What lives now lives to the end: keep the collector from walking it (DATAPLANE: p99 under garbage collection).
            gc.collect()
            gc.freeze()

    async def _report(self, said: trio.MemoryReceiveChannel[Report]) -> None:
        async for report in said:
            if isinstance(report, Applied):
                self._applied = report
                for fault in report.faults:
                    log.error("snapshot.fault", version=report.version[:12], fault=fault)
            if self._pipe is not None:
                self._pipe.say(Reported(report))

    def hand_off(self, connection: socket.socket, hello: bytes) -> None:
        """The engine's Handoff: give a peering connection and what was read of it to control. Raises OSError when it is away."""
        if self._pipe is None:
            raise ConnectionRefusedError("there is no control process just now")
        send_packet(self._pipe.handoff, hello, [connection.fileno()])
        connection.close()

    # -------------------------------------------------------------------------------------------------------- control

    async def _converse(self, pipe: Pipe) -> None:
        """One control process's conversation, from the pair's arrival to its end; a newer one ends it."""
        if self._pipe is not None:
            self._pipe.scope.cancel()
        self._pipe = pipe
        try:
            with pipe.scope:
                self._feed.begin()
                pipe.say(Have(self._feed.snapshots.value.version if self._feed.fed else ""))
                if self._applied is not None:
                    pipe.say(Reported(self._applied))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pipe.write)
                    while True:
                        self._take(pipe, await pipe.frames.receive())
        except* Closed as group:
            log.info("control.gone", reason=str(group.exceptions[0]))
        finally:
            if self._pipe is pipe:
                self._pipe = None
            await pipe.close()

    def _take(self, pipe: Pipe, message: FromControlToWorker) -> None:
        match message:
            case Collect(number):
                pipe.say(Collected(number, self._engine.statistics()))
            case SetLogLevel(level):
                logs.set_level(level)
            case Drain(ms):
                self._nursery.start_soon(self._drain, ms / 1000)
            case _:
                try:
                    self._feed.take(message)
                except ValueError as exc:
                    log.warning("snapshot.refused", error=str(exc), action="asked for the whole")
                    pipe.say(Resend(str(exc)))


async def _live(packets: Packets[ToWorker], make: EngineFactory) -> None:
    worker = Worker(packets, make, lambda number: logs.identify(worker=number))
    with trio.open_signal_receiver(signal.SIGTERM) as received:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drain_on_signal, worker, received)
            await worker.run()
            nursery.cancel_scope.cancel()


async def _drain_on_signal(worker: Worker, received: AsyncIterator[int]) -> None:
    async for _ in received:
        worker.begin_drain()


def native(place: Place) -> Engine:
    """The engine of production."""
    from gateway.native.engine import NativeEngine

    return NativeEngine(worker=place.worker, sockets=place.sockets, shared=place.shared, handoff=place.handoff)


def main(arguments: Sequence[str], make: EngineFactory = native) -> int:
    """The process: `--channel FD --parent PID`, as the supervisor appends. Returns the exit status: 0 drained, 1 abandoned."""
    options = parse_child(arguments)
    for ignored in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to the whole group; the supervisor decides
        signal.signal(ignored, signal.SIG_IGN)
    logs.configure("worker")
    packets: Packets[ToWorker] = Packets(socket.socket(fileno=options.channel), ToWorker)
    status = 0
    try:
        trio.run(_live, packets, make)
    except* Closed as group:
        log.error("worker.abandoned", reason=str(group.exceptions[0]))
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
