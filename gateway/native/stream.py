"""A byte stream over a non-blocking socket, plain or TLS, for strands of the reactor.

`read` and `write` never wait; `recv` and `drain` are their waiting forms. One strand at a time reads a stream and one writes it; they
may be two (a body goes up while the answer comes down). A stream that has data nobody wants yet is *paused*: taken out of the
epoll set, because a level-triggered set would report it, or its hang-up, on every turn.

TLS is an ssl.SSLObject over memory BIOs: one read, decrypt; encrypt, one send. `read` returns all that could be decrypted, so nothing
that epoll cannot see is ever left behind.

Every method raises OSError (ssl.SSLError is one) when the connection is broken.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from gateway.native.reactor import READ, WRITE, DeadlineExceeded, Handler, Reactor, Strand, nobody, suspend

LINGER = 1.0
"""Seconds in which what a refused client still sends is read."""

_LINGER_BYTES = 256 * 1024

RECEIVE = 65536
"""Bytes of one read: what is held of one direction at most while the other side does not take it (DATAPLANE "I/O design" 5)."""


class Stream:
    """A plain connection. Owns the socket: `close` it once. spliceable: what comes out of its descriptor is what `read` would say."""

    spliceable = True

    __slots__ = ("_recv", "_send", "closed", "fd", "input", "paused", "reactor", "sock", "unsent", "writer")

    def __init__(self, reactor: Reactor, sock: socket.socket, handler: Handler, *, events: int = READ) -> None:
        self.reactor = reactor
        self.sock = sock
        self.fd = sock.fileno()
        self._recv = sock.recv
        self._send = sock.send
        self.input = handler  # told when there is something to read
        self.writer: Handler | None = None  # told when there is room again; only while draining
        self.unsent: memoryview | None = None
        self.paused = False
        self.closed = False
        reactor.register(self.fd, handler, events)

    # ------------------------------------------------------------------------------------------------------- reading

    def listen(self, handler: Handler) -> None:
        """From now on tell `handler` of input."""
        self.input = handler
        if self.writer is None and not self.paused:
            self.reactor.handlers[self.fd] = handler

    def read(self) -> bytes | None:
        """What is there, b"" at the end, None if nothing yet."""
        try:
            return self._recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            return None

    async def recv(self, strand: Strand) -> bytes:
        """Wait for bytes; b"" at the end. The strand's deadline holds. Interrupted, nothing is lost."""
        data = self.read()
        while data is None:
            await self.wait(strand)
            data = self.read()
        return data

    async def wait(self, strand: Strand) -> None:
        """Wait until there may be something to read."""
        self.resume()
        self.listen(strand.wake)
        await suspend()

    def pause(self) -> None:
        """Stop being told of input, hang-ups included."""
        if not self.paused and not self.closed:
            self.paused = True
            if self.writer is None:
                self.reactor.unregister(self.fd)
            else:
                self.reactor.modify(self.fd, WRITE)

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            if self.writer is None:
                self.reactor.register(self.fd, self.input)
            else:
                self.reactor.modify(self.fd, READ | WRITE)

    # ------------------------------------------------------------------------------------------------------- writing

    def write(self, data: bytes) -> bool:
        """Send as much as fits; True if that was all. False: `drain` before the next write."""
        try:
            sent = self._send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        if sent == len(data):
            return True
        self.unsent = memoryview(data)[sent:]
        return False

    async def drain(self, strand: Strand) -> None:
        """Wait until what `write` left is sent. The strand's deadline holds; interrupted, the stream is good for closing only."""
        self.writer = strand.wake
        self._watch()
        try:
            while self.unsent:
                await suspend()
                try:
                    self.unsent = self.unsent[self._send(self.unsent) :]
                except (BlockingIOError, InterruptedError):
                    continue
        finally:
            self.writer = None
            if not self.closed:
                self._unwatch()
        self.unsent = None

    def ask_room(self, handler: Handler) -> None:
        """Tell `handler` whenever there may be room to send, until `room_found`. For those who send past `write`."""
        self.writer = handler
        self._watch()

    def room_found(self) -> None:
        """Stop telling of room."""
        self.writer = None
        if not self.closed:
            self._unwatch()

    async def sendall(self, strand: Strand, data: bytes) -> None:
        """`write` and `drain`."""
        if not self.write(data):
            await self.drain(strand)

    def _watch(self) -> None:
        if self.paused:
            self.reactor.register(self.fd, self._dispatch, WRITE)
        else:
            self.reactor.handlers[self.fd] = self._dispatch
            self.reactor.modify(self.fd, READ | WRITE)

    def _unwatch(self) -> None:
        if self.paused:
            self.reactor.unregister(self.fd)
        else:
            self.reactor.handlers[self.fd] = self.input
            self.reactor.modify(self.fd, READ)

    def _dispatch(self, events: int) -> None:
        """While draining: room goes to the writer, all else to the reader. A hang-up ends both."""
        if events & ~WRITE and not self.paused:
            self.input(events)
        if events & ~READ and self.writer is not None:
            self.writer(events)

    def early(self) -> bytes:
        """What was read from the socket together with the last of the greeting, which no event tells of again; b"" for nothing."""
        return b""

    # -------------------------------------------------------------------------------------------------------- closing

    def finish(self) -> None:
        """Say that nothing more comes; reading goes on. What is broken already stays so."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    async def linger(self, strand: Strand) -> None:
        """Say that nothing more comes, and read for a while what the other side had on its way; else the kernel answers that with a reset,
        which takes from it what it has not read of the last words yet (RFC 9112 section 9.6). Raises nothing."""
        if self.closed:
            return
        self.finish()
        strand.until(strand.reactor.now + LINGER)
        left = _LINGER_BYTES
        try:
            while left > 0:
                data = await self.recv(strand)
                if not data:
                    return
                left -= len(data)
        except (OSError, DeadlineExceeded):
            return

    def close(self) -> None:
        """Close at once; what was not sent is lost. Any number of times."""
        if not self.closed:
            self.closed = True
            self.reactor.handlers.pop(self.fd, None)  # nobody else has the socket, so closing it takes it out of the epoll set
            self.input, self.writer = nobody, None  # a method of who owns us: a cycle, which would wait for the garbage collector
            self.sock.close()

    def abort(self) -> None:
        """Close so that the other side sees a reset, not an end: what it got so far is not whole."""
        if not self.closed:
            with contextlib.suppress(OSError):  # it is gone already
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            Stream.close(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "paused" if self.paused else "draining" if self.writer else "open"
        return f"<{type(self).__name__} fd={self.fd} {state}>"


_RECORD = 16384  # a TLS record's plaintext, and so what one read gives at most
_NO_LINGER = (1).to_bytes(4, "little") + bytes(4)  # struct linger {on=1, seconds=0}; Linux on little-endian and int32


class TlsStream(Stream):
    """TLS over a plain Stream, which it replaces: do not use that one any more."""

    spliceable = False

    __slots__ = ("_held", "_incoming", "_outgoing", "tls")

    def __init__(
        self,
        plain: Stream,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        data: bytes = b"",
    ) -> None:
        """data: bytes already read from the socket (the client hello)."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname)
        if data:
            self._incoming.write(data)
        self.reactor, self.sock, self.fd = plain.reactor, plain.sock, plain.fd
        self._recv, self._send = plain._recv, plain._send
        self.input, self.writer, self.unsent = plain.input, None, None
        self.paused, self.closed = plain.paused, plain.closed
        self._held = 0  # bytes of tickets that wait for the first write

    async def handshake(self, strand: Strand) -> None:
        """Complete the handshake. Raises OSError (ssl.SSLError) when it fails; the alert has been sent then, as far as it fits."""
        while True:
            try:
                self.tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            except ssl.SSLError:
                self._flush()
                raise
            if done and self.tls.server_side and self.tls.version() == "TLSv1.3":
                # Only tickets are left to say: they go with the answer, which saves a system call and a segment.
                self._held = self._outgoing.pending
                return
            if not self._flush():
                await self.drain(strand)
            if done:
                return
            data = None
            while data is None:
                await self.wait(strand)
                data = Stream.read(self)
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def early(self) -> bytes:
        incoming = self._incoming
        return (self._decrypt() or b"") if incoming.pending or self.tls.pending() else b""

    def _flush(self) -> bool:
        """Send what TLS itself wants to say; True if that was all."""
        return not self._outgoing.pending or Stream.write(self, self._outgoing.read())

    def read(self) -> bytes | None:
        try:
            data = self._recv(RECEIVE)
        except (BlockingIOError, InterruptedError):
            data = None
        incoming = self._incoming
        if data:
            incoming.write(data)
        elif data is not None:
            incoming.write_eof()
        elif not incoming.pending:
            return None
        return self._decrypt()

    def _decrypt(self) -> bytes | None:
        tls, incoming = self.tls, self._incoming
        try:
            data = tls.read(_RECORD)
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                self._tell()
            return None
        if data and (incoming.pending or tls.pending()):
            parts = [data]
            try:
                while data:
                    data = tls.read(_RECORD)
                    parts.append(data)
            except ssl.SSLWantReadError:
                pass
            data = b"".join(parts)
        if self._outgoing.pending:
            self._tell()
        return data

    def _tell(self) -> None:
        """TLS answers by itself (key update, alert). If there is no room now, it goes out with the next write."""
        if self.unsent is None and self._outgoing.pending != self._held:
            self._held = 0
            Stream.write(self, self._outgoing.read())

    def write(self, data: bytes) -> bool:
        unsent = self.unsent
        self._held = 0
        self.tls.write(data)
        data = self._outgoing.read()
        if unsent:
            data = bytes(unsent) + data
        return Stream.write(self, data)

    def say_end(self) -> bool:
        """Send close_notify and leave the connection open. True if it is sent; False: `drain`, then `Stream.finish`."""
        with contextlib.suppress(OSError, ValueError):  # wants the other side's close_notify, which we do not wait for
            self.tls.unwrap()
        unsent, self.unsent, self._held = self.unsent, None, 0
        data = bytes(unsent or b"") + self._outgoing.read()
        return not data or Stream.write(self, data)

    async def linger(self, strand: Strand) -> None:
        strand.until(strand.reactor.now + LINGER)
        try:
            # It may find no room, and cut off would make all that came before seem cut off.
            if not self.closed and self.unsent is None and not self.say_end():
                await self.drain(strand)
        except (OSError, DeadlineExceeded):
            return
        await super().linger(strand)

    def finish(self) -> None:
        if not self.closed and self.unsent is None:
            with contextlib.suppress(OSError, ValueError):  # wants the other side's close_notify, which we do not wait for
                self.tls.unwrap()
            with contextlib.suppress(OSError):  # the other side is gone already
                self._flush()
        Stream.finish(self)

    def close(self) -> None:
        """Says close_notify, so that an answer that ends with the connection is known to be whole."""
        if not self.closed and self.unsent is None:
            with contextlib.suppress(OSError, ValueError):  # wants the other side's close_notify, which we do not wait for
                self.tls.unwrap()
            with contextlib.suppress(OSError):  # the other side is gone already
                self._flush()
        Stream.close(self)
