"""VirtualServices' tcp and tls routes → TcpRoutes of one server of a Gateway.

Theory of operation. The listeners stage asks for each server that ends in no HTTP: a plain TCP server, or one whose TLS ends here, has the
`tcp` routes of the VirtualServices that share a host with it, in order, oldest document first; a PASSTHROUGH server has a chain for each set
of server names in `tls` routes. The first route that takes a connection wins, so what stands behind one that takes all is left out and
said. The answer names the backends it needs (references) and the hostnames of the catalog it depends on (depends), so that a change of
one of these makes the listeners again and no other does.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from federation.compile.destinations import Reference, Table, reference
from federation.compile.inputs import Inputs
from federation.compile.names import intersection, resolve, split_gateway_host
from federation.compile.scope import MESH, Bound, Scope
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, warning
from federation.resources.tcp_route import L4MatchAttributes, RouteDestination
from gateway.snapshot import TcpRoute, TcpSplit


@dataclass(frozen=True)
class TcpServer:
    """One server of a Gateway. gateway: `namespace/name`; namespace: the Gateway's own; hosts: as written, `[namespace/]host`."""

    gateway: str
    namespace: str
    hosts: tuple[str, ...]
    port: int


@dataclass(frozen=True)
class TlsChain:
    """Server names (exact or `*.suffix`; empty = every name) and where their connections go."""

    server_names: tuple[str, ...]
    routes: tuple[TcpRoute, ...]


@dataclass(frozen=True)
class Streams:
    """What a server's connections need. routes: of a TCP server. chains: of a PASSTHROUGH server, no name in two of them."""

    routes: tuple[TcpRoute, ...] = ()
    chains: tuple[TlsChain, ...] = ()
    references: frozenset[Reference] = frozenset()
    depends: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = ()


def tcp_routes(server: TcpServer, scope: Scope, inputs: Inputs, *, among: Iterable[Bound] | None = None) -> Streams:
    """For a server of protocol TCP, or TLS that ends here (mode SIMPLE, MUTUAL …). among: VirtualServices to look at, None = all of the
    server's gateway. Raises nothing; without routes the server has nowhere to send its connections."""
    this = _Making(server, _table(server, scope, inputs))
    routes: list[TcpRoute] = []
    for bound in scope.bound_to(server.gateway) if among is None else among:
        if not any(True for host in bound.hosts for _ in _common(host, server, bound)):
            continue
        for index, tcp in enumerate(bound.document.spec.tcp):
            matches = [match for match in tcp.match if this.applies(match, bound)]
            if tcp.match and not matches:
                continue
            path = f"spec.tcp[{index}]"
            subnets = _subnets(matches)
            if _takes_all(routes):
                this.unreachable(bound, path)
            else:
                splits = this.splits(tcp.route, bound, path)
                routes += [TcpRoute(f"{bound.document.name}.tcp[{index}]", splits, subnets)] if splits else []
    return this.done(routes=tuple(routes))


def tls_routes(server: TcpServer, scope: Scope, inputs: Inputs, *, among: Iterable[Bound] | None = None) -> Streams:
    """For a PASSTHROUGH server; among: as there. A server name that the Gateway's hosts do not cover is not served (IST0132)."""
    this = _Making(server, _table(server, scope, inputs))
    chains: dict[str, list[TcpRoute]] = {}
    for bound in scope.bound_to(server.gateway) if among is None else among:
        for index, tls in enumerate(bound.document.spec.tls):
            path = f"spec.tls[{index}]"
            for place, match in enumerate(tls.match):
                names = this.names(match.sni_hosts, bound) if this.applies(match, bound) else ()
                free = [name for name in names if not _takes_all(chains.get(name, ()))]
                if names and not free:
                    this.unreachable(bound, f"{path}.match[{place}]")
                splits = this.splits(tls.route, bound, path) if free else ()
                if splits:
                    route = TcpRoute(f"{bound.document.name}.tls[{index}]", splits, _subnets([match]))
                    for name in free:
                        chains.setdefault(name, []).append(route)
    return this.done(chains=tuple(_gathered(chains)))


