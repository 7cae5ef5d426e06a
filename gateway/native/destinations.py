"""Which filter chains are for an address: the choice by where a connection came to (VIPs, AnyIP). Pure.

Theory of operation. Chains that name the same networks are one group. The group of the narrowest network that holds the address is
taken, as if the others were not there; chains that name none are the group of all other addresses. Networks are looked up by their
length, longest first, so it costs as many look-ups as there are lengths (two, for a range and addresses in it), not as there are chains.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from gateway.snapshot import FilterChain

Group = tuple[FilterChain, ...]

_BITS = {4: 32, 6: 128}


class Destinations:
    """Made of a listener's chains. faults: networks that are none; the chain is not for them then."""

    __slots__ = ("_lengths", "faults", "rest")

    def __init__(self, chains: Iterable[FilterChain]) -> None:
        self.faults: list[str] = []
        found: dict[tuple[int, int], dict[int, list[FilterChain]]] = {}
        rest: list[FilterChain] = []
        for chain in chains:
            for text in chain.destinations:
                try:
                    network = ipaddress.ip_network(text, strict=False)
                except ValueError as error:
                    self.faults.append(f"chain {chain.name} is not for {text[:80]!r}: {error}")
                    continue
                shift = _BITS[network.version] - network.prefixlen
                place = found.setdefault((network.version, shift), {})
                place.setdefault(int(network.network_address) >> shift, []).append(chain)
            if not chain.destinations:
                rest.append(chain)
        self.rest: Group = tuple(rest)
        self._lengths = [
            (version, shift, {key: tuple(group) for key, group in found[version, shift].items()})
            for version, shift in sorted(found, key=lambda each: each[1])
        ]

    def find(self, local: str) -> Group:
        """The chains for a connection that came to this IP; () = it is nobody's."""
        address = ipaddress.ip_address(local.partition("%")[0])
        number, version = int(address), address.version
        for each, shift, groups in self._lengths:
            if each == version:
                group = groups.get(number >> shift)
                if group is not None:
                    return group
        return self.rest

    def groups(self) -> Iterable[Group]:
        """All of them, each once for every network that names it."""
        for _, _, groups in self._lengths:
            yield from groups.values()
        if self.rest:
            yield self.rest

    def __repr__(self) -> str:
        return f"<Destinations {[(version, shift, len(groups)) for version, shift, groups in self._lengths]} rest={len(self.rest)}>"
