"""The frames of an HTTP/2 connection that carry no message: SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, GOAWAY, PUSH_PROMISE.

Theory of operation. Each handler takes a whole frame and acts on it, queues what is to be answered and adds events. What is abuse is counted
here (see http2_limits): frames that bring nothing cost patience, which messages give back; requests that come to nothing are wasted.

Pure. (The sending half is below, in http2_sending; messages are above, in http2.)
"""

from __future__ import annotations

from typing import Any, Final

from gateway.native.codec.http2_events import ConnectionFault, ErrorCode, Goaway, Pong, Reset, SettingsArrived
from gateway.native.codec.http2_limits import Limits2
from gateway.native.codec.http2_sending import FRAME, MOST, PING, WINDOW_UPDATE, Sending

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = 4
LARGEST: Final = (
    16_384  # bytes of a frame that we take: the default, which we do not raise; it bounds what one frame can make us hold
)
_SETTINGS_ACK: Final = FRAME.pack(SETTINGS, 1, 0)
_MOST_SETTINGS: Final = 32  # in one frame; nghttp2's number since CVE-2020-11080. There are nine kinds of them
_TABLE_SIZE, _ENABLE_PUSH, _MAX_STREAMS, _INITIAL_WINDOW, _MAX_FRAME, _MAX_HEAD, _ENABLE_CONNECT = 1, 2, 3, 4, 5, 6, 8
_DEFAULT_TABLE: Final = 4096

Events = list[tuple[int, Any]]


def fault(code: ErrorCode, detail: str) -> ConnectionFault:
    return ConnectionFault(code, "http2." + detail)


def protocol(detail: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.PROTOCOL_ERROR, "http2." + detail)


