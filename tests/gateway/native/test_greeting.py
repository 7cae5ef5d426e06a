"""The choice by name and by identity, and greetings driven by hand over a socket pair, without a reactor's loop.

Whole greetings over real sockets: test_listener.py.
"""

from __future__ import annotations

import socket

import certs
import pytest

from gateway.native import greeting
from gateway.native.greeting import Door, Names, Refused, admits
from gateway.native.reactor import Reactor, Strand
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.snapshot import FilterChain, Inbound, Listener, ListenerKind

INBOUND = Inbound("a", "inbound|80||a", ("west.example",), (certs.gateway_id("west.example"),))


def chain(name: str) -> greeting.Chain:
    return greeting.Chain(FilterChain(name, name), None)


def test_names_by_exact_then_longest_wildcard_then_all() -> None:
    names = Names()
    for each in ("a.example", "*.example", "*.b.example"):
        names.add((each,), chain(each))
    assert names.find("other.test") is None
    names.add((), chain("all"))
    names.add(("A.EXAMPLE",), chain("second"))

    def found(name: str) -> str:
        value = names.find(name)
        return value.filters.name if value else ""

    assert found("a.example") == "a.example"
    assert found("x.example") == "*.example"
    assert found("x.y.example") == "*.example"
    assert found("x.b.example") == "*.b.example"
    assert found("b.example") == "*.example"
    assert found("example") == "all"
    assert found("") == "all"


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
