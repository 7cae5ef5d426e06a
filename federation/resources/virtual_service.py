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
from federation.resources.cors_policy import CorsPolicy, UnmatchedPreflights
from federation.resources.destination import Delegate, Destination, HTTPMirrorPolicy, PortSelector
from federation.resources.header import HeaderOperations, Headers
from federation.resources.injection import FaultAbort, FaultDelay, HTTPFaultInjection
from federation.resources.match import HTTPMatchRequest, StringMatch
from federation.resources.message import Fault, Message
from federation.resources.percent import Percent, share
from federation.resources.route import (
    HTTPBody,
    HTTPDirectResponse,
    HTTPRedirect,
    HTTPRetry,
    HTTPRewrite,
    RedirectPort,
    RegexRewrite,
)
from federation.resources.scalars import Milliseconds, Whole
from federation.resources.tcp_route import L4MatchAttributes, RouteDestination, TCPRoute, TLSMatchAttributes, TLSRoute
from federation.resources.unreachable import unreachable

__all__ = [  # every message of the proto file, wherever it is written
    "CorsPolicy",
    "Delegate",
    "Destination",
    "FaultAbort",
    "FaultDelay",
    "HTTPBody",
    "HTTPDirectResponse",
    "HTTPFaultInjection",
    "HTTPMatchRequest",
    "HTTPMirrorPolicy",
    "HTTPRedirect",
    "HTTPRetry",
    "HTTPRewrite",
    "HTTPRoute",
    "HTTPRouteDestination",
    "HeaderOperations",
    "Headers",
    "L4MatchAttributes",
    "Percent",
    "PortSelector",
    "RedirectPort",
    "RegexRewrite",
    "RouteDestination",
    "StringMatch",
    "TCPRoute",
    "TLSMatchAttributes",
    "TLSRoute",
    "UnmatchedPreflights",
    "VirtualService",
]

ALL = 1_000_000  # parts per million


class HTTPRouteDestination(Message):
    destination: Destination
    weight: Whole = 0
    headers: Headers = Headers()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("weight",), range_fault(self.weight, 0))


class HTTPRoute(Message):
    """timeout None: none (Istio's default). retries None: the defaults."""

    name: str = ""
    match: tuple[HTTPMatchRequest, ...] = ()
    route: tuple[HTTPRouteDestination, ...] = ()
    redirect: HTTPRedirect | None = None
    direct_response: HTTPDirectResponse | None = None
    delegate: Delegate | None = None
    rewrite: HTTPRewrite | None = None
    timeout: Milliseconds | None = None
    retries: HTTPRetry | None = None
    fault: HTTPFaultInjection | None = None
    mirror: Destination | None = None
    mirrors: tuple[HTTPMirrorPolicy, ...] = ()
    mirror_percent: Whole | None = None
    mirror_percentage: Percent | None = None
    cors_policy: CorsPolicy | None = None
    headers: Headers = Headers()

    @property
    def mirrored(self) -> tuple[tuple[str, Destination, int], ...]:
        """(where it is written, destination, parts per million) of every mirror; those of 0 are off."""
        found = [
            (f"mirrors[{i}].destination", each.destination, share(each.percentage, None, otherwise=ALL))
            for i, each in enumerate(self.mirrors)
        ]
        if self.mirror is not None:
            found.insert(0, ("mirror", self.mirror, share(self.mirror_percentage, self.mirror_percent, otherwise=ALL)))
        return tuple(each for each in found if each[2] > 0)

    def faults(self) -> Iterator[Fault]:
        yield from self._conflicts()
        yield from self._mirrors()
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
        actions = (("route", self.route), ("redirect", self.redirect), ("directResponse", self.direct_response))
        written = [name for name, value in actions if value]
        if self.delegate is not None:
            for name in written:
                if name != "directResponse":
                    yield Fault((name,), f"{name} and delegate exclude each other; the delegate's routes say where requests go")
            return
        if not written:
            yield Fault((), "the route does nothing; write one of route, redirect, directResponse")
        elif len(written) > 1:
            yield Fault((), f"{' and '.join(written)} exclude each other; keep one")
        if written and "route" not in written:
            for name, value in (("rewrite", self.rewrite), ("fault", self.fault)):
                if value is not None:
                    yield Fault((name,), f"{name} and {written[0]} exclude each other; keep one")

    def _mirrors(self) -> Iterator[Fault]:
        if self.mirror is not None and self.mirrors:
            yield Fault(("mirrors",), "mirror and mirrors exclude each other; write all of them in mirrors")
        yield from fault(("mirrorPercent",), range_fault(self.mirror_percent, 0, 100))
        if self.mirror_percent is not None:
            yield from warning(("mirrorPercent",), "`mirrorPercent` is deprecated; write mirrorPercentage: {value: …}")
        if self.mirror is None and (self.mirror_percent is not None or self.mirror_percentage is not None):
            yield from warning((), "a mirror percentage without `mirror` does nothing; write the destination of the copies")


