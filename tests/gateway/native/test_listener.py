"""Listeners over real sockets: who gets in by which name, what is closed without a byte, lending, limits."""

from __future__ import annotations

import os
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import certs
import msgspec
import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from discovery.watch import Watchable
from gateway.native import greeting
from gateway.native.connection import ConnectionContext
from gateway.native.listener import Listeners, connection_limit
from gateway.native.reactor import Reactor, Strand
from gateway.native.shared import Shared
from gateway.native.sockets import Sockets, datagrams_key
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.snapshot import (
    DownstreamTls,
    FilterChain,
    Inbound,
    Listener,
    ListenerKind,
    Snapshot,
    TlsMode,
)

EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
GATEWAY = certs.gateway_leaf(EAST, "east.example")
THERE = certs.gateway_leaf(WEST, "west.example")
WEB = certs.Authority("web")
SHOP, WILD, REST = WEB.leaf("shop.example"), WEB.leaf("*.example"), WEB.leaf("rest.test")
CLIENTS = certs.Authority("clients")
KEYS = certs.secrets(GATEWAY, SHOP, WILD, REST)
REVIEWS = "outbound_.80_._.reviews.shop.svc.cluster.local"
DETAILS = "outbound_.80_._.details.shop.svc.cluster.local"


def simple(leaf: certs.Leaf) -> DownstreamTls:
    return DownstreamTls(mode=TlsMode.SIMPLE, certificates=(leaf.ref,))


HOSTS = (
    FilterChain("shop", "t-shop", ("shop.example",), simple(SHOP)),
    FilterChain("wild", "t-wild", ("*.example",), simple(WILD)),
    FilterChain("deep", "t-deep", ("*.deep.example",), simple(WILD)),
    FilterChain("rest", "t-rest", (), simple(REST)),
    FilterChain(
        "closed",
        "t-closed",
        ("closed.example",),
        DownstreamTls(mode=TlsMode.MUTUAL, certificates=(WILD.ref,), ca=CLIENTS.bundle),
    ),
    FilterChain("broken", "t-broken", ("broken.example",), simple(WEB.leaf("broken.example"))),  # its key is not in KEYS
)
IDENTITIES = DownstreamTls(
    mode=TlsMode.ISTIO_MUTUAL,
    certificates=(GATEWAY.ref,),
    bundles=(("east.example", EAST.bundle), ("west.example", WEST.bundle)),
)
INBOUNDS = (
    Inbound(REVIEWS, "inbound|80||reviews", ("west.example",), (certs.gateway_id("west.example"),)),
    Inbound(DETAILS, "inbound|80||details", ("north.example",), (certs.gateway_id("north.example"),)),
)


def bind(count: int = 1) -> tuple[socket.socket, ...]:
    """Listening sockets on one port that the kernel picks."""
    made: list[socket.socket] = []
    for _ in range(count):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("127.0.0.1", made[0].getsockname()[1] if made else 0))
        sock.listen(100)
        sock.setblocking(False)
        made.append(sock)
    return tuple(made)


class Rig:
    """One worker's listeners on a running reactor. `served`: contexts in order. The service answers `NAME:` and what it was sent."""

    def __init__(self, workers: int = 1, **limits: Any) -> None:
        self.memory = Shared.create(workers)
        self.reactor = Reactor()
        self.served: list[ConnectionContext] = []
        self.handed: list[tuple[socket.socket, bytes]] = []
        self.control = True
        self.listeners = Listeners(self.reactor, Shared.attach(self.memory.fd, 0), serve=self.serve, handoff=self.handoff, **limits)
        self.sockets: Watchable[Sockets] = Watchable({})
        self.contexts = Contexts(KEYS)
        self.faults: tuple[str, ...] = ()

    async def serve(self, strand: Strand, stream: Stream, context: ConnectionContext, data: bytes = b"") -> None:
        self.served.append(context)
        label = context.inbound.backend if context.inbound else context.table
        data = data or await stream.recv(strand)
        while data:
            await stream.sendall(strand, f"{label}:".encode() + data)
            data = await stream.recv(strand)

    def handoff(self, sock: socket.socket, data: bytes) -> None:
        if not self.control:
            raise OSError("nobody there")
        self.handed.append((sock, data))

    def serves(self, *listeners: Listener, inbounds: tuple[Inbound, ...] = INBOUNDS) -> None:
        self.faults = self.listeners.apply(Snapshot.of([*listeners, *inbounds]), self.contexts)


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.reactor.run)
        await nursery.start(rig.listeners.run, rig.sockets)
        try:
            yield rig
        finally:
            nursery.cancel_scope.cancel()
            os.close(rig.memory.fd)


