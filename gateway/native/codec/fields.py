"""Header lines: each is checked whole when it is first seen, and what it means is remembered.

Theory of operation. Most header lines that a gateway sees it has seen before (accept, user-agent, host, content-type …). So a line is
looked up whole, as raw bytes, in a bounded memo: the answer is None for a line that is fine and means nothing to a gateway, or a Field
for one that does. What is not there is checked by one strict expression. Measured against callbacks per header in
docs/decisions/0002-own-http1-head-parser.md.

The memo is per line, never per head: a head is always taken apart, its lines counted and its framing decided afresh. It never holds
what is secret (authorization, cookie) or new every time (request ids, traces), nor long lines. It has two generations: when the
young one is full it becomes the old one and the old one is dropped, so lines in use stay and a client that sends ever new lines
costs a check each, no memory.

Pure.
"""

from __future__ import annotations

import enum
import re
from typing import Any


class Malformed(Exception):
    """Bytes that are not what the grammar says, or that two parsers could read differently. `reason` is one word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kind(enum.IntEnum):
    """What a line means to a gateway. STRIP and above are never forwarded as they came."""

    USER_AGENT = 1
    HOST = 2
    REQUEST_ID = 3
    CONTENT_LENGTH = 4
    TRANSFER_ENCODING = 5
    EXPECT = 6
    UPGRADE = 7  # of one hop; what a request asks for by it is said anew where it is passed on
    STRIP = 8
    CONNECTION = 9  # value: the names it nominates
    FORWARDED_FOR = 10
    FORWARDED_PROTO = 11
    CLIENT_CERT = 12  # x-forwarded-client-cert: only who saw the certificate may say so
    ENVOY = 13  # x-envoy-*: orders to a proxy (timeouts, retries) that an outside client must not give
    HOPS = 14
    GRPC = 15  # a content-type of gRPC
    TIMEOUT = 16  # x-envoy-upstream-rq-*timeout-ms: orders that a proxy before us may give, for us alone


Field = tuple[int, bytes, bytes, Any]
"""(kind, lower-case name, value, meaning): meaning is an int for CONTENT_LENGTH, (routing name, port text) for HOST, the
nominated names for CONNECTION."""

UNSENT = b"x-fedgate-unsent"
"""On an answer of a peer's gateway itself that reached no endpoint: nothing was done, so the request may go elsewhere."""

_KINDS = {
    b"user-agent": Kind.USER_AGENT,
    b"host": Kind.HOST,
    b"x-request-id": Kind.REQUEST_ID,
    b"content-length": Kind.CONTENT_LENGTH,
    b"transfer-encoding": Kind.TRANSFER_ENCODING,
    b"expect": Kind.EXPECT,
    b"upgrade": Kind.UPGRADE,
    b"connection": Kind.CONNECTION,
    # Hop by hop (RFC 9110 section 7.6.1).
    b"keep-alive": Kind.STRIP,
    b"proxy-connection": Kind.STRIP,
    b"proxy-authorization": Kind.STRIP,
    b"te": Kind.STRIP,
    b"http2-settings": Kind.STRIP,
    b"x-envoy-upstream-rq-timeout-ms": Kind.TIMEOUT,
    b"x-envoy-upstream-rq-per-try-timeout-ms": Kind.TIMEOUT,
    b"x-envoy-attempt-count": Kind.STRIP,  # every gateway says its own
    b"x-envoy-original-path": Kind.STRIP,
    b"x-envoy-expected-rq-timeout-ms": Kind.STRIP,
    UNSENT: Kind.STRIP,
    b"x-forwarded-for": Kind.FORWARDED_FOR,
    b"x-forwarded-proto": Kind.FORWARDED_PROTO,
    b"x-forwarded-client-cert": Kind.CLIENT_CERT,
    b"x-fedgate-hops": Kind.HOPS,
}

