"""Decoded fields to heads: HTTP/2 requests, responses and trailers in the internal form, that of HTTP/1.1 (see events).

A message that breaks a rule of RFC 9113 section 8 is malformed: Malformed, whose reason is one word. One that is well formed but over the
limits is HeadTooLarge. Both are the stream's fault, never the connection's. Pure.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.codec.fields import Field, Kind, Malformed
from gateway.native.codec.hpack_fields import AUTHORITY, BAD, COOKIE, METHOD, PATH, PROTOCOL, SCHEME, SPECIAL, STATUS, Entry
from gateway.native.codec.http2_limits import Limits2

_USER_AGENT, _HOST, _REQUEST_ID = int(Kind.USER_AGENT), int(Kind.HOST), int(Kind.REQUEST_ID)
_LENGTH, _EXPECT = int(Kind.CONTENT_LENGTH), int(Kind.EXPECT)
_DROPPED = frozenset((int(Kind.UPGRADE), int(Kind.STRIP)))
_IN_TRAILERS = frozenset((_USER_AGENT, _REQUEST_ID))  # the only fields with a meaning that may come late: they mean nothing there


_ROLES = STATUS + 1


class HeadTooLarge(Exception):
    """Over the limits, but understood: `end` and tables are in order."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def request_head(lines: list[bytes], notable: list[Entry], limits: Limits2, *, end: bool) -> RequestHead:
    """Raises Malformed, HeadTooLarge."""
    head = RequestHead()
    pseudo: list[Any] = [None] * _ROLES
    specials: list[Field] = []
    host = None
    length = -1
    crumbs = 0
    rewrite = expect = False
    head.user_agent = head.request_id = b""
    for role, line, _, meaning in notable:
        if role >= METHOD:
            if pseudo[role] is not None:
                raise Malformed("http2.repeated_pseudo_header")
            pseudo[role] = meaning
        elif role == SPECIAL:
            kind = meaning[0]
            if kind == _USER_AGENT:
                head.user_agent = meaning[2]
            elif kind == _REQUEST_ID:
                head.request_id = meaning[2]
            elif kind == _LENGTH:
                if length >= 0:
                    raise Malformed("http2.multiple_content_lengths")
                length = meaning[3]
            elif kind == _HOST:
                if host is not None:
                    raise Malformed("http2.multiple_hosts")
                host = line, meaning
                continue
            elif kind == _EXPECT:
                expect = meaning[2].lower() == b"100-continue"
                rewrite |= not expect
            else:
                rewrite = True
            specials.append(meaning)
        elif role == COOKIE:
            crumbs += 1
        else:
            raise Malformed(meaning)
    if crumbs > 1:
        lines = _joined(lines, notable, limits)
    if len(lines) > limits.fields:
        raise HeadTooLarge("http2.too_many_headers")
    if host is not None:
        lines.remove(host[0])
        _reconcile(pseudo, *host)
    if None in pseudo[METHOD:PROTOCOL] or pseudo[PROTOCOL] or pseudo[STATUS] or pseudo[METHOD] == b"CONNECT":
        _connect(pseudo)
        rewrite, length = True, -1  # it cannot be forwarded as it is, and a length frames nothing
    method, path, _, authority, protocol, _ = pseudo[METHOD:]
    target = path[0]
    if target == b"*" and method != b"OPTIONS":
        raise Malformed("http2.invalid_path")
    if end:
        if length > 0:
            raise Malformed("http2.content_length_mismatch")
        length = 0
    field: Field = authority[2]
    specials.append(field)
    head.authority = authority[0]
    head.host = field[3][0]
    lines.insert(0, authority[1])
    head.method = method
    head.target, head.path, head.odd = path
    head.minor = 2
    start = b"%b %b HTTP/" % (method, target)
    head.line = start + b"2"
    head.lines = lines
    head.block = block = start + b"1.1\r\n" + b"\r\n".join(lines)
    if len(block) > limits.head:
        raise HeadTooLarge("http2.headers_too_large")
    head.specials = specials
    head.length = length
    head.body = b""
    head.end = end
    head.keep_alive = True
    head.expect = expect and not end
    head.rewrite = rewrite
    head.nominated = ()
    head.upgrade = protocol or b""
    return head


def _reconcile(pseudo: list[Any], line: bytes, field: Field) -> None:
    """Host beside :authority, which must say the same, or instead of it (RFC 9113 section 8.3.1)."""
    authority = pseudo[AUTHORITY]
    if authority is None:
        pseudo[AUTHORITY] = field[2], line, field
    elif authority[0].lower() != field[2].lower():
        raise Malformed("http2.authority_contradicts_host")


