"""A service's virtual addresses → the filter chains by which connections to them are served, one set a port.

Theory of operation. The address that a client connected to tells the service, so each chain says for which addresses it is. HTTP of all
services on a port is one chain for the whole range, with the table of `mesh`: its virtual hosts have the addresses among their domains,
and a worker looks for the address first. Everything else is relayed: by the `tcp` or `tls` routes of the VirtualService that holds the
name on `mesh`, else to the service itself. Addresses that connections to do not come to this machine (`Assigned.local`) have no
chain: listening on them would take a port of this machine for nothing.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from discovery.model import Port, Protocol, Resolution, Service
from federation.compile.destinations import Reference
from federation.compile.inputs import Inputs
from federation.compile.scope import MESH, Bound, Scope
from federation.compile.status import Problem
from federation.compile.tcp_routes import Streams, TcpServer, tcp_routes, tls_routes
from federation.vips import written_addresses
from gateway.snapshot import FilterChain, TcpRoute, TcpSplit

HTTP_CHAIN = "vip.http"


@dataclass(frozen=True)
class Chains:
    """by_port: (port's number, chain), for listeners of that port; the destinations of each are of one IP version."""

    by_port: tuple[tuple[int, FilterChain], ...] = ()
    references: frozenset[Reference] = frozenset()
    problems: tuple[Problem, ...] = ()


def vip_chains(service: Service | None, holder: Bound | None, scope: Scope, inputs: Inputs) -> Chains:
    """holder: the VirtualService whose routes hold for it on `mesh`. Raises nothing."""
    if service is None:
        return Chains()
    single, whole = _destinations(service, inputs)
    if not single:
        return Chains()
    made: list[tuple[int, FilterChain]] = []
    references: set[Reference] = set()
    problems: list[Problem] = []
    for port in service.ports:
        if port.protocol is Protocol.UDP:
            continue
        if port.protocol.is_http:
            made.append((port.number, FilterChain(HTTP_CHAIN, MESH, destinations=whole)))
            continue
        for chain, streams in _relayed(service.hostname, port, single, holder, scope, inputs):
            made.append((port.number, chain))
            references |= streams.references
            problems += streams.problems
    by_port = [(number, each) for number, chain in made for each in _by_family(chain)]
    return Chains(tuple(by_port), frozenset(references), tuple(dict.fromkeys(problems)))


def _by_family(chain: FilterChain) -> list[FilterChain]:
    """One chain for IPv4, one for IPv6: they are on different listeners."""
    families = ([each for each in chain.destinations if (":" in each) is v6] for v6 in (False, True))
    return [msgspec.structs.replace(chain, destinations=tuple(each)) for each in families if each]


def _destinations(service: Service, inputs: Inputs) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What of its addresses comes to this machine, as networks: each, and the ranges that they are of."""
    local = inputs.assigned.local
    if not local:
        return (), ()
    written = written_addresses(service)
    if written:
        found = tuple(sorted({_network(address) for address in written if address in local}))
        return found, found
    vips = inputs.node.spec.vips
    ranges = tuple(each for each in (_network(vips.range), _network(vips.range6)) if each in local)
    families = {":" in network for network in ranges}
    given = inputs.assigned.addresses.get(service.hostname, ())
    single = tuple(f"{each}/{128 if ':' in each else 32}" for each in given if (":" in each) in families)
    return single, ranges if single else ()


@lru_cache(maxsize=1024)  # the ranges are asked for with every service
def _network(address: str) -> str:
    return str(ipaddress.ip_network(address, strict=False)) if address else ""


def _relayed(
    host: str, port: Port, destinations: tuple[str, ...], holder: Bound | None, scope: Scope, inputs: Inputs
) -> list[tuple[FilterChain, Streams]]:
    """The chains of a port that carries no plain HTTP: by server name where there are `tls` routes and it carries TLS, and one for the
    rest."""
    name = f"vip.{port.number}.{host}"
    server = TcpServer(MESH, "", (host,), port.number)
    made = []
    if holder is not None and holder.document.spec.tls and port.protocol in (Protocol.HTTPS, Protocol.TLS):
        streams = tls_routes(server, scope, inputs, among=(holder,))
        for index, each in enumerate(streams.chains):
            chain = FilterChain(
                f"{name}.{index}", server_names=each.server_names, tcp=each.routes, passthrough=True, destinations=destinations
            )
            made.append((chain, streams))
        if any(not each.server_names for each in streams.chains):
            return made
    streams = Streams()
    if holder is not None and holder.document.spec.tcp:
        streams = tcp_routes(server, scope, inputs, among=(holder,))
    itself = Reference(host, port.number)
    routes = streams.routes or (TcpRoute("default", (TcpSplit(itself.backend),)),)
    if not streams.routes:
        streams = Streams(references=frozenset({itself}), problems=streams.problems)
    # Beside chains that read the client hello this one is chosen by it, too; below a wildcard host the hello tells which name is meant.
    passthrough = bool(made) or (host.startswith("*") and port.protocol in (Protocol.HTTPS, Protocol.TLS))
    made.append((FilterChain(name, tcp=routes, passthrough=passthrough, destinations=destinations), streams))
    return made


def closed_to_all(service: Service) -> bool:
    """TCP of resolution NONE without addresses: Istio opens its port on every address for whatever comes (FIELD trap 13). Here nothing
    is opened for it."""
    relayed = any(not port.protocol.is_http and port.protocol is not Protocol.UDP for port in service.ports)
    return relayed and service.resolution is Resolution.NONE and not service.addresses and "*" not in service.hostname
