"""HTTP/1.1 and 1.0, both sides, strictly: a message that two parsers could read differently is refused (DESIGN section 7).

Theory of operation. A codec holds the bytes that were received and not yet understood. `next_event` takes the next thing out of
them: a head, bytes of a body, END. So pipelined requests wait in it unread until the one before is answered, and nothing is parsed
that nobody asked for. Heads are taken apart by `split` and a memo of lines (see fields); bodies by `body`.

What is refused, with 400 (or 502 from upstream) and the connection closed: Transfer-Encoding beside Content-Length, or anything but
exactly `chunked`, or in HTTP/1.0; a bare CR or LF; a folded header; space before a colon; no Host or several; several Content-Length
headers, or one with a sign or a list; control characters and bytes above 126 in the target, and `#`; an absolute target that names
another authority than Host. 431: a head over 60 KiB or 100 headers. Chunk extensions are checked and dropped.

Pure: raises GatewayError (BadRequest, HeadersTooLarge …; UpstreamProtocolError from the client side).
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest, HeadersTooLarge, UpstreamProtocolError
from gateway.native.codec.body import Body, ChunkedBody, CloseBody, LengthBody
from gateway.native.codec.events import END, End, RequestHead, ResponseHead, Trailers
from gateway.native.codec.fields import Kind, Malformed, memo
from gateway.native.codec.request_line import (
    check_connect,
    in_lower_case,
    other_target,
    refuse_bare_newline,
    request_line,
    wanted_upgrade,
)

HEAD_LIMIT = 60 * 1024  # Envoy's max_request_headers_kb default
HEADERS_LIMIT = 100  # Envoy's max_headers_count default

_understood = memo.__getitem__  # line → Field or None; the loop over the lines runs in C
# What a request that is not complete may begin with: a method as far as it came, after an empty line perhaps (section 2.2).
_BEGINNING = re.compile(rb"\r\Z|(?:\r\n)?[!#$%&'*+\-.^_`|~0-9A-Za-z]{0,64}(?:\Z| )")
_ANSWER = b"HTTP/1."
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?")

_USER_AGENT, _HOST, _REQUEST_ID = int(Kind.USER_AGENT), int(Kind.HOST), int(Kind.REQUEST_ID)
_LENGTH, _CODING, _EXPECT, _CONNECTION = (
    int(Kind.CONTENT_LENGTH),
    int(Kind.TRANSFER_ENCODING),
    int(Kind.EXPECT),
    int(Kind.CONNECTION),
)
_UPGRADE = int(Kind.UPGRADE)
_DROPPED = frozenset((int(Kind.UPGRADE), int(Kind.STRIP)))


class _Receiver:
    """What both sides share: the buffer and the body that is being read."""

    __slots__ = ("_body", "_pending_end", "buffer")

    def __init__(self) -> None:
        self.buffer = b""  # received and not yet given out
        self._body: Body | None = None
        self._pending_end = False

    def receive(self, data: bytes) -> None:
        """Take bytes that came from the connection."""
        self.buffer = self.buffer + data if self.buffer else data

    def _begin(self, head: RequestHead | ResponseHead, length: int, buffer: bytes) -> Body | None:
        """The body that follows a head; None if all of it is there already, and then the head has it."""
        if length > 0:
            if len(buffer) >= length:
                head.body = buffer[:length]
                head.end = True
                self.buffer = buffer[length:]
                return None
            return LengthBody(length)
        return ChunkedBody() if length == -1 else CloseBody()

    def _next_of_body(self, body: Body) -> bytes | Trailers | End | None:
        if not self._pending_end:
            data, self.buffer, done = body.decode(self.buffer)
            self._pending_end = done
            if data or not done:
                return data or None
        if type(body) is ChunkedBody and body.trailers:
            trailers, body.trailers = body.trailers, []
            return Trailers(trailers)
        self._pending_end = False
        self._body = None
        return END


class ServerCodec(_Receiver):
    """Reads requests. secure: they come over TLS. After END (or a head with `end`), `next_event` goes on to the next request: ask only
    once it may begin."""

    __slots__ = ("secure",)

    def __init__(self) -> None:
        super().__init__()
        self.secure = False

    def next_event(self, data: bytes = b"") -> RequestHead | bytes | Trailers | End | None:
        """Receive `data`, then: the next thing in what was received; None when more is needed. Raises GatewayError; the connection
        is then of no use."""
        buffer = self.buffer = self.buffer + data if self.buffer else data
        body = self._body
        try:
            if body is not None:
                return self._next_of_body(body)
            at = buffer.find(b"\r\n\r\n")
            if not 0 < at <= HEAD_LIMIT:
                return self._incomplete(buffer, at)  # type: ignore[func-returns-value]
            head = self._head(buffer[:at])
            self.buffer = buffer = buffer[at + 4 :]
            if not head.end:
                self._body = self._begin(head, head.length, buffer)
            return head
        except Malformed as fault:
            raise BadRequest(fault.reason) from None

    def _incomplete(self, buffer: bytes, at: int) -> None:
        if not at:
            raise Malformed("http1.invalid_request_line")
        if at > HEAD_LIMIT or len(buffer) > HEAD_LIMIT:
            raise HeadersTooLarge
        refuse_bare_newline(buffer)
        if _BEGINNING.match(buffer) is None:  # what is no HTTP may never send an end of head: it is told at once
            raise Malformed("http1.invalid_request_line")
        return None

    def _head(self, block: bytes) -> RequestHead:
        lines = block.split(b"\r\n")
        first = lines.pop(0)
        if not first and lines:  # an empty line before a request is skipped (RFC 9112 section 2.2): one, as old clients send
            block, first = block[2:], lines.pop(0)
        if len(lines) > HEADERS_LIMIT:
            raise HeadersTooLarge("http1.too_many_headers")
        method, target, minor, odd = request_line(first)
        head = RequestHead()
        head.odd = odd
        head.method = method
        head.minor = minor
        head.line = first
        head.lines = lines
        head.block = block
        head.specials = specials = list(filter(None, map(_understood, lines)))
        length = coded = -1
        hosts = 0
        keep_alive = minor == 1
        rewrite = minor == 0
        expect = False
        head.user_agent = head.request_id = head.upgrade = b""
        head.nominated = ()
        for field in specials:
            kind = field[0]
            if kind == _HOST:
                hosts += 1
                head.authority = field[2]
                head.host = field[3][0]
            elif kind == _USER_AGENT:
                head.user_agent = field[2]
            elif kind == _LENGTH:
                if length >= 0:
                    raise Malformed("http1.multiple_content_lengths")
                length = field[3]
            elif kind == _REQUEST_ID:
                head.request_id = field[2]
            elif kind == _CODING:
                if coded >= 0 or field[2].lower() != b"chunked" or not minor:
                    raise Malformed("http1.invalid_transfer_encoding")
                coded = 1
                rewrite |= in_lower_case(field[2], lines)
            elif kind == _CONNECTION:
                rewrite = True
                names = field[3]
                if b"close" in names:
                    keep_alive = False
                elif not minor and b"keep-alive" in names:
                    keep_alive = True
                head.nominated += names
            elif kind == _EXPECT:
                expect = minor == 1 and field[2].lower() == b"100-continue"
                rewrite |= not expect
            elif kind == _UPGRADE:
                head.upgrade = head.upgrade + b", " + field[2] if head.upgrade else field[2]
                rewrite = True
            else:
                rewrite = True
        if hosts != 1 and (hosts or minor):
            raise Malformed("http1.missing_host" if not hosts else "http1.multiple_hosts")
        if not hosts:
            head.authority = head.host = b""
        if coded >= 0 and length >= 0:
            raise Malformed("http1.content_length_and_transfer_encoding")
        if coded < 0 and length < 0:
            length = 0
        if head.upgrade:
            head.upgrade = wanted_upgrade(head, length) if minor else b""
        head.length = length
        head.body = b""
        head.end = not length
        head.keep_alive = keep_alive
        head.expect = expect and length != 0
        head.rewrite = rewrite
        if not target.startswith(b"/") or method == b"CONNECT":
            target = self._other_target(method, target, head)
            if not target:
                return head
        head.target = target
        head.path = target.partition(b"?")[0]
        return head

    def _other_target(self, method: bytes, target: bytes, head: RequestHead) -> bytes:
        """Of a target that is no path: the one that it stands for; b"" for CONNECT's, which is in the head then. Raises GatewayError."""
        head.rewrite = True
        if method != b"CONNECT":
            return other_target(method, target, head, secure=self.secure)
        check_connect(target, head)
        head.target, head.path = target, b""
        return b""


