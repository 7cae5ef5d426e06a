"""The nameserver of a worker: names of services answered, the rest forwarded, over UDP and TCP.

Theory of operation. Nearly every question has been asked before, and answers are kept by the bytes of their questions (`nameserver_kept`):
the hot path is receive, look up, send with the id in front. What is not found is read; the same question in other letters, or with a
client's cookie, is known by its key. Only then is an answer made (10 µs) or an upstream asked. A Snapshot with other names empties what
is kept: 5,000 answers are made again in 50 ms, when they are asked for.

One wake-up takes a bounded number of datagrams, and fewer when they are slow to answer, before other descriptors have their turn: a flood
of questions delays traffic by a batch (about 1 ms) a turn. What the kernel's queue has no room for is lost, as UDP is.

Who is not in `allow` is refused, in as many bytes as he sent: an open resolver would be a weapon.

A wildcard socket (0.0.0.0, ::) must answer from the address that was asked, which the kernel tells beside each datagram: 2 µs more.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from gateway.native.backend import BackendState
from gateway.native.codec.dns import (
    BADVERS,
    HEADER,
    IN,
    LARGEST_TCP,
    NOERROR,
    REFUSED,
    Query,
    Unreadable,
    parse_query,
    reply,
)
from gateway.native.codec.dns_relay import Received, relay
from gateway.native.connection import ConnectionContext
from gateway.native.nameserver_answers import Answers
from gateway.native.nameserver_forward import Forwarder
from gateway.native.nameserver_kept import Kept
from gateway.native.nameserver_names import Names
from gateway.native.nameserver_places import Place
from gateway.native.reactor import Handler, Reactor, Strand, suspend
from gateway.native.stream import Stream
from gateway.parts.name import Dns
from gateway.snapshot import Part

BATCH = 64  # datagrams of one wake-up: 0.4 ms when all are in the cache
_SLOW_S = 0.001  # seconds of one wake-up after which the rest waits for the next, when they are not
_RECEIVE = 1232  # bytes of a question: 300 have all that exists; EDNS padding (RFC 8467) makes it 468
_CLIENTS = 10_000  # addresses whose admission is remembered

# BIND's tcp-clients: as many connections at once, each with at most a question under way.
_CONNECTIONS = 150
_IDLE_S = 10.0  # RFC 7766 6.2.3: a few seconds; dig and resolvers ask at once
_LONGEST_QUERY = 4096  # bytes by TCP: a question is 300

_IPV6_PKTINFO = 50  # linux/in6.h; the socket module has it only where libc was built with it
_IP_PKTINFO = 8
_ADDRESS = struct.Struct("=I4s4s")  # struct in_pktinfo: interface, the address to send from, the address it came to

Say = Callable[[bytes], object]


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
        self.names = Names()
        self.forwarder = Forwarder(reactor, entropy)
        self.connections = 0
        self._idle: set[Strand] = set()  # connections that wait for a question
        self._reactor = reactor
        self._random = random
        self._dns = Dns()
        self._allow: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        self._known: dict[str, bool] = {}  # client's address → may ask
        self._answers = Answers(self.names, states, self._shuffle)
        self.kept = Kept(self._answers.places)

    # -------------------------------------------------------------------------------------------------------- applying

    def apply(self, dns: Dns | None, parts: Mapping[str, Part], changed: Iterable[str] | None = None) -> Iterator[None]:
        """Be what a Snapshot says, a few names a step: questions may be answered between two. changed: names of the parts that differ from
        those of the last call; None = look at all."""
        dns = dns or Dns()
        if dns.upstreams != self.forwarder.upstreams:
            self.forwarder.upstreams = dns.upstreams
            self.forwarder.forget()
            self.kept.clear()
        if dns != self._dns:
            self._dns = dns
            self._allow = [ipaddress.ip_network(each, strict=False) for each in dns.allow]
            self._known.clear()
        for differs in self.names.apply(dns, parts, changed):
            if differs:
                self.kept.clear()
            yield

    def statistics(self) -> tuple[tuple[str, int], ...]:
        """How questions were answered, and what upstreams were asked."""
        asked = {"upstream-asked": self.forwarder.asked, "upstream-failed": self.forwarder.failed}
        return tuple(sorted((self.counts + Counter(asked)).items()))

    def tick(self, now: float) -> None:
        """Let go of answers that may have become wrong. Every 50 ms or so, between turns."""
        self.kept.tick(now)

    # ------------------------------------------------------------------------------------------------------------- UDP

    def datagrams(self, sock: socket.socket) -> Handler:
        """What the reactor is to call when this socket has something to read."""
        if ipaddress.ip_address(sock.getsockname()[0]).is_unspecified:
            return self._from_any(sock)
        recvfrom, sendto = sock.recvfrom, sock.sendto

        def ready(events: int) -> None:
            kept, known = self.kept, self._known.get
            find, late, hits = kept.young.get, 0.0, 0
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
                find = kept.young.get  # the halves may have changed places
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
        known = None if limit else self.kept.find(data[2:])
        if known is not None and self.admits(client):
            self.counts["kept"] += 1
            say(data[:2] + known)
            return
        try:
            query = parse_query(data)
        except Unreadable as unreadable:
            self.counts["unreadable"] += 1
            if unreadable.reply:
                say(unreadable.reply)
            return
        if not self.admits(client) or query.class_ != IN:
            self._refuse(query, REFUSED, say, limit)
        elif query.version:
            self._refuse(query, BADVERS, say, limit)
        elif limit or not self._say_again(query, data, say):
            self._answer(query, say, limit)

    def _refuse(self, query: Query, rcode: int, say: Say, limit: int) -> None:
        self.counts["refused"] += 1
        say(reply(query, rcode, limit=limit or query.size, authoritative=False))

    def _say_again(self, query: Query, data: bytes, say: Say) -> bool:
        """Whether the answer to this question in other bytes was kept, and is said."""
        answer = self.kept.find(query.key) if query.key != data[2:] else None
        if answer is None:
            return False
        self.counts["kept"] += 1
        wire = data[:2] + answer[: HEADER - 2] + query.question + answer[HEADER - 2 + len(query.question) :]
        if query.common:
            self.kept.keep_fleeting(data[2:], wire[2:])
        say(wire)
        return True

    def _answer(self, query: Query, say: Say, limit: int) -> None:
        own = self._answers.answer(query)
        if own is not None:
            self.counts["made"] += 1
            wire = reply(query, own.rcode, own.answers, own.authorities, own.additional, limit=limit or query.size)
            if not limit and own.rcode == NOERROR:  # names that there are not are countless
                if own.volatile is None:
                    self.kept.keep(query.key, _plain(query, wire))
                else:
                    self.kept.keep_made_of(own.volatile, query.key, _plain(query, wire), several=len(own.answers) > 1)
            say(wire)
        elif self.forwarder.upstreams:
            self.counts["forwarded"] += 1
            self.forwarder.ask(query, partial(self._relay, query, say, limit))
        else:
            self._refuse(query, REFUSED, say, limit)

    def _relay(self, query: Query, say: Say, limit: int, received: Received, age: int, stale: bool) -> None:
        wire = relay(received, query, age=age, limit=limit or query.size, stale=stale)
        if not limit:
            self.kept.keep_fleeting(query.key, _plain(query, wire))
        try:
            say(wire)
        except OSError:
            self.counts["unsent"] += 1

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
                    self._idle.add(strand)
                    more = await stream.recv(strand)
                    self._idle.discard(strand)
                    if not more:
                        return
                    data += more
                size = int.from_bytes(data[:2], "big")
                if not HEADER <= size <= _LONGEST_QUERY:
                    return
                question, data = data[2 : 2 + size], data[2 + size :]
                answer = await self._answer_one(strand, stream, question, context.peer_address)
                if not answer:
                    return
                if not stream.write(len(answer).to_bytes(2, "big") + answer):
                    await stream.drain(strand)
        finally:
            self._idle.discard(strand)
            self.connections -= 1

    def close_idle(self) -> None:
        """End the connections that wait for a question. Between turns only."""
        for strand in list(self._idle):
            strand.cancel()

    async def _answer_one(self, strand: Strand, stream: Stream, question: bytes, client: str) -> bytes:
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
        return f"<Nameserver {self.names!r} {self.forwarder!r} {self.kept!r} {self.connections} connections>"


def _send(sendto: Callable[[bytes, Any], object], client: Any, wire: bytes) -> None:
    sendto(wire, client)


def _send_from(sendmsg: Callable[..., object], source: list[tuple[int, int, bytes]], client: Any, wire: bytes) -> None:
    sendmsg([wire], source, 0, client)


def _plain(query: Query, wire: bytes) -> bytes:
    """An answer as it is kept: without its id, to the question in lower case."""
    return wire[2:HEADER] + query.name + wire[HEADER + len(query.name) :]


def _answering(told: bytes, *, six: bool) -> bytes:
    """The source of the answer out of where the question came to."""
    if six:
        return told
    _, _, destination = _ADDRESS.unpack(told[: _ADDRESS.size])
    return _ADDRESS.pack(0, destination, b"\0\0\0\0")
