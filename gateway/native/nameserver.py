"""The nameserver of a worker: names of services answered, the rest forwarded, over UDP and TCP.

Theory of operation. Nearly every question has been asked before. Answers are kept by the bytes of the question without its id, so the hot
path is: receive, look up, send with the id in front. Whatever changes what would be answered empties that cache:
- a Snapshot with other names, as a whole (an answer is made in some 10 µs, 5,000 of them in 50 ms);
- answers made of endpoints, as soon as a look finds others in service: each TICK looks at a bounded number of services;
- forwarded ones and those with several addresses, every second: TTLs count down, and orders change.
The cache is two halves: a full one becomes the old one, and what is asked for is taken over from there; so a flood of names that are
asked for once pushes out only what nobody asks for. Peculiar questions (with options, with letters of mixed case) are never kept.

One wake-up takes a bounded number of datagrams, and fewer when they are slow to answer, before other descriptors have their turn: a flood
of questions delays traffic by a batch (about 1 ms) a turn. What the kernel's queue has no room for is lost, as UDP is.

Who is not in `allow` is refused, in as many bytes as he sent: an open resolver would be a weapon.

A wildcard socket (0.0.0.0, ::) must answer from the address that was asked, which the kernel tells beside each datagram: 2 µs more.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from gateway.native.backend import BackendState
from gateway.native.codec.dns import (
    BADVERS,
    HEADER,
    IN,
    LARGEST_TCP,
    NXDOMAIN,
    REFUSED,
    Query,
    Unreadable,
    parse_query,
    reply,
)
from gateway.native.codec.dns_relay import Received, relay
from gateway.native.connection import ConnectionContext
from gateway.native.nameserver_forward import Forwarder
from gateway.native.nameserver_names import Answer, Names, Place
from gateway.native.reactor import NEVER, Handler, Reactor, Strand, suspend
from gateway.native.stream import Stream
from gateway.parts.name import Dns, Name
from gateway.snapshot import Part

BATCH = 64  # datagrams of one wake-up: 0.4 ms when all are in the cache
_SLOW_S = 0.001  # seconds of one wake-up after which the rest waits for the next, when they are not
_RECEIVE = 1232  # bytes of a question: 300 have all that exists; EDNS padding (RFC 8467) makes it 468
_HALF = 10_000  # answers in each half of the cache, about 200 bytes each with their keys: 4 MB
_CLIENTS = 10_000  # addresses whose admission is remembered
_LOOKS = 200  # services looked at in a tick whether their endpoints are the same: about 1 ms
_ORDERS = 8  # orders of one answer's addresses that are kept, taken in turn
_VOLATILE_S = 1.0

# BIND's tcp-clients: as many connections at once, each with at most a question under way.
_CONNECTIONS = 150
_IDLE_S = 10.0  # RFC 7766 6.2.3: a few seconds; dig and resolvers ask at once
_LONGEST_QUERY = 4096  # bytes by TCP: a question is 300

_IPV6_PKTINFO = 50  # linux/in6.h; the socket module has it only where libc was built with it
_IP_PKTINFO = 8
_ADDRESS = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, the address to send from, the address it came to

Say = Callable[[bytes], object]


class _Orders:
    """Answers with the same addresses in different orders."""

    __slots__ = ("next", "wires")

    def __init__(self) -> None:
        self.wires: list[bytes] = []
        self.next = 0

    def take(self) -> bytes | None:
        """The next one's; None as long as there are not enough."""
        if len(self.wires) < _ORDERS:
            return None
        self.next = (self.next + 1) % _ORDERS
        return self.wires[self.next]


