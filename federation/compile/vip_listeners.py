"""Listeners by which services are reached at their addresses, joined with those that there are already.

Theory of operation. There is one listener a port and IP version, on every address, and its chains say for which addresses they are: AnyIP
keeps the address that a client connected to, so the accepted socket's own name tells the service. Where a Gateway, or the node's
`http` port, listens on every address of that port, the chains are added to it. What connects to another address of this machine and
finds no chain is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

import msgspec

from federation.compile.hosts import Rendered
from federation.compile.inputs import Inputs
from federation.compile.listeners import Listening
from federation.compile.scope import MESH
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, warning
from federation.compile.vip_chains import HTTP_CHAIN
from gateway.snapshot import FilterChain, Listener, ListenerKind

EVERY_ADDRESS = {False: "0.0.0.0", True: "::"}


Place = tuple[bool, int]
"""Whether it is IPv6, and the port."""


@dataclass(frozen=True)
class Served:
    """All listeners. chains, conflicts: what services' addresses add at each place, and what is wrong there."""

    listeners: tuple[Listener, ...] = ()
    problems: tuple[Problem, ...] = ()
    chains: Mapping[Place, tuple[FilterChain, ...]] = field(default_factory=dict)
    conflicts: Mapping[Place, tuple[Problem, ...]] = field(default_factory=dict)


def served(
    ports: Listening, rendered: Iterable[Rendered], inputs: Inputs, before: Served | None = None, only: Set[int] = frozenset()
) -> Served:
    """Raises nothing. The same for every order of `rendered`. before: what it came to when all other ports than `only` were as now."""
    gathered: dict[Place, list[FilterChain]] = {}
    for each in rendered:
        for number, chain in each.chains:
            if before is None or number in only:
                gathered.setdefault((":" in chain.destinations[0], number), []).append(chain)
    known = before or Served()
    chains = {place: found for place, found in known.chains.items() if place[1] not in only}
    conflicts = {place: found for place, found in known.conflicts.items() if place[1] not in only}
    for place, several in gathered.items():
        chains[place], conflicts[place] = _joined(place[1], several, inputs)
    problems = [each for place in sorted(conflicts) for each in conflicts[place]]
    listeners = {each.key: each for each in ports.listeners}
    for place in sorted(chains):
        own = Listener(EVERY_ADDRESS[place[0]], place[1], ListenerKind.MESH)
        there = listeners.get(own.key, own)
        if there.kind in (ListenerKind.MESH, ListenerKind.GATEWAY) and not there.proxy_protocol:
            listeners[own.key] = msgspec.structs.replace(there, chains=(*there.chains, *chains[place]))
        else:
            problems.append(_conflict(there, inputs))
    return Served(tuple(listeners.values()), tuple(dict.fromkeys(problems)), chains, conflicts)


def _joined(number: int, several: list[FilterChain], inputs: Inputs) -> tuple[tuple[FilterChain, ...], tuple[Problem, ...]]:
    """The chains of one place, each for destinations that no other has there; the first by name goes first."""
    http: set[str] = set()
    found: list[FilterChain] = []
    problems: list[Problem] = []
    at: dict[tuple[str, str], str] = {}
    for chain in sorted(several, key=lambda each: each.name):
        if chain.table:
            http.update(chain.destinations)
            continue
        free = []
        for destination in chain.destinations:
            first = [at.setdefault((destination, name), chain.name) for name in chain.server_names or ("",)]
            taken = next((name for name in first if name != chain.name), None)
            if taken is None:
                free.append(destination)
            else:
                problems.append(_taken(number, destination, taken, chain.name, inputs))
        if free:
            whole = len(free) == len(chain.destinations)
            found.append(chain if whole else msgspec.structs.replace(chain, destinations=tuple(free)))
    if http:
        found.append(FilterChain(HTTP_CHAIN, MESH, destinations=tuple(sorted(http))))
    return tuple(found), tuple(problems)


def _taken(number: int, destination: str, first: str, second: str, inputs: Inputs) -> Problem:
    text = (
        f"port {number} of {destination} belongs to {_service(first)} already, so {_service(second)} is not served there; "
        "give each an address of its own in spec.addresses, or none and it gets one"
    )
    return warning(subject_of(inputs.node), "spec.vips", "AddressConflict", text)


def _service(chain: str) -> str:
    """The hostname in `vip.PORT.HOST`."""
    return chain.split(".", 2)[-1]


def _conflict(there: Listener, inputs: Inputs) -> Problem:
    why = "expects the PROXY header" if there.proxy_protocol else f"is this node's own {there.kind.value} port"
    text = (
        f"{there.key} {why}, so services with port {there.port} are not reached at their virtual addresses; let spec.listen, or the "
        "Gateway's server, bind one address of this machine instead of all"
    )
    return left_out(subject_of(inputs.node), "spec.vips", "PortConflict", text)
