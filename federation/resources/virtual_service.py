"""Istio VirtualService (networking/v1alpha3/virtual_service.proto): which requests go where, and what is done to them on the way."""

from __future__ import annotations

from collections.abc import Iterator

from federation.resources.checks import (
    duration_fault,
    export_to_faults,
    fault,
    gateway_name_faults,
    host_fault,
    is_ip,
    range_fault,
    warning,
)
from federation.resources.destination import Destination, PortSelector
from federation.resources.header import HeaderOperations, Headers
from federation.resources.match import HTTPMatchRequest, StringMatch
from federation.resources.message import Fault, Message
from federation.resources.route import HTTPBody, HTTPDirectResponse, HTTPRedirect, HTTPRetry, HTTPRewrite, RedirectPort
from federation.resources.scalars import Milliseconds, Whole
from federation.resources.tcp_route import L4MatchAttributes, RouteDestination, TCPRoute, TLSMatchAttributes, TLSRoute

__all__ = [  # every message of the proto file, wherever it is written
    "Destination",
    "HTTPBody",
    "HTTPDirectResponse",
    "HTTPMatchRequest",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HeaderOperations",
    "Headers",
    "L4MatchAttributes",
    "PortSelector",
    "RedirectPort",
    "RouteDestination",
    "StringMatch",
    "TCPRoute",
    "TLSMatchAttributes",
    "TLSRoute",
    "VirtualService",
]


class HTTPRouteDestination(Message):
    destination: Destination
    weight: Whole = 0
    headers: Headers = Headers()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("weight",), range_fault(self.weight, 0))


class HTTPRoute(Message):
    """timeout None: none (Istio's default). retries None: the defaults."""

    later = ("delegate", "fault", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "corsPolicy")

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Milliseconds | None = None
    retries: HTTPRetry | None = None
    headers: Headers = Headers()

    def faults(self) -> Iterator[Fault]:
        yield from self._conflicts()
        yield from fault(("timeout",), duration_fault(self.timeout))
        if len(self.route) > 1 and sum(one.weight for one in self.route) == 0:
            yield Fault(("route",), "the weights add up to 0, so nothing says who gets what; write a weight for each destination")
        if self.redirect is not None and self.redirect.prefix_rewrite:
            for index, match in enumerate(self.match):
                if match.uri is not None and match.uri.prefix is None:
                    yield Fault(("match", index, "uri"), "redirect.prefixRewrite needs a prefix match; write uri.prefix")
        authorities = [
            *([self.rewrite.authority] if self.rewrite and self.rewrite.authority else []),
            *self.headers.request.authorities,
        ]
        if len(authorities) > 1:
            yield Fault(
                ("headers", "request"), "the authority is set more than once (rewrite.authority, Host, :authority); keep one"
            )

    def _conflicts(self) -> Iterator[Fault]:
        written = [
            name
            for name, value in (("route", self.route), ("redirect", self.redirect), ("directResponse", self.direct_response))
            if value
        ]
        if not written:
            yield Fault((), "the route does nothing; write one of route, redirect, directResponse")
        elif len(written) > 1:
            yield Fault((), f"{' and '.join(written)} exclude each other; keep one")
        if self.rewrite is not None and written and "route" not in written:
            yield Fault(("rewrite",), f"rewrite and {written[0]} exclude each other; keep one")


class VirtualService(Message):
    """gateways: `name`, `namespace/name`, or `mesh`; none written = mesh."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not self.hosts:
            yield Fault(("hosts",), "hosts is empty: a delegate is not supported yet; write the hosts whose requests this routes")
        if not (self.http or self.tls or self.tcp):
            yield Fault((), "the VirtualService routes nothing; write http, tls or tcp")
        yield from self._hosts()
        yield from gateway_name_faults(self.gateways)
        yield from self._unreachable()
        yield from export_to_faults(self.export_to)

    def _hosts(self) -> Iterator[Fault]:
        mesh_only = all(gateway == "mesh" for gateway in self.gateways)
        seen: set[str] = set()
        for index, host in enumerate(self.hosts):
            message = None if is_ip(host) else host_fault(host)
            if message is None and host == "*" and mesh_only:
                message = "`*` is not allowed for the mesh gateway, it would take all traffic; write hosts, or name a Gateway"
            yield from fault(("hosts", index), message)
            if message is None:
                covering = next((pattern for pattern in _patterns(host.lower()) if pattern in seen), None)
                if covering is not None:
                    yield Fault(("hosts", index), f"`{host}` is there already, by `{covering}`; remove one")
                seen.add(host.lower())

    def _unreachable(self) -> Iterator[Fault]:
        """Istio's IST0130 in its plain case."""
        catch_all = next((index for index, route in enumerate(self.http) if not route.match), None)
        for index in range((catch_all or 0) + 1, len(self.http) if catch_all is not None else 0):
            yield from warning(
                ("http", index), f"no request comes here: http[{catch_all}] has no match and takes all; write it last"
            )


def _patterns(host: str) -> Iterator[str]:
    """Every pattern that covers the host: itself, `*.` each of its suffixes, `*`."""
    yield host
    labels = host.split(".")
    for start in range(1, len(labels)):
        yield "*." + ".".join(labels[start:])
    yield "*"
