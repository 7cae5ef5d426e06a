"""VirtualServices → Routes: one per (http route, match), in the order written, with destinations turned into backends.

Theory of operation. A table belongs to one gateway and one port, so whatever asks for a gateway or a port is decided here and the rest
is left to requests. The only thing that depends on the catalog is a destination's port when it is not written. Every backend that a route
names is noted as a Reference: the backends stage makes exactly those.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from federation.compile.actions import (
    catches_all,
    cors,
    direct_response,
    fault,
    header_operations,
    redirect,
    retry_policy,
    route_match,
)
from federation.compile.delegates import Written, gateway_name
from federation.compile.destinations import Reference, Table, reference
from federation.compile.scope import MESH, Bound
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, warning
from federation.resources.header import Headers
from federation.resources.match import HTTPMatchRequest
from federation.resources.virtual_service import HTTPRouteDestination
from gateway.snapshot import DirectResponse, Forward, Mirror, Redirect, Route, Split

__all__ = ["Reference", "Table", "default_route", "joined", "routes_of"]


def routes_of(bound: Bound, table: Table) -> list[Route]:
    """The Routes of one VirtualService in this table."""
    routes: list[Route] = []
    for each in bound.http:
        matches: Sequence[HTTPMatchRequest | None] = each.http.match or (None,)
        for index, request in enumerate(matches):
            if not _applies(request, each, table):
                continue
            if request is not None and request.asks_for_claims:
                table.problems.append(_unverified(each, index))
            route = _route(each, request, table)
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


def _applies(request: HTTPMatchRequest | None, written: Written, table: Table) -> bool:
    if request is None:
        return True
    if request.port and request.port != table.port:
        return False
    if request.gateways:
        namespace = written.document.namespace
        if table.gateway not in {gateway_name(each, namespace) for each in request.gateways}:
            return False
    if table.gateway != MESH:  # FIELD b8: sourceLabels and sourceNamespace are ignored at gateways
        return True
    from_here = not request.source_namespace or request.source_namespace == table.scope.client
    return from_here and request.source_labels.items() <= table.labels.items()


def _unverified(written: Written, index: int) -> Problem:
    text = (
        "it asks for claims of a JWT, and no RequestAuthentication has tokens verified here, so no request has any; "
        "it matches none but by withoutHeaders (IST0149)"
    )
    return warning(subject_of(written.document), f"{written.path}.match[{index}]", "NoVerifiedClaims", text)


def _route(written: Written, request: HTTPMatchRequest | None, table: Table) -> Route | None:
    http = written.http
    action = _action(written, table)
    if action is None:
        return None
    single = http.route[0].headers if isinstance(action, Forward) and len(http.route) == 1 else Headers()
    return Route(
        ".".join(part for part in (http.name, request.name if request else "") if part),
        route_match(request),
        action,
        request_headers=header_operations(http.headers.request, single.request),
        response_headers=header_operations(http.headers.response, single.response),
        fault=fault(http.fault) if http.fault is not None and isinstance(action, Forward) else None,
        cors=cors(http.cors_policy) if http.cors_policy is not None and isinstance(action, Forward) else None,
        stat_prefix=request.stat_prefix if request else "",
    )


def _action(written: Written, table: Table) -> Forward | Redirect | DirectResponse | None:
    http, path = written.http, written.path
    if http.redirect is not None:
        return redirect(http.redirect)
    if http.direct_response is not None:
        return direct_response(http.direct_response)
    single = len(http.route) == 1
    splits = tuple(
        _split(each, written, table, f"{path}.route[{index}].destination", single=single) for index, each in enumerate(http.route)
    )
    if sum(split.weight for split in splits) <= 0:
        text = "the weights sum to 0, so nothing says where requests should go; write weights, or one destination"
        table.problems.append(left_out(subject_of(written.document), f"{path}.route", "NoWeight", text))
        return None
    rewrite, regex = http.rewrite, http.rewrite.uri_regex_rewrite if http.rewrite else None
    injected = http.fault is not None  # Istio: with a fault, neither the timeout nor the retries of the route hold (trap 5)
    return Forward(
        splits,
        timeout_ms=0 if injected else http.timeout or 0,
        retry=None if injected else retry_policy(http.retries, fedgate=table.fedgate),
        rewrite_prefix=rewrite.uri or None if rewrite else None,
        rewrite_regex=(regex.match, regex.rewrite) if regex else None,
        rewrite_authority=rewrite.authority if rewrite else "",
        mirrors=tuple(
            Mirror(reference(destination, written.document, table, f"{path}.{place}", "copies are thrown away").backend, share)
            for place, destination, share in http.mirrored
        ),
    )


def _split(each: HTTPRouteDestination, written: Written, table: Table, path: str, *, single: bool) -> Split:
    """A single destination has all the weight, and its header operations are the route's (Istio writes them together, and the
    destination's have the last word)."""
    backend = reference(each.destination, written.document, table, path).backend
    if single:
        return Split(backend)
    return Split(
        backend,
        weight=each.weight,
        request_headers=header_operations(each.headers.request),
        response_headers=header_operations(each.headers.response),
    )
