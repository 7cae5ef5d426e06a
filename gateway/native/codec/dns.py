"""DNS questions as they come in, and answers as they go out (RFC 1035, EDNS by RFC 6891). Pure.

Theory of operation. Names are kept as they are on the wire, length byte and label by label, in lower case: so the parent of a name is a
slice of it, and a label with a dot in it cannot be taken for two. A record is the bytes behind its owner; nothing is compressed but owners,
which mostly are the question's name (`POINTER`) or a suffix of it. An answer is put together from such bytes once and kept by the bytes
of its question, so what matters here is that it is right; still, without a general DNS library a question that is not kept costs some
10 µs instead of 200, and a flood of them delays nobody.

A question is answered to itself only: `reply` repeats the question section as it was asked, whatever its letters' case (some resolvers
vary it as a guard against forgery).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
IN = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

RESPONSE, AUTHORITATIVE, TRUNCATED = 0x8000, 0x0400, 0x0200
RECURSION_DESIRED, RECURSION_AVAILABLE, AUTHENTIC, CHECKING_DISABLED = 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE = 0x7800

HEADER = 12
POINTER = b"\xc0\x0c"  # to the question's name
PLAIN_UDP = 512  # bytes of a datagram that a client without EDNS takes (RFC 1035 4.2.1)
LARGEST_UDP = (
    1232  # what passes every IPv6 path unfragmented: the value of DNS flag day 2020, and BIND's, Unbound's, Knot's default
)
LARGEST_TCP = 65535
_LONGEST_NAME = 255
_ADDITIONAL = 4  # records after the question that are looked at: OPT, TSIG, and two that nobody sends

_COUNTS = struct.Struct(">HHHHHH")
_PAIR = struct.Struct(">HH")
_RECORD = struct.Struct(">HHIH")
_DO = 0x8000


class Unreadable(Exception):
    """No question that could be answered. `reply` is what to say, b"" = nothing at all."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(f"{len(reply)} bytes to say")
        self.reply = reply


class Query(msgspec.Struct, frozen=True):
    """One question. name: lower case, wire form. question: the section as it was asked. size: of the largest datagram that the client
    takes. key: the question without its id and without what is peculiar to this client (letters in upper case, options), so that the
    answer to it, with `question` in its place, is the answer to this. common: neither letters nor options are peculiar."""

    id: bytes
    flags: int
    name: bytes
    question: bytes
    kind: int
    class_: int
    key: bytes
    edns: bool = False
    size: int = PLAIN_UDP
    version: int = 0
    secure: bool = False  # DO: signatures are wanted
    common: bool = True


def parse_query(data: bytes) -> Query:
    """Raises Unreadable."""
    if len(data) < HEADER:
        raise Unreadable(b"")
    _, flags, questions, answers, authorities, additional = _COUNTS.unpack_from(data)
    if flags & RESPONSE:
        raise Unreadable(b"")  # two servers would answer each other without end
    if flags & _OPCODE:
        raise Unreadable(_bare(data, flags, NOTIMP))
    if questions != 1 or answers or authorities or additional > _ADDITIONAL:
        raise Unreadable(_bare(data, flags, FORMERR))
    try:
        end = _after_labels(data, HEADER)
        kind, class_ = _PAIR.unpack_from(data, end)
        found = _find_opt(data, end + 4, additional) if additional else None
    except (IndexError, struct.error, ValueError):
        raise Unreadable(_bare(data, flags, FORMERR)) from None
    name = data[HEADER:end]
    lower = name.lower()  # no length byte is a letter: they are 63 at most
    asked = data[HEADER : end + 4]
    same = name == lower
    if found is None:
        key = data[2:10] + b"\0\0" + lower + asked[-4:]
        return Query(data[:2], flags, lower, asked, kind, class_, key, common=same and not additional)
    size, high, options = found
    size = min(max(size, PLAIN_UDP), LARGEST_UDP)
    key = data[2:10] + b"\0\1" + lower + asked[-4:] + b"\0" + _RECORD.pack(OPT, size, high, 0)
    common = same and additional == 1 and not options
    return Query(data[:2], flags, lower, asked, kind, class_, key, True, size, high >> 16 & 0xFF, bool(high & _DO), common)


def _after_labels(data: bytes, position: int) -> int:
    """Where a name without pointers ends. Raises IndexError, ValueError."""
    begin = position
    while length := data[position]:
        if length > 63:
            raise ValueError("a pointer or an unknown kind of label in a question")
        position += length + 1
    if position + 1 - begin > _LONGEST_NAME:
        raise ValueError("a name is 255 bytes at most")
    return position + 1


def _find_opt(data: bytes, position: int, records: int) -> tuple[int, int, int] | None:
    """Size, the TTL's 32 bits and the options' length. Raises IndexError, struct.error, ValueError: also for two of them."""
    found = None
    for _ in range(records):
        position = skip_name(data, position)
        kind, class_, ttl, length = _RECORD.unpack_from(data, position)
        position += _RECORD.size + length
        if position > len(data):
            raise ValueError("a record ends after the message")
        if kind == OPT:
            if found:
                raise ValueError("two OPT records")
            found = class_, ttl, length
    return found


