"""What a field of HTTP/2 is, decided once: a checked HTTP/1.1 line, and the part that it plays in a head.

Theory of operation. HPACK yields (name, value) pairs; the gateway works on HTTP/1.1 lines (see events). An Entry is the pair, its line and
its role, made when the pair is first seen: an entry in a dynamic table, in the static table or in the memo of literals is never looked at
again. A pair that no message may hold is an Entry too, of role BAD: the table of the connection must stay in step with the peer's, and only
the message that uses the entry is malformed (RFC 9113 section 8.1.1).

Names and values are checked as strictly as those of HTTP/1 (see fields), and more: names in lower case only, no space around values, nothing
that belongs to a connection (RFC 9113 sections 8.2, 8.2.1 and 8.2.2).

Pure.
"""

from __future__ import annotations

import re
from typing import Any, Final

from gateway.native.codec.fields import Kind, Malformed, host_meaning, understand
from gateway.native.codec.request_line import ORDINARY, TARGET

Entry = tuple[int, bytes, bytes, Any]
"""(role, line, name, meaning). line: always `name: value`, so that len(line) + 30 is the entry's size in a table (RFC 7541 section 4.1).
meaning, by role: SPECIAL a Field; COOKIE the value; BAD the reason, one word; METHOD, SCHEME, PROTOCOL the value; PATH (target, path, odd);
AUTHORITY (authority, host line, Field of that line); STATUS the number."""

PLAIN: Final = 0  # a line that means nothing to a gateway
SPECIAL: Final = 1
COOKIE: Final = 2
BAD: Final = 3
METHOD: Final = 4  # this and above: pseudo-header fields
PATH: Final = 5
SCHEME: Final = 6
AUTHORITY: Final = 7
PROTOCOL: Final = 8
STATUS: Final = 9

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
_STATUS = re.compile(rb"[1-9][0-9][0-9]")
_SCHEMES = frozenset((b"http", b"https"))
# RFC 9113 section 8.2.2. (`te` may come, if it says `trailers`.)
_OF_A_CONNECTION = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_HOST: Final = int(Kind.HOST)


def entry(name: bytes, value: bytes) -> Entry:
    """The Entry of a pair, whatever it is."""
    line = b"%b: %b" % (name, value)
    try:
        return _entry(name, value, line)
    except Malformed as fault:
        return BAD, line, name, fault.reason


def _entry(name: bytes, value: bytes, line: bytes) -> Entry:
    if name.startswith(b":"):
        return _pseudo(name, value, line)
    if _NAME.fullmatch(name) is None:
        raise Malformed("http2.invalid_header_name")
    if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed("http2.connection_header")
    if value != value.strip(b" \t"):
        raise Malformed("http2.invalid_header_value")
    field = understand(line)
    if field is not None:
        return SPECIAL, line, name, field
    if name == b"cookie":
        return COOKIE, line, name, value
    return PLAIN, line, name, None


def _pseudo(name: bytes, value: bytes, line: bytes) -> Entry:
    """An Entry of a pseudo-header field (RFC 9113 section 8.3). Raises Malformed."""
    if name == b":path":
        return PATH, line, name, _path(value)
    if name == b":method":
        if _TOKEN.fullmatch(value) is None:
            raise Malformed("http2.invalid_method")
        return METHOD, line, name, value
    if name == b":authority":
        return AUTHORITY, line, name, (value, b"host: " + value, (_HOST, b"host", value, host_meaning(value)))
    if name == b":scheme":
        if value not in _SCHEMES:  # as Envoy, which takes no other either
            raise Malformed("http2.invalid_scheme")
        return SCHEME, line, name, value
    if name == b":status":
        if _STATUS.fullmatch(value) is None or value == b"101":  # RFC 9113 section 8.6: no 101 here
            raise Malformed("http2.invalid_status")
        return STATUS, line, name, int(value)
    if name == b":protocol":
        if _TOKEN.fullmatch(value) is None or value.lower() == b"h2c":  # by which requests would get past every filter here
            raise Malformed("http2.invalid_protocol")
        return PROTOCOL, line, name, value
    raise Malformed("http2.unknown_pseudo_header")


def _path(value: bytes) -> tuple[bytes, bytes, bool]:
    if not value.startswith(b"/") and value != b"*":
        raise Malformed("http2.invalid_path")
    odd = value.translate(None, ORDINARY)
    if odd and odd.translate(None, TARGET):
        raise Malformed("http2.invalid_path")
    return value, value.partition(b"?")[0], bool(odd)
