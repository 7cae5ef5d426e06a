"""HPACK encoding (RFC 7541) of HTTP/1.1 lines: without state, each line remembered with its coded bytes.

Theory of operation. Fields go as literals that are not indexed, with names from the static table where it has them, so coding depends on
nothing but the line: a block is a join of what a memo says for its lines. That costs some bytes on the wire against a dynamic table (which
would have to be searched and kept for each connection) and is several times faster. Strings are not Huffman coded: new ones would cost
more than all else here, and the peer has less to do.

Lines that HTTP/2 must not carry (RFC 9113 section 8.2.2) code to nothing, so heads of HTTP/1 go through as they are. Secrets are marked
never-indexed, so that no one behind us indexes them (RFC 7541 section 7.1.3), and like values that are always new they are not remembered.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.native.codec.fields import _SECRET_OR_NEW
from gateway.native.codec.hpack import STATIC_TABLE

_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))}  # the lowest index of a name
_WHOLE: Final = {pair: b"%c" % (0x80 | index) for index, pair in enumerate(STATIC_TABLE, 1) if pair[1]}
_SECRET = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie", b"x-api-key"))
_UNREMEMBERED = _SECRET_OR_NEW | _SECRET
# What belongs to a connection, and Host, which is :authority here: gone. `te` stays if it says `trailers`.
_DROPPED = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"http2-settings", b"host")
)
_LONGEST = 256  # bytes of a line that is remembered, as in fields.Memo
_GENERATION = 2048  # lines in a generation: two with lines of 256 bytes are 2.5 MB at most


def integer(value: int, bits: int, first: int) -> bytes:
    """RFC 7541 section 5.1: `value` in a prefix of so many bits, the other bits of the first byte being those of `first`."""
    most = (1 << bits) - 1
    if value < most:
        return b"%c" % (first | value)
    out = bytearray((first | most,))
    value -= most
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def literal(name: bytes, value: bytes) -> bytes:
    """A field that is not to be indexed; a secret one never, by anyone."""
    return _ending(_name(name), value)


def _name(name: bytes) -> bytes:
    """How a literal begins."""
    mark = 0x10 if name in _SECRET else 0x00
    index = _NAMES.get(name)
    return integer(index, 4, mark) if index is not None else b"%c%b%b" % (mark, integer(len(name), 7, 0), name)


# Lines that are coded anew each time: the names as nearly everybody writes them, and how they begin.
_NEW: Final = {written: _name(name) for name in _UNREMEMBERED for written in (name, name.title())}


def _ending(begin: bytes, value: bytes) -> bytes:
    """A literal that begins so."""
    size = len(value)
    if size < 0x7F:
        return b"%b%c%b" % (begin, size, value)
    return b"%b%b%b" % (begin, integer(size, 7, 0), value)


def field(name: bytes, value: bytes) -> bytes:
    """A field: the index of the static table's entry if it has this very field, a literal otherwise."""
    return _WHOLE.get((name, value)) or literal(name, value)


class _Lines(dict[bytes, bytes]):
    """[`Name: value`] → coded bytes, b"" for what HTTP/2 must not carry. One a process."""

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[bytes, bytes] = {}

    def __missing__(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        begin = _NEW.get(name)
        if begin is not None:
            return _ending(begin, value.strip(b" \t"))
        coded = self._old.get(line)
        if coded is None:
            name, value = name.lower(), value.strip(b" \t")
            dropped = name in _DROPPED or (name == b"te" and value.lower() != b"trailers")
            coded = b"" if dropped else field(name, value)
            if len(line) > _LONGEST or name in _UNREMEMBERED:
                return coded
        if len(self) >= _GENERATION:
            self._old = dict(self)
            self.clear()
        self[line] = coded
        return coded


class _Statuses(dict[int, bytes]):
    """[status] → coded :status. Bounded: there are 900 of them."""

    def __missing__(self, status: int) -> bytes:
        if not 100 <= status <= 999:
            raise ValueError(f"status {status} has not three digits")
        coded = self[status] = field(b":status", b"%d" % status)
        return coded


class _Beginnings(dict[tuple[bytes, bytes], bytes]):
    """[method, scheme] → both coded. Bounded: anyone may think up methods."""

    def __missing__(self, key: tuple[bytes, bytes]) -> bytes:
        coded = field(b":method", key[0]) + field(b":scheme", key[1])
        if len(self) < 64:
            self[key] = coded
        return coded


_coded = _Lines().__getitem__  # the loop over the lines runs in C
_statuses = _Statuses()
_beginnings = _Beginnings()
_PATH, _AUTHORITY = _name(b":path"), _name(b":authority")


class _Calls(dict[tuple[bytes, bytes], tuple[bytes, bytes]]):
    """[(head before its x-request-id, scheme)] → (method, coded bytes): of calls that clients repeat, which differ in that line only. As
    _Lines, it does not keep what is secret, nor what is long. One a process."""

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}

    def __missing__(self, key: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
        found = self._old.get(key)
        if found is None:
            block, scheme = key
            found = _request(block, scheme, b"")
            names = {line.partition(b":")[0].lower() for line in block.split(b"\r\n")[1:]}
            if len(block) > _LONGEST_CALL or not _UNREMEMBERED.isdisjoint(names):
                return found
        if len(self) >= _CALLS:
            self._old = dict(self)
            self.clear()
        self[key] = found
        return found


_ID = b"\r\nx-request-id: "
_CALLS = (
    512  # in a generation: more methods than a service has, times its clients' ways to call; two with 1 KiB each are 2 MB at most
)
_LONGEST_CALL = 1024
_calls = _Calls()


def call(head_block: bytes, *, scheme: bytes) -> tuple[bytes, bytes]:
    """As `request`, for what is likely to come again but for its x-request-id: a call of gRPC."""
    before, mark, after = head_block.partition(_ID)
    if not mark:
        return _request(head_block, scheme, b"")
    lines = after.split(b"\r\n")
    method, coded = _calls[before, scheme]
    return method, b"%b%b%b" % (coded, _ending(_NEW[b"x-request-id"], lines[0]), b"".join(map(_coded, lines[1:])))


def fields(lines: Iterable[bytes]) -> bytes:
    """A block of these lines."""
    return b"".join(map(_coded, lines))


def response(status: int, lines: Iterable[bytes]) -> bytes:
    """The block of a response's head."""
    return _statuses[status] + b"".join(map(_coded, lines))


def request(head_block: bytes, *, scheme: bytes, connect_protocol: bytes = b"") -> tuple[bytes, bytes]:
    """(method as sent, the block) of a request's head in the form of HTTP/1.1 (request line and lines, joined by CR LF, without the
    empty line at the end), which has been checked. connect_protocol: what makes it an extended CONNECT (RFC 8441)."""
    return _request(head_block, scheme, connect_protocol)


def _request(head_block: bytes, scheme: bytes, connect_protocol: bytes) -> tuple[bytes, bytes]:
    lines = head_block.split(b"\r\n")
    method, target, _ = lines.pop(0).split(b" ")
    authority = b""
    for line in lines:
        if line[:5].lower() == b"host:":
            authority = line[5:].strip(b" \t")
            break
    if connect_protocol:
        method = b"CONNECT"
    if method != b"CONNECT" or connect_protocol:
        pseudo = _beginnings[method, scheme] + _ending(_PATH, target)
    else:
        pseudo = field(b":method", method)
        authority = target
    if authority:
        pseudo += _ending(_AUTHORITY, authority)
    if connect_protocol:
        pseudo += literal(b":protocol", connect_protocol)
    return method, pseudo + b"".join(map(_coded, lines))
