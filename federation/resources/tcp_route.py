"""Where connections go that carry no HTTP for us: TLS that is passed through, by its server name, and plain TCP
(virtual_service.proto TLSRoute, TCPRoute)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from pydantic import Field

from federation.resources.checks import (
    fault,
    gateway_name_faults,
    host_fault,
    is_ip,
    label_faults,
    port_fault,
    range_fault,
    warning,
)
from federation.resources.destination import Destination
from federation.resources.message import Fault, Message
from federation.resources.scalars import Whole

NOT_HERE = "speaks of the sidecar that a connection comes from, and cannot apply to a gateway, which has no such client"


class RouteDestination(Message):
    destination: Destination
    weight: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("weight",), range_fault(self.weight, 0))


class L4MatchAttributes(Message):
    """destinationSubnets: CIDRs or addresses that the client connected to. port: the listener's; 0 = any."""

    passed_over = ("sourceSubnet",)  # declared in the proto, hidden from its documentation, and without effect in Istio

    destination_subnets: tuple[str, ...] = ()
    port: Whole = 0
    source_labels: dict[str, str] = Field(default_factory=dict)
    gateways: tuple[str, ...] = ()
    source_namespace: str = ""

    def faults(self) -> Iterator[Fault]:
        for index, subnet in enumerate(self.destination_subnets):
            yield from fault(("destinationSubnets", index), _subnet_fault(subnet))
        yield from fault(("port",), port_fault(self.port, zero=True))
        yield from gateway_name_faults(self.gateways)
        yield from label_faults(self.source_labels, ("sourceLabels",))
        for name, written in (("sourceLabels", self.source_labels), ("sourceNamespace", self.source_namespace)):
            if written:
                yield from warning((name,), f"`{name}` {NOT_HERE}")


class TLSMatchAttributes(L4MatchAttributes):
    """sniHosts: names that a client hello may ask for; each within one of the VirtualService's hosts."""

    sni_hosts: tuple[str, ...]

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.sni_hosts:
            yield Fault(("sniHosts",), "a TLS match needs at least one server name; write one, or a `tcp` route")
        for index, host in enumerate(self.sni_hosts):
            if is_ip(host):
                yield from warning(("sniHosts", index), f"`{host}` is an address, and clients send no address as a server name")
            else:
                yield from fault(("sniHosts", index), host_fault(host))


class TCPRoute(Message):
    """match: one of them must hold; none written = every connection."""

    match: tuple[L4MatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from _split_faults(self.route)


class TLSRoute(Message):
    match: tuple[TLSMatchAttributes, ...] = ()
    route: tuple[RouteDestination, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not self.match:
            yield Fault(("match",), "a TLS route needs at least one match; write match with sniHosts")
        yield from _split_faults(self.route)


def _split_faults(route: Sequence[RouteDestination]) -> Iterator[Fault]:
    if not route:
        yield Fault(("route",), "the route leads nowhere; write route with a destination")
    elif len(route) > 1 and sum(one.weight for one in route) == 0:
        yield Fault(("route",), "the weights add up to 0, so nothing says who gets what; write a weight for each destination")


def _subnet_fault(written: str) -> str | None:
    try:
        ipaddress.ip_network(written, strict=False)
    except ValueError:
        return f"`{written[:80]}` is no subnet; write an address or a CIDR such as 10.1.0.0/16"
    return None
