"""Names that clients themselves name, looked up by the worker: for wildcard hosts (DYNAMIC_DNS), NONE and ALLOW_ANY.

Theory of operation. A name is looked up once for all who wait for it, in a strand of its own, so that a client which leaves takes nothing
from the others: A first, AAAA only where there is no A (a machine with IPv6 on its interfaces and none beyond them is common). The
answer is kept as long as its TTL says, a failure for a moment; when nobody answers, the last good answer goes on for a while (RFC 8767).
Everything is bounded: names kept, look-ups under way, and each look-up's time. Each question leaves from a port of its own with a random id,
and only an answer to itself is taken.

Nothing here says whether an address may be reached: `policy/reach`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Sequence

import msgspec

from gateway.native.codec.dns import AAAA, A, encode_name, question
from gateway.native.codec.dns_relay import Received, Wrong, ask, read_answer, usable
from gateway.native.reactor import READ, WRITE, DeadlineExceeded, Reactor, Strand, suspend

KEPT = 1024  # names; Envoy's dynamic forward proxy keeps as many hosts (max_hosts)
AT_ONCE = 256  # look-ups under way, each with a socket: a quarter of the descriptors that a process commonly may have
SHORTEST_S, LONGEST_S = 1.0, 300.0  # how long an answer holds at least and at most; 5 minutes are Envoy's host_ttl
NONE_S = 5.0  # how long "there is none" and a failure hold: a name just made is there soon, and a flood asks no more often
STALE_S = 3600.0  # how long the last good answer serves when nobody answers
TRIES_S = (1.0, 1.5, 2.5)  # 5 s in all, Istio's for its upstream resolvers; a second is a lost datagram on any line
MOST_ADDRESSES = 16  # of a name; more are of no use to anybody
_RESOLV_CONF = "/etc/resolv.conf"
_LOOK_AGAIN_S = 5.0  # seconds between two looks at whether that file changed
_MOST_SERVERS = 3  # MAXNS of resolv.conf(5)
_LARGEST = 65_535

Servers = Sequence[tuple[str, int]]


class NotResolved(Exception):
    """There is no address. The text is one word, for the access log."""


class _Known(msgspec.Struct, frozen=True):
    """until: ask again then. good: until when the addresses may serve if nobody answers. word: why there are none."""

    addresses: tuple[str, ...]
    until: float
    good: float
    word: str = ""


class Resolver:
    """Of one worker. asked: questions that were sent, for statistics and tests."""

    def __init__(self, reactor: Reactor, *, system: str = _RESOLV_CONF) -> None:
        """system: the file that names nameservers where none are configured."""
        self._reactor = reactor
        self._system = system
        self._configured: Servers = ()
        self._servers: Servers = ()
        self._stamp: tuple[int, int] | None = None
        self._looked = float("-inf")
        self._known: dict[str, _Known] = {}  # the last asked for is the last
        self._asking: dict[str, list[Strand]] = {}
        self.asked = 0

    def configure(self, servers: Servers) -> None:
        """(address, port) of whom to ask, in order; none: the system's."""
        if tuple(servers) != tuple(self._configured):
            self._configured = tuple(servers)
            self._known.clear()  # other servers may know other names

    async def resolve(self, strand: Strand, name: str, limit: float) -> tuple[str, ...]:
        """The addresses of a name, lower case, without a last dot; at least one, in the order they were answered.

        Raises NotResolved, and DeadlineExceeded when `limit` passes; uses up the strand's deadline only if it has to wait. Interrupted,
        the look-up goes on for the others."""
        found = self._known.pop(name, None)
        if found is not None:
            self._known[name] = found
        if found is None or found.until <= self._reactor.now:
            found = await self._wait(strand, name, limit)
        if not found.addresses:
            raise NotResolved(found.word)
        return found.addresses

    # ------------------------------------------------------------------------------------------------------- looking up

    async def _wait(self, strand: Strand, name: str, limit: float) -> _Known:
        if name not in self._asking:
            if len(self._asking) >= AT_ONCE:
                raise NotResolved("too_many_look-ups")
            self._asking[name] = []
            self._reactor.spawn(self._look_up, name, name="resolver")
        waiting = self._asking.get(name)
        if waiting is not None:
            strand.until(limit)
            waiting.append(strand)
            try:
                while strand in waiting:
                    await suspend()
            finally:
                if strand in waiting:
                    waiting.remove(strand)
        found = self._known.get(name)
        if found is None:
            raise NotResolved("look-up_interrupted")  # forgotten since, for want of room
        return found

    async def _look_up(self, strand: Strand, name: str) -> None:
        """Notes what comes of it, and wakes who waits."""
        old = self._known.get(name)
        made = _Known((), 0.0, 0.0, "look-up_interrupted")
        try:
            made = await self._ask(strand, name)
        except OSError as error:
            made = _Known((), self._reactor.now + NONE_S, 0.0, f"nameserver_unreachable:_{error.errno}")
        except _NoAnswer as error:
            made = _Known((), self._reactor.now + NONE_S, 0.0, str(error))
        finally:
            now = self._reactor.now
            failed = not made.addresses and made.good == 0.0
            if failed and old is not None and old.addresses and old.good > now:
                made = msgspec.structs.replace(old, until=now + NONE_S)
            self._known.pop(name, None)
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[name] = made
            waiting = self._asking.pop(name)
            self._reactor.soon(_waker(waiting))

    async def _ask(self, strand: Strand, name: str) -> _Known:
        """Raises _NoAnswer, OSError."""
        try:
            wire = encode_name(name)
        except ValueError:
            return self._none("no_name", LONGEST_S)
        holds = LONGEST_S
        for kind in (A, AAAA):
            received = await self._question(strand, question(wire, kind))
            holds = min(holds, received.ttl)
            found = addresses_of(received)
            if found:
                now = self._reactor.now
                until = now + max(SHORTEST_S, min(LONGEST_S, received.ttl))
                return _Known(found, until, now + STALE_S)
        return self._none("no_address", holds)

    def _none(self, word: str, holds: float) -> _Known:
        """An answer too: nobody's last good one goes on."""
        now = self._reactor.now
        return _Known((), now + max(SHORTEST_S, min(NONE_S, holds)), now, word)

    async def _question(self, strand: Strand, asked: bytes) -> Received:
        """Raises _NoAnswer, or the OSError of the last try."""
        servers = self._known_servers()
        failed: Exception = _NoAnswer("dns_timeout")
        for attempt, seconds in enumerate(TRIES_S):
            server = servers[attempt % len(servers)]
            strand.until(self._reactor.now + seconds)
            try:
                received = await self._exchange(strand, server, asked, stream=False)
                if received.truncated:
                    received = await self._exchange(strand, server, asked, stream=True)
            except DeadlineExceeded:
                failed = _NoAnswer("dns_timeout")
                continue
            except OSError as error:
                failed = error
                continue
            if usable(received):
                return received
            failed = _NoAnswer(f"dns_rcode_{received.rcode}")
        raise failed

    async def _exchange(self, strand: Strand, server: tuple[str, int], asked: bytes, *, stream: bool) -> Received:
        """One question to one server. Raises OSError, DeadlineExceeded."""
        self.asked += 1
        identity = os.urandom(2)
        message = ask(identity, asked, secure=False, checking_disabled=False)
        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind | socket.SOCK_NONBLOCK)
        fd = sock.fileno()
        try:
            code = sock.connect_ex(server)
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            self._reactor.register(fd, strand.wake, WRITE if stream else READ)
            if stream:
                await self._connected(sock, server)
                sock.send(struct.pack(">H", len(message)) + message)
            else:
                sock.send(message)
            return await self._received(sock, identity, asked, stream=stream)
        finally:
            self._reactor.unregister(fd)
            sock.close()

    async def _connected(self, sock: socket.socket, server: tuple[str, int]) -> None:
        while (code := sock.connect_ex(server)) not in (0, errno.EISCONN):
            if code not in (errno.EINPROGRESS, errno.EALREADY):
                raise OSError(code, os.strerror(code))
            await suspend()
        self._reactor.modify(sock.fileno(), READ)

    async def _received(self, sock: socket.socket, identity: bytes, asked: bytes, *, stream: bool) -> Received:
        data = b""
        while True:
            await suspend()
            try:
                more = sock.recv(_LARGEST)
            except BlockingIOError:
                continue
            if stream:
                if not more:
                    raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                data += more
                if len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                    continue
                more = data[2 : 2 + int.from_bytes(data[:2], "big")]
            try:
                return read_answer(more, identity, asked)
            except Wrong:
                if stream:
                    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG)) from None

    # ---------------------------------------------------------------------------------------------------------- servers

    def _known_servers(self) -> Servers:
        """The configured ones, or those of the system's file, read anew when it changed."""
        if self._configured:
            return self._configured
        now = self._reactor.now
        if now - self._looked >= _LOOK_AGAIN_S:
            self._looked = now
            try:
                status = os.stat(self._system)
                stamp = status.st_mtime_ns, status.st_ino
                if stamp != self._stamp:
                    with open(self._system, encoding="utf-8", errors="replace") as file:
                        self._servers = nameservers(file.read(_LARGEST))
                    self._stamp = stamp
            except OSError:
                pass  # what was read last stands
        return self._servers or (("127.0.0.1", 53),)  # resolv.conf(5): the local machine where nothing is written

    def __repr__(self) -> str:
        return f"<Resolver {len(self._known)} names, {len(self._asking)} asked for>"