class VirtualService(Message):
    """gateways: `name`, `namespace/name`, or `mesh`; none written = mesh. Without hosts: another one's delegate."""

    hosts: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: tuple[TLSRoute, ...] = ()
    tcp: tuple[TCPRoute, ...] = ()
    export_to: tuple[str, ...] = ()

    @property
    def for_mesh(self) -> bool:
        return not self.gateways or "mesh" in self.gateways

    def faults(self) -> Iterator[Fault]:
        if not (self.http or self.tls or self.tcp):
            yield Fault((), "the VirtualService routes nothing; write http, tls or tcp")
        yield from self._hosts()
        yield from self._delegate() if not self.hosts else self._server_names()
        yield from gateway_name_faults(self.gateways)
        yield from self._claims()
        for field, routes in (("http", self.http), ("tls", self.tls), ("tcp", self.tcp)):
            yield from unreachable(field, routes)
        yield from export_to_faults(self.export_to)

    def _hosts(self) -> Iterator[Fault]:
        seen: set[str] = set()
        for index, host in enumerate(self.hosts):
            message = None if is_ip(host) else host_fault(host)
            if message is None and host == "*" and self.for_mesh:
                message = "`*` is not allowed for the mesh gateway, it would take all traffic; write hosts, or name a Gateway"
            yield from fault(("hosts", index), message)
            if message is None:
                covering = next((pattern for pattern in _patterns(host.lower()) if pattern in seen), None)
                if covering is not None:
                    yield Fault(("hosts", index), f"`{host}` is there already, by `{covering}`; remove one")
                seen.add(host.lower())

    def _delegate(self) -> Iterator[Fault]:
        """Without hosts it is another one's delegate, which has only routes."""
        for name, written in (("gateways", self.gateways), ("tls", self.tls), ("tcp", self.tcp)):
            if written:
                yield Fault(
                    (name,), f"without hosts this is a delegate, and {name} is the root's to say; write hosts, or remove {name}"
                )
        for index, http in enumerate(self.http):
            if http.delegate is not None:
                yield Fault(("http", index, "delegate"), "a delegate cannot delegate further; write the route here")

    def _server_names(self) -> Iterator[Fault]:
        hosts = [host.lower() for host in self.hosts]
        for index, tls in enumerate(self.tls):
            for place, match in enumerate(tls.match):
                for number, name in enumerate(match.sni_hosts):
                    if not any(pattern in hosts for pattern in _patterns(name.lower())):
                        at = ("tls", index, "match", place, "sniHosts", number)
                        yield Fault(at, f"`{name[:80]}` is within none of the hosts; add it to hosts, or narrow it")

    def _claims(self) -> Iterator[Fault]:
        if not self.for_mesh or not self.hosts:
            return
        for index, http in enumerate(self.http):
            for place, match in enumerate(http.match):
                if match.asks_for_claims:
                    text = "a JWT's claims are known at Gateways only; name a Gateway in `gateways`, and not mesh"
                    yield Fault(("http", index, "match", place), text)


def _patterns(host: str) -> Iterator[str]:
    """Every pattern that covers the host: itself, `*.` each of its suffixes, `*`."""
    yield host
    labels = host.split(".")
    for start in range(1, len(labels)):
        yield "*." + ".".join(labels[start:])
    yield "*"
