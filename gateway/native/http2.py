"""One HTTP/2 connection on the reactor, of either side: bytes to events to streams, and what streams say to bytes.

Theory of operation. The connection is read by one handler: what one read brings is decoded at once (`codec.http2`), every event is put
into the inbox of its stream, and then each stream that got something is told once. Whoever has a stream (an exchange, an upload)
takes from the inbox what it can use; flow-control credit goes back when it comes for more, that is when the other side has taken the
bytes, so a stream holds at most its window and a slow one stops nobody else. What streams write collects in the codec and leaves
with one write per connection and turn of the reactor (`Unflushed`), so frames are whole whoever is cancelled. While the other side does
not read, a strand of the connection's own drains, and streams that write are told to wait.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway.native.codec.events import END, Trailers
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import WRITABLE, ConnectionFault, Reset
from gateway.native.reactor import READ, WRITE, Handler, Reactor, Strand, suspend
from gateway.native.stream import Stream

STALL = 300.0
"""Seconds in which the other side must take what was written: Envoy's stream_idle_timeout default."""

NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x2, 0x7, 0x8

_FAILED = object()  # in an inbox: nothing comes after this, see `error`
_READY = b"."  # what `read` says when the inbox has something: the bytes themselves are in the inbox


class Unflushed(list["Connection"]):
    """Connections of this worker that have something to write. `flush` at the end of every turn."""

    def flush(self) -> None:
        while self:
            batch = self[:]
            self.clear()
            for connection in batch:
                connection.flush()


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
            if not (self.over and self.sent_end):
                connection.codec.reset(self.sid, code)
            connection.schedule()
            connection.gone()
        self.inbox.clear()
        self.over = self.sent_end = True

    def tell(self) -> None:
        """There is something in the inbox."""
        if self.input is not None and not self.paused:
            self.input(READ)

    def fail(self, error: Exception) -> None:
        """Nothing more comes."""
        self.error = error
        self.over = True
        self.inbox.append(_FAILED)  # who looks before he waits must see it
        if self.writer is not None:
            self.writer(WRITE)
        elif self.input is not None:
            self.input(READ)

    def __repr__(self) -> str:
        state = "over" if self.over else "open"
        return f"<{type(self).__name__} {self.sid} {state} inbox={len(self.inbox)} {self.error or ''}>"


class Connection:
    """See the module. Subclasses say what becomes of heads, resets and the end."""

    __slots__ = (
        "_scheduled",
        "closed",
        "codec",
        "draining",
        "reactor",
        "stream",
        "streams",
        "unflushed",
    )

    def __init__(self, stream: Stream, codec: Http2Codec, unflushed: Unflushed) -> None:
        self.reactor = stream.reactor
        self.stream = stream
        self.codec = codec
        self.unflushed = unflushed
        self.streams: dict[int, Any] = {}
        self.closed = False
        self.draining = False  # the other side does not take what was written
        self._scheduled = False

    # -------------------------------------------------------------------------------------------------- for subclasses

    def head(self, sid: int, head: Any) -> Any:
        """A request's or a response's head came. Returns the stream that is to be told, or None."""
        raise AssertionError

    def was_reset(self, stream: Any, reset: Reset) -> None:
        """The other side ended a stream, or broke its rules."""
        raise AssertionError

    def event(self, event: Any) -> None:
        """Of the connection itself: Goaway, Pong, SettingsArrived."""

    def gone(self) -> None:
        """A stream is no more."""

    def lost(self, error: Exception) -> None:
        """The connection has ended, or has to."""
        raise AssertionError

    def begin(self) -> None:
        """All events of one read are in their inboxes."""

    # --------------------------------------------------------------------------------------------------------- reading

    def readable(self, events: int) -> None:
        """The reactor's handler."""
        try:
            data = self.stream.read()
        except OSError as error:
            self.lost(error)
            return
        if data is None:
            return
        if not data:
            self.lost(ConnectionResetError("remote_close"))
            return
        self.receive(data)

    def receive(self, data: bytes) -> None:
        """Decode, hand out, tell. Not from inside a strand that has one of the streams."""
        fault: ConnectionFault | None = None
        try:
            events = self.codec.receive(data)
        except ConnectionFault as error:
            fault, events = error, error.events
        self._hand_out(events)
        if fault is not None:
            self.flush()
            self.lost(fault)
        elif not self.closed:
            self.schedule()

    def _hand_out(self, events: list[tuple[int, Any]]) -> None:
        streams = self.streams
        touched: dict[Any, None] = {}
        writable: list[Any] = []
        for sid, event in events:
            kind = type(event)
            stream = streams.get(sid)
            if kind is bytes:
                if stream is not None:
                    stream.inbox.append(event)
                    touched[stream] = None
            elif event is END:
                if stream is not None:
                    stream.inbox.append(END)
                    stream.over = True
                    touched[stream] = None
            elif kind is Trailers:
                if stream is not None:
                    stream.inbox.append(event)
                    touched[stream] = None
            elif event is WRITABLE:
                if stream is not None:
                    stream.held = False
                    writable.append(stream)
            elif kind is Reset:
                if stream is not None:
                    touched.pop(stream, None)
                    self.was_reset(stream, event)
            elif not sid:
                self.event(event)
            else:
                stream = self.head(sid, event)
                if stream is not None:
                    touched[stream] = None
        self.begin()
        for stream in touched:
            stream.tell()
        for stream in writable:
            if stream.writer is not None:
                stream.writer(WRITE)

    # --------------------------------------------------------------------------------------------------------- writing

    def schedule(self) -> None:
        """Have what the codec has to say written at the end of this turn."""
        if not self._scheduled:
            self._scheduled = True
            self.unflushed.append(self)

    def flush(self) -> None:
        """Write it now, or as soon as there is room."""
        self._scheduled = False
        if self.closed or self.draining:
            return
        out = self.codec.pending()
        if not out:
            return
        try:
            whole = self.stream.write(out)
        except OSError as error:
            self.lost(error)
            return
        if not whole:
            self.draining = True
            self.reactor.spawn(self._drain, name="http2 drain")

    async def _drain(self, strand: Strand) -> None:
        try:
            while not self.closed:
                strand.until(self.reactor.now + STALL)
                await self.stream.drain(strand)
                out = self.codec.pending()
                if not out or self.stream.write(out):
                    break
        except Exception as error:  # OSError, DeadlineExceeded: the other side does not read, or is gone
            self.reactor.soon(_losing(self, error))
            return
        finally:
            self.draining = False
        self.reactor.soon(self._drained)

    def _drained(self) -> None:
        for stream in list(self.streams.values()):
            if stream.writer is not None and not stream.held:
                stream.writer(WRITE)
        self.flush()

    # --------------------------------------------------------------------------------------------------------- closing

    def farewell(self) -> None:
        """Say GOAWAY, if that can be said at once."""
        stream = self.stream
        if not stream.closed and not self.draining and stream.unsent is None:
            self.codec.goaway()
            with contextlib.suppress(OSError):
                stream.write(self.codec.pending())

    def fail_streams(self, error: Exception) -> None:
        """Every stream is over. Not from inside a strand that has one of them."""
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.fail(error)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self.streams)} streams {self.stream!r}>"


def _losing(connection: Connection, error: Exception) -> Callable[[], None]:
    return lambda: connection.lost(error)


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
        """As Stream.read. A reset is an OSError."""
        stream = self._stream
        event = stream.next_event()
        while event is not None:
            if type(event) is bytes and event:
                self._tell()
                return event
            if event is END:
                return b""
            event = stream.next_event()
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
