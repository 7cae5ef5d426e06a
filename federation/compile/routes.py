"""VirtualServices → Routes: one per (http route, match), in the order written, with destinations turned into backends.

Theory of operation. A table belongs to one gateway and one port, so whatever asks for a gateway or a port is decided here and the rest
is left to requests. The only thing that depends on the catalog is a destination's port when it is not written. Every backend that a route
names is noted as a Reference: the backends stage makes exactly those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federation.compile.actions import catches_all, direct_response, header_operations, redirect, retry_policy, route_match
from federation.compile.destinations import Reference, Table, reference
from federation.compile.scope import MESH, Bound
from federation.compile.services import subject_of
from federation.compile.status import left_out
from federation.resources.match import HTTPMatchRequest
from federation.resources.virtual_service import HTTPRoute, HTTPRouteDestination
from gateway.snapshot import DirectResponse, Forward, Redirect, Route, Split

__all__ = ["Reference", "Table", "default_route", "joined", "routes_of"]


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
    service = Reference(host, port)
    table.references.add(service)
    forward = Forward((Split(service.backend),), retry=retry_policy(None, fedgate=table.fedgate))
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
    return Split(
        reference(written.destination, bound.document, table, path).backend,
        weight=1 if single else written.weight,
        request_headers=header_operations(written.headers.request),
        response_headers=header_operations(written.headers.response),
    )
