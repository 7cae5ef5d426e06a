"""Bodies of HTTP/1 messages: by length, in chunks, until the end. Pure; raises Malformed.

Chunk extensions are checked, bounded and dropped: nothing behind a gateway needs them. Trailers are checked, bounded and kept apart
from the head, without those that would change what a message is, where it goes or who sends it (RFC 9110 section 6.5.1).
"""

from __future__ import annotations

import re

from gateway.native.codec.fields import Malformed, field_of, memo

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(;[\t\x20-\x7e]*)?")  # 15 digits stay under 2**63
_SIZE_LINE = 256  # bytes of a chunk's size line; extensions in the wild are chunk signatures of about 90
_EXTENSIONS = 16 * 1024  # bytes of all extensions of a message, as Go's net/http (CVE-2023-39326)
_TRAILERS = 8 * 1024  # bytes of all trailers, as Node's default for a head

_NOT_IN_TRAILERS = frozenset(
    (
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"location",
        b"set-cookie",
        b"www-authenticate",
    )
)
"""Beside everything that means something to a gateway (fields.Kind)."""


def may_trail(line: bytes) -> bool:
    """Whether a trailer goes on. Raises Malformed."""
    return memo[line] is None and field_of(line)[0] not in _NOT_IN_TRAILERS


class LengthBody:
    """Exactly `left` bytes more."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        self.left = length

    def decode(self, buffer: bytes) -> tuple[bytes, bytes, bool]:
        """(data, what is left of the buffer, whether the body is complete)."""
        left = self.left
        if len(buffer) <= left:
            self.left = left - len(buffer)
            return buffer, b"", not self.left
        self.left = 0
        return buffer[:left], buffer[left:], True


class CloseBody:
    """Until the connection ends."""

    __slots__ = ()

    def decode(self, buffer: bytes) -> tuple[bytes, bytes, bool]:
        return buffer, b"", False


class ChunkedBody:
    """Chunks. What one buffer holds of several chunks comes out as one piece of data. trailers: those that may go on."""

    __slots__ = ("_extensions", "_left", "_trailers", "trailers")

    def __init__(self) -> None:
        self.trailers: list[bytes] = []
        self._left = -1  # of the chunk: -1 = a size line is next, 0 = its CR LF
        self._extensions = 0
        self._trailers = -1  # bytes of trailers seen; -1 = not there yet

    def decode(self, buffer: bytes) -> tuple[bytes, bytes, bool]:
        parts: list[bytes] = []
        at = 0
        while self._trailers < 0:
            if self._left > 0:
                piece = buffer[at : at + self._left]
                if not piece:
                    break
                at += len(piece)
                self._left -= len(piece)
                parts.append(piece)
            elif self._left == 0:
                end = buffer[at : at + 2]
                if end != b"\r\n":
                    if end in (b"", b"\r"):
                        break
                    raise Malformed("http1.invalid_chunk_end")
                at += 2
                self._left = -1
            else:
                end_of_line = self._size_line(buffer, at)
                if end_of_line < 0:
                    break
                at = end_of_line
        done = False
        if self._trailers >= 0:
            at, done = self._trailer_lines(buffer, at)
        return b"".join(parts), buffer[at:], done

    def _size_line(self, buffer: bytes, at: int) -> int:
        """Take a size line; returns where the next byte is, -1 if the line is not complete."""
        end = buffer.find(b"\r\n", at, at + _SIZE_LINE)
        if end < 0:
            if len(buffer) - at >= _SIZE_LINE or b"\n" in buffer[at:]:
                raise Malformed("http1.invalid_chunk_size")
            return -1
        match = _SIZE.fullmatch(buffer, at, end)
        if match is None:
            raise Malformed("http1.invalid_chunk_size")
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > _EXTENSIONS:
                raise Malformed("http1.too_many_chunk_extensions")
        size = int(match[1], 16)
        if size:
            self._left = size
        else:
            self._trailers = 0
        return end + 2

    def _trailer_lines(self, buffer: bytes, at: int) -> tuple[int, bool]:
        while True:
            end = buffer.find(b"\r\n", at)
            if end == at:
                return at + 2, True
            if (end if end >= 0 else len(buffer)) - at + self._trailers > _TRAILERS:
                raise Malformed("http1.trailers_too_large")
            if end < 0:
                if b"\n" in buffer[at:]:
                    raise Malformed("http1.invalid_header")
                return at, False
            line = buffer[at:end]
            if may_trail(line):
                self.trailers.append(line)
            self._trailers += end + 2 - at
            at = end + 2


Body = LengthBody | CloseBody | ChunkedBody
