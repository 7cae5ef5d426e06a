"""Answers of other nameservers, passed on: read just enough to be believed, kept and aged. Pure.

Theory of operation. The records are relayed as they came, pointers and all: the message that goes out has the same question in the same
place, so every pointer still leads where it did. Only where each TTL stands is noted, the OPT record (which is between two neighbours,
RFC 6891 6.1.1) is cut off, and id, flags, the question's letters and the TTLs are written anew for each client.
"""

from __future__ import annotations

import struct

import msgspec

from gateway.native.codec.dns import (
    AUTHENTIC,
    CHECKING_DISABLED,
    FORMERR,
    HEADER,
    LARGEST_UDP,
    NXDOMAIN,
    OPT,
    RECURSION_AVAILABLE,
    RECURSION_DESIRED,
    RESPONSE,
    SOA,
    TRUNCATED,
    Query,
    option,
    skip_name,
)

LONGEST_TTL = 3600
"""Seconds. A record that its owner changed is asked for again within the hour; Unbound and BIND keep one for a day or a week."""
FAILURE_TTL = 1
"""Seconds for which an answer without any TTL holds, and a failure (RFC 9520 3.2: at least one): it guards the upstream."""
STALE_TTL = 30
"""Seconds that a client is told an outdated answer holds, when nobody answers better (RFC 8767 4)."""

_COUNTS = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_TTL = struct.Struct(">I")


class Wrong(ValueError):
    """Not an answer to what was asked: ignored, the right one may still come."""


class Received(msgspec.Struct, frozen=True):
    """An upstream's answer. body: all after the question, without OPT. ttls: (where in `body` one stands, its seconds). ttl: how long
    the whole holds. truncated: the rest is to be had by TCP."""

    rcode: int
    authentic: bool
    truncated: bool
    counts: tuple[int, int, int]
    body: bytes
    ttls: tuple[tuple[int, int], ...]
    ttl: int


def ask(identity: bytes, question: bytes, *, secure: bool, checking_disabled: bool, edns: bool = True) -> bytes:
    """A question for an upstream. identity: two random bytes."""
    flags = RECURSION_DESIRED | (CHECKING_DISABLED if checking_disabled else 0)
    tail = option(secure=secure) if edns else b""
    return identity + _COUNTS.pack(0, flags, 1, 0, 0, int(edns))[2:] + question + tail


def read_answer(data: bytes, identity: bytes, question: bytes) -> Received:
    """Raises Wrong."""
    if len(data) < HEADER or data[:2] != identity:
        raise Wrong("another id")
    _, flags, questions, *sections = _COUNTS.unpack_from(data)
    begin = HEADER + len(question)
    if not flags & RESPONSE:
        raise Wrong("not an answer")
    if questions == 0 and flags & 0xF == FORMERR:
        return Received(
            FORMERR, False, False, (0, 0, 0), b"", (), FAILURE_TTL
        )  # it could not read the question, so it repeats none
    if questions != 1 or data[HEADER:begin].lower() != question.lower():
        raise Wrong("another question")
    try:
        return _read(data, flags, begin, sections)
    except (IndexError, struct.error, ValueError) as error:
        raise Wrong(f"malformed: {error}") from None


def _read(data: bytes, flags: int, position: int, sections: list[int]) -> Received:
    begin, end = position, len(data)
    ttls: list[tuple[int, int]] = []
    holds: list[int] = []
    high = 0
    counts = [sections[0], sections[1], 0]
    for section, count in enumerate(sections):
        for _ in range(count):
            start = position
            position = skip_name(data, position)
            kind, _, ttl, length = _RECORD.unpack_from(data, position)
            after = position + _RECORD.size + length
            if after > len(data):
                raise ValueError("a record ends after the message")
            if kind == OPT and section == 2:
                high = ttl >> 24
                end = min(end, start)  # what follows (a signature between neighbours) goes with it
            elif start < end:
                ttl = min(ttl, LONGEST_TTL) if ttl < 1 << 31 else 0  # RFC 2181 8
                ttls.append((position + 4 - begin, ttl))
                counts[2] += section == 2
                if section == 0:
                    holds.append(ttl)
                elif section == 1 and kind == SOA:
                    holds.append(min(ttl, int.from_bytes(data[after - 4 : after], "big")))
            position = after
    end = min(end, position)
    return Received(
        rcode=flags & 0xF | high << 4,
        authentic=bool(flags & AUTHENTIC),
        truncated=bool(flags & TRUNCATED),
        counts=(counts[0], counts[1], counts[2]),
        body=data[begin:end],
        ttls=tuple(ttls),
        ttl=min(holds, default=FAILURE_TTL),
    )


def usable(received: Received) -> bool:
    """An answer, be it that there is none; not a failure, for which another upstream may do better."""
    return received.rcode in (0, NXDOMAIN)


def relay(received: Received, query: Query, *, age: int, limit: int = LARGEST_UDP, stale: bool = False) -> bytes:
    """The message for this client. age: seconds since it was received. limit: of the message's bytes."""
    tail = option(received.rcode, secure=query.secure) if query.edns else b""
    flags = RESPONSE | RECURSION_AVAILABLE | query.flags & (RECURSION_DESIRED | CHECKING_DISABLED) | received.rcode & 0xF
    if received.authentic and (query.secure or query.flags & AUTHENTIC):  # RFC 6840 5.8
        flags |= AUTHENTIC
    if HEADER + len(query.question) + len(received.body) + len(tail) > limit or received.truncated:
        return query.id + _COUNTS.pack(0, flags | TRUNCATED, 1, 0, 0, bool(tail))[2:] + query.question + tail
    body = bytearray(received.body)
    for position, ttl in received.ttls:
        _TTL.pack_into(body, position, STALE_TTL if stale else max(0, ttl - age))
    answers, authorities, additional = received.counts
    head = _COUNTS.pack(0, flags, 1, answers, authorities, additional + bool(tail))
    return query.id + head[2:] + query.question + body + tail
