"""fedgate.io/v1 ExternalService: a service outside, in one object; elsewhere it takes five.

kind: ExternalService
metadata: {name: payments}
spec:
  hosts: [api.payments.example]
  ports: [{number: 443, protocol: HTTPS}]
  tls: {mode: SIMPLE, subjectAltNames: [api.payments.example]}     # the gateway speaks TLS there; clients speak HTTP to the gateway
  from: [{principals: ['east.example.com/ns/shop/sa/*']}]
  rateLimit: {requests: 100, per: 1s}

It stands for a ServiceEntry, DestinationRules, VirtualServices, a Gateway and a ServicePolicy, as far as it says something for them:
`expansion` makes them, `fedgate expand` prints them, and the gateway uses nothing else of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Protocol, Resolution
from federation.resources.access import From, network_faults, source_address_faults
from federation.resources.checks import (
    duplicates,
    duration_fault,
    export_to_faults,
    fault,
    host_fault,
    is_ip,
    is_label,
    label_faults,
    port_fault,
    warning,
)
from federation.resources.destination_rule import ClientTlsMode, ClientTLSSettings
from federation.resources.gateway import PortProtocol
from federation.resources.health_check import HealthCheck
from federation.resources.message import Fault, Message
from federation.resources.rate_limit import RateLimit
from federation.resources.route import HTTPRetry
from federation.resources.scalars import Milliseconds, Whole, choice_reader
from federation.resources.service_entry import MOST_HOSTS, WorkloadEntry

SECURE = (Protocol.HTTPS, Protocol.TLS)
_Resolution = Annotated[Resolution | None, BeforeValidator(lambda value: None if value is None else _resolution(value))]
_resolution = choice_reader(Resolution)


class ExternalPort(Message):
    """number: where the service listens. name "": made of protocol and number."""

    number: Whole
    protocol: PortProtocol
    name: str = ""
    target_port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("number",), port_fault(self.number))
        yield from fault(("targetPort",), port_fault(self.target_port, zero=True))
        if self.name and not is_label(self.name):
            yield Fault(("name",), f"`{self.name[:80]}` is no port name; use letters, digits and `-`, 63 at most")


class Entrance(Message):
    """A Gateway for it, besides the Node's own `http` port and its virtual addresses. http_port: for ports of HTTP, by Host. tls_port: for
    ports of TLS that clients end themselves, by SNI. selector: as of a Gateway. bind: as of its servers."""

    selector: dict[str, str] = Field(default_factory=dict)
    http_port: Whole = 0
    tls_port: Whole = 0
    bind: str = ""

    def faults(self) -> Iterator[Fault]:
        if not self.http_port and not self.tls_port:
            yield Fault((), "the entrance has no port; write httpPort (by Host), tlsPort (by SNI), or both")
        yield from fault(("httpPort",), port_fault(self.http_port, zero=True))
        yield from fault(("tlsPort",), port_fault(self.tls_port, zero=True))
        if self.http_port and self.http_port == self.tls_port:
            yield Fault(("tlsPort",), f"port {self.tls_port} is httpPort already; write another")
        if self.bind and not is_ip(self.bind):
            yield Fault(("bind",), "bind is no IP; write one of this machine's, or leave it out for all")
        yield from label_faults(self.selector, ("selector",))


class ExternalService(Message):
    """resolution None: full hosts DNS, wildcards DYNAMIC_DNS; with endpoints STATIC or DNS, by what they are; with a CIDR among the
    addresses NONE. tls: what the gateway speaks there, on ports of HTTPS and TLS, or on all where none is. from: as of a ServicePolicy."""

    hosts: tuple[str, ...]
    ports: tuple[ExternalPort, ...]
    addresses: tuple[str, ...] = ()
    endpoints: tuple[WorkloadEntry, ...] = ()
    resolution: _Resolution = None
    tls: ClientTLSSettings | None = None
    from_: tuple[From, ...] | None = Field(default=None, alias="from")
    rate_limit: RateLimit | None = None
    health_check: HealthCheck | None = None
    timeout: Milliseconds | None = None
    connect_timeout: Milliseconds | None = None
    retries: HTTPRetry | None = None
    source_address: str = ""
    private_addresses: tuple[str, ...] = ()
    gateway: Entrance | None = None
    export_to: tuple[str, ...] = ()

    @property
    def originates(self) -> bool:
        return self.tls is not None and self.tls.mode is not ClientTlsMode.DISABLE

    def originated(self, port: ExternalPort) -> bool:
        """Whether the gateway speaks TLS on this port."""
        return self.originates and (port.protocol in SECURE or all(each.protocol not in SECURE for each in self.ports))

    def faults(self) -> Iterator[Fault]:
        yield from self._hosts()
        if not self.ports:
            yield Fault(("ports",), "ports is empty; write at least one, such as {number: 443, protocol: HTTPS}")
        for index, number in duplicates([port.number for port in self.ports]):
            yield Fault(("ports", index, "number"), f"port {number} is written twice; numbers are unique")
        for index, name in duplicates([port.name for port in self.ports]):
            if name:
                yield Fault(("ports", index, "name"), f"port name `{name}` is used twice; names are unique")
        yield from fault(("timeout",), duration_fault(self.timeout))
        yield from fault(("connectTimeout",), duration_fault(self.connect_timeout))
        yield from network_faults(self.private_addresses, ("privateAddresses",))
        yield from source_address_faults(self.source_address, ("sourceAddress",))
        yield from export_to_faults(self.export_to)
        yield from self._meaning()

    def _hosts(self) -> Iterator[Fault]:
        if not 1 <= len(self.hosts) <= MOST_HOSTS:
            yield Fault(("hosts",), f"an ExternalService has 1 to {MOST_HOSTS} hosts, this one {len(self.hosts)}")
        for index, host in enumerate(self.hosts):
            alone = "`*` alone would be every host there is; write hosts, or `*.suffix`"
            dotless = f"`{host[:80]}` is a short name, of this cluster; write the full one, with a dot"
            message = alone if host == "*" else host_fault(host) or (None if "." in host else dotless)
            yield from fault(("hosts", index), message)
        for index, host in duplicates([host.lower() for host in self.hosts]):
            yield Fault(("hosts", index), f"`{host}` is written twice; remove one")

    def _meaning(self) -> Iterator[Fault]:
        """What is written and would mean nothing."""
        secure = [port for port in self.ports if port.protocol in SECURE]
        routed = any(port.protocol.is_http or (port.protocol is Protocol.HTTPS and self.originated(port)) for port in self.ports)
        for name, value in (("timeout", self.timeout), ("retries", self.retries)):
            if value is not None and not routed:
                text = f"{name} is about requests, and there are none to see: clients speak TLS or TCP; write tls, or remove it"
                yield from warning((name,), text)
        entrance = self.gateway
        if entrance is not None and entrance.tls_port and not any(not self.originated(port) for port in secure):
            text = "no port is left to clients' own TLS; remove tlsPort, or add a port of HTTPS without tls"
            yield Fault(("gateway", "tlsPort"), text)
        if entrance is not None and entrance.http_port and not routed:
            yield Fault(("gateway", "httpPort"), "no port is of HTTP, nor of HTTPS with tls; remove httpPort, or write one")
        if self.tls is not None and self.originates and not self.tls.insecure_skip_verify and self.tls.mode is ClientTlsMode.SIMPLE:
            wild = [host for host in self.hosts if host.startswith("*")]
            if wild and self.tls.sni:
                text = (
                    f"every name below {wild[0]} would be asked for as {self.tls.sni}; leave sni out: each is asked for by its own"
                )
                yield from warning(("tls", "sni"), text)