def skip_name(data: bytes, position: int) -> int:
    """Where the name that begins here ends; it may end in a pointer to what stands before it. Raises IndexError, ValueError."""
    begin = position
    while length := data[position]:
        if length >= 0xC0:
            target = (length & 0x3F) << 8 | data[position + 1]
            if not HEADER <= target < begin:
                raise ValueError("a pointer that does not lead back")
            return position + 2
        if length > 63:
            raise ValueError("an unknown kind of label")
        position += length + 1
    return position + 1


# ------------------------------------------------------------------------------------------------------------- writing


def _bare(data: bytes, flags: int, rcode: int) -> bytes:
    """An error without its question, which could not be read."""
    return data[:2] + _COUNTS.pack(0, RESPONSE | flags & (_OPCODE | RECURSION_DESIRED) | rcode, 0, 0, 0, 0)[2:]


def option(rcode: int = 0, *, secure: bool = False) -> bytes:
    """The OPT record of an answer: no options, cookies included: who sends one and gets none back goes on without (RFC 7873 5.4)."""
    return b"\0" + _RECORD.pack(OPT, LARGEST_UDP, (rcode >> 4) << 24 | (_DO if secure else 0), 0)


def reply(
    query: Query,
    rcode: int = NOERROR,
    answers: Sequence[bytes] = (),
    authorities: Sequence[bytes] = (),
    additional: Sequence[bytes] = (),
    *,
    limit: int,
    authoritative: bool = True,
) -> bytes:
    """The whole message. limit: of its bytes. What does not fit of the answers is left out and the client told to ask by TCP; what does
    not fit of the rest is left out silently."""
    tail = option(rcode, secure=query.secure) if query.edns else b""
    room = limit - HEADER - len(query.question) - len(tail)
    flags = RESPONSE | query.flags & (RECURSION_DESIRED | CHECKING_DISABLED) | RECURSION_AVAILABLE | rcode & 0xF
    if authoritative:
        flags |= AUTHORITATIVE
    body = bytearray()
    counts = [0, 0, 0]
    for section, records in enumerate((answers, authorities, additional)):
        for record in records:
            if len(body) + len(record) > room:
                if section == 0:
                    flags |= TRUNCATED
                break
            body += record
            counts[section] += 1
        if flags & TRUNCATED:
            break
    head = _COUNTS.pack(0, flags, 1, counts[0], counts[1], counts[2] + bool(tail))
    return query.id + head[2:] + query.question + body + tail


def record(kind: int, ttl: int, data: bytes, owner: bytes = POINTER) -> bytes:
    """One resource record of class IN."""
    return owner + _RECORD.pack(kind, IN, ttl, len(data)) + data


def srv_data(priority: int, weight: int, port: int, target: bytes) -> bytes:
    """RFC 2782; the target is not to be compressed."""
    return struct.pack(">HHH", priority, weight, port) + target


def soa_data(zone: bytes, serial: int, negative_ttl: int) -> bytes:
    """A zone's SOA. The numbers in the middle are for secondaries, which there are none of; the last is how long "there is none" holds."""
    server, person = (b"\x02ns\x03dns" + zone, b"\x0ahostmaster" + zone) if len(zone) + 11 <= _LONGEST_NAME else (zone, zone)
    return server + person + struct.pack(">IIIII", serial, 7200, 1800, 86400, negative_ttl)


def question(name: bytes, kind: int) -> bytes:
    return name + _PAIR.pack(kind, IN)


def pointer(query: Query, suffix: bytes) -> bytes:
    """The owner of a record that is the question's name or a suffix of it."""
    return (0xC000 | HEADER + len(query.name) - len(suffix)).to_bytes(2, "big")


# --------------------------------------------------------------------------------------------------------------- names


def encode_name(text: str) -> bytes:
    """`a.test` → b"\\x01a\\x04test\\0", in lower case. Raises ValueError."""
    wire = bytearray()
    for label in text.lower().rstrip(".").split(".") if text.rstrip(".") else ():
        data = label.encode("ascii")  # UnicodeEncodeError is a ValueError
        if not 0 < len(data) < 64:
            raise ValueError(f"{text[:80]!r} has a label of {len(data)} bytes; a label has 1 to 63")
        wire.append(len(data))
        wire += data
    if len(wire) >= _LONGEST_NAME:
        raise ValueError(f"{text[:80]!r} is longer than a DNS name may be, 253 characters")
    return bytes(wire) + b"\0"


def decode_name(name: bytes) -> str:
    """For people; a dot inside a label is shown as `\\.`."""
    labels, position = [], 0
    while length := name[position]:
        labels.append(name[position + 1 : position + 1 + length].decode("latin-1").replace(".", "\\."))
        position += length + 1
    return ".".join(labels) or "."


def parent(name: bytes) -> bytes:
    """The name without its first label; of the root itself the root."""
    return name[name[0] + 1 :] if name[0] else name


def first_label(name: bytes) -> str:
    """The first label, "" of the root."""
    return name[1 : 1 + name[0]].decode("latin-1")