def _connect(pseudo: list[Any]) -> None:
    """A plain CONNECT (RFC 9113 section 8.5) gets its authority as target, an extended one (RFC 8441 section 4) becomes a GET. Raises
    Malformed for all else that is not as requests usually are."""
    if pseudo[STATUS]:
        raise Malformed("http2.status_in_request")
    for role, missing in ((METHOD, "http2.missing_method"), (AUTHORITY, "http2.missing_authority")):
        if pseudo[role] is None:
            raise Malformed(missing)
    connect = pseudo[METHOD] == b"CONNECT"
    if pseudo[PROTOCOL] and not connect:
        raise Malformed("http2.protocol_without_connect")
    if connect and not pseudo[PROTOCOL]:
        if pseudo[PATH] or pseudo[SCHEME]:
            raise Malformed("http2.connect_with_path")
        pseudo[PATH] = pseudo[AUTHORITY][0], b"", False
        return
    for role, missing in ((PATH, "http2.missing_path"), (SCHEME, "http2.missing_scheme")):
        if pseudo[role] is None:
            raise Malformed(missing)
    pseudo[METHOD] = b"GET"


def _joined(lines: list[bytes], notable: list[Entry], limits: Limits2) -> list[bytes]:
    """The lines with all cookie crumbs in one, where the first was (RFC 9113 section 8.2.3)."""
    crumbs = [(line, value) for role, line, _, value in notable if role == COOKIE]
    if sum(len(line) for line, _ in crumbs) > limits.head:  # before anything is copied: crumbs may all be one entry of a table
        raise HeadTooLarge("http2.headers_too_large")
    at = lines.index(crumbs[0][0])
    gone = {line for line, _ in crumbs}
    rest = [line for line in lines if line not in gone]
    rest.insert(at, b"cookie: " + b"; ".join(value for _, value in crumbs))
    return rest


class _Starts(dict[int, bytes]):
    """[status] → status line of HTTP/1.1. Bounded: there are 900 of them."""

    def __missing__(self, status: int) -> bytes:
        try:
            phrase = HTTPStatus(status).phrase.encode()
        except ValueError:
            phrase = b"Unknown"
        start = self[status] = b"HTTP/1.1 %d %b" % (status, phrase)
        return start


_starts = _Starts()


def response_head(lines: list[bytes], notable: list[Entry], limits: Limits2, *, end: bool, method: bytes) -> ResponseHead:
    """method: of the request. Raises Malformed, HeadTooLarge."""
    status = 0
    length = -1
    rewrite = False
    specials: list[Field] = []
    for role, _, _, meaning in notable:
        if role == STATUS:
            if status:
                raise Malformed("http2.repeated_pseudo_header")
            status = meaning
        elif role == SPECIAL:
            kind = meaning[0]
            if kind == _LENGTH:
                if length >= 0:
                    raise Malformed("http2.multiple_content_lengths")
                length = meaning[3]
            elif kind in _DROPPED:
                rewrite = True
            specials.append(meaning)
        elif role != COOKIE:
            raise Malformed(meaning if role == BAD else "http2.request_pseudo_header_in_response")
    if not status:
        raise Malformed("http2.missing_status")
    if len(lines) > limits.fields:
        raise HeadTooLarge("http2.too_many_headers")
    bodiless = method == b"HEAD" or status == 204 or status == 304
    if method == b"CONNECT" and status < 300:
        length = -1  # it frames nothing: RFC 9110 section 9.3.6
    interim = status < 200
    if end:
        if interim or (length > 0 and not bodiless):
            raise Malformed("http2.content_length_mismatch" if not interim else "http2.interim_with_end")
        length = 0
    elif length > 0 and bodiless:
        length = 0
    head = ResponseHead()
    head.status = status
    head.minor = 2
    head.start = _starts[status]
    head.lines = lines
    head.raw = raw = b"\r\n".join(lines)
    if len(raw) > limits.head:
        raise HeadTooLarge("http2.headers_too_large")
    head.specials = specials
    head.length = 0 if interim else length
    head.body = b""
    head.end = end or interim
    head.interim = interim
    head.keep_alive = True
    head.rewrite = rewrite
    head.nominated = ()
    return head


def trailer_lines(lines: list[bytes], notable: list[Entry], limits: Limits2) -> list[bytes]:
    """Fields after the body that may be passed on: none that frames, routes or belongs to a hop. Raises Malformed, HeadTooLarge."""
    if len(lines) > limits.fields:
        raise HeadTooLarge("http2.too_many_headers")
    if sum(map(len, lines)) > limits.head:
        raise HeadTooLarge("http2.headers_too_large")
    dropped = set()
    for role, line, _, meaning in notable:
        if role >= METHOD:
            raise Malformed("http2.pseudo_header_in_trailers")
        if role == BAD:
            raise Malformed(meaning)
        if role == SPECIAL and meaning[0] not in _IN_TRAILERS:
            dropped.add(line)
    return [line for line in lines if line not in dropped] if dropped else lines
