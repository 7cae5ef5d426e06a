"""Confirming suspects against real gateways and against what only looks like one."""

from __future__ import annotations

import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import certs
import pytest
import trio

from gateway.engine import Confirmed
from gateway.native.backend import BackendState
from gateway.native.confirm import AGAIN_S, LEAST_S, MOST_S, Confirmations, patience
from gateway.native.connection import ConnectionContext
from gateway.native.host import Host
from gateway.native.listener import Listeners
from gateway.native.pool import Dialer
from gateway.native.reactor import Reactor, Strand
from gateway.native.shared import Shared
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.snapshot import (
    Backend,
    DownstreamTls,
    FilterChain,
    Inbound,
    LbEndpoint,
    Listener,
    ListenerKind,
    Snapshot,
    TlsMode,
    UpstreamTls,
    UpstreamTlsMode,
)

EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
HERE, THERE = certs.gateway_leaf(EAST, "east.example"), certs.gateway_leaf(WEST, "west.example")
TLS = UpstreamTls(
    mode=UpstreamTlsMode.ISTIO_MUTUAL,
    sni="outbound_.80_._.reviews.shop.svc.cluster.local",
    bundles=(("west.example", WEST.bundle),),
    certificate=HERE.ref,
    subject_alt_names=(certs.gateway_id("west.example"),),
    peer=True,
)


class Asker:
    """A worker that confirms; `answers` in order."""

    def __init__(self, *, alone: bool = False) -> None:
        self.reactor = Reactor()
        self.answers: list[Confirmed] = []
        dialer = Dialer(self.reactor, Contexts(certs.secrets(HERE)))
        self.confirmations = Confirmations(dialer, self.answers.append, lambda address: alone)
        backend = Backend(name="outbound|80||reviews", host="reviews", port=80, peer_tls=(("west", TLS),))
        self.state = BackendState(backend, random=random.Random(1))

    def host(self, port: int, latency: float = 0.001) -> Host:
        host = Host("b", LbEndpoint(id=f"west/{port}", address="127.0.0.1", port=port, peer="west"), self.reactor.clock())
        if latency:
            host.latencies.record(latency)
        return host

    async def ask(self, port: int, latency: float = 0.001) -> Confirmed:
        host = self.host(port, latency)
        assert self.confirmations.confirm(host.key, self.state, host)
        return await self.answered()

    async def answered(self) -> Confirmed:
        with trio.fail_after(5):
            while not self.answers:  # noqa: ASYNC110  # the reactor knows no events of a test's
                await trio.sleep(0.001)
        return self.answers.pop()


@asynccontextmanager
async def asker(*, alone: bool = False) -> AsyncIterator[Asker]:
    made = Asker(alone=alone)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.reactor.run)
        yield made
        nursery.cancel_scope.cancel()


def server_context(leaf: certs.Leaf = THERE, clients: str = EAST.bundle) -> ssl.SSLContext:
    context = leaf.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=clients)
    context.num_tickets = 0  # as 15443: nothing is said unasked
    return context


async def against(serve: Callable[[socket.socket], None]) -> Confirmed:
    """The answer when a thread serves one connection with `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            sock, _ = listening.accept()
            with sock:
                sock.settimeout(10)
                serve(sock)

        async with asker() as made, trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, run)
            return await made.ask(listening.getsockname()[1])


async def test_a_gateway_that_answers_is_alive() -> None:
    said: list[bytes] = []

    def serve(sock: socket.socket) -> None:
        with server_context().wrap_socket(sock, server_side=True) as tls:
            said.append(tls.recv(100))
            tls.unwrap()

    answer = await against(serve)
    assert answer.alive
    assert answer.took_ms < 250
    assert said == [b""]  # no request was made


async def test_one_that_talks_first_is_alive() -> None:
    def serve(sock: socket.socket) -> None:
        context = server_context()
        context.num_tickets = 2
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(b"data")
            tls.recv(100)

    assert (await against(serve)).alive


async def test_a_gateway_that_refuses_our_certificate_is_not() -> None:
    """The client's handshake is complete by then; only reading tells."""

    def serve(sock: socket.socket) -> None:
        with pytest.raises(ssl.SSLError):
            server_context(clients=WEST.bundle).wrap_socket(sock, server_side=True)

    assert not (await against(serve)).alive


async def test_an_end_without_a_word_is_no_answer() -> None:
    def serve(sock: socket.socket) -> None:
        tls = server_context().wrap_socket(sock, server_side=True)
        tls.recv(100)
        tls.close()

    assert not (await against(serve)).alive


