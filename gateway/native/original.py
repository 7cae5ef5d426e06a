"""Endpoints that nobody listed: the addresses that clients themselves meant (balance PASSTHROUGH, resolution NONE), or that the
names they asked for have (DYNAMIC_DNS).

Theory of operation. Each address that is asked for becomes a Host, with its pool and counts as any other. Those are kept as long as there is
room; beyond MOST the one that was longest not asked for and has nothing in flight goes, its idle connections with it. They take no part
in priorities, outlier detection or silence: there is nothing to choose from.

A name has Hosts of its own even where two names share an address: a connection that was opened, and proven by its certificate, for one
is never used for the other. Of several addresses the first is taken, and when it takes no connection the next, which then is the first
to be tried until the answer changes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from gateway.native.host import Host
from gateway.snapshot import LbEndpoint

# Envoy cleans hosts of an ORIGINAL_DST cluster that were not used for 5 s. Here room decides: a host and an idle connection are about
# 10 KB, so 1,024 are 10 MB at most.
MOST = 1024


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Originals:
    """Hosts by `ADDRESS:PORT` (`[ADDRESS]:PORT`)."""

    __slots__ = ("_backend", "_gone", "_siblings", "hosts")

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.hosts: dict[str, Host] = {}
        self._gone = 0  # requests of those that had to make room
        self._siblings: dict[str, tuple[tuple[str, ...], str]] = {}  # name:port → its addresses, and the one to begin with

    def pick(self, original: str, now: float) -> Host | None:
        """The endpoint at that address; None when it is no IP address and port. A name is none: connecting to one would make the system look
        it up, and the worker would stand still meanwhile."""
        host = self.hosts.pop(original, None)
        if host is None:
            address, _, port = original.rpartition(":")
            address = address.removeprefix("[").removesuffix("]")
            if not is_address(address) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
                return None
            host = self._new(original, address, int(port), now)
        self.hosts[original] = host  # the last asked for is the last
        return host

    def named(self, name: str, addresses: tuple[str, ...], port: int, now: float) -> Host:
        """The endpoint for a name. addresses: its, at least one, checked by whoever asks."""
        key = f"{name}:{port}"
        known = self._siblings.get(key)
        if known is None or known[0] != addresses:
            if len(self._siblings) >= MOST:
                del self._siblings[next(iter(self._siblings))]
            known = self._siblings[key] = (addresses, addresses[0])
        return self._at(key, known[1], port, now)

    def again(self, tried: Sequence[Host], now: float, *, elsewhere: bool) -> Host | None:
        """The endpoint of another attempt: another address of the name. Without one the same, unless it has to be elsewhere."""
        if not tried:
            return None
        key, addresses = self._others(tried)
        if addresses:
            self._siblings[key] = (self._siblings[key][0], addresses[0])
            return self._at(key, addresses[0], tried[-1].endpoint.port, now)
        return None if elsewhere else tried[-1]

    def untried(self, tried: Sequence[Host]) -> int:
        return len(self._others(tried)[1]) if tried else 0

    def _others(self, tried: Sequence[Host]) -> tuple[str, list[str]]:
        key, slash, _ = tried[-1].id.partition("/")
        if not slash or key not in self._siblings:
            return key, []
        used = {host.endpoint.address for host in tried}
        return key, [address for address in self._siblings[key][0] if address not in used]

    def _at(self, key: str, address: str, port: int, now: float) -> Host:
        identity = f"{key}/{address}"
        host = self.hosts.pop(identity, None)
        if host is None:
            host = self._new(identity, address, port, now)
        self.hosts[identity] = host
        return host

    def _new(self, identity: str, address: str, port: int, now: float) -> Host:
        if len(self.hosts) >= MOST:
            self._make_room()
        return Host(self._backend, LbEndpoint(id=identity, address=address, port=port), now)

    def _make_room(self) -> None:
        for key, host in self.hosts.items():
            if not host.active:
                if host.pool is not None:
                    host.pool.close()
                self._gone += host.requests
                del self.hosts[key]
                return

    @property
    def requests(self) -> int:
        """That were given to them, so far."""
        return self._gone + sum(host.requests for host in self.hosts.values())

    def close(self) -> None:
        """Close idle connections; requests end as they would."""
        for host in self.hosts.values():
            if host.pool is not None:
                host.pool.close()
        self.hosts.clear()
        self._siblings.clear()
