"""Worker processes for tests, without a supervisor: in the test's own loop with recording engines, or as real processes."""

import contextlib
import os
import pathlib
import sys

import trio
from recording import RecordingEngine

from appliance.channel import Closed, Frames, Packets, packet_pair, stream_pair
from appliance.children import Child
from appliance.conversation import Conversation
from appliance.messages import BeginWorker, ControlPipe, FromWorker, ToWorker
from appliance.worker import Worker
from appliance.workers import Workers
from gateway.native.shared import Shared

SUPPORT = pathlib.Path(__file__).parent
RECORDING_WORKER = (sys.executable, str(SUPPORT / "recording.py"))


def join(workers, number, tell, *, pid=1, restarts=0):
    """What the supervisor does when a worker starts: a fresh pair of pipes, one end each."""
    frames, packets = stream_pair(), packet_pair()
    tell(ControlPipe(), [frames[0].fileno(), packets[0].fileno()])
    frames[0].close()
    packets[0].close()
    over = Frames.over(frames[1], FromWorker)
    workers.join(Conversation(worker=number, pid=pid, restarts=restarts, frames=over, handoffs=packets[1]))


class InLoop:
    """Worker `number` in this very loop; `engine` once it has begun."""

    def __init__(self, nursery, number, shared):
        self.number = number
        self.engine = None
        ours, theirs = packet_pair()
        self.packets = Packets(ours, object)
        self._theirs = Packets(theirs, ToWorker)
        self.worker = Worker(self._theirs, self._make)
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.outbox, self._waiting = trio.open_memory_channel(100)
        nursery.start_soon(self._run)
        self.tell(BeginWorker(number, shared.workers), [shared.fd])

    def _make(self, place):
        self.engine = RecordingEngine(worker=self.number, place=place)
        return self.engine

    def tell(self, message, descriptors=()):
        self.outbox.send_nowait((message, [os.dup(number) for number in descriptors]))

    async def _write(self):
        async for message, copies in self._waiting:
            await self.packets.send(message, copies)
            for number in copies:
                os.close(number)

    async def _run(self):
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    await self.worker.run()
                    nursery.cancel_scope.cancel()
        except* Closed:
            pass
        finally:
            self.packets.close()
            self._theirs.close()
            self.ended.set()

    def kill(self):
        self.scope.cancel()


@contextlib.asynccontextmanager
async def in_loop(count=2, *, listen=lambda wanted: None, handoff=lambda connection, hello: None, joined=True):
    """(Workers, [InLoop …]) with everything joined, or nothing."""
    shared = Shared.create(count)
    workers = Workers(listen=listen, handoff=handoff)
    async with trio.open_nursery() as nursery:
        ends = [InLoop(nursery, number, shared) for number in range(count)]
        for end in ends if joined else ():
            join(workers, end.number, end.tell)
        yield workers, ends
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def real(count=2, command=RECORDING_WORKER):
    """(Workers, [Child …]): real processes, killed at the end."""
    shared = Shared.create(count)
    workers = Workers(listen=lambda wanted: None, handoff=lambda connection, hello: None)
    children = []
    try:
        async with trio.open_nursery() as nursery:
            for number in range(count):
                child = Child.start(f"worker {number}", command, object)
                children.append(child)
                nursery.start_soon(child.write)
                child.tell(BeginWorker(number, count), [shared.fd])
                join(workers, number, child.tell, pid=child.pid)
            yield workers, children
            nursery.cancel_scope.cancel()
    finally:
        for child in children:
            child.kill()
            with trio.CancelScope(shield=True):
                await child.ended()
            child.close()