async def test_another_in_its_place_is_not() -> None:
    def serve(sock: socket.socket) -> None:
        with pytest.raises(OSError, match=r"(?i)unknown ca|reset|alert"):
            server_context(HERE).wrap_socket(sock, server_side=True).recv(1)

    assert not (await against(serve)).alive


@pytest.mark.parametrize("ours", [True, False])
async def test_our_own_listener_answers_a_gateway_it_knows(ours: bool) -> None:
    """Also when the service asked for is not exported to it: the question is whether the gateway lives."""
    domain = "east.example" if ours else "north.example"
    inbound = Inbound(TLS.sni, "inbound|80||reviews", (domain,), (certs.gateway_id(domain),))
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    tls = DownstreamTls(TlsMode.ISTIO_MUTUAL, (THERE.ref,), bundles=(("east.example", EAST.bundle),))
    chain = FilterChain("east-west", "", (), tls)
    part = Listener("127.0.0.1", listening.getsockname()[1], ListenerKind.EAST_WEST, (chain,), "peering.west.example")

    async def serve(strand: Strand, stream: Stream, context: ConnectionContext, data: bytes) -> None:
        assert await stream.recv(strand) == b""

    def handoff(sock: socket.socket, data: bytes) -> None:
        raise AssertionError

    async with asker() as made:
        memory = Shared.create(1)
        there = Listeners(made.reactor, Shared.attach(memory.fd, 0), serve=serve, handoff=handoff)
        assert there.apply(Snapshot.of([part, inbound]), Contexts(certs.secrets(THERE))) == ()
        there.take({part.key: (listening,)})
        answer = await made.ask(part.port)
        assert answer.alive
        assert there.refused == ({} if ours else {"not-exported": 1})
    listening.close()


@pytest.mark.slow
async def test_a_stopped_process_completes_tcp_and_nothing_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asker() as made:
            answer = await made.ask(listening.getsockname()[1])
    assert not answer.alive
    assert 250 <= answer.took_ms < 1000


class Starved:
    """A gateway that has no time for its first connections: it takes them and says nothing until `busy` of them were given up."""

    def __init__(self, listening: socket.socket, busy: int) -> None:
        self.port = listening.getsockname()[1]
        self.taken = 0
        self._listening, self._busy = listening, busy
        listening.settimeout(10)

    def run(self) -> None:
        for _ in range(self._busy):
            sock, _ = self._listening.accept()
            self.taken += 1
            with sock:
                sock.settimeout(10)
                while sock.recv(65536):  # until the asker closes
                    pass
        sock, _ = self._listening.accept()
        self.taken += 1
        with sock:
            sock.settimeout(10)
            with server_context().wrap_socket(sock, server_side=True) as tls:
                tls.recv(100)
                tls.unwrap()


@pytest.mark.slow
@pytest.mark.parametrize(("busy", "alone", "alive"), [(1, True, True), (1, False, False)])
async def test_silence_is_asked_again_where_nobody_else_could_take_the_traffic(busy: int, alone: bool, alive: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        starved = Starved(listening, busy)
        async with asker(alone=alone) as made, trio.open_nursery() as nursery:
            nursery.start_soon(partial(trio.to_thread.run_sync, starved.run, abandon_on_cancel=True))
            answer = await made.ask(starved.port)
            assert answer.alive is alive
            assert starved.taken == (2 if alone else 1)
            assert answer.took_ms >= 250
            nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_who_is_silent_twice_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asker(alone=True) as made:
            answer = await made.ask(listening.getsockname()[1])
    assert not answer.alive
    assert 1000 * (LEAST_S + min(AGAIN_S, made.state.backend.connect_timeout_ms / 1000)) <= answer.took_ms + 2


@pytest.mark.parametrize("alone", [True, False])
async def test_nobody_listens_and_refusing_is_an_answer(alone: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    async with asker(alone=alone) as made:
        answer = await made.ask(port)
    assert not answer.alive
    assert answer.address == f"127.0.0.1:{port}"
    assert answer.took_ms < 200


async def test_one_question_at_a_time_for_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asker() as made:
            host = made.host(listening.getsockname()[1])
            assert made.confirmations.confirm(host.key, made.state, host)
            assert not made.confirmations.confirm(host.key, made.state, host)
            listening.close()  # resets what waits
            await made.answered()
            assert made.confirmations.confirm(host.key, made.state, host)
            await made.answered()


def test_patience() -> None:
    assert patience(0.001) == LEAST_S
    assert patience(0.2) == 0.8
    assert patience(3.0) == MOST_S
    assert patience(0.0) == MOST_S