def listener(sock: socket.socket, kind: ListenerKind = ListenerKind.GATEWAY, *chains: FilterChain) -> Listener:
    return Listener("127.0.0.1", sock.getsockname()[1], kind, chains, "peering.east.example" if kind.value == "east-west" else "")


@asynccontextmanager
async def gateway(kind: ListenerKind, *chains: FilterChain, workers: int = 1, **limits: int) -> AsyncIterator[tuple[Rig, int]]:
    """A rig with one listener; its port."""
    sockets = bind(workers)
    part = listener(sockets[0], kind, *chains)
    rig = Rig(workers, **limits)
    rig.serves(part)
    rig.sockets.set({part.key: sockets})
    async with running(rig):
        yield rig, part.port
    for sock in sockets:
        sock.close()


def client(leaf: certs.Leaf | None = None, trust: str = WEB.bundle) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=trust)
    return leaf.load_into(context) if leaf else context


async def ask(port: int, context: ssl.SSLContext | None, name: str | None = None, data: bytes = b"hi") -> bytes:
    """What the gateway answers to the first bytes; b"" if it closes."""

    def talk() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            if context is None:
                sock.sendall(data)
                return receive(sock)
            with context.wrap_socket(sock, server_hostname=name) as tls:
                tls.sendall(data)
                return receive(tls)

    return await trio.to_thread.run_sync(talk)


