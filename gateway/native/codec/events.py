"""What a codec says: heads, bytes of a body, END. The same for every version of HTTP.

A codec is sans-I/O: `receive(bytes)`, then `next_event()` until it says None ("more bytes, please"). A head with `end` set is a whole
message, `body` included; otherwise bytes follow, then END. Bytes of a body are plain `bytes` objects, framing removed.
"""

from __future__ import annotations

import enum
from typing import Final

from gateway.native.codec.fields import Field, Kind


class End(enum.Enum):
    """The message is complete."""

    END = "end"

    def __repr__(self) -> str:
        return "END"


END: Final = End.END


class Trailers:
    """Fields that come after the body: raw lines, accepted, those that only a hop may say already gone. Before END."""

    __slots__ = ("lines",)

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def __repr__(self) -> str:
        return f"<Trailers {len(self.lines)} lines>"


class RequestHead:
    """A request's head, accepted: nothing in it can be read in two ways.

    line: the request line as it came. target: the target in origin form (or `*`); path: the same without the query. host: lower case,
    without port, for routing; authority: as the client wrote it. lines: the raw header lines; specials: those that mean something to
    a gateway. block: request line and header lines as they came; may be forwarded whole unless `rewrite` says that something in it
    must not. odd: the path may not be in normal form.
    length: of the body; -1 = not known (chunked, HTTP/2 without content-length), 0 = none. body: all of it, if it came with the head.
    nominated: names that the Connection header makes hop-by-hop. minor: of HTTP/1.x; 2 for HTTP/2, whose heads are kept in the form
    of HTTP/1.1 (lines, block) all the same. upgrade: the protocol asked for instead of HTTP: the Upgrade header's value, or `:protocol`
    of an extended CONNECT (RFC 8441), which is a GET here; b"" = none.
    """

    __slots__ = (
        "authority",
        "block",
        "body",
        "end",
        "expect",
        "host",
        "keep_alive",
        "length",
        "line",
        "lines",
        "method",
        "minor",
        "nominated",
        "odd",
        "path",
        "request_id",
        "rewrite",
        "specials",
        "target",
        "upgrade",
        "user_agent",
    )
    method: bytes
    target: bytes
    path: bytes
    minor: int
    line: bytes
    lines: list[bytes]
    block: bytes
    odd: bool
    specials: list[Field]
    host: bytes
    authority: bytes
    user_agent: bytes
    request_id: bytes
    length: int
    body: bytes
    end: bool
    keep_alive: bool
    expect: bool
    rewrite: bool
    nominated: tuple[bytes, ...]
    upgrade: bytes

    def values(self, name: bytes) -> list[bytes]:
        """Values of every header of that lower-case name, in order."""
        return _values(self.lines, name)

    def special(self, kind: Kind) -> list[Field]:
        return [field for field in self.specials if field[0] == kind]

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r} host={self.host!r} length={self.length}>"


class ResponseHead:
    """A response's head. length: of the body; -1 = chunked, -2 = until the connection closes, 0 = none. body: as in RequestHead.

    interim: a 1xx, another head follows. start: the status line as it came; raw, rewrite, nominated: as in RequestHead.
    """

    __slots__ = (
        "body",
        "end",
        "interim",
        "keep_alive",
        "length",
        "lines",
        "minor",
        "nominated",
        "raw",
        "rewrite",
        "specials",
        "start",
        "status",
    )
    status: int
    minor: int
    start: bytes
    lines: list[bytes]
    raw: bytes
    specials: list[Field]
    length: int
    body: bytes
    end: bool
    interim: bool
    keep_alive: bool
    rewrite: bool
    nominated: tuple[bytes, ...]

    def values(self, name: bytes) -> list[bytes]:
        return _values(self.lines, name)

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} length={self.length}>"


def _values(lines: list[bytes], name: bytes) -> list[bytes]:
    """Lines were accepted: a name stands before the first colon, and nothing between."""
    start = name + b":"
    size = len(start)
    return [line[size:].strip(b" \t") for line in lines if line[:size].lower() == start]
