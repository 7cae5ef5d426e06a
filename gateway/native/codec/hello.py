"""The TLS client hello, read before TLS is: it names the server, and so which certificate, which service, or nothing.

Theory of operation. `read_hello` looks at the bytes that came so far, always from the connection's first byte on, and takes none
of them: what it read is given to the TLS engine (or to the peering session, or to a spliced upstream) afterwards. It is a pure
function, so any split of the same bytes ends in the same answer, and an answer other than NeedMore never changes as more bytes
come. It never raises.

It only chooses; it does not authenticate. Whatever a hello claims, the handshake that follows proves or refuses, in a context
chosen by this reading alone; a second hello (after HelloRetryRequest) with another name changes nothing, since nobody asks it.

Layout: RFC 8446 sections 4.1.2, 4.2 and 5.1, RFC 6066 section 3 (server name), RFC 7301 (ALPN), RFC 8701 (GREASE).
"""

from __future__ import annotations

import re

import msgspec

# A hello, record headers included, has at most as many bytes as one TLS record carries. The largest that browsers send (with
# post-quantum key shares and an encrypted client hello) is under 3 KiB; Envoy's tls_inspector had this very bound for years.
MAX_HELLO = 16 * 1024
# A hello may be cut over several records, and some clients do so on purpose, in two or three. Without a bound, 16 KiB in records of
# one byte would cost this parser a look at 2,700 headers for each segment that arrives.
MAX_RECORDS = 16
MAX_RECORD = 1 << 14  # RFC 8446 section 5.1: a plaintext record's largest length

