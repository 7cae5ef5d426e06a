"""Where connections go that are relayed and not read: the TcpRoutes of a filter chain, made ready. Pure."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from gateway.snapshot import TcpRoute, TcpSplit

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Targets:
    """TcpRoutes in order; the first whose subnets hold the address that the client connected to is taken."""

    __slots__ = ("_only", "_routes")

    def __init__(self, routes: Sequence[TcpRoute]) -> None:
        """Raises ValueError for a subnet that is none."""
        self._routes = [_Ready(route) for route in routes]
        first = routes[0] if routes else None
        only = first is not None and not first.destination_subnets and len(first.splits) == 1
        self._only = first.splits[0].backend if only and first is not None else ""

    @classmethod
    def one(cls, backend: str) -> Targets:
        """Everything goes to this backend."""
        return cls((TcpRoute(backend, (TcpSplit(backend),)),))

    def choose(self, local: str, random: Callable[[], float]) -> str:
        """The backend for one connection; "" = no route. local: the IP the client connected to, "" for unix sockets. random: called for
        a draw by weight, uniform in [0, 1)."""
        if self._only:
            return self._only
        address = None
        for route in self._routes:
            if route.networks:
                if address is None:
                    if not local:
                        continue
                    address = ipaddress.ip_address(local.partition("%")[0])
                    address = getattr(address, "ipv4_mapped", None) or address
                if not any(address in network for network in route.networks):
                    continue
            return route.draw(random)
        return ""

    @property
    def backends(self) -> set[str]:
        """All that connections may be taken to."""
        return {backend for route in self._routes for backend in route.backends}

    def __repr__(self) -> str:
        return f"<Targets {self._only or self._routes}>"


class _Ready:
    __slots__ = ("_bounds", "backends", "networks")

    def __init__(self, route: TcpRoute) -> None:
        self.networks: tuple[_Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in route.destination_subnets)
        self.backends = [split.backend for split in route.splits]
        self._bounds = list(accumulate(max(0, split.weight) for split in route.splits))

    def draw(self, random: Callable[[], float]) -> str:
        total = self._bounds[-1] if self._bounds else 0
        if not total:
            return self.backends[0] if len(self.backends) == 1 else ""
        return self.backends[bisect_right(self._bounds, random() * total)]

    def __repr__(self) -> str:
        return f"<{self.backends} {self._bounds} {self.networks}>"


def automatic(server_name: str) -> tuple[str, str]:
    """What `outbound_.PORT_.SUBSET_.HOST`, the server name of Istio's AUTO_PASSTHROUGH, asks for: (backend here, host); ("", "") for
    any other name."""
    words = server_name.split("_.", 3)
    if len(words) != 4 or words[0] != "outbound" or not words[1].isdigit() or not words[3]:
        return "", ""
    _, port, subset, host = words
    return f"inbound|{port}|{subset}|{host}", host


def host_allowed(host: str, allowed: Sequence[str]) -> bool:
    """Whether a host is one of these: exact, `*.suffix`, `*`."""
    return any(
        each == "*" or each.lower() == host or (each.startswith("*.") and host.endswith(each[1:].lower()) and host != each[1:])
        for each in allowed
    )