class Control(Sending):
    """See the module."""

    def __init__(self, *, server: bool, limits: Limits2) -> None:
        super().__init__(server=server, limits=limits)
        self.malformed = 0  # messages refused as such
        self.peer_connects = False  # extended CONNECT may be sent
        self.settled = False  # the peer's settings have come
        self.acknowledged = False  # the peer has ours
        self._expected = SETTINGS  # the only type that may come next; -1 = any
        self._greet()

    def _greet(self) -> None:
        limits = self.limits
        settings = [(_INITIAL_WINDOW, limits.stream_window), (_MAX_HEAD, limits.head)]
        settings += [(_MAX_STREAMS, limits.streams), (_ENABLE_CONNECT, 1)] if self._server else [(_ENABLE_PUSH, 0)]
        payload = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings)
        if not self._server:
            self._out.append(PREFACE)
        self._out.append(FRAME.pack(len(payload) << 8 | SETTINGS, 0, 0) + payload)
        more = limits.connection_window - 65_535
        self._out.append(FRAME.pack(0x400 | WINDOW_UPDATE, 0, 0) + more.to_bytes(4, "big"))

    def _useless(self) -> None:
        """A frame that brings nothing. Raises ConnectionFault when there are too many of them."""
        self._patience -= 1
        if self._patience < 0:
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "flood")

    def _waste(self) -> None:
        """A request has come to nothing by the client's doing."""
        if self._server:
            self._wasted += 1
            if self._wasted > self.limits.wasted:
                raise fault(ErrorCode.ENHANCE_YOUR_CALM, "rapid_reset")

    def _stream_fault(self, sid: int, code: ErrorCode, detail: str, events: Events) -> None:
        """Reset a stream because of what the peer sent."""
        if sid in self._streams:
            events.append((sid, Reset(code, local=True, detail="http2." + detail.removeprefix("http2."))))
        self._drop(sid, ours=True)
        self._answer_reset(sid, code)
        self._waste()

    def _malformed(self, sid: int, detail: str, events: Events) -> None:
        self.malformed += 1
        self._stream_fault(sid, ErrorCode.PROTOCOL_ERROR, detail, events)

    def _is_idle(self, sid: int) -> bool:
        return sid > self.last_stream or not sid & 1  # even numbers are a server's own, and none of ours opens any

    def _on_push(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        raise protocol("push_promise")  # a client must not, a server was told not to

    # --------------------------------------------------------------------------------------------- streams and the connection

    def _on_priority(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        """RFC 9113 section 5.3.2: its form is still checked, what it says is not used."""
        if not sid:
            raise protocol("priority_on_stream_zero")
        self._useless()
        code = None
        if len(payload) != 5:
            code = ErrorCode.FRAME_SIZE_ERROR
        elif int.from_bytes(payload[:4], "big") & MOST == sid:
            code = ErrorCode.PROTOCOL_ERROR
        if code is None:
            return
        if self._is_idle(sid):  # RST_STREAM may not be sent on it
            raise fault(code, "invalid_priority")
        self._stream_fault(sid, code, "invalid_priority", events)

    def _on_reset(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if len(payload) != 4:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "invalid_reset")
        if self._is_idle(sid):
            raise protocol("reset_on_idle_stream")
        stream = self._streams.get(sid)
        if stream is None:
            self._useless()
            return
        self._drop(sid, ours=False)
        events.append((sid, Reset(int.from_bytes(payload, "big"), local=False)))
        if not stream.answered:
            self._waste()

    def _on_window_update(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if len(payload) != 4:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "invalid_window_update")
        self._useless()
        increment = int.from_bytes(payload, "big") & MOST
        if not sid:
            if not increment:
                raise protocol("window_update_of_zero")
            self._window += increment
            if self._window > MOST:
                raise fault(ErrorCode.FLOW_CONTROL_ERROR, "connection_window_overflow")
            if self._waiting:
                self._release()
            return
        stream = self._streams.get(sid)
        if stream is None:
            if self._is_idle(sid):
                raise protocol("window_update_on_idle_stream")
            return  # of a stream that has ended: it may well be late
        stream.window += increment
        if not increment:
            self._stream_fault(sid, ErrorCode.PROTOCOL_ERROR, "window_update_of_zero", events)
        elif stream.window > MOST:
            self._stream_fault(sid, ErrorCode.FLOW_CONTROL_ERROR, "stream_window_overflow", events)
        elif stream.held:
            while self._next_frame(sid, stream):
                pass

    def _on_settings(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if sid:
            raise protocol("settings_on_a_stream")
        self._useless()
        if flags & 1:
            if payload:
                raise fault(ErrorCode.FRAME_SIZE_ERROR, "settings_acknowledged_with_payload")
            if not self.settled:
                raise protocol("expected_settings")
            self.acknowledged = True
            return
        if len(payload) % 6:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "invalid_settings")
        if len(payload) > 6 * _MOST_SETTINGS:
            raise fault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_settings")
        if not self.settled:
            self.settled, self._expected = True, -1
            self.peer_max_streams = MOST  # unless it says otherwise
        for at in range(0, len(payload), 6):
            self._set(int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        self._answer(_SETTINGS_ACK)
        events.append((0, SettingsArrived()))
        if self._waiting:
            self._release()

    def _set(self, key: int, value: int) -> None:
        if key == _INITIAL_WINDOW:
            if value > MOST:
                raise fault(ErrorCode.FLOW_CONTROL_ERROR, "invalid_initial_window")
            change = value - self._initial
            self._initial = value
            for stream in self._streams.values():
                stream.window += change
                if stream.window > MOST:
                    raise fault(ErrorCode.FLOW_CONTROL_ERROR, "stream_window_overflow")
        elif key == _MAX_STREAMS:
            self.peer_max_streams = value
        elif key == _TABLE_SIZE:
            self._shrink |= value < _DEFAULT_TABLE
        elif key == _MAX_FRAME:
            if not LARGEST <= value < 2**24:
                raise protocol("invalid_max_frame_size")
        elif key == _ENABLE_PUSH:
            if value > (1 if self._server else 0):
                raise protocol("invalid_enable_push")
        elif key == _ENABLE_CONNECT:
            if value > 1 or (self.peer_connects and not value):
                raise protocol("invalid_enable_connect_protocol")
            self.peer_connects = bool(value) and not self._server

    def _on_ping(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if sid:
            raise protocol("ping_on_a_stream")
        if len(payload) != 8:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "invalid_ping")
        self._useless()
        if flags & 1:
            events.append((0, Pong(payload)))
        else:
            self._answer(FRAME.pack(0x800 | PING, 1, 0) + payload)

    def _on_goaway(self, flags: int, sid: int, payload: bytes, events: Events) -> None:
        if sid:
            raise protocol("goaway_on_a_stream")
        if len(payload) < 8:
            raise fault(ErrorCode.FRAME_SIZE_ERROR, "invalid_goaway")
        self._useless()
        last = int.from_bytes(payload[:4], "big") & MOST
        self.closing = True
        events.append((0, Goaway(last, int.from_bytes(payload[4:8], "big"))))
        if not self._server:
            for stream in [sid for sid in self._streams if sid > last]:
                self._drop(stream, ours=False)
                events.append((stream, Reset(ErrorCode.REFUSED_STREAM, local=False)))
