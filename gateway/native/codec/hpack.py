"""HPACK decoding (RFC 7541): header blocks to lines and to what in them means something.

Theory of operation. Tables hold Entries (see hpack_fields): checked, with their HTTP/1.1 line ready. A field that is indexed costs a look
into a list. A literal whose name is spelled out or in the static table is looked up by its coded bytes as they are, Huffman and all, in a
memo that all connections share: bounded, in two generations, without what is secret or new every time (see fields.Memo, whose rules these
are). What the peer marked as never to be indexed is remembered too, but by this connection only and little of it, like its dynamic table.

How much a block can decode to: entries are shared, so each byte of a block, which is bounded, costs one reference; the caller counts them
before it copies anything (HPACK bombs, CVE-2016-1546 and the like).

Pure.
"""

from __future__ import annotations

from typing import Final

from gateway.native.codec.fields import _SECRET_OR_NEW
from gateway.native.codec.hpack_fields import BAD, METHOD, Entry, entry
from gateway.native.codec.huffman import HuffmanFault, decode

TABLE_SIZE: Final = 4096  # bytes of a dynamic table: the protocol's default, which nearly everybody keeps (nginx, Envoy)
_OVERHEAD: Final = 30  # RFC 7541 section 4.1 counts 32 an entry; our lines have ": " in them
_MISPLACED: Final[Entry] = (BAD, b"", b"", "http2.pseudo_header_after_field")

_LONGEST = 256  # bytes of a literal that all connections remember: as fields.Memo
_GENERATION = 8192  # literals in a generation, so that thousands of paths in use stay: 5 MB usually, 16 MB if all are long
_OWN = 8  # literals marked never-indexed that a connection remembers: a token or two and some cookies
_OWN_LONGEST = 4096  # bytes of such: a large token; so a connection keeps 32 KB at most

# RFC 7541 Appendix A.
STATIC_TABLE: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    *((b":status", status) for status in b"200 204 206 304 400 404 500".split()),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    *(
        (name, b"")
        for name in (
            b"accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control "
            b"content-disposition content-encoding content-language content-length content-location content-range content-type cookie "
            b"date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since last-modified "
            b"link location max-forwards proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
            b"strict-transport-security transfer-encoding user-agent vary via www-authenticate"
        ).split()
    ),
)
_STATIC: Final[tuple[Entry, ...]] = ((BAD, b"", b"", ""), *(entry(name, value) for name, value in STATIC_TABLE))
_FIRST: Final = len(_STATIC)  # 62, index of the newest entry of the dynamic table
_UNREMEMBERED = _SECRET_OR_NEW | {b"proxy-authorization"}


class CompressionFault(Exception):
    """A header block that cannot be decoded: the tables are out of step from here on, the connection is of no use."""


