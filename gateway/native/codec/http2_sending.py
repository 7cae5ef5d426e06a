"""The half of an HTTP/2 connection that goes out: heads, bodies within the peer's windows, credit, resets, GOAWAY.

Theory of operation. What is said is queued as whole frames in a list; `pending` joins it, once a turn. A body that fits the windows is queued
where it is sent; what does not fit is held, without a copy, and goes out by itself as windows open, one frame of each stream in turn so that
none waits behind another. END_STREAM and trailers follow what is held.

Streams are kept from their first head until both sides have said END or one has reset it. What may still arrive for one that was reset is
known by a short memory; all other numbers below the last are streams that ended.

Pure. (The receiving half, and the public class, are in http2.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from struct import Struct
from typing import Final

from gateway.native.codec import hpack_lines
from gateway.native.codec.http2_events import ConnectionFault, ErrorCode, LocalFault
from gateway.native.codec.http2_limits import Limits2

FRAME: Final = Struct(">IBI")  # length and type, flags, stream
_RESET: Final = Struct(">IBII")
_UPDATE: Final = Struct(">IBII")
_FRAME_SIZE: Final = 16_384  # of frames that we send: what every peer takes; larger ones only keep other streams waiting
MOST: Final = 2**31 - 1  # of windows, increments and stream numbers
_UNLIMITED: Final = MOST
_ASSUMED_STREAMS: Final = 100  # before the peer's settings have come; what RFC 9113 asks for at least, and Go assumes too
# Type in the low byte of the first word, as FRAME has it.
DATA, HEADERS, RST_STREAM, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 6, 7, 8, 9


class Stream:
    """One request and its answer. What most streams never need stays in the class."""

    held: deque[bytes | memoryview] | None = None  # bytes that wait for window
    held_bytes = 0
    ending = False  # END follows what is held
    trailers = b""  # coded, to follow what is held
    blocked = False  # send_data has said False
    answered = False  # the final head of the response has passed
    heard_end = False
    said_end = False
    credit = 0  # bytes taken by whom they are for, not yet told to the peer
    deaf = False  # what comes is thrown away
    left = -1  # bytes of body that content-length still promises; -1 = it did not say
    method = b""

    def __init__(self, window: int, room: int) -> None:
        self.window = window  # what we may send
        self.room = room  # what the peer may send

    def __repr__(self) -> str:
        said = "end" if self.said_end else f"window={self.window} held={self.held_bytes}"
        return f"<Stream {said}; heard {'end' if self.heard_end else f'room={self.room}'}>"


class Sending:
    """See the module. Attributes without underscore are for the connection's owner to read."""

    def __init__(self, *, server: bool, limits: Limits2) -> None:
        self.limits = limits
        self.last_stream = 0  # the highest number that the client has used
        self.closing = False  # GOAWAY was said or heard: no new streams
        self.peer_max_streams = _ASSUMED_STREAMS
        self._server = server
        self._out: list[bytes | memoryview] = []
        self._answers = 0  # frames that the peer made us say, since `pending`
        self._streams: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}  # with something held
        self._writable: list[int] = []  # streams for which WRITABLE is to be said
        self._resets: dict[int, bool] = {}  # streams that were reset, the last ones: True = by us
        self._window = 65_535  # of the connection, towards the peer
        self._initial = 65_535  # of new streams, as the peer says
        self._refusing_from = 0  # streams of this number on came after our GOAWAY, which must not name more later than before
        self._shrink = False  # the peer's table is smaller than the default: to be told that we use none
        self._wasted = 0
        self._patience = limits.patience
        self._share = limits.stream_window // 2  # credit is due once half a window is: few frames, and the peer never waits

    @property
    def open(self) -> int:
        """Streams that are not over."""
        return len(self._streams)

    @property
    def queued(self) -> int:
        """Pieces that wait for `pending`: one or two a frame."""
        return len(self._out)

    def body_held(self, sid: int) -> int:
        """Bytes of that stream that wait for window."""
        stream = self._streams.get(sid)
        return stream.held_bytes if stream is not None else 0

    def pending(self) -> bytes:
        """All that is to be sent so far; it is then forgotten here. Take it only when it can be sent: what piles up is bounded here."""
        out = self._out
        if not out:
            return b""
        self._answers = 0
        whole = b"".join(out)
        out.clear()
        return whole

    # ------------------------------------------------------------------------------------------------------------ messages

    def send_request(
        self, head_block: bytes, *, scheme: bytes, end: bool, connect_protocol: bytes = b"", repeats: bool = False
    ) -> int:
        """Begin a stream; returns its number. head_block: request line and lines as in HTTP/1.1, joined by CR LF, checked, without the
        empty line. connect_protocol: makes it an extended CONNECT. repeats: the like of it is likely to come again (a call of gRPC).
        Raises LocalFault on a connection that takes no more."""
        if self._server or self.closing or self.last_stream >= MOST - 2:
            raise LocalFault("this connection takes no more requests")
        sid = self.last_stream = self.last_stream + 2 if self.last_stream else 1
        if repeats:
            method, block = hpack_lines.call(head_block, scheme=scheme)
        else:
            method, block = hpack_lines.request(head_block, scheme=scheme, connect_protocol=connect_protocol)
        stream = self._streams[sid] = Stream(self._initial, self.limits.stream_window)
        stream.method = method
        self._headers(sid, block, end=end)
        stream.said_end = end
        return sid

    def send_head(self, sid: int, status: int, lines: Iterable[bytes], *, end: bool) -> None:
        """A response's head; several, if all but the last are interim. Nothing if the stream is gone."""
        stream = self._streams.get(sid)
        if stream is None:
            return
        if stream.said_end or (stream.answered and status >= 200):
            raise LocalFault(f"stream {sid} has been answered")
        self._headers(sid, hpack_lines.response(status, lines), end=end)
        if status >= 200:
            stream.answered = True
        if end:
            self._end(sid, stream)

    def send_answer(self, sid: int, status: int, lines: Iterable[bytes], data: bytes, trailers: list[bytes]) -> bool:
        """A whole answer at once: what `send_head`, `send_data` and `send_trailers` do one after the other, for half the work. False: some
        of the body is held."""
        stream = self._streams.get(sid)
        size = len(data)
        if stream is None or stream.answered or self._shrink or size > _FRAME_SIZE or size > stream.window or size > self._window:
            self.send_head(sid, status, lines, end=not size and not trailers)
            whole = self.send_data(sid, data, end=not trailers) if size else True
            if trailers:
                self.send_trailers(sid, trailers)
            return whole
        block = hpack_lines.response(status, lines)
        last = hpack_lines.fields(trailers) if trailers else b""
        if len(block) > _FRAME_SIZE or len(last) > _FRAME_SIZE:
            self._headers(sid, block, end=not size and not last)
        else:
            self._out += (FRAME.pack(len(block) << 8 | HEADERS, 4 if size or last else 5, sid), block)
        if size:
            self._window -= size
            stream.window -= size
            if self._patience < self.limits.patience:
                self._patience += self.limits.forgiven
            self._out += (FRAME.pack(size << 8, 0 if last else 1, sid), data)
        if last:
            self._headers(sid, last, end=True)
        stream.answered = True
        self._end(sid, stream)
        return True

    def send_data(self, sid: int, data: bytes, *, end: bool = False) -> bool:
        """Bytes of a body. False: some are held, send no more before WRITABLE. True if the stream is gone, too: its bytes are dropped."""
        stream = self._streams.get(sid)
        if stream is None:
            return True
        if stream.said_end or stream.ending:
            raise LocalFault(f"bytes after the end of stream {sid}")
        size = len(data)
        if stream.held or (size and (size > stream.window or size > self._window or size > _FRAME_SIZE)):
            return self._hold(sid, stream, data, end=end)
        if size:
            self._window -= size
            stream.window -= size
            if self._patience < self.limits.patience:
                self._patience += self.limits.forgiven
        elif not end:
            return True
        self._out += (FRAME.pack(size << 8, end, sid), data)
        if end:
            self._end(sid, stream)
        return True

    def send_trailers(self, sid: int, lines: Iterable[bytes]) -> None:
        """The end of a message with fields after its body; they wait for what is held."""
        stream = self._streams.get(sid)
        if stream is None:
            return
        if stream.said_end or stream.ending:
            raise LocalFault(f"trailers after the end of stream {sid}")
        block = hpack_lines.fields(lines)
        if stream.held:
            stream.ending, stream.trailers = True, block
        elif block:
            self._headers(sid, block, end=True)
            self._end(sid, stream)
        else:
            self.send_data(sid, b"", end=True)

    def reset(self, sid: int, code: int) -> None:
        """Give the stream up, with what is held of it; nothing more is said of it. Nothing if it is gone."""
        if sid in self._streams:
            self._drop(sid, ours=True)
            self._out.append(_RESET.pack(0x400 | RST_STREAM, 0, sid, code))

    def consumed(self, sid: int, n: int) -> None:
        """Whoever bytes of this stream are for has taken n of them: the peer may send as many more (told in batches)."""
        stream = self._streams.get(sid)
        if stream is None or stream.heard_end:
            return
        stream.credit += n
        if stream.credit >= self._share:
            stream.room += stream.credit
            self._out.append(_UPDATE.pack(0x400 | WINDOW_UPDATE, 0, sid, stream.credit))
            stream.credit = 0

    # ---------------------------------------------------------------------------------------------------------- connection

    def ping(self, data: bytes) -> None:
        """Ask for a sign of life; Pong comes back with the same eight bytes."""
        if len(data) != 8:
            raise LocalFault("a ping has eight bytes")
        self._out.append(FRAME.pack(0x800 | PING, 0, 0) + data)

    def goaway(self, code: int = 0, *, soon: bool = False) -> None:
        """No new streams: those that are open go on, later ones are passed over, and the peer knows which. soon: only announce it, new
        ones are still taken (RFC 9113 section 6.8: say that, wait for a round trip, then say it again with the last)."""
        last = MOST if soon else self._last_taken()
        self._out.append(FRAME.pack(0x800 | GOAWAY, 0, 0) + last.to_bytes(4, "big") + int(code).to_bytes(4, "big"))
        if not soon:
            self.closing = True
            self._refusing_from = self._refusing_from or self.last_stream + 1

    def _last_taken(self) -> int:
        """The last of the peer's streams that was, or may be, acted upon. A server opens none here."""
        if not self._server:
            return 0
        return self._refusing_from - 1 if self._refusing_from else self.last_stream

    # ------------------------------------------------------------------------------------------------------------ machinery

    def _headers(self, sid: int, block: bytes, *, end: bool) -> None:
        if self._shrink:  # RFC 7541 section 4.2: at the beginning of the next block; size 0, as no table is used
            self._shrink, block = False, b"\x20" + block
        size = len(block)
        if size <= _FRAME_SIZE:
            self._out += (FRAME.pack(size << 8 | HEADERS, 5 if end else 4, sid), block)
            return
        kind, flags = HEADERS, int(end)
        for at in range(0, size, _FRAME_SIZE):
            piece = block[at : at + _FRAME_SIZE]
            if at + _FRAME_SIZE >= size:
                flags |= 4
            self._out.append(FRAME.pack(len(piece) << 8 | kind, flags, sid) + piece)
            kind, flags = CONTINUATION, 0

    def _end(self, sid: int, stream: Stream) -> None:
        """END has been said."""
        stream.said_end = True
        if stream.heard_end:
            del self._streams[sid]
            if self._wasted:
                self._wasted -= 1

    def _drop(self, sid: int, *, ours: bool) -> None:
        """The stream was reset: forget it, but that."""
        self._streams.pop(sid, None)
        self._waiting.pop(sid, None)
        resets = self._resets
        resets[sid] = ours
        if len(resets) > self.limits.remembered:
            del resets[next(iter(resets))]

    def _answer(self, frame: bytes) -> None:
        """Queue what the peer makes us say. Raises ConnectionFault when it takes none of it."""
        self._out.append(frame)
        self._answers += 1
        if self._answers > self.limits.answers:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "http2.answers_unread")

    def _answer_reset(self, sid: int, code: int) -> None:
        self._answer(_RESET.pack(0x400 | RST_STREAM, 0, sid, code))

    # ------------------------------------------------------------------------------------------------------------ held bodies

    def _hold(self, sid: int, stream: Stream, data: bytes, *, end: bool) -> bool:
        if stream.held is None:
            stream.held = deque()
        if data:
            stream.held.append(data)
            stream.held_bytes += len(data)
        stream.ending = end
        if sid not in self._waiting:
            self._waiting[sid] = stream
            while self._next_frame(sid, stream):
                pass
        stream.blocked = bool(stream.held)
        return not stream.blocked

    def _next_frame(self, sid: int, stream: Stream) -> bool:
        """Queue one DATA frame of what is held. False: nothing is left, or no window."""
        held = stream.held
        if not held:
            return False
        room = min(stream.window, self._window, _FRAME_SIZE)
        if room <= 0:
            return False
        piece = held.popleft()
        if len(piece) > room:
            held.appendleft(memoryview(piece)[room:])
            piece = piece[:room]
        size = len(piece)
        stream.held_bytes -= size
        stream.window -= size
        self._window -= size
        if self._patience < self.limits.patience:
            self._patience += self.limits.forgiven
        last = stream.ending and not held and not stream.trailers
        self._out += (FRAME.pack(size << 8, last, sid), piece)
        if held:
            return True
        del self._waiting[sid]
        if stream.trailers:
            self._headers(sid, stream.trailers, end=True)
        if stream.ending:
            self._end(sid, stream)
        if stream.blocked:
            stream.blocked = False
            self._writable.append(sid)
        return False

    def _release(self) -> None:
        """The connection's window has opened, or that of all streams: a frame for each stream that waits, in turn."""
        while self._window > 0 and self._waiting:
            sent = False
            for sid, stream in list(self._waiting.items()):
                before = self._window
                self._next_frame(sid, stream)
                sent |= self._window != before
            if not sent:
                return
