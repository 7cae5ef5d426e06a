"""The choice by name and by identity, and greetings driven by hand over a socket pair, without a reactor's loop.

Whole greetings over real sockets: test_listener.py.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import certs
import pytest

from gateway.native import greeting
from gateway.native.greeting import Door, Refused, admits
from gateway.native.reactor import Reactor, Strand
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.snapshot import FilterChain, Inbound, Listener, ListenerKind, TcpRoute, TcpSplit

INBOUND = Inbound("a", "inbound|80||a", ("west.example",), (certs.gateway_id("west.example"),))


def test_identity_and_trust_domain_must_both_be_named() -> None:
    identity = certs.gateway_id("west.example")
    assert admits(INBOUND, identity, "west.example")
    assert not admits(INBOUND, identity, "north.example")
    assert not admits(INBOUND, "spiffe://west.example/ns/a/sa/b", "west.example")
    assert not admits(Inbound("a", "b", (), ()), "", "")


def door(kind: ListenerKind = ListenerKind.GATEWAY, address: str = "127.0.0.1") -> Door:
    chains = (FilterChain("http", "t-http"),)
    return Door(Listener(address, 80, kind, chains, "peering.east.example"), Contexts(), {})


def test_the_accepted_address_is_the_listeners_or_the_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as sock:
        reactor = Reactor()
        stream = Stream(reactor, sock, lambda events: None)
        here = sock.getsockname()
        assert door().open(stream, ("10.0.0.1", 9)).local == "127.0.0.1:80"
        everywhere = door(address="0.0.0.0").open(stream, ("2001:db8::1", 9))
        assert everywhere.local == f"127.0.0.1:{here[1]}"
        assert everywhere.peer == "[2001:db8::1]:9"
        assert everywhere.peer_address == "2001:db8::1"
        reactor.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"GET / HTTP/1.1\r\n", "not-tls"), (b"\x16\x03\x01\x00\xff\x01", "closed-early"), (b"", "closed-early")],
)
def test_a_greeting_ends_with_its_reason(data: bytes, reason: str) -> None:
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ended: list[str] = []

    async def greet(strand: Strand) -> None:
        stream = Stream(reactor, ours, strand.wake)
        try:
            await door(ListenerKind.EAST_WEST).greet(strand, stream, ("", 0), lambda sock, hello: None)
        except Refused as refused:
            ended.append(refused.reason)
        finally:
            stream.close()

    reactor.spawn(greet)
    theirs.sendall(data)
    theirs.close()
    reactor.turn()
    reactor.turn()
    assert ended == [reason]
    reactor.close()


def test_the_deadline_is_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then gains no time."""
    now = [100.0]
    reactor = Reactor(lambda: now[0])
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ended: list[str] = []

    async def greet(strand: Strand) -> None:
        stream = Stream(reactor, ours, strand.wake)
        try:
            await door(ListenerKind.EAST_WEST).greet(strand, stream, ("", 0), lambda sock, hello: None)
        except Refused as refused:
            ended.append(refused.reason)
        finally:
            stream.close()

    reactor.spawn(greet)
    for byte in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc":
        theirs.send(bytes([byte]))
        reactor.turn()
        now[0] += 1.0
    assert ended == []
    now[0] = 100.0 + greeting.GREETING_S
    reactor.turn()
    assert ended == ["greeting-timeout"]
    theirs.close()
    reactor.close()


# --------------------------------------------------------------------------------------------------------- PROXY headers


class Meeting:
    """A greeting at a door behind a proxy, over a socket pair turned by hand."""

    def __init__(self, *chains: FilterChain) -> None:
        self.now = [100.0]
        self.reactor = Reactor(lambda: self.now[0])
        self._ours, self.theirs = socket.socketpair()
        self._ours.setblocking(False)
        self.ended: list[object] = []
        self.door = Door(Listener("127.0.0.1", 80, ListenerKind.GATEWAY, chains, proxy_protocol=True), Contexts(), {})
        self.reactor.spawn(self._greet)

    async def _greet(self, strand: Strand) -> None:
        stream = Stream(self.reactor, self._ours, strand.wake)
        try:
            _, context, data = await self.door.greet(strand, stream, ("127.0.0.9", 9), lambda sock, hello: None)
            self.ended.append((context.peer, context.peer_address, context.local, context.local_address, data, strand.deadline))
        except Refused as refused:
            self.ended.append(refused.reason)
        finally:
            stream.close()

    def say(self, data: bytes) -> None:
        self.theirs.sendall(data)
        self.reactor.turn()

    def close(self) -> None:
        self.reactor.close()
        self.theirs.close()


PLAIN = FilterChain("http", "t")
HEADER = b"PROXY TCP6 2001:db8::1 2001:db8::2 1000 443\r\n"


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    meeting = Meeting(PLAIN)
    yield meeting
    meeting.close()


def test_addresses_are_the_proxys_word_and_what_follows_is_not_lost(meeting: Meeting) -> None:
    for byte in HEADER[:-1]:
        meeting.say(bytes([byte]))
        assert not meeting.ended
    meeting.say(HEADER[-1:] + b"GET /")
    known = ("[2001:db8::1]:1000", "2001:db8::1", "[2001:db8::2]:443", "2001:db8::2", b"GET /", float("inf"))
    assert meeting.ended == [known]


def test_what_a_proxy_does_not_know_is_the_sockets(meeting: Meeting) -> None:
    meeting.say(b"PROXY UNKNOWN\r\n")
    assert meeting.ended == [("127.0.0.9:9", "127.0.0.9", "127.0.0.1:80", "127.0.0.1", b"", float("inf"))]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY " + b"x" * 120])
def test_without_a_header_nobody_is_let_in(meeting: Meeting, data: bytes) -> None:
    meeting.say(data)
    assert meeting.ended == ["not-proxy"]


def test_a_header_has_the_greetings_time(meeting: Meeting) -> None:
    meeting.say(HEADER[:10])
    meeting.now[0] += greeting.GREETING_S
    meeting.reactor.turn()
    assert meeting.ended == ["greeting-timeout"]


def test_a_hello_may_come_with_the_header() -> None:
    meeting = Meeting(FilterChain("pass", passthrough=True))
    meeting.say(HEADER + b"\x15\x03\x01\x00\x02\x01\x00")
    assert meeting.ended == ["not-tls"]
    meeting.close()


def test_a_unix_sockets_client_has_the_sockets_name() -> None:
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    stream = Stream(reactor, ours, lambda events: None)
    context = Door(Listener("@gw", 80, ListenerKind.GATEWAY, (PLAIN,)), Contexts(), {}).open(stream, ("", 0))
    assert (context.peer, context.peer_address, context.local, context.local_address) == ("@gw", "", "@gw", "")
    stream.close()
    theirs.close()
    reactor.close()


def test_a_chain_whose_subnets_are_none_serves_nobody() -> None:
    route = TcpRoute("r", (TcpSplit("b"),), ("10.0.0.0/99",))
    made = Door(Listener("127.0.0.1", 80, ListenerKind.GATEWAY, (FilterChain("tcp", tcp=(route,)),)), Contexts(), {})
    assert len(made.faults) == 1
    assert "10.0.0.0/99" in made.faults[0]
    assert "write subnets as CIDR" in made.faults[0]
