"""From one plain socket to another without entering Python: os.splice through a pipe.

Theory of operation. A splice moves pages of a socket into a pipe, another one moves them out to the other socket: two system calls for
up to a megabyte, and no byte is copied to this process. Below some 256 KiB a read and a write are cheaper (DATAPLANE.md), so callers
begin with those. Pipes are made once and kept in a free list: making one and giving it a megabyte costs about 20 µs.

A pipe is full by bytes or by its slots, one for each piece of a received packet; EAGAIN says only that nothing went in. So filling and
emptying take turns, and "nothing to read" is believed only when the pipe is empty.
"""

from __future__ import annotations

import errno
import fcntl
import os

from gateway.native.reactor import Strand, suspend
from gateway.native.stream import RECEIVE, Stream

PIPE = 1 << 20
"""Bytes a pipe is asked to hold: the system's ceiling for the unprivileged (fs.pipe-max-size); 64 KiB are a third slower."""

SPLICE_FROM = 256 * 1024
"""Bytes from which a splice is cheaper than a read and a write (DATAPLANE.md, "TCP and bodies")."""

ROUNDS = 8
"""Fillings of a pipe before other connections have their turn: 8 MB are about 3 ms."""

MOST = 128
"""Pipes of a process. One holds what a peer that does not read leaves in it, up to a megabyte, so this bounds kernel memory; and each is
two descriptors beside its connection's two. Whoever finds none copies, 64 KiB at a time. A way that is idle holds none."""

# The system gives pipes of two pages to a user whose pipes take more than fs.pipe-user-pages-soft (64 MiB): worse than copying.
_LEAST = 64 * 1024
_FLAGS = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK: the os module names them from 3.12 on
_CANNOT = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})


class SourceEnded(OSError):
    """The source's connection ended or broke before it had given all that was promised."""


class Pipe:
    """A pipe of this process. held: bytes in it."""

    __slots__ = ("_in", "_out", "held", "size")

    def __init__(self) -> None:
        """Raises OSError when there is no descriptor left."""
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        try:
            self.size = fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE)
        except OSError:  # over fs.pipe-user-pages-soft
            self.size = fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ)

    def fill(self, source: int, most: int) -> int | None:
        """Take up to `most` bytes of a socket. 0 = its end, None = nothing went in. Raises OSError: the source is broken."""
        try:
            count = os.splice(source, self._in, most, flags=_FLAGS)
        except BlockingIOError:
            return None
        self.held += count
        return count

    def empty(self, target: int) -> int | None:
        """Give what is held to a socket. How many bytes it took, None = no room. Raises OSError: the target is broken."""
        try:
            count = os.splice(self._out, target, self.held, flags=_FLAGS)
        except BlockingIOError:
            return None
        self.held -= count
        return count

    def close(self) -> None:
        os.close(self._in)
        os.close(self._out)

    def __repr__(self) -> str:
        return f"<Pipe {self.held}/{self.size}>"


class Pipes:
    """Those of one process. free: nobody uses them. made: all there are."""

    __slots__ = ("free", "made", "most")

    def __init__(self, most: int = MOST) -> None:
        self.free: list[Pipe] = []
        self.made = 0
        self.most = most

    def take(self) -> Pipe | None:
        """An empty pipe, to be given back; None when none is to be had: copy then."""
        if self.free:
            return self.free.pop()
        if self.made >= self.most:
            return None
        try:
            pipe = Pipe()
        except OSError:
            return None
        if pipe.size < _LEAST:
            pipe.close()
            self.most = self.made  # the system will give no more that are worth having
            return None
        self.made += 1
        return pipe

    def give(self, pipe: Pipe) -> None:
        """Take one back. Any number of bytes may be left in it: they are forgotten."""
        if pipe.held or self.made > self.most:
            pipe.close()
            self.made -= 1
        else:
            self.free.append(pipe)

    def refuse(self, error: OSError, pipe: Pipe) -> bool:
        """Whether a `fill` failed because this system splices no such sockets; then there are no pipes any more."""
        if error.errno in _CANNOT and not pipe.held:
            self.most = 0
            self.close()
            return True
        return False

    def close(self) -> None:
        """Close those that nobody uses."""
        while self.free:
            self.free.pop().close()
            self.made -= 1

    def __repr__(self) -> str:
        return f"<Pipes {len(self.free)} free of {self.made}, {self.most} at most>"


PIPES = Pipes()
"""Of this process."""


async def splice_exact(strand: Strand, source: Stream, target: Stream, count: int, *, stall: float = 0.0) -> None:
    """Move exactly `count` bytes between two plain streams (`spliceable`), nothing of which was read, and with nothing unsent.

    stall: seconds that may pass without a byte (the strand's deadline is moved on); 0 = the strand's deadline holds for all. In the end
    the source is not paused. What the target's client says meanwhile goes to the target's handler as ever.

    Raises SourceEnded, OSError when the target is broken, DeadlineExceeded. Interrupted, both are good for closing only."""
    pipe = PIPES.take()
    if pipe is None:
        await _copy_exact(strand, source, target, count, stall)
        return
    left, rounds = count, 0
    try:
        while left or pipe.held:
            got: int | None = None
            if left and pipe.held < pipe.size:
                try:
                    got = pipe.fill(source.fd, left)
                except OSError as error:
                    if PIPES.refuse(error, pipe):
                        await _copy_exact(strand, source, target, left, stall)
                        return
                    raise SourceEnded(error.errno, error.strerror) from None
                if got == 0:
                    raise SourceEnded(errno.ECONNRESET, "ended early")
                left -= got or 0
            sent = pipe.empty(target.fd) if pipe.held else None
            rounds += 1
            if (sent or got) and stall:
                strand.until(strand.reactor.now + stall)
            if pipe.held and (sent is None or rounds >= ROUNDS):
                await _room(strand, source, target)
                rounds = 0
            elif not pipe.held and left and (not got or rounds >= ROUNDS):
                await source.wait(strand)
                rounds = 0
        source.resume()
    finally:
        PIPES.give(pipe)


async def _room(strand: Strand, source: Stream, target: Stream) -> None:
    source.pause()  # else it would wake this strand on every turn
    target.ask_room(strand.wake)
    try:
        await suspend()
    finally:
        target.room_found()


async def _copy_exact(strand: Strand, source: Stream, target: Stream, left: int, stall: float) -> None:
    """The same without a pipe. Not a byte more is read: what follows is somebody else's."""
    while left:
        try:
            data = source.sock.recv(min(RECEIVE, left))
        except (BlockingIOError, InterruptedError):
            await source.wait(strand)
            continue
        except OSError as error:
            raise SourceEnded(error.errno, error.strerror) from None
        if not data:
            raise SourceEnded(errno.ECONNRESET, "ended early")
        left -= len(data)
        if stall:
            strand.until(strand.reactor.now + stall)
        if not target.write(data):
            source.pause()
            await target.drain(strand)
            source.resume()