@dataclass
class _Making:
    """One server while its routes are made."""

    server: TcpServer
    table: Table
    depends: set[str] = field(default_factory=set)

    def applies(self, match: L4MatchAttributes, bound: Bound) -> bool:
        """Port and gateway are decided here; source labels and namespace are nobody's at a gateway (FIELD b23, b24)."""
        if match.port and match.port != self.server.port:
            return False
        namespace = bound.document.namespace
        named = {each if each == MESH or "/" in each else f"{namespace}/{each}" for each in match.gateways}
        return not named or self.server.gateway in named

    def names(self, written: Iterable[str], bound: Bound) -> tuple[str, ...]:
        """The server names of a match as far as the server's hosts cover them; `*` for every name."""
        found = []
        for host in written:
            resolved = host.lower()
            found += sorted(_common(resolved, self.server, bound))
        return tuple(dict.fromkeys(found))

    def splits(self, written: Iterable[RouteDestination], bound: Bound, path: str) -> tuple[TcpSplit, ...]:
        """Each destination with its share; one alone needs no weight. Empty = left out, and said."""
        several = tuple(written)
        made = []
        for index, each in enumerate(several):
            self.depends.add(resolve(each.destination.host, bound.document.namespace, self.table.scope.cluster_domain))
            made.append(reference(each.destination, bound.document, self.table, f"{path}.route[{index}].destination"))
        weights = [1] if len(several) == 1 else [each.weight for each in several]
        if sum(weights) <= 0:
            text = "the weights sum to 0, so nothing says where connections should go; write weights, or one destination"
            self.table.problems.append(left_out(subject_of(bound.document), f"{path}.route", "NoWeight", text))
            return ()
        return tuple(TcpSplit(each.backend, weight) for each, weight in zip(made, weights, strict=True))

    def unreachable(self, bound: Bound, path: str) -> None:
        text = (
            f"no connection to port {self.server.port} of Gateway {self.server.gateway} comes here: an earlier route takes them all; "
            "write this one first, or narrow the other (IST0130)"
        )
        self.table.problems.append(warning(subject_of(bound.document), path, "Unreachable", text))

    def done(self, *, routes: tuple[TcpRoute, ...] = (), chains: tuple[TlsChain, ...] = ()) -> Streams:
        table = self.table
        return Streams(routes, chains, frozenset(table.references), frozenset(self.depends), tuple(table.problems))


def _table(server: TcpServer, scope: Scope, inputs: Inputs) -> Table:
    outage = "connections are closed"
    return Table(server.gateway, server.port, scope, inputs.services, inputs.node.metadata.labels, inputs.fedgate, outage)


def _common(host: str, server: TcpServer, bound: Bound) -> Iterator[str]:
    """What a host of the VirtualService and the server's hosts have in common."""
    for written in server.hosts:
        namespace, pattern = split_gateway_host(written, server.namespace)
        common = intersection(pattern, host) if namespace in ("*", bound.document.namespace) else None
        if common is not None:
            yield common


def _subnets(matches: Iterable[L4MatchAttributes]) -> tuple[str, ...]:
    """CIDRs of all matches in their shortest form; empty as soon as one match takes every address."""
    found: dict[str, None] = {}
    for match in matches:
        if not match.destination_subnets:
            return ()
        found.update(dict.fromkeys(str(ipaddress.ip_network(each, strict=False)) for each in match.destination_subnets))
    return tuple(found)


def _takes_all(routes: Iterable[TcpRoute]) -> bool:
    return any(not route.destination_subnets for route in routes)


def _gathered(chains: dict[str, list[TcpRoute]]) -> Iterator[TlsChain]:
    """One chain for all names that lead to the same; `*` is the empty set, every name; closer names beside it stay."""
    names: dict[tuple[TcpRoute, ...], list[str]] = {}
    for name, routes in chains.items():
        names.setdefault(tuple(routes), []).append(name)
    for made, several in names.items():
        if "*" in several:
            yield TlsChain((), made)
            several.remove("*")
        if several:
            yield TlsChain(tuple(sorted(several)), made)