def _integer(data: bytes, at: int, value: int) -> tuple[int, int]:
    """(the integer whose prefix, all ones, was `value`; where the next byte is). RFC 7541 section 5.1."""
    shift = 0
    while True:
        byte = data[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 21:  # 28 bits are far over any length or index here; more is padding or an attack
            raise CompressionFault("an integer is too long")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    first = data[at]
    length = first & 0x7F
    at += 1
    if length == 0x7F:
        length, at = _integer(data, at, 0x7F)
    string = data[at : at + length]
    if len(string) != length:
        raise CompressionFault("a string is cut short")
    return (decode(string) if first & 0x80 else string), at + length


def _pair(literal: bytes) -> tuple[bytes, bytes]:
    """(name, value) of a literal whose name is not in a dynamic table."""
    mask = 0x3F if literal[0] & 0x40 else 0x0F
    index, at = literal[0] & mask, 1
    if index == mask:
        index, at = _integer(literal, at, mask)
    if index:
        name = _STATIC[index][2]
    else:
        name, at = _string(literal, at)
    return name, _string(literal, at)[0]


class _Literals(dict[bytes, Entry]):
    """[coded literal] → Entry. One a process."""

    def __init__(self) -> None:
        super().__init__()
        self._old: dict[bytes, Entry] = {}

    def __missing__(self, literal: bytes) -> Entry:
        found = self._old.get(literal)
        if found is None:
            found = entry(*_pair(literal))
            if len(literal) > _LONGEST or found[2] in _UNREMEMBERED or found[0] == BAD:
                return found
        if len(self) >= _GENERATION:
            self._old = dict(self)
            self.clear()
        self[literal] = found
        return found


_literals = _Literals()


# Blocks that a connection repeats word for word: a client that asks the same again and again has one, a proxy a handful.
_BLOCKS = 32
_BLOCK = 64  # bytes, and so fields, of one


class Decoder:
    """Decodes the header blocks of one connection, in their order, each whole: the table of the peer's encoder is followed by that."""

    __slots__ = ("_blocks", "_capacity", "_entries", "_own", "_size", "limit")

    def __init__(self, limit: int = TABLE_SIZE) -> None:
        """limit: what our SETTINGS_HEADER_TABLE_SIZE says."""
        self.limit = limit
        self._capacity = limit
        self._entries = list(_STATIC)  # both tables, at the indexes that the protocol gives them: the newest entry is number 62
        self._size = 0
        self._own: dict[bytes, Entry] = {}
        self._blocks: dict[bytes, tuple[list[bytes], list[Entry]]] = {}  # of indexes alone, as long as the table stays as it is

    def decode(self, block: bytes) -> tuple[list[bytes], list[Entry]]:
        """(lines of all regular fields in order; entries that are more than a plain line, in order). Raises CompressionFault."""
        known = self._blocks.get(block)
        if known is not None:
            return known[0].copy(), known[1]
        indexed = True
        lines: list[bytes] = []
        notable: list[Entry] = []
        entries = self._entries
        literals = _literals
        at, end = 0, len(block)
        try:
            if end and block[0] & 0xE0 == 0x20:
                at = self._resize(block)
                indexed = False
            while at < end:
                first = block[at]
                if first > 0x80:
                    index = first & 0x7F
                    at += 1
                    if index == 0x7F:
                        index, at = _integer(block, at, 0x7F)
                    found = entries[index]
                else:
                    indexed = False
                    start = at
                    if first >= 0x40:
                        mask = 0x3F
                    elif first < 0x20:
                        mask = 0x0F
                    else:  # index 0 or a change of size after a field: sections 6.1 and 4.2
                        raise CompressionFault("a representation that may not stand here")
                    index = first & mask
                    at += 1
                    if index == mask:
                        index, at = _integer(block, at, mask)
                    if not index:
                        length = block[at] & 0x7F
                        at += 1
                        if length == 0x7F:
                            length, at = _integer(block, at, 0x7F)
                        at += length
                    value = at
                    length = block[at] & 0x7F
                    at += 1
                    if length == 0x7F:
                        length, at = _integer(block, at, 0x7F)
                    at += length
                    if at > end:
                        raise CompressionFault("a string is cut short")
                    if index >= _FIRST:
                        found = self._named(entries[index][2], block[value:at])
                    elif first & 0xF0 == 0x10:
                        found = self._never_indexed(block[start:at])
                    else:
                        found = literals[block[start:at]]
                    if mask == 0x3F:
                        self._add(found)
                role = found[0]
                if not role:
                    lines.append(found[1])
                else:
                    notable.append(found)
                    if role < METHOD:
                        lines.append(found[1])
                    elif lines:
                        notable.append(_MISPLACED)
        except IndexError:
            raise CompressionFault("a block is cut short, or an index is not in the table") from None
        except HuffmanFault as fault:
            raise CompressionFault(*fault.args) from None
        if indexed and len(self._blocks) < _BLOCKS and end <= _BLOCK:
            self._blocks[block] = lines.copy(), notable
        return lines, notable

    def _resize(self, block: bytes) -> int:
        """Changes of the table's size, at the beginning of a block; returns where the fields begin."""
        at, end = 0, len(block)
        while at < end and block[at] & 0xE0 == 0x20:
            capacity = block[at] & 0x1F
            at += 1
            if capacity == 0x1F:
                capacity, at = _integer(block, at, 0x1F)
            if capacity > self.limit:
                raise CompressionFault("a table larger than we allow")
            self._capacity = capacity
            self._blocks.clear()
            self._evict()
        return at

    def _add(self, found: Entry) -> None:
        if self._blocks:
            self._blocks.clear()
        self._entries.insert(_FIRST, found)
        self._size += len(found[1]) + _OVERHEAD
        if self._size > self._capacity:
            self._evict()

    def _evict(self) -> None:
        while self._size > self._capacity:
            self._size -= len(self._entries.pop()[1]) + _OVERHEAD

    def _named(self, name: bytes, value: bytes) -> Entry:
        """The Entry of a literal whose name is in the dynamic table. value: as coded."""
        if len(name) < 0x7F:
            return _literals[b"\0%c%b%b" % (len(name), name, value)]
        return entry(name, _string(value, 0)[0])

    def _never_indexed(self, literal: bytes) -> Entry:
        own = self._own
        found = own.get(literal)
        if found is None:
            found = entry(*_pair(literal))
            if len(literal) <= _OWN_LONGEST:
                if len(own) >= _OWN:
                    own.clear()
                own[literal] = found
        return found
