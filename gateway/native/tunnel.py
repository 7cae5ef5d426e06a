"""Bytes both ways between two byte streams, until both have ended: TCP, passthrough, upgraded HTTP, CONNECT.

Theory of operation. One strand waits for the end; what moves the bytes are the two handlers of a pair of `_Way`s, one a direction, so
a byte that comes costs a read, a write, and no step through the strand's coroutines. A way reads only when what it read before is
written: 64 KiB a direction is all that is held, and a peer that does not read stops the other side's reads. When a write leaves
something, a short strand of its own drains it, since `drain` is what every kind of stream has.

Between two plain sockets a way that has moved SPLICE_FROM bytes goes on by splice: bytes then stay in the kernel. It has a pipe only while
there is something to move.

Ends. An end is passed on (`finish`) and the other way goes on: half-close. A TLS connection that ended without close_notify is passed
on as that, an end which does not claim to be whole, as Envoy and HAProxy do. A reset ends both. A target that takes nothing more
stops its way only, until what it has still said is read: a server may answer and close before it has read everything.
"""

from __future__ import annotations

import contextlib
import enum
import ssl
from typing import Protocol

from gateway.native.reactor import NEVER, DeadlineExceeded, Handler, Strand, nobody, suspend
from gateway.native.splice import PIPES, ROUNDS, SPLICE_FROM, Pipe
from gateway.native.stream import Stream, TlsStream


class ByteStream(Protocol):
    """What a relay needs of a stream. spliceable: it is a `Stream`, whose descriptor's bytes are its own."""

    @property
    def spliceable(self) -> bool: ...
    def listen(self, handler: Handler) -> None: ...
    def read(self) -> bytes | None: ...
    def write(self, data: bytes) -> bool: ...
    async def drain(self, strand: Strand) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def early(self) -> bytes: ...
    def finish(self) -> None: ...


class Ended(enum.Enum):
    """How a relay ended. a, b: its two streams."""

    WELL = "both ended"
    RESET_BY_A = "a broke off"
    RESET_BY_B = "b broke off"
    IDLE = "no byte either way for too long"
    LIMIT = "it had lasted as long as it may"


class Counts:
    """Bytes so far, readable at any time. received: that came from a; sent: that were given to a."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = self.sent = 0


async def relay(
    strand: Strand,
    a: ByteStream,
    b: ByteStream,
    *,
    idle: float,
    limit: float,
    counts: Counts,
    ahead: tuple[bytes, bytes] = (b"", b""),
) -> Ended:
    """Carry bytes until both directions have ended or something ends it. Seconds; 0 = none. ahead: bytes already read of a, of b.

    Closes nothing: the caller does, and after RESET_BY_A aborts b, after RESET_BY_B a. Raises nothing but what cancels the strand;
    interrupted, nothing of it is left behind, and both streams are good for closing only. The strand's deadline is used up."""
    reactor = strand.reactor
    pair = _Pair(strand, counts, idle, reactor.now + limit if limit else NEVER)
    up = pair.up = _Way(pair, a, b, Ended.RESET_BY_A, Ended.RESET_BY_B)
    down = pair.down = _Way(pair, b, a, Ended.RESET_BY_B, Ended.RESET_BY_A)
    up.other, down.other = down, up
    strand.until(min(reactor.now + idle, pair.limit) if idle else pair.limit)
    try:
        up.begin(ahead[0])
        down.begin(ahead[1])
        pair.waiting = True
        while pair.over is None:
            await suspend()
    except DeadlineExceeded:
        pair.over = Ended.LIMIT if reactor.now >= pair.limit else Ended.IDLE
    finally:
        pair.close()
    return pair.over


class _Pair:
    """One relay. waiting: its strand is at its wait, so the end has to wake it."""

    __slots__ = ("counts", "down", "idle", "limit", "over", "strand", "up", "waiting")

    up: _Way
    down: _Way

    def __init__(self, strand: Strand, counts: Counts, idle: float, limit: float) -> None:
        self.strand, self.counts, self.idle, self.limit = strand, counts, idle, limit
        self.over: Ended | None = None
        self.waiting = False

    def moved(self, way: _Way, count: int) -> None:
        way.moved += count
        if way is self.up:
            self.counts.received += count
        else:
            self.counts.sent += count
        if self.idle:
            strand = self.strand
            # No arming: the heap looks at the deadline that was, and finds this one.
            strand.deadline = min(strand.reactor.now + self.idle, self.limit)

    def end(self, how: Ended) -> None:
        if self.over is None:
            self.over = how

    def wake(self) -> None:
        if self.waiting:
            self.waiting = False
            self.strand.wake(0)

    def close(self) -> None:
        """Let go of everything, and break the cycles, so that no collection is needed."""
        self.waiting = False
        for way in (self.up, self.down):
            way.close()
        del self.up, self.down


