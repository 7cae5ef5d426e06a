"""AnyIP: a whole range of addresses is this machine's own, so that sockets on every address take connections to any of them.

Theory of operation. `local RANGE dev lo` in the kernel's table of local routes does it: packets to the range that reach this machine are
delivered here, and an accepted socket's own name is the address that the client connected to. 127.0.0.0/8 is so by itself. Asking
whether an address is local takes no privilege. Adding the route takes CAP_NET_ADMIN in the network namespace, and happens only where
the Node says `vips.addRoute`; without it somebody else does it once (`ip route add local RANGE dev lo`), and that is found. The route stays
when the gateway ends: its successor needs it, and whoever shares the range with it.

That packets to the range come to this machine at all is the network's part: a route on the clients' side, or a static route in their VPC.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
import struct

import structlog

log = structlog.get_logger("vips")

_NEWROUTE, _GETROUTE, _ERROR = 24, 26, 2  # rtnetlink(7), netlink(7)
_REQUEST, _ACK, _EXCL, _CREATE = 0x1, 0x4, 0x200, 0x400
_LOCAL_TABLE, _STATIC, _HOST_SCOPE, _UNIVERSE, _LOCAL = 255, 4, 254, 0, 2
_DST, _OIF = 1, 4
_HEADER, _ROUTE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI"), struct.Struct("=HH")
_TIMEOUT_S = 1.0  # the kernel answers within the call; only a broken sandbox would not

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AnyIp:
    """`claim` a range; `has` an address. What is wrong is logged once a range, with what to do."""

    def __init__(self) -> None:
        self._said: set[tuple[str, bool]] = set()

    def has(self, address: str) -> bool:
        """Whether connections to this address come to sockets of this machine. Never raises."""
        try:
            return is_local(ipaddress.ip_address(address))
        except (OSError, ValueError):
            return False

    def claim(self, network: str, *, add_route: bool = False) -> bool:
        """Whether connections to every address of this range do. add_route: a range that is not local is made so first. Never raises."""
        found = ipaddress.ip_network(network)
        if self.has(str(found[0])) and self.has(str(found[-1])):
            return True
        reason = f"it is not local to this machine; `ip route add local {network} dev lo` makes it so, or addRoute: true in the Node's vips"
        if add_route:
            try:
                add_local_route(found)
                log.info("vips.route_added", range=network)
                return self.has(str(found[0]))
            except OSError as error:
                reason = _explain(error, network)
        if (network, add_route) not in self._said:
            self._said.add((network, add_route))
            level = log.warning if add_route else log.info
            level("vips.not_local", range=network, reason=reason, effect="services are not reached at their virtual addresses here")
        return False


def is_local(address: Address) -> bool:
    """Whether the kernel would deliver to this address here (its route is of type local). Raises OSError."""
    route = _ROUTE.pack(_family(address), address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
    try:
        answer = _ask(_GETROUTE, _REQUEST, route + _attribute(_DST, address.packed))
    except OSError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL):
            return False  # no route at all, or one that forbids: not ours
        raise
    return len(answer) >= _ROUTE.size and _ROUTE.unpack_from(answer)[7] == _LOCAL


def add_local_route(network: Network) -> None:
    """`ip route add local NETWORK dev lo`; one that is there already is as good. Raises OSError: EPERM without CAP_NET_ADMIN."""
    scope = _HOST_SCOPE if network.version == 4 else _UNIVERSE
    route = _ROUTE.pack(_family(network.network_address), network.prefixlen, 0, 0, _LOCAL_TABLE, _STATIC, scope, _LOCAL, 0)
    attributes = _attribute(_DST, network.network_address.packed) + _attribute(_OIF, struct.pack("=I", socket.if_nametoindex("lo")))
    with contextlib.suppress(FileExistsError):
        _ask(_NEWROUTE, _REQUEST | _ACK | _CREATE | _EXCL, route + attributes)


def _family(address: Address) -> int:
    return int(socket.AF_INET if address.version == 4 else socket.AF_INET6)


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + b"\0" * (-len(data) % 4)


def _ask(kind: int, flags: int, body: bytes) -> bytes:
    """One request to the kernel's routing; the body of its answer. Raises OSError with what it says."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT_S)
        sock.bind((0, 0))
        sock.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body, (0, 0))
        answer = sock.recv(65536)
    if len(answer) < _HEADER.size:
        raise OSError(errno.EPROTO, "the kernel's answer is too short")
    if _HEADER.unpack_from(answer)[1] == _ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if code:
            raise OSError(-code, os.strerror(-code))
        return b""
    return answer[_HEADER.size :]


def _explain(error: OSError, network: str) -> str:
    by_hand = f"ip route add local {network} dev lo"
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"the route cannot be added without CAP_NET_ADMIN; give the gateway that capability, or add it once: {by_hand}"
    return f"the route cannot be added: {error}; try: {by_hand}"