TLS_1_2 = 0x0303
TLS_1_3 = 0x0304

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43
_GREASE = frozenset(0x0A0A + 0x1010 * n for n in range(16))
# Underscores are not of host names, but of Istio's SNI (`outbound_.80_._.reviews.shop.svc.cluster.local`).
_NAME = re.compile(rb"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class NeedMore(msgspec.Struct, frozen=True):
    """What came so far may become a hello."""


class NotTls(msgspec.Struct, frozen=True):
    """Not a client hello, or one that is refused. reason: one phrase for logs and counters."""

    reason: str


class Hello(msgspec.Struct, frozen=True):
    """server_name: lower case, without a trailing dot; "" = none was sent. alpn: in the client's order, without GREASE.
    versions: offered protocol versions (0x0304 = TLS 1.3), best first as the client sent them, without GREASE.
    resumes: it carries a session id, by which TLS 1.2 may resume (TLS 1.3 clients send one for show)."""

    server_name: str
    alpn: tuple[str, ...]
    versions: tuple[int, ...]
    resumes: bool


_NEED_MORE = NeedMore()
_MALFORMED = NotTls("client hello is malformed")


class _Malformed(Exception):
    """Ends the reading; never leaves this module."""


def read_hello(data: bytes | bytearray) -> NeedMore | NotTls | Hello:
    """What the first bytes of a connection are. Costs about 8 µs for a whole hello in one record, 2 µs while it is incomplete."""
    try:
        body = _reassemble(data)
        return _NEED_MORE if body is None else _parse(body)
    except _Malformed as error:
        return NotTls(str(error))
    except IndexError:  # the hello ends inside a field
        return _MALFORMED


def _reassemble(data: bytes | bytearray) -> bytes | None:
    """The hello's body out of its records, or None while some of it is missing."""
    size = len(data)
    # Nearly every hello is one record and comes whole: both lengths, the record's and the message's, say just what is here.
    whole = 9 < size <= MAX_HELLO and data[0] == _HANDSHAKE and data[1] == 3 and data[5] == _CLIENT_HELLO
    if whole and data[3] << 8 | data[4] == size - 5 and data[6] << 16 | data[7] << 8 | data[8] == size - 9:
        return bytes(data[9:])
    fragments: list[tuple[int, int]] = []
    at, payload, want = 0, 0, 0  # payload: of the records so far, the last one counted whole even if it is not here yet
    while at < len(data):
        _check_record_start(data, at)
        if len(fragments) == MAX_RECORDS:
            raise _Malformed("client hello is in too many records")
        if len(data) - at < 5:
            return None
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        if not 0 < length <= MAX_RECORD:  # an empty handshake fragment is forbidden
            raise _Malformed("record length is out of range")
        fragments.append((at + 5, min(at + 5 + length, len(data))))
        at += 5 + length
        payload += length
        missing = max(0, at - len(data))
        want = want or _announced(data, fragments)
        if want and payload - missing >= want:
            return b"".join(data[start:stop] for start, stop in fragments)[4:want]
        if want and want - payload > MAX_HELLO - at:
            raise _Malformed("client hello is too large")
    return None


def _check_record_start(data: bytes | bytearray, at: int) -> None:
    if data[at] != _HANDSHAKE:
        raise _Malformed("not TLS")
    # The record's version is 3.1 or 3.3 in practice and must be ignored (RFC 8446 section 5.1); its major number says "TLS".
    if len(data) > at + 1 and data[at + 1] != 3:
        raise _Malformed("not TLS")


def _announced(data: bytes | bytearray, fragments: list[tuple[int, int]]) -> int:
    """The message's length with its own header of 4 bytes, or 0 while that is not complete."""
    head = b"".join(data[start : min(stop, start + 4)] for start, stop in fragments)[:4]
    if head and head[0] != _CLIENT_HELLO:
        raise _Malformed("not a client hello")
    if len(head) < 4:
        return 0
    length = 4 + int.from_bytes(head[1:4], "big")
    if length > MAX_HELLO:
        raise _Malformed("client hello is too large")
    return length


def _parse(body: bytes) -> Hello:
    """Written out by indices, because this is a tenth of what a handshake costs here. What ends too early is an IndexError."""
    session = body[34]  # after the version and 32 random bytes
    at = 35 + session
    suites = body[at] << 8 | body[at + 1]
    at += 2 + suites
    compression = body[at]
    at += 1 + compression
    size = len(body)
    if session > 32 or not suites or suites & 1 or not compression or at > size:
        raise _Malformed("client hello is malformed")
    name = ""
    alpn: tuple[str, ...] = ()
    versions: tuple[int, ...] = (body[0] << 8 | body[1],)
    if at < size:
        if at + 2 + (body[at] << 8 | body[at + 1]) != size:
            raise _Malformed("client hello is malformed")
        extensions = _extensions(body, at + 2)
        if (where := extensions.get(_SUPPORTED_VERSIONS)) is not None:
            versions = _versions(body[where[0] : where[1]])
        if (where := extensions.get(_ALPN)) is not None:
            alpn = _protocols(body[where[0] : where[1]])
        if (where := extensions.get(_SERVER_NAME)) is not None:
            name = _server_name(body[where[0] : where[1]])
    return Hello(name, alpn, versions, session > 0)


def _extensions(body: bytes, at: int) -> dict[int, tuple[int, int]]:
    """Where each begins and ends, by type. A hello has some 15 of them."""
    found: dict[int, tuple[int, int]] = {}
    size, count = len(body), 0
    while at < size:
        kind, start = body[at] << 8 | body[at + 1], at + 4
        at = start + (body[at + 2] << 8 | body[at + 3])
        found[kind] = start, at
        count += 1
    if at > size:
        raise _Malformed("client hello is malformed")
    if len(found) != count:
        raise _Malformed("an extension comes twice")  # RFC 8446 section 4.2; two readers could take different ones
    return found


def _server_name(data: bytes) -> str:
    size = len(data)
    if size < 2 or data[0] << 8 | data[1] != size - 2:
        raise _Malformed("client hello is malformed")
    if data[2]:
        raise _Malformed("server name is not a host name")
    end = 5 + (data[3] << 8 | data[4])
    if end > size:
        raise _Malformed("client hello is malformed")
    if end < size:
        raise _Malformed("more than one server name")  # RFC 6066: one of a type, and there is one type
    raw = data[5:].lower()
    name = raw.removesuffix(b".")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise _Malformed("server name is malformed")
    # RFC 6066: no literal addresses. Clients that send one all the same (wrk, older Java) mean that they have no name. A name whose
    # last label is a number would be read as an address (no such top domain exists).
    if name.rpartition(b".")[2].isdigit():
        return ""
    return name.decode("ascii")


def _protocols(data: bytes) -> tuple[str, ...]:
    if len(data) < 2 or data[0] << 8 | data[1] != len(data) - 2:
        raise _Malformed("client hello is malformed")
    found, at, size = [], 2, len(data)
    while at < size:
        end = at + 1 + data[at]
        name = data[at + 1 : end]
        if end > size:
            raise _Malformed("client hello is malformed")
        if not name:
            raise _Malformed("ALPN is malformed")
        if not (len(name) == 2 and int.from_bytes(name, "big") in _GREASE):
            found.append(name.decode("latin-1"))
        at = end
    if size == 2:
        raise _Malformed("ALPN is malformed")
    return tuple(found)


def _versions(data: bytes) -> tuple[int, ...]:
    size = len(data)
    if not size or data[0] != size - 1 or not size & 1:
        raise _Malformed("client hello is malformed")
    return tuple([one for at in range(1, size, 2) if (one := data[at] << 8 | data[at + 1]) not in _GREASE])