class _Way:
    """One direction. done: nothing more is read of its source. passed: its target knows that."""

    __slots__ = (
        "_blames",
        "_drainer",
        "_ended",
        "_pair",
        "_pipe",
        "_ragged",
        "_room_asked",
        "done",
        "moved",
        "other",
        "passed",
        "source",
        "splices",
        "target",
    )

    other: _Way

    def __init__(self, pair: _Pair, source: ByteStream, target: ByteStream, *blames: Ended) -> None:
        """blames: what to say when the source, or the target, breaks."""
        self._pair, self.source, self.target, self._blames = pair, source, target, blames
        self.splices = source.spliceable and target.spliceable
        self.moved = 0
        self.done = self.passed = self._ended = self._ragged = self._room_asked = False
        self._pipe: Pipe | None = None
        self._drainer: Strand | None = None

    def begin(self, ahead: bytes) -> None:
        """Carry what is here already, and listen."""
        source = self.source
        if early := source.early():
            ahead += early
        source.listen(self._ready)
        source.resume()
        if ahead:
            self._deliver(ahead)
        if not isinstance(source, Stream):
            self._copy()  # no descriptor tells of what is here already

    def _ready(self, events: int) -> None:
        """The source's handler."""
        if self._pair.over is None and not self.done:
            self._move()
        if self._pair.over is not None:
            self._pair.wake()

    def _move(self) -> None:
        if self._pipe is None and self.splices and self.moved >= SPLICE_FROM:
            self._pipe = PIPES.take()
        if self._pipe is None:
            self._copy()
        else:
            self._pump(self._pipe)

    # ---------------------------------------------------------------------------------------------------- by copying

    def _copy(self) -> None:
        """Read and write: once for a socket, which will tell again; else until there is nothing more or no room."""
        source = self.source
        while not self.done and self._drainer is None and self._pair.over is None:
            try:
                data = source.read()
            except ssl.SSLZeroReturnError:
                data = b""  # close_notify, after ours was sent
            except ssl.SSLEOFError:
                data, self._ragged = b"", True
            except OSError:
                self._pair.end(self._blames[0])
                return
            if data:
                self._deliver(data)
                if isinstance(source, Stream):
                    return
            else:
                if data is not None:
                    self._finish()
                return

    def _deliver(self, data: bytes) -> None:
        try:
            whole = self.target.write(data)
        except OSError:
            self._refused()
            return
        self._pair.moved(self, len(data))
        if not whole:
            self.source.pause()
            self._drainer = self._pair.strand.reactor.spawn(self._drain, name="tunnel.drain")

    async def _drain(self, strand: Strand) -> None:
        try:
            await self.target.drain(strand)
        except OSError:
            self._drainer = None
            self._refused()
        else:
            self._drainer = None
            self._pair.moved(self, 0)
            self.source.resume()
            if not isinstance(self.source, Stream):
                self._copy()
        if self._pair.over is not None:
            strand.reactor.soon(self._pair.wake)  # not from in here: its end cancels this strand

    # ---------------------------------------------------------------------------------------------------- by splicing

    def _pump(self, pipe: Pipe) -> None:
        """Fill and empty in turn until the source has nothing, the target no room, or others should have their turn."""
        source, target = self.source, self.target
        assert isinstance(source, Stream)
        assert isinstance(target, Stream)
        for _ in range(ROUNDS):
            if not self._ended and pipe.held < pipe.size:
                try:
                    got = pipe.fill(source.fd, pipe.size)
                except OSError as error:
                    if PIPES.refuse(error, pipe):
                        return self._copy_on(pipe)
                    return self._pair.end(self._blames[0])
                if got is None and not pipe.held:
                    self._room_found(target)
                    return self._release()
                self._ended = got == 0
            if pipe.held:
                try:
                    sent = pipe.empty(target.fd)
                except OSError:
                    return self._refused()
                if sent is None:
                    break
                self._pair.moved(self, sent)
            elif self._ended:
                self._room_found(target)
                return self._finish()
        if pipe.held and not self._room_asked:
            self._room_asked = True
            source.pause()
            target.ask_room(self._room)
        elif not pipe.held:
            self._room_found(target)
            self._release()

    def _copy_on(self, pipe: Pipe) -> None:
        """This system splices no sockets: as before."""
        PIPES.give(pipe)
        self._pipe, self.splices = None, False
        self._copy()

    def _room(self, events: int) -> None:
        """The target's handler while it had no room."""
        if self._pair.over is None and self._pipe is not None:
            self._pump(self._pipe)
        if self._pair.over is not None:
            self._pair.wake()

    def _room_found(self, target: Stream) -> None:
        if self._room_asked:
            self._room_asked = False
            target.room_found()
            self.source.resume()

    # ----------------------------------------------------------------------------------------------------------- ends

    def _finish(self) -> None:
        """The source has said all."""
        self.done = True
        self._release()
        target = self.target
        if isinstance(target, TlsStream) and not self._ragged:
            # The end of TLS is a message too, and may find no room; were it cut off, all that came before would seem cut off.
            try:
                if not target.say_end():
                    self.source.pause()
                    self._drainer = self._pair.strand.reactor.spawn(self._drain_end, name="tunnel.drain")
                    return
            except OSError:
                pass  # it is gone; reading from it will tell
        self._pass_on()

    async def _drain_end(self, strand: Strand) -> None:
        with contextlib.suppress(OSError):
            await self.target.drain(strand)
        self._drainer = None
        self._pass_on()
        if self._pair.over is not None:
            strand.reactor.soon(self._pair.wake)

    def _pass_on(self) -> None:
        """All that the source has said is sent: so is its end."""
        self.passed = True
        if self.other.passed:
            self._pair.end(Ended.WELL)
            return
        self.source.pause()
        target = self.target
        if isinstance(target, Stream):
            Stream.finish(target)
        else:
            target.finish()

    def _refused(self) -> None:
        """The target takes nothing more. What it has still said is worth reading; that will also tell how it ended."""
        self.done = self.passed = True
        self.source.pause()
        self._release()
        other = self.other
        if other.passed:
            self._pair.end(self._blames[1])
        elif not other.done:
            other._look()

    def _look(self) -> None:
        if not self._room_asked and self._drainer is None:
            self._move()

    def _release(self) -> None:
        if self._room_asked:
            self._room_asked = False
            assert isinstance(self.target, Stream)
            self.target.room_found()
        if self._pipe is not None:
            PIPES.give(self._pipe)
            self._pipe = None

    def close(self) -> None:
        self.done = True
        self._release()
        if self._drainer is not None:
            self._drainer.cancel()
            self._drainer = None
        self.source.listen(nobody)
        del self.other
