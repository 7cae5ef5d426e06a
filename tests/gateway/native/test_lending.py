"""Two workers as real processes on one port: one is killed or stopped under new connections, and none is stranded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gateway.native.shared import Shared

CHILD = """
import socket, sys
import trio
from discovery.watch import Watchable
from gateway.native.listener import Listeners
from gateway.native.reactor import Reactor
from gateway.native.shared import Shared
from gateway.native.tls import Contexts
from gateway.snapshot import FilterChain, Listener, ListenerKind, Snapshot

memory, worker, *fds = map(int, sys.argv[1:])
sockets = tuple(socket.socket(fileno=fd) for fd in fds)
for sock in sockets:
    sock.setblocking(False)
part = Listener("127.0.0.1", sockets[0].getsockname()[1], ListenerKind.MESH, (FilterChain("http", "t"),))

async def serve(strand, stream, context, data):
    while await stream.recv(strand):
        await stream.sendall(strand, b"%d" % worker)

async def main():
    reactor = Reactor()
    listeners = Listeners(reactor, Shared.attach(memory, worker), serve=serve, handoff=None)
    listeners.apply(Snapshot.of([part]), Contexts())
    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        await nursery.start(listeners.run, Watchable({part.key: sockets}))
        print("ready", flush=True)

trio.run(main)
"""


class Gateway:
    """Two workers and what the supervisor holds."""

    def __init__(self) -> None:
        self.shared = Shared.create(2)
        self.sockets = [socket.socket() for _ in range(2)]
        for sock in self.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", self.sockets[0].getsockname()[1]))
            sock.listen(100)
        self.port = self.sockets[0].getsockname()[1]
        self.workers = [self.start(worker) for worker in range(2)]

    def start(self, worker: int) -> subprocess.Popen[str]:
        fds = [self.shared.fd, *(sock.fileno() for sock in self.sockets)]
        arguments = [str(each) for each in (fds[0], worker, *fds[1:])]
        child = subprocess.Popen([sys.executable, "-c", CHILD, *arguments], pass_fds=fds, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert "ready\n" in iter(child.stdout.readline, "")  # log lines may come before it
        return child

    def connect(self) -> tuple[bytes, float]:
        """Who answered a new connection, and after how long."""
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            sock.sendall(b"?")
            return sock.recv(10), time.monotonic() - begin

    def close(self) -> None:
        for child in self.workers:
            child.kill()
            child.communicate()
        for sock in self.sockets:
            sock.close()
        self.shared.close()
        os.close(self.shared.fd)


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    made = Gateway()
    yield made
    made.close()


@pytest.mark.slow
def test_both_serve_and_neither_takes_from_the_other(gateway: Gateway) -> None:
    answers = [gateway.connect()[0] for _ in range(60)]
    assert set(answers) == {b"0", b"1"}


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_dead_or_stopped_worker_would_have_taken_its_neighbour_takes(gateway: Gateway, how: signal.Signals) -> None:
    gateway.connect()
    gateway.workers[1].send_signal(how)
    answers = [gateway.connect() for _ in range(100)]  # the first of them at once, before anyone could know
    assert {who for who, _ in answers} == {b"0"}
    # 75 ms by design; this machine is shared with others
    assert max(took for _, took in answers) < 1.0
    assert sum(took for _, took in answers) < 3.0  # and only those that came before it was noticed waited at all


@pytest.mark.slow
def test_a_successor_takes_the_place(gateway: Gateway) -> None:
    gateway.workers[1].kill()
    gateway.workers[1].communicate()
    gateway.shared.clear(1)
    assert {gateway.connect()[0] for _ in range(20)} == {b"0"}
    gateway.workers[1] = gateway.start(1)
    assert {gateway.connect()[0] for _ in range(60)} == {b"0", b"1"}
