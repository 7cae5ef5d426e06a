"""What the first line of a request, and what belongs to it, may be: methods, targets, upgrades, CONNECT (RFC 9112 section 3). Pure."""

from __future__ import annotations

import re

from gateway.errors import WrongScheme
from gateway.native.codec.events import RequestHead
from gateway.native.codec.fields import Malformed, host_meaning

_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"))
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
TARGET = bytes(
    c for c in range(0x21, 0x7F) if c != 0x23
)  # visible ASCII without "#": a fragment is never sent (RFC 9112 section 3.2)
ORDINARY = bytes(c for c in TARGET if c not in b'.%\\"<>^`{|}')  # with none of these, a path is in normal form
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]+)(.*)", re.DOTALL)


def request_line(line: bytes) -> tuple[bytes, bytes, int, bool]:
    """(method, target, minor version, whether the path may not be in normal form)."""
    words = line.split(b" ")
    if len(words) != 3:
        raise Malformed("http1.invalid_request_line")
    method, target, version = words
    if version == b"HTTP/1.1":
        minor = 1
    elif version == b"HTTP/1.0":
        minor = 0
    else:
        raise Malformed("http1.invalid_version")
    if method not in _METHODS:
        _unusual_method(method)
    odd = target.translate(None, ORDINARY)
    if odd and odd.translate(None, TARGET):
        raise Malformed("http1.invalid_target")
    return method, target, minor, bool(odd)


def _unusual_method(method: bytes) -> None:
    if _METHOD.fullmatch(method) is None:
        raise Malformed("http1.invalid_method")


def wanted_upgrade(head: RequestHead, length: int) -> bytes:
    """The upgrade that is passed on, b"" for none. A server may pass an offer over (RFC 9110 section 7.8), and this does where it
    cannot be meant or must not be: not named by Connection, beside a body, and HTTP/2 in clear, by which requests could be smuggled past
    every filter here (RFC 9113 took it out of the protocol)."""
    if b"upgrade" not in head.nominated or length or not may_upgrade(head.upgrade):
        return b""
    return head.upgrade


def may_upgrade(protocols: bytes) -> bool:
    """Whether h2c is not among these, wherever in the list."""
    return b"h2c" not in [each.strip() for each in protocols.lower().split(b",")]


def check_connect(target: bytes, head: RequestHead) -> None:
    """Authority form only, and the same that Host names (RFC 9112 section 3.2.3). Raises Malformed."""
    _, port = host_meaning(target)
    if not port or head.length:
        raise Malformed("http1.invalid_target" if not port else "http1.content_in_connect")
    if head.authority and head.host != host_meaning(target)[0]:
        raise Malformed("http1.target_contradicts_host")
    head.authority, head.host = target, host_meaning(target)[0]


def other_target(method: bytes, target: bytes, head: RequestHead, *, secure: bool) -> bytes:
    """Absolute form, which must name the authority that Host names, or `*` of OPTIONS. Returns the origin form."""
    if target == b"*" and method == b"OPTIONS":
        return target
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise Malformed("http1.invalid_target")
    if not secure and target[:6].lower() == b"https:":
        raise WrongScheme
    authority, rest = match[1], match[2]
    name, _ = host_meaning(authority)
    if head.authority and authority.lower() != head.authority.lower():
        raise Malformed("http1.target_contradicts_host")  # RFC 9112 section 3.2.2: one of two parsers would take the other
    if not head.authority:
        head.authority, head.host = authority, name
        head.lines.insert(0, b"host: " + authority)
    return rest if rest.startswith(b"/") else b"/" + rest


def in_lower_case(coding: bytes, lines: list[bytes]) -> bool:
    """Write `chunked` as everybody does, in place: there are readers that take nothing else for chunks, and read the body as another
    message. True if it was written otherwise."""
    if coding == b"chunked":
        return False
    for index, line in enumerate(lines):
        if line[:18].lower() == b"transfer-encoding:":
            lines[index] = b"transfer-encoding: chunked"
    return True


def refuse_bare_newline(buffer: bytes) -> None:
    """Raises Malformed when a head that is not complete holds a LF without CR, so that its sender does not wait for an answer."""
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        raise Malformed("http1.bare_newline")