def receive(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1000)
    except ConnectionResetError:
        return b""


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks go on until it is so."""
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110  # the reactor knows no events of a test's
            await trio.sleep(0.001)


# ------------------------------------------------------------------------------------------------------------ by name


async def test_plain_connections_go_straight_to_their_table() -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-http")) as (rig, port):
        assert await ask(port, None) == b"t-http:hi"
        (context,) = rig.served
        assert context.scheme == "http"
        assert context.local == f"127.0.0.1:{port}"
        assert context.peer.startswith("127.0.0.1:")
        assert context.peer_address == "127.0.0.1"
        await rig.listeners.wait_empty()
        assert (rig.listeners.connections, rig.listeners.connections_total) == (0, 1)


async def test_the_name_chooses_the_chain_and_its_certificate() -> None:
    async with gateway(ListenerKind.GATEWAY, *HOSTS) as (rig, port):
        assert await ask(port, client(), "shop.example") == b"t-shop:hi"
        assert await ask(port, client(), "Other.Example") == b"t-wild:hi"
        assert await ask(port, client(), "a.deep.example") == b"t-deep:hi"
        assert await ask(port, client(), "unknown.test") == b"t-rest:hi"
        assert await ask(port, client(), None) == b"t-rest:hi"
        assert [context.sni for context in rig.served] == [
            "shop.example",
            "other.example",
            "a.deep.example",
            "unknown.test",
            "",
        ]
        assert {context.scheme for context in rig.served} == {"https"}
        assert rig.served[0].tls_version == "TLSv1.3"
        assert rig.listeners.handshakes == 5


@pytest.mark.parametrize("top", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_simple_and_mutual_hosts_on_one_socket(top: ssl.TLSVersion) -> None:
    async with gateway(ListenerKind.GATEWAY, *HOSTS) as (rig, port):
        bare = client()
        bare.maximum_version = top
        assert await ask(port, bare, "shop.example") == b"t-shop:hi"
        with pytest.raises(ssl.SSLError):
            await ask(port, bare, "closed.example")
        assert await ask(port, client(CLIENTS.leaf("me.example")), "closed.example") == b"t-closed:hi"
        assert rig.served[-1].certificate is not None
        assert rig.served[-1].certificate.dns == ("me.example",)
        assert rig.listeners.handshake_failures == 1
        assert rig.listeners.refused["handshake"] == 1


async def closed_without_a_byte(port: int, data: bytes) -> None:
    assert await ask(port, None, data=data) == b""


def hello_for(name: str | None, context: ssl.SSLContext | None = None) -> bytes:
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        (context or client()).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


async def test_what_no_chain_serves_is_closed_without_a_byte() -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0], HOSTS[5]) as (rig, port):
        await closed_without_a_byte(port, b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
        await closed_without_a_byte(port, hello_for("nobody.test"))
        await closed_without_a_byte(port, hello_for(None))
        await closed_without_a_byte(port, hello_for("broken.example"))
        await closed_without_a_byte(port, b"\x16\x03\x01\x40\x00\x01\x00\x3f\xff" + bytes(16384))
        assert rig.listeners.refused == {"not-tls": 2, "unknown-name": 2, "no-certificate": 1}
        assert rig.served == []
        assert any("chain broken is closed: certificate broken.example" in fault for fault in rig.faults)
        assert await ask(port, client(), "shop.example") == b"t-shop:hi"


async def test_a_hello_in_drops_is_read_all_the_same() -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0]) as (_, port):

        def talk() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = client().wrap_bio(incoming, outgoing, server_hostname="shop.example")
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        for byte in outgoing.read():
                            sock.sendall(bytes([byte]))
                        incoming.write(sock.recv(65536))
                tls.write(b"hi")
                sock.sendall(outgoing.read())
                while True:
                    incoming.write(sock.recv(65536))
                    try:
                        return tls.read(100)
                    except ssl.SSLWantReadError:
                        continue

        assert await trio.to_thread.run_sync(talk) == b"t-shop:hi"


async def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "GREETING_S", 0.05)
    async with gateway(ListenerKind.GATEWAY, HOSTS[0]) as (rig, port):
        hello = hello_for("shop.example")

        def say(said: bytes) -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(said)
                while receive(sock):
                    pass

        for said in (b"", hello[:100], hello):  # nothing, half a hello, a hello without what must follow
            await trio.to_thread.run_sync(say, said)
        assert await ask(port, client(), "shop.example") == b"t-shop:hi"
        await until(lambda: rig.listeners.refused["greeting-timeout"] == 3)


async def test_a_served_connection_has_no_deadline_left(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0]) as (rig, port):
        left: list[float] = []

        async def serve(strand: Strand, stream: Stream, context: ConnectionContext, data: bytes) -> None:
            left.append(strand.deadline)

        rig.listeners._serve = serve
        await ask(port, client(), "shop.example")
        assert left == [float("inf")]


async def test_identities_are_proven_on_every_connection_of_a_tls_12_client() -> None:
    """It offers its session each time; were it resumed, there would be no chain to verify, and the client would be locked out."""
    async with gateway(ListenerKind.GATEWAY, FilterChain("mesh", "t-mesh", (), IDENTITIES)) as (rig, port):
        context = client(THERE, EAST.bundle)
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def talk(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=20) as sock,
                context.wrap_socket(sock, server_hostname="a.example", session=session) as tls,
            ):
                tls.sendall(b"hi")
                result = tls.recv(100), tls.session, tls.session_reused
                tls.unwrap()  # OpenSSL forgets sessions of connections that broke off
                return result

        answer, session, _ = await trio.to_thread.run_sync(talk, None)
        assert answer == b"t-mesh:hi"
        assert session is not None
        answer, _, reused = await trio.to_thread.run_sync(talk, session)
        assert (answer, reused) == (b"t-mesh:hi", False)
        assert [each.identity for each in rig.served] == [certs.gateway_id("west.example")] * 2


# ---------------------------------------------------------------------------------------------------------- east-west

EAST_WEST = FilterChain("east-west", "", (), IDENTITIES)


async def test_a_peer_reaches_what_is_exported_to_it() -> None:
    async with gateway(ListenerKind.EAST_WEST, EAST_WEST) as (rig, port):
        assert await ask(port, client(THERE, EAST.bundle), REVIEWS) == b"inbound|80||reviews:hi"
        (context,) = rig.served
        assert context.inbound is INBOUNDS[0]
        assert context.identity == certs.gateway_id("west.example")
        assert context.table == ""
        assert context.certificate is not None
        assert context.certificate.uris == (context.identity,)


async def test_names_that_are_not_exported_are_closed_without_a_byte() -> None:
    async with gateway(ListenerKind.EAST_WEST, EAST_WEST) as (rig, port):
        for name in ("outbound_.80_._.secret.shop.svc.cluster.local", "east.example", None, "peering.west.example"):
            await closed_without_a_byte(port, hello_for(name, client(THERE, EAST.bundle)))
        assert rig.listeners.refused == {"unknown-name": 4}


async def refused_after_handshake(port: int, leaf: certs.Leaf | None, name: str) -> None:
    try:
        answer = await ask(port, client(leaf, EAST.bundle), name)
    except (ssl.SSLError, ConnectionError):
        answer = b""
    assert answer == b""


@pytest.mark.parametrize(
    ("leaf", "name", "reason"),
    [
        (THERE, DETAILS, "not-exported"),  # it exists, for another trust domain
        (WEST.leaf("spiffe://west.example/ns/shop/sa/productpage"), REVIEWS, "not-exported"),  # not a gateway
        (GATEWAY, REVIEWS, "not-exported"),  # of a trust domain that the Inbound does not name
        (EAST.leaf(certs.gateway_id("west.example")), REVIEWS, "identity"),  # another CA signs the peer's identity
        (WEST.leaf("gw.west.example"), REVIEWS, "identity"),
        (None, REVIEWS, "handshake"),
        (certs.self_signed(certs.gateway_id("west.example")), REVIEWS, "handshake"),
        (WEST.expired(certs.gateway_id("west.example")), REVIEWS, "handshake"),
    ],
)
async def test_who_may_not_is_closed_right_after_the_handshake(leaf: certs.Leaf | None, name: str, reason: str) -> None:
    async with gateway(ListenerKind.EAST_WEST, EAST_WEST) as (rig, port):
        await refused_after_handshake(port, leaf, name)
        await until(lambda: rig.listeners.refused == {reason: 1})
        assert rig.served == []


async def test_tls_12_does_not_open_the_east_west_port() -> None:
    async with gateway(ListenerKind.EAST_WEST, EAST_WEST) as (rig, port):
        old = client(THERE, EAST.bundle)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            await ask(port, old, REVIEWS)
        await until(lambda: rig.listeners.refused == {"handshake": 1})


async def test_an_east_west_port_without_identities_serves_nobody() -> None:
    async with gateway(ListenerKind.EAST_WEST, FilterChain("east-west", "", (), simple(SHOP))) as (rig, port):
        await closed_without_a_byte(port, hello_for(REVIEWS))
        assert "must ask for identities" in rig.faults[0]


async def test_the_peering_name_hands_over_the_socket_with_what_was_read() -> None:
    async with gateway(ListenerKind.EAST_WEST, EAST_WEST) as (rig, port):
        hello = hello_for("peering.east.example")

        def talk() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(hello[:50])
                sock.sendall(hello[50:])
                return sock.recv(100)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, talk)
            await until(lambda: bool(rig.handed))
            sock, data = rig.handed[0]
            assert data == hello
            assert sock.fileno() not in rig.reactor.handlers
            assert rig.listeners.connections == 0
            sock.send(b"hello from control")
            sock.close()
        rig.control = False
        await closed_without_a_byte(port, hello)
        assert rig.listeners.refused == {"no-control": 1}


# ------------------------------------------------------------------------------------------------------------- limits


async def test_beyond_the_limit_connections_are_closed_and_counted() -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-http"), most_connections=2) as (rig, port):
        held = [await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port)) for _ in range(2)]
        await until(lambda: rig.listeners.connections == 2)
        await closed_without_a_byte(port, b"hi")
        assert rig.listeners.refused == {"too-many-connections": 1}
        held.pop().close()
        await until(lambda: rig.listeners.connections == 1)
        assert await ask(port, None) == b"t-http:hi"
        held.pop().close()


async def test_health_is_answered_when_connections_are_all_taken() -> None:
    async with gateway(ListenerKind.HEALTH, most_connections=1) as (rig, port):
        with await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port)):
            await until(lambda: rig.listeners.connections == 1)
            assert await ask(port, None) == b":hi"


async def test_the_oldest_greeting_gives_way() -> None:
    """A crowd that says nothing does not keep others out."""
    async with gateway(ListenerKind.GATEWAY, HOSTS[0], most_greetings=3) as (rig, port):
        crowd = [await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port)) for _ in range(3)]
        await until(lambda: rig.listeners.connections == 3)
        assert await ask(port, client(), "shop.example") == b"t-shop:hi"
        assert rig.listeners.refused == {"too-many-greetings": 1}
        assert await trio.to_thread.run_sync(receive, crowd[0]) == b""
        for sock in crowd:
            sock.close()
        await rig.listeners.wait_empty()


async def test_a_connection_that_is_served_is_no_greeting_any_more() -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0], most_greetings=1) as (rig, port):
        first = await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port))
        with await trio.to_thread.run_sync(lambda: client().wrap_socket(first, server_hostname="shop.example")) as standing:
            assert await ask(port, client(), "shop.example") == b"t-shop:hi"

            def talk() -> bytes:
                standing.sendall(b"still")
                return standing.recv(100)

            assert await trio.to_thread.run_sync(talk) == b"t-shop:still"
        assert rig.listeners.refused == {}


async def test_without_descriptors_accepting_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-http")) as (rig, port):
        key = next(iter(rig.listeners._doors))
        (sock,) = rig.listeners._sockets[key]

        class Exhausted:
            family = socket.AF_INET

            def _accept(self) -> None:
                raise OSError(24, "Too many open files")

        rig.listeners.accept(key, Exhausted())  # type: ignore[arg-type]
        assert rig.listeners.refused == {"exhausted": 1}
        assert sock.fileno() not in rig.reactor.handlers
        assert await ask(port, None) == b"t-http:hi"  # after the pause


async def test_a_client_that_resets_leaves_nothing() -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0]) as (rig, port):

        def reset() -> None:
            with socket.create_connection(("127.0.0.1", port)) as sock:
                sock.sendall(b"\x16")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        await trio.to_thread.run_sync(reset)
        await until(lambda: rig.listeners.connections_total == 1 and rig.listeners.connections == 0)
        assert rig.listeners.refused == {"closed-early": 1}


# -------------------------------------------------------------------------------------------------- sockets and lending


async def test_a_snapshot_changes_listeners_under_a_connection_that_stands() -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-old")) as (rig, port):
        sock = await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port))
        await until(lambda: len(rig.served) == 1)
        part = rig.served[0].listener
        rig.serves(msgspec.structs.replace(part, chains=(FilterChain("http", "t-new"),)))
        assert await ask(port, None) == b"t-new:hi"
        rig.serves()  # the listener is gone
        rig.sockets.set({})
        await until(lambda: not rig.listeners._open)

        def talk() -> bytes:
            sock.sendall(b"still")
            return sock.recv(100)

        assert await trio.to_thread.run_sync(talk) == b"t-old:still"
        sock.close()


async def test_a_renewed_certificate_is_shown_to_new_connections_and_drops_no_old_one() -> None:
    async with gateway(ListenerKind.GATEWAY, HOSTS[0]) as (rig, port):

        def connect() -> ssl.SSLSocket:
            return client().wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20), server_hostname="shop.example")

        def talk(tls: ssl.SSLSocket) -> bytes:
            tls.sendall(b"hi")
            return tls.recv(100)

        old = await trio.to_thread.run_sync(connect)
        await until(lambda: len(rig.served) == 1)
        renewed = WEB.leaf("shop.example", label="renewed")
        rig.contexts.renew(KEYS | certs.secrets(renewed))
        part = rig.served[0].listener
        rig.serves(msgspec.structs.replace(part, chains=(FilterChain("shop", "t-new", ("shop.example",), simple(renewed)),)))
        new = await trio.to_thread.run_sync(connect)
        assert await trio.to_thread.run_sync(talk, new) == b"t-new:hi"
        assert await trio.to_thread.run_sync(talk, old) == b"t-shop:hi"
        shown = [tls.getpeercert(binary_form=True) for tls in (old, new)]
        assert shown == [leaf.certificate.public_bytes(Encoding.DER) for leaf in (SHOP, renewed)]
        old.close()
        new.close()


def test_the_limit_leaves_descriptors_for_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, limit in ((1024, 448), (100, 16), (1 << 20, 50_000), (resource.RLIM_INFINITY, 50_000)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, soft=soft: (soft, soft))
        assert connection_limit() == limit


async def test_sockets_come_after_the_snapshot() -> None:
    sockets = bind()
    part = listener(sockets[0], ListenerKind.GATEWAY, FilterChain("http", "t-http"))
    rig = Rig()
    rig.serves(part, msgspec.structs.replace(part, port=1, kind=ListenerKind.ADMIN))
    assert rig.listeners.missing() == (part.key,)
    async with running(rig):
        rig.sockets.set({part.key: sockets})
        assert await ask(part.port, None) == b"t-http:hi"
        assert rig.listeners.missing() == ()
    sockets[0].close()


async def test_a_silent_neighbours_connections_are_accepted_until_it_stamps() -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-http"), workers=2) as (rig, port):
        neighbour = Shared.attach(rig.memory.fd, 1)
        for _ in range(16):  # the kernel spreads them over both sockets; none is stranded
            assert await ask(port, None) == b"t-http:hi"
        both = set(rig.listeners._open)
        neighbour.stamp(1 << 62)  # it lives, for long
        await until(lambda: len(rig.listeners._open) == 1)
        assert both - set(rig.listeners._open) == {(f"127.0.0.1:{port}", 1)}
        neighbour.drain()
        await until(lambda: set(rig.listeners._open) == both)


async def test_a_worker_that_drains_accepts_no_more_and_keeps_what_it_has() -> None:
    async with gateway(ListenerKind.GATEWAY, FilterChain("http", "t-http"), workers=2) as (rig, port):
        sock = await trio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port))
        await until(lambda: rig.listeners.connections == 1)
        rig.listeners.drain()
        assert rig.listeners._open == {}
        assert rig.memory.draining(0)
        with trio.move_on_after(0.2) as waiting:
            await rig.listeners.wait_empty()
        assert waiting.cancelled_caught
        sock.close()
        await rig.listeners.wait_empty()


async def test_health_is_answered_while_all_drain() -> None:
    async with gateway(ListenerKind.HEALTH, workers=2) as (rig, port):
        neighbour = Shared.attach(rig.memory.fd, 1)
        neighbour.stamp(1 << 62)
        await until(lambda: len(rig.listeners._open) == 1)
        rig.listeners.drain()
        assert rig.listeners._open == {}  # the neighbour answers
        neighbour.drain()
        await until(lambda: len(rig.listeners._open) == 2)
        assert await ask(port, None) == b":hi"


async def test_datagrams_are_lent_like_connections_and_read_to_the_end_of_a_drain() -> None:
    ours, theirs = (socket.socket(type=socket.SOCK_DGRAM) for _ in range(2))
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
    heard: list[bytes] = []
    rig = Rig(workers=2, datagrams=lambda sock: lambda events: heard.append(sock.recv(100)))
    part = Listener("127.0.0.1", 53, ListenerKind.DNS)
    rig.serves(part)
    rig.sockets.set({datagrams_key(part): (ours, theirs)})
    with ours, theirs, socket.socket(type=socket.SOCK_DGRAM) as client:
        async with running(rig):
            neighbour = Shared.attach(rig.memory.fd, 1)
            neighbour.stamp(1 << 62)
            await until(lambda: set(rig.listeners._open) == {("udp:127.0.0.1:53", 0)})
            client.sendto(b"theirs", theirs.getsockname())
            client.sendto(b"ours", ours.getsockname())
            await until(lambda: heard == [b"ours"])
            neighbour.drain()
            await until(lambda: heard == [b"ours", b"theirs"])
            rig.listeners.drain()
            client.sendto(b"late", ours.getsockname())
            await until(lambda: heard[2:] == [b"late"])
            rig.sockets.set({})
            await until(lambda: not rig.listeners._open)


async def test_stamps_come_by_themselves() -> None:
    rig = Rig()
    async with running(rig):
        first = rig.memory.stamp_of(0)
        assert first > 0
        await until(lambda: rig.memory.stamp_of(0) > first)
        second = rig.memory.stamp_of(0)
        await until(lambda: rig.memory.stamp_of(0) > second)