class Nameserver:
    """One a worker. `apply` Snapshots, `tick` it, give it sockets by `datagrams` and connections by `serve`. counts: answers by how they
    came to be: kept, made, forwarded, refused, unreadable."""

    def __init__(
        self,
        reactor: Reactor,
        states: Mapping[str, BackendState],
        *,
        random: Callable[[], float],
        entropy: Callable[[int], bytes],
    ) -> None:
        """states: the engine's backends. entropy: unpredictable bytes."""
        self.counts: Counter[str] = Counter()
        self.names = Names(states)
        self.forwarder = Forwarder(reactor, entropy)
        self.connections = 0
        self._reactor = reactor
        self._random = random
        self._dns = Dns()
        self._allow: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._known: dict[str, bool] = {}  # client's address → may ask
        self._kept: dict[bytes, bytes] = {}  # a question without its id → the answer without its id
        self._old: dict[bytes, bytes] = {}
        self._orders: dict[bytes, _Orders] = {}
        self._fleeting: list[bytes] = []  # keys in `_kept` of forwarded answers
        self._made_of: dict[str, tuple[Name, list[Place], list[bytes]]] = {}  # services whose endpoints were answered, and the keys
        self._to_look: deque[str] = deque()
        self._swept = -NEVER

    # -------------------------------------------------------------------------------------------------------- applying

    def apply(self, dns: Dns | None, parts: Mapping[str, Part]) -> Iterator[None]:
        """Be what a Snapshot says, one name a step: questions may be answered between two."""
        dns = dns or Dns()
        if dns.upstreams != self.forwarder.upstreams:
            self.forwarder.upstreams = dns.upstreams
            self.forwarder.forget()
        if dns != self._dns:
            self._dns = dns
            self._allow = [ipaddress.ip_network(each, strict=False) for each in dns.allow]
            self._known.clear()
        changed = False
        for step in self.names.apply(dns, parts):
            if step:
                changed = True
                self._forget_all()
            yield
        if changed:
            self._forget_all()

    def tick(self, now: float) -> None:
        """Let go of what may have become wrong. Every 50 ms, between turns."""
        if now - self._swept >= _VOLATILE_S:
            self._swept = now
            self._drop(self._fleeting)
            self._fleeting = []
            self._orders.clear()
        for _ in range(min(_LOOKS, len(self._to_look))):
            name, places, keys = self._made_of[self._to_look[0]]
            if self.names.places(name) == places:
                self._to_look.rotate(-1)
            else:
                del self._made_of[self._to_look.popleft()]
                self._drop(keys)

    def _drop(self, keys: list[bytes]) -> None:
        for key in keys:
            self._kept.pop(key, None)
            self._old.pop(key, None)
            self._orders.pop(key, None)

    def _forget_all(self) -> None:
        for table in (self._kept, self._old, self._orders, self._made_of):
            table.clear()
        self._fleeting.clear()
        self._to_look.clear()

    # ------------------------------------------------------------------------------------------------------------- UDP

    def datagrams(self, sock: socket.socket) -> Handler:
        """What the reactor is to call when this socket has something to read."""
        if ipaddress.ip_address(sock.getsockname()[0]).is_unspecified:
            return self._from_any(sock)
        recvfrom, sendto = sock.recvfrom, sock.sendto

        def ready(events: int) -> None:
            find, known, late = self._kept.get, self._known.get, 0.0
            hits = 0
            for _ in range(BATCH):
                try:
                    data, client = recvfrom(_RECEIVE)
                    answer = find(data[2:])
                    if answer is not None and known(client[0]):
                        hits += 1
                        sendto(data[:2] + answer, client)
                        continue
                except BlockingIOError:
                    break
                except OSError:
                    continue  # of the client or the way to him
                self._consider(data, client[0], partial(_send, sendto, client))
                find = self._kept.get  # the halves may have changed places
                late = late or self._reactor.clock() + _SLOW_S
                if self._reactor.clock() >= late:
                    break
            self.counts["kept"] += hits

        return ready

    def _from_any(self, sock: socket.socket) -> Handler:
        recvmsg, sendmsg = sock.recvmsg, sock.sendmsg
        six = sock.family == socket.AF_INET6
        level, kind = (socket.IPPROTO_IPV6, _IPV6_PKTINFO) if six else (socket.IPPROTO_IP, _IP_PKTINFO)
        sock.setsockopt(level, 49 if six else kind, 1)  # IPV6_RECVPKTINFO; for IPv4 it has the same number as the message
        room = socket.CMSG_SPACE(20)

        def ready(events: int) -> None:
            late = self._reactor.clock() + _SLOW_S
            for _ in range(BATCH):
                try:
                    data, told, _, client = recvmsg(_RECEIVE, room)
                except BlockingIOError:
                    break
                except OSError:
                    continue
                source = [(level, kind, _answering(value, six=six)) for at, what, value in told if (at, what) == (level, kind)]
                self._consider(data, client[0], partial(_send_from, sendmsg, source, client))
                if self._reactor.clock() >= late:
                    break

        return ready

    def _consider(self, data: bytes, client: str, send: Say) -> None:
        """Answer a datagram, now or later."""
        try:
            self.take(data, client, send)
        except OSError:
            self.counts["unsent"] += 1

    # ------------------------------------------------------------------------------------------------------- answering

    def take(self, data: bytes, client: str, say: Say, *, limit: int = 0) -> None:
        """Answer a question: `say` is called once, now or when the upstream has answered, or never if nothing is to be said. limit: bytes
        of an answer, 0 = a datagram's that this client takes. Raises what `say` raises."""
        key = b"" if limit else data[2:]
        if (answer := self._again(key)) is not None and self.admits(client):
            self.counts["kept"] += 1
            say(data[:2] + answer)
            return
        try:
            query = parse_query(data)
        except Unreadable as unreadable:
            self.counts["unreadable"] += 1
            if unreadable.reply:
                say(unreadable.reply)
            return
        limit = limit or query.size
        if not self.admits(client) or query.class_ != IN:
            self.counts["refused"] += 1
            say(reply(query, REFUSED, limit=limit, authoritative=False))
        elif query.version:
            say(reply(query, BADVERS, limit=limit, authoritative=False))
        elif (own := self.names.answer(query, self._shuffle)) is not None:
            self.counts["made"] += 1
            wire = reply(query, own.rcode, own.answers, own.authorities, own.additional, limit=limit)
            self._keep_made(query, key, wire, own)
            say(wire)
        elif self.forwarder.upstreams:
            self.counts["forwarded"] += 1
            self.forwarder.ask(query, self._relaying(query, key, say, limit))
        else:
            self.counts["refused"] += 1
            say(reply(query, REFUSED, limit=limit, authoritative=False))

    def _relaying(self, query: Query, key: bytes, say: Say, limit: int) -> Callable[[Received, int, bool], None]:
        def done(received: Received, age: int, stale: bool) -> None:
            wire = relay(received, query, age=age, limit=limit, stale=stale)
            if key and query.common:
                self._keep(key, wire[2:])
                self._fleeting.append(key)
            try:
                say(wire)
            except OSError:
                self.counts["unsent"] += 1

        return done

    def admits(self, client: str) -> bool:
        """Whether this address may ask."""
        known = self._known.get(client)
        if known is None:
            address = ipaddress.ip_address(client.partition("%")[0])
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            known = any(address.version == network.version and address in network for network in self._allow)
            if len(self._known) >= _CLIENTS:
                self._known.clear()
            self._known[client] = known
        return known

    def _shuffle(self, places: list[Place]) -> None:
        for last in range(len(places) - 1, 0, -1):
            other = int(self._random() * (last + 1))
            places[last], places[other] = places[other], places[last]

    # --------------------------------------------------------------------------------------------------------- keeping

    def _again(self, key: bytes) -> bytes | None:
        """An answer to the same bytes, from the old half too."""
        answer = self._kept.get(key)
        if answer is None:
            answer = self._old.pop(key, None)
            if answer is not None:
                self._keep(key, answer)
            elif (orders := self._orders.get(key)) is not None:
                answer = orders.take()
        return answer

    def _keep(self, key: bytes, answer: bytes) -> None:
        if len(self._kept) >= _HALF:
            self._old, self._kept = self._kept, {}
        self._kept[key] = answer

    def _keep_made(self, query: Query, key: bytes, wire: bytes, own: Answer) -> None:
        if not key or not query.common or (own.rcode and not own.volatile):
            return  # no name, so everybody invents another one
        if own.volatile is not None:
            name = own.volatile
            if name.name not in self._made_of:
                self._made_of[name.name] = name, self.names.places(name), []
                self._to_look.append(name.name)
            keys = self._made_of[name.name][2]
            if len(keys) >= _HALF or own.rcode == NXDOMAIN:
                return
            keys.append(key)
        if own.volatile is not None and len(own.answers) > 1:
            if key in self._orders or len(self._orders) < _HALF:
                self._orders.setdefault(key, _Orders()).wires.append(wire[2:])
            return
        self._keep(key, wire[2:])

    # ------------------------------------------------------------------------------------------------------------- TCP

    async def serve(self, strand: Strand, stream: Stream, context: ConnectionContext, data: bytes) -> None:
        """One connection: questions one after the other, each with its length in front (RFC 7766). Returns when the client is done, idles, or
        says what is no question; the stream is the caller's to close. May raise OSError and DeadlineExceeded."""
        if self.connections >= _CONNECTIONS or not self.admits(context.peer_address):
            self.counts["refused"] += 1
            return
        self.connections += 1
        try:
            while True:
                strand.until(self._reactor.clock() + _IDLE_S)
                while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                    more = await stream.recv(strand)
                    if not more:
                        return
                    data += more
                size = int.from_bytes(data[:2], "big")
                if not HEADER <= size <= _LONGEST_QUERY:
                    return
                question, data = data[2 : 2 + size], data[2 + size :]
                answer = await self._answer(strand, stream, question, context.peer_address)
                if not answer:
                    return
                if not stream.write(len(answer).to_bytes(2, "big") + answer):
                    await stream.drain(strand)
        finally:
            self.connections -= 1

    async def _answer(self, strand: Strand, stream: Stream, question: bytes, client: str) -> bytes:
        """b"": there is nothing to say."""
        said: list[bytes] = []
        waiting = False

        def say(wire: bytes) -> None:
            said.append(wire)
            if waiting:
                self._reactor.soon(lambda: strand.wake(0))  # another strand runs now

        asked = self.counts["forwarded"]
        self.take(question, client, say, limit=LARGEST_TCP)
        if not said and self.counts["forwarded"] == asked:
            return b""
        waiting = True
        stream.pause()  # what it sends meanwhile is for later; the forwarder's patience is shorter than the strand's deadline
        while not said:
            await suspend()
        stream.resume()
        return said[0]

    def __repr__(self) -> str:
        return (
            f"<Nameserver {self.names!r} {self.forwarder!r} {len(self._kept)}+{len(self._old)} kept {self.connections} connections>"
        )


def _send(sendto: Callable[[bytes, Any], object], client: Any, wire: bytes) -> None:
    sendto(wire, client)


def _send_from(sendmsg: Callable[..., object], source: list[tuple[int, int, bytes]], client: Any, wire: bytes) -> None:
    sendmsg([wire], source, 0, client)


def _answering(told: bytes, *, six: bool) -> bytes:
    """The source of the answer out of where the question came to."""
    if six:
        return told
    _, _, destination = _ADDRESS.unpack(told[: _ADDRESS.size])
    return _ADDRESS.pack(0, destination, b"\0\0\0\0")
