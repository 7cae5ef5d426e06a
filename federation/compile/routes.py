"""VirtualServices → Routes: one per (http route, match), in the order written, with destinations turned into backends.

Theory of operation. A table belongs to one gateway and one port, so whatever asks for a gateway or a port is decided here and the rest
is left to requests. The only thing that depends on the catalog is a destination's port when it is not written. Every backend that a route
names is noted as a Reference: the backends stage makes exactly those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from discovery.model import Service
from federation.compile.actions import catches_all, direct_response, header_operations, redirect, retry_policy, route_match
from federation.compile.names import backend_name, resolve
from federation.compile.scope import MESH, Bound, Rule, Scope, namespace_of
from federation.compile.services import subject_of
from federation.compile.status import Problem, Subject, left_out, problem, warning
from federation.resources.match import HTTPMatchRequest
from federation.resources.virtual_service import Destination, HTTPRoute, HTTPRouteDestination
from gateway.snapshot import DirectResponse, Forward, Redirect, Route, Split


class Reference(msgspec.Struct, frozen=True, order=True):
    """A backend that something needs."""

    host: str
    port: int
    subset: str = ""

    @property
    def backend(self) -> str:
        return backend_name(self.host, self.port, self.subset)


@dataclass
class Table:
    """Where routes are made for: one gateway (`namespace/name` or `mesh`) and one port of it. Collects what the routes need and
    what is wrong with them."""

    gateway: str
    port: int
    scope: Scope
    services: Mapping[str, Service]
    labels: Mapping[str, str]  # of the Node: what sourceLabels of gateway `mesh` are compared with
    fedgate: bool
    references: set[Reference] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def routes_of(bound: Bound, table: Table) -> list[Route]:
    """The Routes of one VirtualService in this table."""
    routes: list[Route] = []
    for index, http in enumerate(bound.document.spec.http):
        path = f"spec.http[{index}]"
        matches: Sequence[HTTPMatchRequest | None] = http.match or (None,)
        for request in matches:
            if not _applies(request, bound, table):
                continue
            route = _route(http, request, bound, table, path)
            if route is not None:
                routes.append(route)
    return routes


def joined(parts: Iterable[list[Route]]) -> tuple[Route, ...]:
    """The routes of several VirtualServices for one host, oldest first; catch-alls go last, as in Istio, or they would hide the
    routes of the younger ones."""
    lists = [part for part in parts if part]
    if len(lists) < 2:
        return tuple(lists[0]) if lists else ()
    routes = [route for part in lists for route in part]
    return tuple(sorted(routes, key=lambda route: catches_all(route.match)))


def default_route(host: str, port: int, table: Table) -> Route:
    """What a service has when no VirtualService speaks of it."""
    reference = Reference(host, port)
    table.references.add(reference)
    forward = Forward((Split(reference.backend),), retry=retry_policy(None, fedgate=table.fedgate))
    return Route("default", route_match(None), forward)


def _applies(request: HTTPMatchRequest | None, bound: Bound, table: Table) -> bool:
    if request is None:
        return True
    if request.port and request.port != table.port:
        return False
    if request.gateways:
        namespace = bound.document.namespace
        named = {each if each == MESH or "/" in each else f"{namespace}/{each}" for each in request.gateways}
        if table.gateway not in named:
            return False
    if table.gateway != MESH:  # FIELD b8: sourceLabels and sourceNamespace are ignored at gateways
        return True
    from_here = not request.source_namespace or request.source_namespace == table.scope.client
    return from_here and request.source_labels.items() <= table.labels.items()


def _route(http: HTTPRoute, request: HTTPMatchRequest | None, bound: Bound, table: Table, path: str) -> Route | None:
    name = ".".join(part for part in (http.name, request.name if request else "") if part)
    action = _action(http, bound, table, path)
    if action is None:
        return None
    return Route(
        name,
        route_match(request),
        action,
        request_headers=header_operations(http.headers.request),
        response_headers=header_operations(http.headers.response),
    )


def _action(http: HTTPRoute, bound: Bound, table: Table, path: str) -> Forward | Redirect | DirectResponse | None:
    if http.redirect is not None:
        return redirect(http.redirect)
    if http.direct_response is not None:
        return direct_response(http.direct_response)
    single = len(http.route) == 1
    splits = [
        _split(each, bound, table, f"{path}.route[{index}].destination", single=single) for index, each in enumerate(http.route)
    ]
    if sum(split.weight for split in splits) <= 0:
        text = "the weights sum to 0, so nothing says where requests should go; write weights, or one destination"
        table.problems.append(left_out(subject_of(bound.document), f"{path}.route", "NoWeight", text))
        return None
    rewrite = http.rewrite
    return Forward(
        tuple(splits),
        timeout_ms=http.timeout or 0,
        retry=retry_policy(http.retries, fedgate=table.fedgate),
        rewrite_prefix=rewrite.uri or None if rewrite else None,
        rewrite_authority=rewrite.authority if rewrite else "",
    )


def _split(written: HTTPRouteDestination, bound: Bound, table: Table, path: str, *, single: bool) -> Split:
    reference = _reference(written.destination, bound, table, path)
    table.references.add(reference)
    return Split(
        reference.backend,
        weight=1 if single else written.weight,
        request_headers=header_operations(written.headers.request),
        response_headers=header_operations(written.headers.response),
    )


def _reference(destination: Destination, bound: Bound, table: Table, path: str) -> Reference:
    """Names the backend even when it does not exist: it will have no endpoints and answer 503, and the status says why."""
    subject = subject_of(bound.document)
    host = resolve(destination.host, bound.document.namespace, table.scope.cluster_domain)
    service = table.services.get(host)
    namespace = service.namespace if service else namespace_of(host, table.scope.cluster_domain)
    rule = table.scope.rule(host, namespace) if destination.subset else None
    table.problems += _missing(destination, host, service, rule, subject, path)
    if service is not None and destination.port is None and len(service.ports) > 1:
        table.problems.append(_unclear(host, service, table.port, subject, f"{path}.port"))
    if destination.port is not None:
        port = destination.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    else:
        port = table.port
    return Reference(host, port, destination.subset)


def _missing(
    destination: Destination, host: str, service: Service | None, rule: Rule | None, subject: Subject, path: str
) -> Iterable[Problem]:
    if service is None:
        text = f"no source knows a service {host}; requests are answered 503 until one does"
        yield problem(subject, f"{path}.host", "BackendNotFound", text)
        return
    ports = ", ".join(str(port.number) for port in service.ports)
    if destination.port is not None and service.port(destination.port.number) is None:
        text = f"{host} has no port {destination.port.number}; it has {ports or 'none'}"
        yield problem(subject, f"{path}.port", "PortNotFound", text)
    if destination.subset and (rule is None or destination.subset not in rule.subsets):
        text = f"no DestinationRule for {host} has a subset {destination.subset!r}; requests are answered 503 until one does"
        yield problem(subject, f"{path}.subset", "SubsetNotFound", text)


def _unclear(host: str, service: Service, port: int, subject: Subject, path: str) -> Problem:
    """IST0112: only a warning where the listener's own port happens to be one of the service's."""
    ports = ", ".join(str(each.number) for each in service.ports)
    if service.port(port) is not None:
        text = f"{host} has several ports ({ports}); {port} is taken, the listener's: write which one is meant (IST0112)"
        return warning(subject, path, "PortRequired", text)
    return problem(subject, path, "PortRequired", f"{host} has several ports ({ports}); write which one is meant (IST0112)")