class _NoAnswer(Exception):
    """Nobody answered well. The text is one word."""


def addresses_of(received: Received) -> tuple[str, ...]:
    """Of an answer's A and AAAA records, each once, in order."""
    found: dict[str, None] = {}
    body = received.body
    for position, _ in received.ttls[: received.counts[0]]:
        kind = int.from_bytes(body[position - 4 : position - 2], "big")
        length = int.from_bytes(body[position + 4 : position + 6], "big")
        data = body[position + 6 : position + 6 + length]
        if kind == A and length == 4:
            found[socket.inet_ntop(socket.AF_INET, data)] = None
        elif kind == AAAA and length == 16:
            found[socket.inet_ntop(socket.AF_INET6, data)] = None
    return tuple(found)[:MOST_ADDRESSES]


def nameservers(text: str) -> Servers:
    """Of resolv.conf(5). An address with a zone (`fe80::1%eth0`) is passed over."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            family = socket.AF_INET6 if ":" in words[1] else socket.AF_INET
            try:
                socket.inet_pton(family, words[1])
            except (OSError, ValueError):
                continue
            found.append((words[1], 53))
    return tuple(found[:_MOST_SERVERS])


def _waker(waiting: list[Strand]) -> Callable[[], None]:
    def wake() -> None:
        strands = list(waiting)
        waiting.clear()
        for strand in strands:
            strand.wake(0)

    return wake
