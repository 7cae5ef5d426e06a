"""The access log: Istio's text format and its JSON, one line an exchange, many lines a write.

Lines are collected and written once a turn when there are many, else within FLUSH seconds: a write costs about as much as the rest of
a request's bookkeeping. The file is opened non-blocking: a reader of a pipe that stops reading costs lines (counted), not requests.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

FLUSH = 0.1
"""Seconds a line may wait; Envoy's file flush interval is 10 s by default and Istio's 1 s, people who tail want less."""

FOLLOW = 1.0
"""Seconds between looks at whether the file was rotated: what comes in between goes into the old one, which rotation keeps."""

_LINES = 64  # written at the end of a turn when there are so many: about 20 KiB
_HELD = 1 << 20  # bytes that a blocked reader may leave unwritten; then lines are dropped

Format = Callable[["Exchange", bytes, int, bytes], bytes]
"""(exchange, start time, duration in ms, upstream service time in ms or b"-") → the line."""


VIA_UPSTREAM = b"via_upstream"


def text_line(x: Exchange, start: bytes, duration: int, service_time: bytes) -> bytes:
    """Istio's default format (FIELD k.fmt). Values are as they came: a header value holds no control characters."""
    head, upstream, status = x.head, x.upstream, x.status
    usual = x.flag == b"-" and x.detail is VIA_UPSTREAM and x.transport_failure == b"-"
    return b'[%b] "%b" %b %d %d %d %b "%b" "%b" "%b" "%b" %b %b %b\n' % (
        start,
        head.line,
        _WENT_WELL[status] if usual else _outcome(x),
        x.received,
        x.sent,
        duration,
        service_time,
        x.forwarded_for or b"-",
        head.user_agent or b"-",
        x.request_id or b"-",
        head.authority or b"-",
        upstream.log_text if upstream is not None else b'"-" %b -' % x.backend_name,
        x.log_text or _described(x).log_text,
        x.route_name,
    )


def _described(x: Exchange) -> Exchange:
    """With what lines of its connection have in common: made for the first of them, since many connections have one request only."""
    context = x.context
    local, peer, sni = context.local.encode(), context.peer.encode(), context.sni.encode()
    x.log_text, x.log_json = downstream_text(local, peer, sni), downstream_json(local, peer, sni)
    return x


def _outcome(x: Exchange) -> bytes:
    return b'%d %b %b %b "%b"' % (x.status, x.flag, x.detail, x.termination, x.transport_failure)


_WENT_WELL = [b'%d - via_upstream - "-"' % status for status in range(1000)]


_VERSIONS = (b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2")

_plain = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')


def _quoted(value: bytes) -> bytes:
    if not value or value == b"-":
        return b"null"
    if value.translate(None, _plain):
        return msgspec.json.encode(value.decode("utf-8", "replace"))
    return b'"%b"' % value


def json_line(x: Exchange, start: bytes, duration: int, service_time: bytes) -> bytes:
    """Istio's 24 keys; what is not known is null."""
    head = x.head
    upstream = x.upstream
    return (
        b'{"start_time":"%b","method":%b,"path":%b,"protocol":"%b","response_code":%d,"response_flags":"%b",'
        b'"response_code_details":%b,"connection_termination_details":%b,"upstream_transport_failure_reason":%b,"bytes_received":%d,'
        b'"bytes_sent":%d,"duration":%d,"upstream_service_time":%b,"x_forwarded_for":%b,"user_agent":%b,"request_id":%b,'
        b'"authority":%b,%b,%b,"route_name":%b}\n'
    ) % (
        start,
        _quoted(head.method),
        _quoted(head.target),
        _VERSIONS[head.minor],
        x.status,
        x.flag,
        _quoted(x.detail),
        _quoted(x.termination),
        _quoted(x.transport_failure),
        x.received,
        x.sent,
        duration,
        _quoted(service_time),
        _quoted(x.forwarded_for),
        _quoted(head.user_agent),
        _quoted(x.request_id),
        _quoted(head.authority),
        upstream.log_json if upstream is not None else upstream_json(b"", x.backend_name, b""),
        x.log_json or _described(x).log_json,
        _quoted(x.route_name),
    )


def upstream_text(host: bytes, backend: bytes, local: bytes) -> bytes:
    return b'"%b" %b %b' % (host, backend, local or b"-")


def upstream_json(host: bytes, backend: bytes, local: bytes) -> bytes:
    return b'"upstream_host":%b,"upstream_cluster":%b,"upstream_local_address":%b' % (
        _quoted(host),
        _quoted(backend),
        _quoted(local),
    )


def downstream_text(local: bytes, peer: bytes, sni: bytes) -> bytes:
    return b"%b %b %b" % (local or b"-", peer or b"-", sni or b"-")


def downstream_json(local: bytes, peer: bytes, sni: bytes) -> bytes:
    return b'"downstream_local_address":%b,"downstream_remote_address":%b,"requested_server_name":%b' % (
        _quoted(local),
        _quoted(peer),
        _quoted(sni),
    )


class Stamps:
    """Times of the reactor's clock as ISO 8601 in UTC with milliseconds; the last one is kept, many requests share it."""

    __slots__ = ("_milliseconds", "_offset", "_prefix", "_second", "_text", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._offset = 0.0
        self._milliseconds = self._second = -1
        self._prefix = self._text = b""

    def synchronise(self, now: float) -> None:
        """Take over the wall clock's steps. Call it about once a second."""
        self._offset = self._wall() - now

    def wall_time(self, now: float) -> float:
        """Seconds since 1970."""
        return now + self._offset

    def text(self, now: float) -> bytes:
        milliseconds = int((now + self._offset) * 1000)
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            second, rest = divmod(milliseconds, 1000)
            if second != self._second:
                self._second = second
                self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second)).encode()
            self._text = b"%b%03dZ" % (self._prefix, rest)
        return self._text


class LogFile:
    """Where lines go. `lines.append(line)`, then `flush_many` at the end of each turn and `flush` every FLUSH seconds.
    dropped: lines lost because nobody read them."""

    __slots__ = ("_descriptor", "_path", "_unwritten", "dropped", "lines")

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = path
        self._descriptor = _open(path)
        self._unwritten = b""
        self.lines: list[bytes] = []
        self.dropped = 0

    def flush_many(self) -> None:
        if len(self.lines) >= _LINES:
            self.flush()

    def flush(self) -> None:
        if not self.lines and not self._unwritten:
            return
        data = b"".join(self.lines)
        count = len(self.lines)
        self.lines.clear()
        if len(self._unwritten) > _HELD:
            self.dropped += count
            data = b""
        data = self._unwritten + data
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self.dropped += count
            data, written = b"", 0
        self._unwritten = data[written:]

    def follow(self) -> None:
        """Go on in a new file of that name if the one that is open was renamed or removed: a rotated log. Not for pipes and ttys.
        The old one stays if a new one cannot be opened: a log in the wrong place is better than none."""
        opened = os.fstat(self._descriptor)
        if not stat.S_ISREG(opened.st_mode):
            return
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(opened, os.stat(self._path)):
                return
        self.flush()
        with contextlib.suppress(OSError):
            descriptor = _open(self._path)
            os.close(self._descriptor)
            self._descriptor = descriptor

    def close(self) -> None:
        self.flush()
        os.close(self._descriptor)


def _open(path: str) -> int:
    # 0640: a log names clients and paths; group may read, as distributions have it for /var/log.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o640)