_REQUEST_ID = int(Kind.REQUEST_ID)
_SECRET_OR_NEW = frozenset(
    (
        b"authorization",
        b"cookie",
        b"set-cookie",
        b"x-api-key",
        b"x-request-id",
        b"traceparent",
        b"tracestate",
        b"b3",
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-parentspanid",
    )
)
_UNREMEMBERED = _SECRET_OR_NEW | {name.title() for name in _SECRET_OR_NEW}  # as nearly everybody writes them
_REQUEST_IDS = frozenset((b"x-request-id", b"X-Request-Id"))
_LONGEST = 256  # bytes of a line that is remembered; user agents of browsers are 80 to 150
_GENERATION = 2048  # lines in a generation: two of them with lines of 256 bytes are about 1.5 MB at most

# RFC 9110 section 5: token ":" OWS value OWS. A value holds no control character but tab, so no CR, LF or NUL; a line that begins with
# space is obs-fold, one with space before the colon is refused (RFC 9112 section 5.1): neither matches.
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff]+(?:[ \t]+[\x21-\x7e\x80-\xff]+)*)?)[ \t]*")
_VALUE = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))  # what a value may hold, as _LINE
_TOKENS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST = re.compile(rb"([0-9A-Za-z\-._~!$&'()*+,;=%]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{0,5}))?")
_GRPC = re.compile(rb"application/grpc(?:\+|;|\Z)")  # not grpc-web, whose errors are said in a body
_LENGTH = re.compile(rb"[0-9]{1,18}")  # 18 digits stay under 2**63


def field_of(line: bytes) -> tuple[bytes, bytes]:
    """(lower-case name, value) of a line. Raises Malformed."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise Malformed("http1.invalid_header")
    return match[1].lower(), match[2]


def host_meaning(value: bytes) -> tuple[bytes, bytes]:
    """(routing name, port text) of a Host. Raises Malformed."""
    match = _HOST.fullmatch(value)
    if match is None:
        raise Malformed("http1.invalid_host")
    return match[1].lower(), match[2] or b""


def _meaning(kind: Kind, value: bytes) -> Any:
    if kind == Kind.HOST:
        return host_meaning(value)
    if kind == Kind.CONTENT_LENGTH:
        if _LENGTH.fullmatch(value) is None:
            raise Malformed("http1.invalid_content_length")  # a sign, a list, nothing, hexadecimal
        return int(value)
    if kind == Kind.CONNECTION:
        names = tuple(name.strip(b" \t").lower() for name in value.split(b",") if name.strip(b" \t"))
        if not all(_TOKENS.fullmatch(name) for name in names):
            raise Malformed("http1.invalid_connection")
        return names
    return None


def understand(line: bytes) -> Field | None:
    """What a line never seen means; None for an ordinary one. Raises Malformed."""
    name, value = field_of(line)
    kind = _KINDS.get(name)
    if kind is None:
        if name.startswith(b"x-envoy-"):
            kind = Kind.ENVOY
        elif name == b"content-type" and _GRPC.match(value):
            kind = Kind.GRPC
        else:
            return None
    return (int(kind), name, value, _meaning(kind, value))


class Memo(dict[bytes, "Field | None"]):
    """memo[line] → None (an ordinary line) or its Field. Raises Malformed. One a process."""

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[bytes, Field | None] = {}

    def __missing__(self, line: bytes) -> Field | None:
        name = line[: line.find(b":")]
        if name in _UNREMEMBERED and not line.translate(None, _VALUE):
            return None if name not in _REQUEST_IDS else (_REQUEST_ID, b"x-request-id", line[13:].strip(b" \t"), None)
        if name.lower() in _SECRET_OR_NEW:
            return understand(line)
        if line in self._old:
            field = self._old[line]
        else:
            field = understand(line)
            if len(line) > _LONGEST:
                return field
        if len(self) >= _GENERATION:
            self._old = dict(self)
            self.clear()
        self[line] = field
        return field


memo = Memo()
