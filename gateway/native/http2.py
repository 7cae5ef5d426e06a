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
from collections.abc import Callable
from typing import Any

from gateway.native.codec.events import END, Trailers
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import WRITABLE, ConnectionFault, Reset
from gateway.native.reactor import WRITE, Strand
from gateway.native.stream import Stream

STALL = 300.0
"""Seconds in which the other side must take what was written: Envoy's stream_idle_timeout default."""


# Pieces of a body as small as this are joined in the inbox, up to so much: a window of 64 KB in pieces of two bytes would be 1.5 MB.
_CRUMB, _SLICE = 256, 4096


class Unflushed(list["Connection"]):
    """Connections of this worker that have something to write. `flush` at the end of every turn."""

    def flush(self) -> None:
        while self:
            batch = self[:]
            self.clear()
            for connection in batch:
                connection.flush()


class Connection:
    """See the module. Subclasses say what becomes of heads, resets and the end."""

    __slots__ = (
        "_drainer",
        "closed",
        "codec",
        "draining",
        "reactor",
        "scheduled",
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
        self._drainer: Strand | None = None
        self.scheduled = False

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

    def full(self) -> bool:
        """Asked while the other side does not take what was written: whether nothing more is to be read of it until it does."""
        return False

    # --------------------------------------------------------------------------------------------------------- reading

    def readable(self, events: int) -> None:
        """The reactor's handler."""
        if self.draining and self.full():
            self.stream.pause()
            return
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
                    inbox = stream.inbox
                    if inbox and len(event) < _CRUMB and type(inbox[-1]) is bytes and len(inbox[-1]) < _SLICE:
                        inbox[-1] += event
                    else:
                        inbox.append(event)
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
        if not self.scheduled:
            self.scheduled = True
            self.unflushed.append(self)

    def flush(self) -> None:
        """Write it now, or as soon as there is room."""
        self.scheduled = False
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
            self._drainer = self.reactor.spawn(self._drain, name="http2 drain")

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
            self._drainer = None
        self.reactor.soon(self._drained)

    def _drained(self) -> None:
        if self.closed:
            return
        self.stream.resume()
        for stream in list(self.streams.values()):
            if stream.writer is not None and not stream.held:
                stream.writer(WRITE)
        self.flush()

    # --------------------------------------------------------------------------------------------------------- closing

    def end(self) -> None:
        """It is closed from now on: nothing is read or written any more."""
        self.closed = True
        if self._drainer is not None:
            self.reactor.soon(self._drainer.cancel)

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
