"""The PROXY protocol, versions 1 and 2: who the client was, said by the proxy before, ahead of the connection's first byte.

Theory of operation. Like the client hello it is read from the connection's first byte on and taken off by the caller: `read_header` is
a pure function of the bytes so far, an answer other than NeedMore never changes as more come, and it never raises. A header that two
readers could take differently is refused: whoever may write it decides what addresses policies and logs believe.

LOCAL (version 2: the proxy's own health checks) and UNKNOWN or a family without addresses keep the socket's own. TLVs are passed over.
Layout: the haproxy project's proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import struct

import msgspec

# proxy-protocol.txt 2.1: the longest line there can be (IPv6, all digits used) with its CR LF.
MAX_V1 = 107
# 2.2 lets a sender rely on 536 bytes, what fits the smallest segment there is, and asks of receivers no more than that; Envoy's bound on
# TLVs is wider, but nothing that is passed over is worth buffering for.
MAX_V2 = 536

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_START_V1 = b"PROXY "
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_SIZES = {0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
_STREAM = 1

Address = tuple[str, int]


class NeedMore(msgspec.Struct, frozen=True):
    """What came so far may become a header."""


class NotProxy(msgspec.Struct, frozen=True):
    """Not a header, or one that is refused. reason: one phrase for logs."""

    reason: str


class Proxied(msgspec.Struct, frozen=True):
    """size: bytes of the header. source, destination: (IP, port) as the proxy saw them; None = the socket's own are true."""

    size: int
    source: Address | None = None
    destination: Address | None = None


_NEED_MORE = NeedMore()


def read_header(data: bytes) -> Proxied | NotProxy | NeedMore:
    """Look at what came so far, the connection's first byte on."""
    if data[:12] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[:6] == _START_V1[: len(data)]:
        return _read_v1(data)
    return NotProxy("no PROXY header")


# ------------------------------------------------------------------------------------------------------------ version 1


def _read_v1(data: bytes) -> Proxied | NotProxy | NeedMore:
    end = data.find(b"\n", 0, MAX_V1)
    if end < 0:
        return _NEED_MORE if len(data) < MAX_V1 else NotProxy("PROXY line is longer than 107 bytes")
    if data[end - 1 : end] != b"\r":
        return NotProxy("PROXY line does not end in CR LF")
    words = data[: end - 1].split(b" ")
    size = end + 1
    if words[1] == b"UNKNOWN":
        return Proxied(size)  # what follows it on the line is to be passed over
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        return NotProxy("PROXY line is malformed")
    v6 = words[1] == b"TCP6"
    source, destination = _address(words[2], words[4], v6), _address(words[3], words[5], v6)
    if source is None or destination is None:
        return NotProxy("PROXY line has a malformed address or port")
    return Proxied(size, source, destination)


def _address(text: bytes, port: bytes, v6: bool) -> Address | None:
    try:
        host = str(ipaddress.IPv6Address(text.decode("ascii")) if v6 else ipaddress.IPv4Address(text.decode("ascii")))
    except ValueError:
        return None
    # Decimal digits without leading zeros, as the specification says; int() would also take "+1", "1_0" and other scripts' digits.
    if not port.isdigit() or len(port) > 5 or (len(port) > 1 and port[:1] == b"0") or int(port) > 65535 or "%" in host:
        return None
    return host, int(port)


# ------------------------------------------------------------------------------------------------------------ version 2


def _read_v2(data: bytes) -> Proxied | NotProxy | NeedMore:
    if len(data) < 16:
        # The command decides as soon as it is here, so that the answer does not depend on how the bytes are cut.
        if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
            return NotProxy("PROXY version or command is unknown")
        return _NEED_MORE
    command, family = data[12], data[13]
    length = int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        return NotProxy("PROXY version or command is unknown")
    size = 16 + length
    if size > MAX_V2:
        return NotProxy("PROXY header is longer than 536 bytes")
    if command == _PROXY and family:
        least = _SIZES.get(family)
        if least is None or family & 0x0F != _STREAM:
            return NotProxy("PROXY address family or transport is unknown")
        if length < least:
            return NotProxy("PROXY header is too short for its addresses")
    if len(data) < size:
        return _NEED_MORE
    if command == _PROXY and family == _TCP4:
        source, destination, ports = data[16:20], data[20:24], data[24:28]
        kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address] = ipaddress.IPv4Address
    elif command == _PROXY and family == _TCP6:
        source, destination, ports = data[16:32], data[32:48], data[48:52]
        kind = ipaddress.IPv6Address
    else:
        return Proxied(size)
    from_port, to_port = struct.unpack("!HH", ports)
    return Proxied(size, (str(kind(source)), from_port), (str(kind(destination)), to_port))


# -------------------------------------------------------------------------------------------------------------- writing


def header(version: str, source: Address | None, destination: Address | None) -> bytes:
    """The header for a connection of `source` to `destination`; version "V1" or "V2". Addresses that are not known, not IP, or of two
    families (IPv4 is then written as IPv6, if one is) are said to be unknown: UNKNOWN in version 1, LOCAL in version 2."""
    pair = _pair(source, destination)
    if version == "V1":
        if pair is None:
            return b"PROXY UNKNOWN\r\n"
        (a, a_port), (b, b_port) = pair
        return f"PROXY TCP{a.version} {a} {b} {a_port} {b_port}\r\n".encode()
    if pair is None:
        return SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    (a, a_port), (b, b_port) = pair
    body = a.packed + b.packed + struct.pack("!HH", a_port, b_port)
    return SIGNATURE + bytes((_PROXY, _TCP4 if a.version == 4 else _TCP6)) + struct.pack("!H", len(body)) + body


_Ip = tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]


def _pair(source: Address | None, destination: Address | None) -> tuple[_Ip, _Ip] | None:
    if source is None or destination is None:
        return None
    try:
        a, b = ipaddress.ip_address(source[0]), ipaddress.ip_address(destination[0])
    except ValueError:
        return None
    if a.version != b.version:
        a, b = _widened(a), _widened(b)
    return (a, source[1]), (b, destination[1])


def _widened(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    return address if isinstance(address, ipaddress.IPv6Address) else ipaddress.IPv6Address(f"::ffff:{address}")
