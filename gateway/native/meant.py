"""The endpoint that the client itself named: an address (PASSTHROUGH, NONE), or a name that the worker looks up (DYNAMIC_DNS).

What may be named is the backend's `Reach`; what is not in it is refused before anything is asked or connected. The name that is looked up
is the one that routed the request (Host, or the authority it was rewritten to; SNI), and the one that the endpoint's certificate is
checked for, so nothing is sent under one name to another's address.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import TYPE_CHECKING

from gateway.errors import DnsFailed, NotReachable, UpstreamTimeout
from gateway.native.backend import BackendState
from gateway.native.codec.events import RequestHead
from gateway.native.host import Host
from gateway.native.original import is_address
from gateway.native.reactor import DeadlineExceeded, Strand
from gateway.native.resolver import NotResolved, Resolver
from gateway.policy.reach import Reach

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST has the same number
_V4, _V6 = struct.Struct("!HH4s8x"), struct.Struct("!HHI16sI")  # sockaddr_in, sockaddr_in6
_DEFAULT_PORT = 80  # of a Host that says none (RFC 9110 section 4.2.1)


async def for_request(x: Exchange, head: RequestHead, state: BackendState, *, repeatable: bool) -> Host | None:
    """The endpoint of a request to a backend whose balance is PASSTHROUGH; None when Host names none. Raises NotReachable, DnsFailed,
    UpstreamTimeout, and DownstreamClosed when the client leaves."""
    authority = (x.authority or head.authority).decode("latin-1")
    name, port = split(authority)
    if state.reach is None:
        original = authority if port else f"{authority}:{state.backend.port}"
        return state.pick(x.strand.reactor.now, repeatable=repeatable, original=original)
    x.watch()
    try:
        return await find(x.strand, x.runtime.resolver, state, name, port or _DEFAULT_PORT, x.limit)
    except DeadlineExceeded:
        raise UpstreamTimeout from None


async def find(strand: Strand, resolver: Resolver, state: BackendState, name: str, port: int, limit: float) -> Host | None:
    """The endpoint for a host that the client named. port: that it named with it, which counts only where dynamic_port is -1.

    Raises NotReachable, DnsFailed, DeadlineExceeded when `limit` passed."""
    reach, backend = state.reach, state.backend
    assert reach is not None
    if backend.dynamic_port >= 0:
        port = backend.dynamic_port or backend.port
    name = name.lower().removesuffix(".")
    if is_address(name):
        return at(state, name, port, strand.reactor.now)
    if not reach.takes(name):
        raise NotReachable("destination_not_allowed{host}")
    try:
        addresses = await resolver.resolve(strand, name, limit)
    except NotResolved as error:
        raise DnsFailed(f"dns_resolution_failure{{{error}}}") from None
    usable = reach.usable(addresses)
    if not usable:
        raise NotReachable("destination_not_allowed{private_address}")
    return state.named(name, usable, port, strand.reactor.now)


def at(state: BackendState, address: str, port: int, now: float) -> Host | None:
    """The endpoint at an address that the client named. Raises NotReachable."""
    if state.reach is None or not state.reach.meant(address):
        raise NotReachable("destination_not_allowed{address}")
    return state.pick(now, original=f"[{address}]:{port}" if ":" in address else f"{address}:{port}")


async def for_connection(
    strand: Strand, resolver: Resolver, state: BackendState, sni: str, original: str, limit: float
) -> Host | None:
    """The endpoint of a relayed connection to a backend that lists none. sni: "" = it said no name. original: `ADDRESS:PORT` that it was
    meant for, "" = not known. As `find`."""
    reach: Reach | None = state.reach
    assert reach is not None
    address, port = split(original)
    if address and reach.meant(address):
        return at(state, address, max(0, state.backend.dynamic_port) or port, strand.reactor.now)
    if sni:
        return await find(strand, resolver, state, sni, state.backend.port, limit)
    raise NotReachable("destination_not_allowed{address}" if address else "destination_not_allowed{no_name}")


def split(authority: str) -> tuple[str, int]:
    """`HOST[:PORT]` → host without brackets, port or 0."""
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or (":" in host and not host.startswith("[")):
        host, port = authority, "0"
    return host.removeprefix("[").removesuffix("]"), int(port)


def redirected(sock: socket.socket) -> str:
    """`ADDRESS:PORT` that a connection was meant for before the machine's packet filter sent it here (REDIRECT); "" = it came where it
    was meant to."""
    try:
        local = sock.getsockname()
        if sock.family == socket.AF_INET:
            _, port, raw = _V4.unpack(sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _V4.size))
            address = socket.inet_ntop(socket.AF_INET, raw)
        elif sock.family == socket.AF_INET6:
            _, port, _, raw, _ = _V6.unpack(sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _V6.size))
            address = socket.inet_ntop(socket.AF_INET6, raw)
        else:
            return ""
    except OSError:
        return ""  # not tracked: nothing redirected it
    if (ipaddress.ip_address(address), port) == (ipaddress.ip_address(local[0].partition("%")[0]), local[1]):
        return ""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
