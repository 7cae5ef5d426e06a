"""Endpoints that nobody listed: the addresses that clients themselves meant (balance PASSTHROUGH, resolution NONE).

Theory of operation. Each address that is asked for becomes a Host, with its pool and counts as any other. Those are kept as long as there is
room; beyond MOST the one that was longest not asked for and has nothing in flight goes, its idle connections with it. They take no part
in priorities, outlier detection or silence: there is nothing to choose from.
"""

from __future__ import annotations

import ipaddress

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

    __slots__ = ("_backend", "hosts")

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self.hosts: dict[str, Host] = {}

    def pick(self, original: str, now: float) -> Host | None:
        """The endpoint at that address; None when it is no IP address and port. A name is none: connecting to one would make the system look
        it up, and the worker would stand still meanwhile."""
        host = self.hosts.pop(original, None)
        if host is None:
            address, _, port = original.rpartition(":")
            address = address.removeprefix("[").removesuffix("]")
            if not is_address(address) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
                return None
            if len(self.hosts) >= MOST:
                self._make_room()
            host = Host(self._backend, LbEndpoint(id=original, address=address, port=int(port)), now)
        self.hosts[original] = host  # the last asked for is the last
        return host

    def _make_room(self) -> None:
        for key, host in self.hosts.items():
            if not host.active:
                if host.pool is not None:
                    host.pool.close()
                del self.hosts[key]
                return

    def close(self) -> None:
        """Close idle connections; requests end as they would."""
        for host in self.hosts.values():
            if host.pool is not None:
                host.pool.close()
        self.hosts.clear()
