"""A nameserver of several real workers: what becomes of questions while one is killed, stopped, or all drain."""

import contextlib
import os
import signal
import socket

import pytest
import trio
from running_gateway import gateway, request, until
from static_control import write

from gateway.native.codec.dns import encode_name, question
from gateway.snapshot import (
    Backend,
    DirectResponse,
    Dns,
    EndpointSet,
    FilterChain,
    Forward,
    LbEndpoint,
    Listener,
    ListenerKind,
    MatchKind,
    Name,
    Node,
    Route,
    RouteMatch,
    Split,
    StringMatch,
    VirtualHost,
)

pytestmark = pytest.mark.slow

HERE = "127.0.0.1"
NAME = Name("reviews.shop.svc.cluster.local", addresses=("240.240.0.7",))
BACKEND = "outbound|80||silent"
WIRE = b"\x01\0\0\x01\0\0\0\0\0\0" + question(encode_name(NAME.name), 1)


def free_port():
    """For TCP and UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((HERE, 0))
        udp.bind((HERE, tcp.getsockname()[1]))
        return tcp.getsockname()[1]


class Site:
    def __init__(self, folder):
        self.path, self.state = folder / "snapshot.json", folder / "state"
        self.admin, self.health, self.http, self.dns = (free_port() for _ in range(4))
        self.silent = socket.create_server((HERE, 0))  # an endpoint that never answers
        self.accepted = None
        hello = Route("hello", RouteMatch(StringMatch(MatchKind.EXACT, "/")), DirectResponse(200, b"hello"))
        rest = Route("rest", RouteMatch(), Forward((Split(BACKEND),)))
        port = self.silent.getsockname()[1]
        parts = [
            Node("gw", "east", drain_ms=4000, dns=Dns(allow=("127.0.0.0/8",), synced=True)),
            Listener(HERE, self.admin, ListenerKind.ADMIN),
            Listener(HERE, self.health, ListenerKind.HEALTH),
            Listener(HERE, self.http, ListenerKind.GATEWAY, (FilterChain("http", "t"),)),
            Listener(HERE, self.dns, ListenerKind.DNS),
            VirtualHost("t", "any", ("*",), (hello, rest)),
            Backend(BACKEND, "silent", 80),
            EndpointSet(BACKEND, (LbEndpoint("e", HERE, port),)),
            NAME,
        ]
        write(self.path, workers=2, state_dir=self.state, parts=parts, drain_ms=4000)

    async def serving(self, running):
        for worker in range(2):
            await running.event("worker.serving", worker=worker)
        await until(lambda: self.ask(), lambda answered: answered)

    async def ask(self, within=5.0):
        """Whether a question from a new port is answered in time."""
        with trio.socket.socket(type=socket.SOCK_DGRAM) as sock:
            await sock.connect((HERE, self.dns))
            with trio.move_on_after(within), contextlib.suppress(ConnectionRefusedError):
                await sock.send(b"\0\1" + WIRE)
                return (await sock.recv(1232)).endswith(b"\xf0\xf0\0\x07")
        return False


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    with made.silent:
        yield made
    if made.accepted is not None:
        made.accepted.close()


async def test_both_workers_answer_by_udp_and_tcp(site):
    async with gateway(site.path) as running:
        await site.serving(running)
        assert [await site.ask() for _ in range(40)] == [True] * 40
        async with await trio.open_tcp_stream(HERE, site.dns) as stream:
            wire = b"\0\2" + WIRE
            await stream.send_all(len(wire).to_bytes(2, "big") + wire)
            with trio.fail_after(5):
                assert (await stream.receive_some(1232))[2:4] == b"\0\2"


async def test_questions_to_a_stopped_and_to_a_killed_worker_are_answered_by_the_other(site):
    async with gateway(site.path) as running:
        await site.serving(running)
        victim = min(pid for pid, command in running.children().items() if "worker" in command)
        os.kill(victim, signal.SIGSTOP)
        await running.event("listener.lending")
        assert [await site.ask() for _ in range(40)] == [True] * 40
        os.kill(victim, signal.SIGKILL)
        assert [await site.ask() for _ in range(40)] == [True] * 40
        await running.event("worker.serving", count=3)
        assert [await site.ask() for _ in range(40)] == [True] * 40


async def test_questions_are_answered_to_the_end_of_a_drain_and_then_refused(site):
    async with gateway(site.path) as running:
        await site.serving(running)
        async with await trio.open_tcp_stream(HERE, site.http) as kept:
            await kept.send_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
            accepted, _ = await trio.to_thread.run_sync(site.silent.accept)
            site.accepted = accepted
            os.kill(running.pid, signal.SIGTERM)
            await running.event("worker.draining", count=2)
            for _ in range(20):
                assert await site.ask()
        with trio.fail_after(20):
            await running.closed.wait()
        assert not await site.ask(within=0.2)
        with socket.socket(type=socket.SOCK_DGRAM) as free:
            free.bind((HERE, site.dns))


async def test_a_udp_port_in_use_is_told_and_taken_when_it_is_free(site):
    with socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind((HERE, site.dns))
        async with gateway(site.path) as running:
            failed = await running.event("listener.failed")
            assert failed["listener"] == f"udp:{HERE}:{site.dns}"
            assert f"UDP {HERE}:{site.dns} is in use by another process" in failed["error"]
            assert (await until(lambda: request(HERE, site.http, "/"), lambda answer: answer.status == 200)).body == b"hello"
            other.close()
            await running.event("listener.bound", listener=f"udp:{HERE}:{site.dns}")
            assert await until(site.ask, lambda answered: answered)
