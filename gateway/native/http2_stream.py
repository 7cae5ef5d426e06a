"""One request and its answer on an HTTP/2 connection (`http2.Connection`), as bytes and events.

Flow-control credit goes back to the other side when whoever reads comes for more, that is when what was read before has been passed on: so
a stream holds at most its window.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from gateway.native.codec.events import END
from gateway.native.reactor import READ, WRITE, Handler, Reactor, Strand, suspend

if TYPE_CHECKING:
    from gateway.native.http2 import Connection

NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x2, 0x7, 0x8
"""RFC 9113 section 7."""

_FAILED = object()  # in an inbox: nothing comes after this, see `error`
_READY = b"."  # what `read` says when the inbox has something: the bytes themselves are in the inbox


class Http2Stream:
    """One request and its answer on a connection, as bytes and events: it is its own `stream` and `codec` to the code that relays.

    inbox: events that nobody took yet. error: why nothing more comes. over: no event will come any more (END was put in the inbox, or
    an error). sent_end: our side is complete.
    """

    __slots__ = (
        "_taken",
        "connection",
        "error",
        "held",
        "inbox",
        "input",
        "over",
        "owner",
        "paused",
        "reactor",
        "sent_end",
        "sid",
        "writer",
    )
    multiplexed = True
    spliceable = False
    closed = False
    fd = -1
    buffer = b""

    def __init__(self, connection: Connection, sid: int) -> None:
        self.connection = connection
        self.reactor: Reactor = connection.reactor
        self.sid = sid
        self.inbox: deque[Any] = deque()
        self.input: Handler | None = None
        self.writer: Handler | None = None
        self.owner: Any = None
        self.error: Exception | None = None
        self.held = self.over = self.paused = self.sent_end = False
        self._taken = 0

    # ------------------------------------------------------------------------------------------------------- reading

    def next_event(self, data: bytes = b"") -> Any:
        """The next event, None when there is none yet. The bytes given before are credited to the other side. Raises what ended the
        stream, after all that came before."""
        if self._taken:
            self.credit()
        if not self.inbox:
            return None
        event = self.inbox.popleft()
        if event is _FAILED:
            assert self.error is not None
            raise self.error
        if type(event) is bytes:
            self._taken = len(event)
        return event

    def credit(self) -> None:
        """Let the other side send what was taken so far."""
        if not self.over:
            self.connection.codec.consumed(self.sid, self._taken)
            self.connection.schedule()
        self._taken = 0

    def receive(self, data: bytes) -> None:
        """Nothing: the connection has put it into the inbox."""

    def read(self) -> bytes | None:
        """Something if there is an event, None if not yet. Raises what ended the stream."""
        if self.inbox:
            return _READY
        if self.error is not None:
            raise self.error
        return None

    async def recv(self, strand: Strand) -> bytes:
        """Wait for an event; b"" when there will be none. Interrupted, nothing is lost."""
        while not self.inbox:
            if self.error is not None:
                return b""
            self.paused = False
            self.input = strand.wake
            await suspend()
        return _READY

    def ended(self) -> bool:
        """Of an answer that has no end of its own: an HTTP/2 one always has."""
        return False

    def listen(self, handler: Handler) -> None:
        self.input = handler

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    # ------------------------------------------------------------------------------------------------------- writing

    def write(self, data: bytes) -> bool:
        """A piece of the body. False: `drain` before the next. Raises OSError when the stream is over."""
        connection = self.connection
        if self.error is not None or connection.closed:
            raise BrokenPipeError(self.error)
        self.held = not connection.codec.send_data(self.sid, data)
        connection.schedule()
        return not self.held and not connection.draining

    def end(self, trailers: list[bytes], data: bytes = b"") -> bool:
        """The last piece and the end of the message. False: `drain`. Raises OSError."""
        connection = self.connection
        if self.error is not None or connection.closed:
            raise BrokenPipeError(self.error)
        codec = connection.codec
        if data or not trailers:
            self.held = not codec.send_data(self.sid, data, end=not trailers)
        if trailers:
            codec.send_trailers(self.sid, trailers)
        self.sent_end = True
        connection.schedule()
        return not self.held and not connection.draining

    async def drain(self, strand: Strand) -> None:
        """Wait until what was written has gone into the connection, and the connection's backlog to the kernel."""
        self.writer = strand.wake
        try:
            while self.held or self.connection.draining:
                if self.error is not None or self.connection.closed:
                    raise BrokenPipeError(self.error)
                await suspend()
        finally:
            self.writer = None

    async def sendall(self, strand: Strand, data: bytes) -> None:
        if not self.write(data):
            await self.drain(strand)

    def reset(self, code: int) -> None:
        """End the stream here, whatever it was doing. Any number of times."""
        connection = self.connection
        if connection.streams.pop(self.sid, None) is not None and not connection.closed:
            if self.held or not (self.over and self.sent_end):
                connection.codec.reset(self.sid, code)
            connection.schedule()
            connection.gone()
        self.inbox.clear()
        self.over = self.sent_end = True
        self.input = None  # whoever it was does something else now, or is no more

    def tell(self) -> None:
        """There is something in the inbox."""
        if self.input is not None and not self.paused:
            self.input(READ)

    def fail(self, error: Exception) -> None:
        """Nothing more comes."""
        self.error = error
        self.over = True
        self.inbox.append(_FAILED)  # who looks before he waits must see it
        reader, writer = self.input, self.writer
        if writer is not None:
            writer(WRITE)
        if (
            reader is not None and reader != writer and reader == self.input
        ):  # an upload waits to write, its exchange for the answer
            reader(READ)

    def __repr__(self) -> str:
        state = "over" if self.over else "open"
        return f"<{type(self).__name__} {self.sid} {state} inbox={len(self.inbox)} {self.error or ''}>"


class Http2Tunnel:
    """A stream's bytes as a byte stream, for `tunnel.relay`: after CONNECT, bodies are all there is."""

    __slots__ = ("_input", "_stream")
    spliceable = False

    def __init__(self, stream: Http2Stream) -> None:
        self._stream = stream
        self._input: Handler | None = None

    def listen(self, handler: Handler) -> None:
        self._stream.input = self._input = handler
        self._tell()

    def _tell(self) -> None:
        """What is in the inbox already is told once more: nothing else would."""
        if self._stream.inbox or self._stream.error is not None:
            self._stream.reactor.soon(self._told)

    def _told(self) -> None:
        if not self._stream.paused and self._stream.input is self._input and self._input is not None:
            self._input(READ)

    def read(self) -> bytes | None:
        """As Stream.read. Whatever ended the stream is an OSError here."""
        stream = self._stream
        try:
            while (event := stream.next_event()) is not None:
                if type(event) is bytes and event:
                    self._tell()
                    return event
                if event is END:
                    return b""
        except Exception as error:
            raise ConnectionResetError(str(error)) from None
        if stream.error is not None:
            raise ConnectionResetError(str(stream.error))
        return None

    def write(self, data: bytes) -> bool:
        return self._stream.write(data)

    async def drain(self, strand: Strand) -> None:
        await self._stream.drain(strand)

    def pause(self) -> None:
        self._stream.paused = True

    def resume(self) -> None:
        self._stream.paused = False
        self._tell()

    def early(self) -> bytes:
        return b""

    def finish(self) -> None:
        if not self._stream.sent_end and self._stream.error is None:
            self._stream.end([])
            self._stream.held = False  # what waits for room goes by itself
