"""Answers that the gateway gives by itself, as ready bytes. Pure."""

from __future__ import annotations

from http import HTTPStatus

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def reason(status: int) -> bytes:
    """The reason phrase; b"" for a status nobody registered."""
    return _REASONS.get(status, b"")


def reply(
    status: int,
    body: bytes = b"",
    *,
    headers: tuple[bytes, ...] = (),
    method: bytes = b"GET",
    close: bool = False,
    minor: int = 1,
) -> bytes:
    """A whole response, its headers but for the framing being given. minor: the client's HTTP version; 1.0 is told when the connection
    stays open."""
    lines = [b"HTTP/1.1 %d %b" % (status, reason(status)), *headers]
    if status != 204 and status != 304:
        lines.append(b"content-length: %d" % len(body))
    if close:
        lines.append(b"connection: close")
    elif minor == 0:
        lines.append(b"connection: keep-alive")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if method == b"HEAD" or status in (204, 304) else head + body


_BAD: dict[tuple[int, bytes], bytes] = {}


TEXT = b"content-type: text/plain"
"""Of every body that a gateway writes itself, unless a route says otherwise."""


def refusal(status: int, body: bytes) -> bytes:
    """The answer to what is not HTTP, after which the connection is closed. The same bytes every time: an attack costs little."""
    known = _BAD.get((status, body))
    if known is None:
        known = _BAD[(status, body)] = reply(status, body, headers=(TEXT,) if body else (), close=True)
    return known
