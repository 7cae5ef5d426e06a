"""HTTP/2 (RFC 9113) for both sides of a connection, sans-I/O: bytes in, events out; messages in, bytes out.

Theory of operation. `receive` walks over the frames of what came with one read and gives (stream, event) pairs; heads come out in the form of
HTTP/1.1 (see events), so that nothing above needs to know the version. The sending half is in http2_sending, HPACK in hpack and
hpack_lines, the rules for heads in http2_heads, the limits in http2_limits.

A fault of one message is a stream error: RST_STREAM, and Reset with `local` if the stream had been told of. A fault of the connection, and
abuse, is ConnectionFault: GOAWAY is then pending. Both sides check alike; where RFC 9113 leaves a choice, h2spec --strict decides.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.native.codec.events import END, Trailers
from gateway.native.codec.fields import Malformed
from gateway.native.codec.hpack import CompressionFault, Decoder
from gateway.native.codec.hpack_fields import Entry
from gateway.native.codec.http2_control import LARGEST, PREFACE, Control, Events, fault, protocol
from gateway.native.codec.http2_events import WRITABLE, ConnectionFault, ErrorCode, TooLarge
from gateway.native.codec.http2_heads import HeadTooLarge, request_head, response_head, trailer_lines
from gateway.native.codec.http2_limits import DEFAULT, Limits2
from gateway.native.codec.http2_sending import CONTINUATION, FRAME, HEADERS, MOST, WINDOW_UPDATE, Stream

__all__ = ["PREFACE", "Http2Codec"]

_SKIPPED: Final = 64  # gaps in the client's numbers that are remembered, to tell what was never opened from what has ended


class Http2Codec(Control):
    """One connection. server: whose side this is; a client's preface and settings are pending at once, and so are a server's settings."""

    def __init__(self, *, server: bool, limits: Limits2 = DEFAULT) -> None:
        super().__init__(server=server, limits=limits)
        self._buffer = b""
        self._greeting = PREFACE if server else b""  # what has to come before frames
        self._block: tuple[int, int, str] = (0, 0, "")  # of a head that is not complete: stream, END, defect
        self._fragments: list[bytes] = []
        self._decoder = Decoder()
        self._room = limits.connection_window  # what the peer may send on the connection
        self._due = 0  # of that, to be given back
        self._skipped: list[tuple[int, int]] = []
        self._dead = False

    @property
    def midway(self) -> bool:
        """Something has begun to come that is not complete: the greeting, a frame, a head."""
        return bool(self._buffer or self._fragments or not self.settled)

    def __repr__(self) -> str:
        side = "server" if self._server else "client"
        return f"<Http2Codec {side} open={self.open} last={self.last_stream}{' closing' if self.closing else ''}>"

    # ------------------------------------------------------------------------------------------------------------- receiving

    def receive(self, data: bytes) -> Events:
        """What these bytes say. Raises ConnectionFault: GOAWAY is pending then, what was understood before is in its `events`, and
        whatever comes later is passed over."""
        events: Events = []
        if self._dead:
            return events
        if self._patience < self.limits.patience:
            self._patience += self.limits.forgiven
        try:
            self._frames(data, events)
        except CompressionFault as reason:
            raise self._die(fault(ErrorCode.COMPRESSION_ERROR, "compression_error"), events) from reason
        except ConnectionFault as broken:
            raise self._die(broken, events) from None
        if self._writable:
            events += [(sid, WRITABLE) for sid in self._writable]
            self._writable.clear()
        return events

    def _die(self, broken: ConnectionFault, events: Events) -> ConnectionFault:
        self.goaway(broken.code)
        self._dead = True
        self._buffer = b""
        self._fragments.clear()
        self._waiting.clear()
        broken.events = events
        return broken

    def _frames(self, data: bytes, events: Events) -> None:
        if self._buffer:
            data = self._buffer + data
        at, size = 0, len(data)
        if self._greeting:
            at = self._greeted(data)
            if not at:
                self._buffer = data
                return
        handlers = _HANDLERS
        unpack = FRAME.unpack_from
        while size - at >= 9:
            kind, flags, sid = unpack(data, at)
            end = at + 9 + (kind >> 8)
            if end - at > 9 + LARGEST:
                raise fault(ErrorCode.FRAME_SIZE_ERROR, "frame_too_large")
            if end > size:
                break
            kind &= 0xFF
            sid &= MOST
            if kind != self._expected >= 0:
                raise protocol("expected_continuation" if self._expected == CONTINUATION else "expected_settings")
            if kind == HEADERS and flags & 0x2C == 4 and sid > self.last_stream and sid & 1 and self._server:
                self._request(sid, flags & 1, data[at + 9 : end], "", events)  # nearly all heads: whole, plain, of a new stream
            elif kind <= CONTINUATION:
                handlers[kind](self, flags, sid, data[at + 9 : end], events)
            else:
                self._useless()
            at = end
        self._buffer = data[at:]

    def _greeted(self, data: bytes) -> int:
        """Where frames begin: after the client's preface; 0 if that is not all here."""
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise protocol("invalid_preface")
        if len(data) < len(PREFACE):
            return 0
        self._greeting = b""
        return len(PREFACE)

    # ----------------------------------------------------------------------------------------------------------------- DATA

    def _on_data(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise fault(ErrorCode.FLOW_CONTROL_ERROR, "connection_window_exceeded")
        self._due += size
        if self._due > self.limits.connection_window // 4:
            self._out.append(FRAME.pack(0x400 | WINDOW_UPDATE, 0, 0) + self._due.to_bytes(4, "big"))
            self._room += self._due
            self._due = 0
        data = payload if not flags & 8 else self._unpadded(payload)
        stream = self._streams.get(sid)
        if stream is None or stream.heard_end:
            self._late(sid, stream, events)
            return
        stream.room -= size
        if stream.room < 0:
            self._stream_fault(sid, ErrorCode.FLOW_CONTROL_ERROR, "stream_window_exceeded", events)
            return
        if data:
            if stream.left >= 0:
                stream.left -= len(data)
                if stream.left < 0:
                    self._malformed(sid, "content_length_mismatch", events)
                    return
            elif not self._server and not stream.answered:
                self._malformed(sid, "data_before_head", events)
                return
            if self._patience < self.limits.patience:
                self._patience += self.limits.forgiven
            if not stream.deaf:
                events.append((sid, data))
        elif not flags & 1:
            self._useless()
        if flags & 1:
            self._heard_end(sid, stream, events)
        elif len(data) != size:
            self.consumed(sid, size - len(data))

    def _heard_end(self, sid: int, stream: Stream, events: Events) -> None:
        if stream.left > 0 or not (self._server or stream.answered):
            self._malformed(sid, "content_length_mismatch" if stream.left > 0 else "end_before_head", events)
            return
        stream.heard_end = True
        if not stream.deaf:
            events.append((sid, END))
        if stream.said_end:
            self._end(sid, stream)

    def _unpadded(self, payload: bytes) -> bytes:
        if not payload:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "padding_missing")
        if payload[0] >= len(payload):
            raise protocol("padding_too_long")
        return payload[1 : len(payload) - payload[0]]

    def _late(self, sid: int, stream: Stream | None, events: Events) -> None:
        """DATA or a head on a stream whose peer may send none (RFC 9113 section 5.1)."""
        if stream is not None:  # half-closed by the peer
            self._stream_fault(sid, ErrorCode.STREAM_CLOSED, "frame_after_end", events)
        elif self._is_idle(sid):
            raise protocol("frame_on_idle_stream")
        elif sid not in self._resets:
            if any(low <= sid <= high for low, high in self._skipped):
                raise protocol("stream_number_not_increasing")
            raise fault(ErrorCode.STREAM_CLOSED, "frame_on_closed_stream")
        elif not self._resets[sid]:
            self._stream_fault(sid, ErrorCode.STREAM_CLOSED, "frame_after_reset", events)
        else:
            self._useless()  # it was on its way when we reset the stream

    # ---------------------------------------------------------------------------------------------------------------- heads

    def _on_headers(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        defect = ""
        if flags & 0x28:
            if flags & 8:
                payload = self._unpadded(payload)
            if flags & 0x20:
                if len(payload) < 5:
                    raise fault(ErrorCode.FRAME_SIZE_ERROR, "priority_missing")
                if int.from_bytes(payload[:4], "big") & MOST == sid:
                    defect = "depends_on_itself"
                payload = payload[5:]
        if flags & 4:
            self._head(sid, flags & 1, payload, defect, events)
            return
        if not sid:
            raise protocol("head_on_stream_zero")
        self._block = sid, flags & 1, defect
        self._fragments.append(payload)
        self._expected = CONTINUATION

    def _on_continuation(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if self._expected != CONTINUATION or sid != self._block[0]:
            raise protocol("unexpected_continuation")
        fragments = self._fragments
        if len(fragments) > self.limits.continuations:
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_continuations")
        fragments.append(payload)
        if flags & 4:
            block = b"".join(fragments)
            fragments.clear()
            self._expected = -1
            sid, end, defect = self._block
            self._head(sid, end, block, defect, events)

    def _head(self, sid: int, end: int, block: bytes, defect: str, events: Events) -> None:
        """A whole header block. It is decoded whatever becomes of it: the tables have to stay in step."""
        if self._server and sid > self.last_stream and sid & 1:
            self._request(sid, end, block, defect, events)
            return
        lines, notable = self._decoder.decode(block)
        stream = self._streams.get(sid)
        if not sid:
            raise protocol("head_on_stream_zero")
        if stream is None or stream.heard_end:
            self._late(sid, stream, events)
            return
        try:
            if defect:
                raise Malformed(defect)
            if self._server or stream.answered:
                self._trailers(sid, stream, end, lines, notable, events)
            else:
                self._response(sid, stream, end, lines, notable, events)
        except Malformed as reason:
            self._malformed(sid, reason.reason, events)
        except HeadTooLarge as excess:
            self._stream_fault(sid, ErrorCode.ENHANCE_YOUR_CALM, excess.detail, events)

    def _request(self, sid: int, end: int, block: bytes, defect: str, events: Events) -> None:
        """The head of a new stream."""
        lines, notable = self._decoder.decode(block)
        if sid > self.last_stream + 2:
            self._skipped.append((self.last_stream + 1, sid - 1))
            del self._skipped[:-_SKIPPED]
        self.last_stream = sid
        limits = self.limits
        if self._refusing_from and sid >= self._refusing_from:
            self._drop(sid, ours=True)  # RFC 9113 section 6.8: our GOAWAY has told the client that it is not looked at
            return
        if len(self._streams) >= limits.streams:
            self._refuse(sid)
            return
        stream = Stream(self._initial, limits.stream_window)
        try:
            if defect:
                raise Malformed(defect)
            head = request_head(lines, notable, limits, end=bool(end))
        except Malformed as reason:
            self._malformed(sid, reason.reason, events)
            return
        except HeadTooLarge as excess:
            stream.deaf = True
            events.append((sid, TooLarge(excess.detail)))
        else:
            stream.left = head.length
            events.append((sid, head))
        stream.heard_end = bool(end)
        self._streams[sid] = stream
        if self._patience < limits.patience:
            self._patience += limits.forgiven

    def _refuse(self, sid: int) -> None:
        """One stream more than we allow: it may be asked again. Before the client knows our settings it is no offence."""
        self._drop(sid, ours=True)
        self._answer_reset(sid, ErrorCode.REFUSED_STREAM)
        if self.acknowledged:
            self._waste()
        else:
            self._useless()

    def _response(self, sid: int, stream: Stream, end: int, lines: list[bytes], notable: list[Entry], events: Events) -> None:
        head = response_head(lines, notable, self.limits, end=bool(end), method=stream.method)
        events.append((sid, head))
        if head.interim:
            self._useless()
            return
        stream.answered = True
        stream.left = head.length
        if self._patience < self.limits.patience:
            self._patience += self.limits.forgiven
        if end:
            stream.heard_end = True
            if stream.said_end:
                self._end(sid, stream)

    def _trailers(self, sid: int, stream: Stream, end: int, lines: list[bytes], notable: list[Entry], events: Events) -> None:
        if not end:
            raise Malformed("http2.trailers_without_end")
        kept = trailer_lines(lines, notable, self.limits)
        if kept and not stream.deaf and stream.left <= 0:
            events.append((sid, Trailers(kept)))
        self._heard_end(sid, stream, events)


# By type. Functions, not bound methods: a codec refers to itself nowhere, so it goes when its connection does, without the collector.
_HANDLERS: Final[tuple[Callable[[Http2Codec, int, int, bytes, Events], None], ...]] = (
    Http2Codec._on_data,
    Http2Codec._on_headers,
    Http2Codec._on_priority,
    Http2Codec._on_reset,
    Http2Codec._on_settings,
    Http2Codec._on_push,
    Http2Codec._on_ping,
    Http2Codec._on_goaway,
    Http2Codec._on_window_update,
    Http2Codec._on_continuation,
)