class ClientCodec(_Receiver):
    """Reads responses. `expect`: the method of the request answered next; after END (or a head with `end`) the response is complete.
    upgrade: that request asked for another protocol, and 101 gives it: what follows the head is not HTTP and stays in `buffer`, as after
    a 2xx to CONNECT."""

    __slots__ = ("expect", "upgrade")

    def __init__(self) -> None:
        super().__init__()
        self.expect = b""
        self.upgrade = False

    def next_event(self, data: bytes = b"") -> ResponseHead | bytes | Trailers | End | None:
        """As ServerCodec.next_event. Raises UpstreamProtocolError."""
        buffer = self.buffer = self.buffer + data if self.buffer else data
        body = self._body
        try:
            if body is not None:
                return self._next_of_body(body)
            at = buffer.find(b"\r\n\r\n")
            if 0 < at <= HEAD_LIMIT:
                head = self._head(buffer[:at])
                self.buffer = buffer = buffer[at + 4 :]
                if not head.end:
                    self._body = self._begin(head, head.length, buffer)
                return head
            if len(buffer) > HEAD_LIMIT or not at:
                raise Malformed("http1.headers_too_large" if at else "http1.invalid_status_line")
            refuse_bare_newline(buffer)
            if not buffer.startswith(_ANSWER[: len(buffer)]):
                raise Malformed("http1.invalid_status_line")
            return None
        except Malformed as fault:
            raise UpstreamProtocolError(f"upstream_reset_before_response_started{{protocol_error|{fault.reason}}}") from None

    @property
    def left(self) -> int:
        """Bytes of a body by length that were not received yet; 0 for any other."""
        body = self._body
        return body.left - len(self.buffer) if type(body) is LengthBody else 0

    def passed(self, count: int) -> None:
        """So many bytes of the body by length went another way than through this codec."""
        assert type(self._body) is LengthBody
        self._body.left -= count

    def ended(self) -> bool:
        """The connection has ended: True if that ends the body as it may, False if something is missing."""
        whole = self._pending_end or isinstance(self._body, CloseBody)
        self._body, self._pending_end = None, False
        return whole

    def _head(self, block: bytes) -> ResponseHead:
        lines = block.split(b"\r\n")
        start = lines.pop(0)
        if len(lines) > HEADERS_LIMIT:
            raise Malformed("http1.too_many_headers")
        head = ResponseHead()
        head.start = start
        minor, status = _statuses[start]
        head.minor = minor
        head.status = status
        head.lines = lines
        head.raw = block[len(start) + 2 :]
        head.specials = specials = list(filter(None, map(_understood, lines)))
        length = coded = -1
        keep_alive = minor == 1
        rewrite = False
        head.nominated = ()
        for field in specials:
            kind = field[0]
            if kind == _LENGTH:
                if length >= 0:
                    raise Malformed("http1.multiple_content_lengths")
                length = field[3]
            elif kind == _CODING:
                if coded >= 0 or field[2].lower() != b"chunked" or not minor:
                    raise Malformed("http1.invalid_transfer_encoding")
                coded = 1
                rewrite |= in_lower_case(field[2], lines)
            elif kind == _CONNECTION:
                rewrite = True
                names = field[3]
                if b"close" in names:
                    keep_alive = False
                elif not minor and b"keep-alive" in names:
                    keep_alive = True
                head.nominated += names
            elif kind in _DROPPED:
                rewrite = True
        if coded >= 0 and length >= 0:
            raise Malformed("http1.content_length_and_transfer_encoding")
        head.interim = status < 200
        if (status == 101 and self.upgrade) or (self.expect == b"CONNECT" and 200 <= status < 300):
            head.interim = head.rewrite = False
            head.end = True
            head.length = 0
            head.body = b""
            head.keep_alive = False
            return head
        if self.expect == b"HEAD" or status < 200 or status == 204 or status == 304:
            if coded >= 0 and status < 300:
                rewrite = True  # RFC 9112 section 6.1: no Transfer-Encoding in a 1xx or 204
            if length > 0 and status == 204:
                raise Malformed("http1.content_in_204")
            head.end = True
            length = 0
        elif coded >= 0:
            head.end = False
            length = -1
        elif length < 0:
            head.end = False
            length = -2
            keep_alive = False
        else:
            head.end = length == 0
        if status == 101:
            raise Malformed("http1.unasked_upgrade")
        head.length = length
        head.body = b""
        head.keep_alive = keep_alive
        head.rewrite = rewrite
        return head


class _StatusLines(dict[bytes, tuple[int, int]]):
    """Status line → (minor version, status). Raises Malformed. Bounded: a server has a handful of them."""

    def __missing__(self, line: bytes) -> tuple[int, int]:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise Malformed("http1.invalid_status_line")
        meaning = int(match[1]), int(match[2])
        if len(self) < 512:
            self[line] = meaning
        return meaning


_statuses = _StatusLines()

Codec = ServerCodec | ClientCodec
