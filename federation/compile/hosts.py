"""Virtual hosts: which names a table knows, and the routes behind each.

Theory of operation. Work is cut into Plans, one per name and table: what is planned depends on documents (and, for `mesh`, on which
services exist), and each Plan says which hostnames of the catalog it depends on. `render` makes a Plan's virtual hosts. So a change of one
service renders the Plans that depend on it and no other, and ends in what rendering everything would give.

At a Gateway a name is the narrower of a VirtualService's host and a server's. On `mesh` every HTTP service has its own name, the
Kubernetes short forms and its virtual addresses, and each with every HTTP port; a name alone means port 80, else the lowest HTTP port.
Hosts that nobody knows are 404 at a Gateway and, under REGISTRY_ONLY, 502 on `mesh` (Istio's BlackHole).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from discovery.model import Service
from federation.compile.inputs import Inputs
from federation.compile.names import intersection, resolve, split_gateway_host
from federation.compile.routes import Reference, Table, default_route, joined, routes_of
from federation.compile.scope import MESH, Bound, Scope
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out
from federation.compile.vip_chains import vip_chains
from gateway.snapshot import DirectResponse, FilterChain, MatchKind, Redirect, Route, RouteMatch, StringMatch, VirtualHost

DEFAULT_PORT = 80  # what a URL without a port means (RFC 9110 section 4.2.1)
_BLOCKED = Route("block_all", RouteMatch(), DirectResponse(502))  # the name and status of Istio's BlackHoleCluster
# Of what a trusted proxy says was https already, nothing is redirected: it would come back the same way, without end.
_TO_HTTPS = Route("https_redirect", RouteMatch(scheme=StringMatch(MatchKind.EXACT, "http")), Redirect(301, scheme="https"))


@dataclass(frozen=True)
class ServerHosts:
    """The hosts of one server of a Gateway, as far as tables are concerned."""

    gateway: str
    namespace: str
    hosts: tuple[str, ...]
    redirect_https: bool = False


@dataclass(frozen=True)
class GatewayTable:
    """One route table of Gateways: all HTTP servers of a port, or one HTTPS server."""

    name: str
    port: int
    servers: tuple[ServerHosts, ...]


class Plan(msgspec.Struct, frozen=True, gc=False):
    """One name in one table. sources: (VirtualService, the gateway it is reached by), oldest first; none on `mesh` = the default
    route. depends: hostnames of the catalog that the result depends on."""

    table: str
    domain: str
    port: int
    sources: tuple[tuple[Bound, str], ...] = ()
    depends: frozenset[str] = frozenset()
    redirect_https: bool = False

    @property
    def key(self) -> str:
        return f"{self.table}/{self.domain}"


class Rendered(msgspec.Struct, frozen=True, gc=False):
    """What a Plan came to. chains: (port, chain) of the addresses by which the service is reached."""

    hosts: tuple[VirtualHost, ...] = ()
    references: frozenset[Reference] = frozenset()
    problems: tuple[Problem, ...] = ()
    chains: tuple[tuple[int, FilterChain], ...] = ()


def gateway_plans(
    tables: Iterable[GatewayTable], scope: Scope, relayed: Iterable[ServerHosts] = (), *, trusts: bool = False
) -> tuple[list[Plan], list[VirtualHost], list[Problem]]:
    """Plans, the virtual hosts that answer 404 to all other names, and what is wrong with VirtualServices. relayed: servers that have
    no table, whose hosts are served all the same. trusts: proxies before this one may say that a request was https, and those are
    not redirected but routed."""
    plans: list[Plan] = []
    rest: list[VirtualHost] = []
    served: dict[int, set[str]] = {}
    for table in tables:
        domains: dict[str, dict[tuple[int, str], tuple[Bound, str]]] = {}
        redirected: set[str] = set()
        for server in table.servers:
            if server.redirect_https:
                redirected |= {split_gateway_host(host, server.namespace)[1] for host in server.hosts}
            for bound in scope.bound_to(server.gateway):
                for domain, host in _served(bound, server):
                    served.setdefault(id(bound), set()).add(host)
                    if server.redirect_https and trusts:
                        redirected.add(domain)
                    if trusts or not server.redirect_https:
                        domains.setdefault(domain, {})[(id(bound), server.gateway)] = (bound, server.gateway)
        names = sorted(domains.keys() | redirected)
        plans += [_gateway_plan(table, domain, domains.get(domain, {}).values(), domain in redirected) for domain in names]
        if "*" not in names:
            rest.append(VirtualHost(table.name, f"unknown:{table.port}", ("*",), ()))
    for server in relayed:
        for bound in scope.bound_to(server.gateway):
            served.setdefault(id(bound), set()).update(host for _, host in _served(bound, server))
    return plans, rest, list(_unserved(scope, served))


def _served(bound: Bound, server: ServerHosts) -> Iterator[tuple[str, str]]:
    """(name that is served, the VirtualService's host it comes from)"""
    for host in bound.hosts:
        for written in server.hosts:
            namespace, pattern = split_gateway_host(written, server.namespace)
            common = intersection(pattern, host) if namespace in ("*", bound.document.namespace) else None
            if common is not None:
                yield common, host


def _gateway_plan(table: GatewayTable, domain: str, sources: Iterable[tuple[Bound, str]], redirect_https: bool) -> Plan:
    chosen = tuple(sources)
    depends = frozenset(host for bound, _ in chosen for host in bound.destinations)
    return Plan(table.name, domain, table.port, chosen, depends, redirect_https)


def _unserved(scope: Scope, served: Mapping[int, set[str]]) -> Iterator[Problem]:
    """Hosts of a VirtualService that no server of its Gateways covers (trap 1, IST0132)."""
    selected = {f"{gateway.namespace}/{gateway.name}" for gateway in scope.gateways}
    for bound in scope.virtual_services:
        named = ", ".join(sorted(bound.gateways & selected))
        if MESH in bound.gateways or not named:
            continue
        for host in bound.hosts:
            if host not in served.get(id(bound), ()):
                text = f"{host} is in no server of {named}; add it to spec.servers[].hosts there (IST0132)"
                yield left_out(subject_of(bound.document), "spec.hosts", "HostNotInGateway", text)


def mesh_plan(scope: Scope, hostname: str) -> Plan:
    """For a name that a service or a VirtualService for `mesh` has."""
    holder = scope.mesh_holder(hostname)
    depends = {hostname, *short_forms(hostname, scope.cluster_domain)}
    if holder is None:
        return Plan(MESH, hostname, DEFAULT_PORT, (), frozenset(depends))
    depends |= holder.destinations | _relayed_to(holder, scope.cluster_domain)
    return Plan(MESH, hostname, DEFAULT_PORT, ((holder, MESH),), frozenset(depends))


def _relayed_to(bound: Bound, cluster_domain: str) -> set[str]:
    """Every host that its `tcp` and `tls` routes send to."""
    document = bound.document
    splits = [
        *(each for tcp in document.spec.tcp for each in tcp.route),
        *(each for tls in document.spec.tls for each in tls.route),
    ]
    return {resolve(each.destination.host, document.namespace, cluster_domain) for each in splits}


def blocked_host() -> VirtualHost:
    """REGISTRY_ONLY: what nobody knows goes nowhere."""
    return VirtualHost(MESH, "block_all", ("*",), (_BLOCKED,))


def short_forms(hostname: str, cluster_domain: str) -> tuple[str, ...]:
    """`reviews.shop`, `reviews.shop.svc` for a Kubernetes name."""
    suffix = f".svc.{cluster_domain}"
    stem = hostname.removesuffix(suffix)
    return (stem, f"{stem}.svc") if hostname.endswith(suffix) and stem.count(".") == 1 and "*" not in stem else ()


def render(plan: Plan, scope: Scope, inputs: Inputs) -> Rendered:
    """The virtual hosts of one Plan."""
    if plan.table == MESH:
        return _render_mesh(plan, scope, inputs)
    name = f"{plan.domain}:{plan.port}"
    routes, references, problems = [], set(), []
    for bound, gateway in plan.sources:
        table = _table(gateway, plan.port, scope, inputs)
        routes.append(routes_of(bound, table))
        references |= table.references
        problems += table.problems
    redirecting = (_TO_HTTPS,) if plan.redirect_https else ()
    host = VirtualHost(plan.table, name, (plan.domain,), (*redirecting, *joined(routes)))
    return Rendered((host,), frozenset(references), tuple(problems))


def _render_mesh(plan: Plan, scope: Scope, inputs: Inputs) -> Rendered:
    service = inputs.services.get(plan.domain)
    ports = _http_ports(service)
    routed = any(bound.document.spec.http for bound, _ in plan.sources)
    if not ports and routed and plan.domain in scope.mesh:
        ports = [DEFAULT_PORT]  # a name that only a VirtualService knows is HTTP on port 80, as in Istio
    hosts, references, problems = [], set(), []
    for port in ports:
        table = _table(MESH, port, scope, inputs)
        parts = [routes_of(bound, table) for bound, _ in plan.sources]
        routes = joined(parts) if routed else (default_route(plan.domain, port, table),)
        domains = _domains(plan.domain, port, ports, scope, inputs)
        if domains:
            hosts.append(VirtualHost(MESH, f"{plan.domain}:{port}", domains, routes))
            references |= table.references
            problems += table.problems
    vips = vip_chains(service, plan.sources[0][0] if plan.sources else None, scope, inputs)
    problems += vips.problems
    return Rendered(tuple(hosts), frozenset(references | vips.references), tuple(problems), vips.by_port)


def _http_ports(service: Service | None) -> list[int]:
    return sorted({port.number for port in service.ports if port.protocol.is_http}) if service else []


def _domains(hostname: str, port: int, ports: list[int], scope: Scope, inputs: Inputs) -> tuple[str, ...]:
    main = DEFAULT_PORT if DEFAULT_PORT in ports else ports[0]
    if hostname.startswith("*"):
        return (hostname, f"{hostname}:{port}") if port == main else (f"{hostname}:{port}",)
    names = [hostname, *(short for short in short_forms(hostname, scope.cluster_domain) if short not in inputs.services)]
    names += [f"[{each}]" if ":" in each else each for each in inputs.assigned.addresses.get(hostname, ())]
    return tuple(sorted([*(f"{name}:{port}" for name in names), *(names if port == main else ())]))


def _table(gateway: str, port: int, scope: Scope, inputs: Inputs) -> Table:
    return Table(gateway, port, scope, inputs.services, inputs.node.metadata.labels, inputs.fedgate)
