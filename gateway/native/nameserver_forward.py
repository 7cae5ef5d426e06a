"""Questions that others must answer: asked of the upstreams, and kept as long as their TTLs say.

Theory of operation. Each question under way is one strand, however many clients wait for it, with a socket of its own: connected, so only
the upstream's address is heard, from a port that the system draws, with an id drawn here; whoever would forge an answer has to guess both
(RFC 5452). What does not fit the question is passed over; after a few of those, or when the answer is cut short, it is asked by TCP.
The upstream that answered last is asked first; one that fails or is silent gives way to the next. When nobody answers, what was known
before is given for some time more (RFC 8767), else SERVFAIL.

Bounded: questions under way, clients that wait for each, answers kept (the oldest give way).
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

import structlog

from gateway.native.codec.dns import LARGEST_UDP, SERVFAIL, TRUNCATED, Query
from gateway.native.codec.dns_relay import FAILURE_TTL, Received, Wrong, ask, read_answer, usable
from gateway.native.reactor import NEVER, READ, WRITE, DeadlineExceeded, Reactor, Strand, suspend

log = structlog.get_logger("gateway.nameserver")

# glibc and dig give up after 5 s: they are to hear from us before.
PATIENCE_S = 4.0
# Of the first try, then half as long again each round: a resolver answers a question it must look up itself in 200 ms mostly.
_FIRST_TRY_S = 0.8
_LONGER = 1.5
# A descriptor and 5 KB each. With 20 ms an answer, 512 are 25,000 questions a second.
MOST_UNDER_WAY = 512
MOST_WAITING = 256  # clients, of one question
MOST_KEPT = 10_000  # answers of 100 to 1,232 bytes: as many as Unbound keeps in its usual 4 MB
_STALE_S = 3600.0  # an outdated answer is better than none for so long; RFC 8767 allows days
_STALE_AGAIN_S = 5.0  # after which upstreams that failed are asked again for what is given outdated
_MOST_WRONG = 4  # answers to something else, before TCP is tried: chance brings none
_LOG_EVERY_S = 10.0

Done = Callable[[Received, int, bool], object]
"""Told the answer, its age in seconds, and whether it is outdated."""

Place = tuple[str, int]
_Key = tuple[bytes, int, int]
_IDENTITY = 2

FAILED = Received(SERVFAIL, False, False, (0, 0, 0), b"", (), FAILURE_TTL)


class _Kept:
    """An answer: when it came and until when it holds. stale: nobody gave a better one."""

    __slots__ = ("at", "received", "stale", "until")

    def __init__(self, received: Received, at: float) -> None:
        self.received = received
        self.at = at
        self.until = at + received.ttl
        self.stale = False


class Forwarder:
    """upstreams: may be replaced at any time; without any nothing is to be asked. entropy: `os.urandom`. asked, failed: counters."""

    def __init__(self, reactor: Reactor, entropy: Callable[[int], bytes]) -> None:
        self.upstreams: tuple[Place, ...] = ()
        self.asked = 0
        self.failed = 0
        self._reactor = reactor
        self._entropy = entropy
        self._kept: dict[_Key, _Kept] = {}  # the oldest first
        self._under_way: dict[_Key, list[Done]] = {}
        self._preferred = 0
        self._logged = -NEVER

    def ask(self, query: Query, done: Done) -> None:
        """Have `done` told the answer: now if it is kept, else within PATIENCE_S."""
        key = (query.name, query.kind, query.flags & 0x0010 | query.secure)
        now = self._reactor.now
        kept = self._kept.get(key)
        if kept is not None and now < kept.until:
            done(kept.received, int(now - kept.at), kept.stale)
            return
        waiting = self._under_way.get(key)
        if waiting is not None:
            if len(waiting) < MOST_WAITING:
                waiting.append(done)
            else:
                done(FAILED, 0, False)
        elif len(self._under_way) >= MOST_UNDER_WAY:
            done(FAILED, 0, False)
        else:
            self._under_way[key] = [done]
            self.asked += 1
            self._reactor.spawn(self._resolve, key, query.question, name="dns question")

    def forget(self) -> None:
        """Keep nothing: the upstreams are others now."""
        self._kept.clear()
        self._preferred = 0

    # --------------------------------------------------------------------------------------------------------- asking

    async def _resolve(self, strand: Strand, key: _Key, question: bytes) -> None:
        received: Received | None = None
        try:
            received = await self._try_all(strand, key, question)
        finally:
            self._finish(key, received)

    async def _try_all(self, strand: Strand, key: _Key, question: bytes) -> Received | None:
        """The answer of whoever gives a usable one first, else the last failure's; None: nobody said anything. Who was silent is asked again
        when all others were, and given more time; who refused is not."""
        until = self._reactor.clock() + PATIENCE_S
        patience, best = _FIRST_TRY_S, None
        upstreams = self.upstreams[self._preferred :] + self.upstreams[: self._preferred]
        while upstreams and self._reactor.clock() < until:
            silent: list[Place] = []
            for upstream in upstreams:
                strand.until(min(until, self._reactor.clock() + patience))
                try:
                    received = await self._ask_one(strand, upstream, key, question)
                except DeadlineExceeded:
                    silent.append(upstream)
                    self._complain(upstream, f"no answer in {patience:.1f} s")
                    continue
                except OSError as error:
                    self._complain(upstream, str(error))
                    continue
                if usable(received):
                    self._prefer(upstream)
                    return received
                best = received
            upstreams, patience = tuple(silent), patience * _LONGER
        return best

    def _prefer(self, upstream: Place) -> None:
        if upstream in self.upstreams:
            self._preferred = self.upstreams.index(upstream)

    async def _ask_one(self, strand: Strand, upstream: Place, key: _Key, question: bytes) -> Received:
        received = await self._datagrams(strand, upstream, key, question, edns=True)
        if received.rcode in (1, 4) and not received.counts[0]:  # FORMERR, NOTIMP: it does not know EDNS
            received = await self._datagrams(strand, upstream, key, question, edns=False)
        if received.truncated:
            received = await self._stream(strand, upstream, key, question)
        return received

    def _message(self, key: _Key, question: bytes, *, edns: bool) -> tuple[bytes, bytes]:
        identity = self._entropy(_IDENTITY)
        return identity, ask(identity, question, secure=bool(key[2] & 1), checking_disabled=bool(key[2] & 0x10), edns=edns)

    async def _datagrams(self, strand: Strand, upstream: Place, key: _Key, question: bytes, *, edns: bool) -> Received:
        identity, message = self._message(key, question, edns=edns)
        with _open(upstream, socket.SOCK_DGRAM) as sock:
            sock.connect(upstream)
            sock.send(message)
            self._reactor.register(sock.fileno(), strand.wake)
            try:
                wrong = 0
                while wrong < _MOST_WRONG:
                    await suspend()
                    with contextlib.suppress(BlockingIOError):
                        data = sock.recv(LARGEST_UDP + 1)
                        try:
                            return read_answer(data, identity, question)
                        except Wrong:
                            wrong += 1
            finally:
                self._reactor.unregister(sock.fileno())
        return await self._stream(strand, upstream, key, question)

    async def _stream(self, strand: Strand, upstream: Place, key: _Key, question: bytes) -> Received:
        identity, message = self._message(key, question, edns=True)
        with _open(upstream, socket.SOCK_STREAM) as sock:
            number = sock.connect_ex(upstream)
            if number not in (0, errno.EINPROGRESS):
                raise OSError(number, "cannot connect")
            self._reactor.register(sock.fileno(), strand.wake, WRITE)
            try:
                await suspend()
                sock.send(len(message).to_bytes(2, "big") + message)  # a new connection has room for it; raises if there is none
                self._reactor.modify(sock.fileno(), READ)
                data = b""
                while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
                    await suspend()
                    with contextlib.suppress(BlockingIOError):
                        more = sock.recv(65536)
                        if not more:
                            raise ConnectionError("it closed the connection before its answer was whole")
                        data += more
            finally:
                self._reactor.unregister(sock.fileno())
        try:
            received = read_answer(data[2 : 2 + int.from_bytes(data[:2], "big")], identity, question)
        except Wrong as wrong:
            raise ConnectionError(f"it answered by TCP with {wrong}") from None
        if received.truncated:
            raise ConnectionError(f"its answer by TCP has the bit {TRUNCATED:#x} set: it is cut short")
        return received

    # -------------------------------------------------------------------------------------------------------- keeping

    def _finish(self, key: _Key, received: Received | None) -> None:
        waiting = self._under_way.pop(key, [])
        now = self._reactor.clock()
        kept = self._kept.pop(key, None)
        if received is None or not usable(received):
            self.failed += 1
            if kept is not None and usable(kept.received) and now < kept.at + kept.received.ttl + _STALE_S:
                kept.stale, kept.until = True, now + _STALE_AGAIN_S
            else:
                kept = _Kept(received or FAILED, now)
                kept.until = now + FAILURE_TTL
        else:
            kept = _Kept(received, now)
        self._kept[key] = kept
        if len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        for done in waiting:
            done(kept.received, int(now - kept.at), kept.stale)

    def _complain(self, upstream: Place, reason: str) -> None:
        now = self._reactor.now
        if now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            log.warning("nameserver.upstream", upstream=f"{upstream[0]}:{upstream[1]}", error=reason, failed=self.failed)

    def __repr__(self) -> str:
        return f"<Forwarder {self.upstreams} {len(self._kept)} kept {len(self._under_way)} under way>"


def _open(upstream: Place, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in upstream[0] else socket.AF_INET, kind)
    sock.setblocking(False)
    return sock
