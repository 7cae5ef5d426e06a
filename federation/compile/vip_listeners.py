"""Listeners by which services are reached at their addresses, joined with those that there are already.

Theory of operation. There is one listener a port and IP version, on every address, and its chains say for which addresses they are: AnyIP
keeps the address that a client connected to, so the accepted socket's own name tells the service. Where a Gateway, or the node's
`http` port, listens on every address of that port, the chains are added to it. What connects to another address of this machine and
finds no chain is closed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from federation.compile.hosts import Rendered
from federation.compile.inputs import Inputs
from federation.compile.listeners import Listening
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, warning
from federation.compile.vip_chains import HTTP_CHAIN
from gateway.snapshot import FilterChain, Listener, ListenerKind

EVERY_ADDRESS = {False: "0.0.0.0", True: "::"}


@dataclass(frozen=True)
class Served:
    """All listeners."""

    listeners: tuple[Listener, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass
class _Port:
    """What one port and IP version has. at: (destination, server name) → the chain that has it."""

    http: set[str] = field(default_factory=set)
    relayed: list[FilterChain] = field(default_factory=list)
    at: dict[tuple[str, str], str] = field(default_factory=dict)

    def chains(self) -> tuple[FilterChain, ...]:
        found = sorted(self.relayed, key=lambda chain: chain.name)
        if self.http:
            found.append(FilterChain(HTTP_CHAIN, "mesh", destinations=tuple(sorted(self.http))))
        return tuple(found)


def served(ports: Listening, rendered: Iterable[Rendered], inputs: Inputs) -> Served:
    """Raises nothing. The same for every order of `rendered`."""
    problems: list[Problem] = []
    gathered: dict[tuple[bool, int], _Port] = {}
    chains = sorted((pair for each in rendered for pair in each.chains), key=lambda pair: (pair[1].name, pair[0]))
    for number, chain in chains:
        for v6 in (False, True):
            destinations = tuple(each for each in chain.destinations if (":" in each) is v6)
            if destinations:
                port = gathered.setdefault((v6, number), _Port())
                problems += _add(port, number, msgspec.structs.replace(chain, destinations=destinations), inputs)
    listeners = {each.key: each for each in ports.listeners}
    for (v6, number), port in sorted(gathered.items(), key=lambda item: item[0]):
        own = Listener(EVERY_ADDRESS[v6], number, ListenerKind.MESH)
        there = listeners.get(own.key, own)
        if there.kind in (ListenerKind.MESH, ListenerKind.GATEWAY) and not there.proxy_protocol:
            listeners[own.key] = msgspec.structs.replace(there, chains=(*there.chains, *port.chains()))
        else:
            problems.append(_conflict(there, inputs))
    return Served(tuple(listeners.values()), tuple(dict.fromkeys(problems)))


def _add(port: _Port, number: int, chain: FilterChain, inputs: Inputs) -> list[Problem]:
    """Puts a chain on a port, without destinations that another service has there."""
    if chain.table:
        port.http |= set(chain.destinations)
        return []
    problems, free = [], []
    for destination in chain.destinations:
        first = [port.at.setdefault((destination, name), chain.name) for name in chain.server_names or ("",)]
        if set(first) == {chain.name}:
            free.append(destination)
            continue
        text = (
            f"port {number} of {destination} belongs to {_service(first[0])} already, so {_service(chain.name)} is not served there; "
            "give each an address of its own in spec.addresses, or none and it gets one"
        )
        problems.append(warning(subject_of(inputs.node), "spec.vips", "AddressConflict", text))
    if free:
        port.relayed.append(msgspec.structs.replace(chain, destinations=tuple(free)))
    return problems


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
