"""Istio ServiceEntry and WorkloadEntry (networking/v1alpha3): services that no registry knows, and the workloads behind them."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Locality, Resolution
from federation.resources.checks import (
    duplicates,
    export_to_faults,
    fault,
    host_fault,
    is_ip,
    is_label,
    label_faults,
    port_fault,
    range_fault,
    warning,
)
from federation.resources.gateway import PortProtocol
from federation.resources.message import Fault, Message
from federation.resources.scalars import Place, Whole, choice_reader

UNIX = "unix://"
MOST_HOSTS = 256  # Istio's limits, from its CRD
MOST_ENDPOINTS = 4096


class Location(enum.Enum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class BuiltResolution(enum.Enum):
    """The ones of discovery.model.Resolution that this release builds."""

    STATIC = "STATIC"
    DNS = "DNS"


_read_resolution = choice_reader(BuiltResolution, later=("NONE", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"))


def _resolution(value: object) -> Resolution:
    return value if isinstance(value, Resolution) else Resolution(_read_resolution(value).value)


_Location = Annotated[Location, BeforeValidator(choice_reader(Location))]


class ServicePort(Message):
    """target_port 0: the endpoints listen on `number`."""

    number: Whole
    name: str
    protocol: PortProtocol
    target_port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("number",), port_fault(self.number))
        yield from fault(("targetPort",), port_fault(self.target_port, zero=True))
        if not is_label(self.name):
            yield Fault(("name",), f"`{self.name[:80]}` is no port name; use letters, digits and `-`, 63 at most")


class WorkloadEntry(Message):
    """address: an IP, a DNS name (resolution DNS), or unix:///path. ports: name of the service's port → number here."""

    address: str = ""
    ports: dict[str, Whole] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    network: str = ""
    locality: Place = Locality()
    weight: Whole = 0
    service_account: str = ""

    @property
    def is_unix(self) -> bool:
        return self.address.startswith(UNIX)

    def faults(self) -> Iterator[Fault]:
        yield from fault(("address",), self._address_fault())
        for name, number in self.ports.items():
            if not is_label(name):
                yield Fault(("ports", name), f"`{name[:80]}` is no port name; use letters, digits and `-`, 63 at most")
            yield from fault(("ports", name), port_fault(number))
        if self.is_unix and self.ports:
            yield Fault(("ports",), "a unix socket has no ports; remove them")
        yield from fault(("weight",), range_fault(self.weight, 0))
        yield from label_faults(self.labels, ("labels",))

    def _address_fault(self) -> str | None:
        if not self.address:
            if self.network:
                return "an endpoint known by its network alone is not supported yet; write its address"
            return "the address is empty; write an IP, a DNS name (resolution DNS) or unix:///path"
        if self.is_unix:
            path = self.address.removeprefix(UNIX)
            if path.startswith("@"):
                return "an abstract unix socket is not supported yet; write unix:///path"
            return None if path.startswith("/") and not path.endswith("/") else "write an absolute path: unix:///run/app.sock"
        return None if is_ip(self.address) else host_fault(self.address, wildcard=False)


class WorkloadSelector(Message):
    labels: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        for key, value in self.labels.items():
            if "*" in key + value:
                yield Fault(("labels", key), "a selector has no wildcards; write the whole value")
            else:
                yield from label_faults({key: value}, ("labels",))
        if not self.labels:
            yield from warning(("labels",), "without labels the selector takes every WorkloadEntry of the namespace")


class ServiceEntry(Message):
    """What Istio takes for no resolution written, NONE, is not supported yet, so one has to be written."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: _Location = Location.MESH_EXTERNAL
    resolution: Annotated[Resolution, BeforeValidator(_resolution)] = Field(default="NONE", validate_default=True)
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from self._hosts()
        yield from self._addresses()
        yield from self._ports()
        yield from self._endpoints()
        yield from export_to_faults(self.export_to)

    def _hosts(self) -> Iterator[Fault]:
        if not 1 <= len(self.hosts) <= MOST_HOSTS:
            yield Fault(("hosts",), f"a ServiceEntry has 1 to {MOST_HOSTS} hosts, this one {len(self.hosts)}")
        for index, host in enumerate(self.hosts):
            message = host_fault(host)
            if host == "*":
                message = "`*` alone would be every host there is; write hosts, or `*.suffix`"
            elif message is None and host.startswith("*") and self.resolution is Resolution.DNS and not self.endpoints:
                message = f"`{host}` cannot be resolved in DNS: a wildcard is no name; write endpoints, or a full host"
            yield from fault(("hosts", index), message)
        for index, host in duplicates([host.lower() for host in self.hosts]):
            yield Fault(("hosts", index), f"`{host}` is written twice; remove one")

    def _addresses(self) -> Iterator[Fault]:
        for index, address in enumerate(self.addresses):
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                yield Fault(
                    ("addresses", index), f"`{address[:80]}` is no IP and no CIDR; write for example 240.0.0.7 or 10.1.0.0/16"
                )
                continue
            if "/" in address and self.resolution is Resolution.DNS:
                yield Fault(
                    ("addresses", index), "CIDR addresses are allowed only for NONE/STATIC; write an IP, or resolution STATIC"
                )

    def _ports(self) -> Iterator[Fault]:
        for index, name in duplicates([port.name for port in self.ports]):
            yield Fault(("ports", index, "name"), f"port name `{name}` is used twice; names are unique")
        for index, number in duplicates([port.number for port in self.ports]):
            yield Fault(("ports", index, "number"), f"port {number} is written twice; numbers are unique")
        if not self.ports:
            yield from warning(("ports",), "without ports nothing can be routed here; write at least one")

    def _endpoints(self) -> Iterator[Fault]:
        if len(self.endpoints) > MOST_ENDPOINTS:
            yield Fault(("endpoints",), f"{len(self.endpoints)} endpoints, {MOST_ENDPOINTS} at most; use workloadSelector")
        if self.endpoints and self.workload_selector is not None:
            yield Fault(("workloadSelector",), "endpoints and workloadSelector exclude each other; keep one")
        if self.resolution is Resolution.STATIC and not self.endpoints and self.workload_selector is None:
            yield from warning(
                ("endpoints",), "resolution STATIC without endpoints: every request is answered 503; write endpoints"
            )
        names = {port.name for port in self.ports}
        for index, endpoint in enumerate(self.endpoints):
            at = ("endpoints", index)
            for name in endpoint.ports:
                if name not in names and is_label(name):
                    yield Fault(
                        (*at, "ports", name), f"the ServiceEntry has no port `{name[:80]}`; write it under spec.ports, or rename it"
                    )
            if endpoint.is_unix and self.resolution is not Resolution.STATIC:
                yield Fault((*at, "address"), "a unix socket needs resolution STATIC; write that, or an IP")
            elif endpoint.is_unix and len(self.ports) != 1:
                yield Fault((*at, "address"), f"a unix socket serves exactly one port, the ServiceEntry has {len(self.ports)}")
            elif not endpoint.is_unix and self.resolution is Resolution.STATIC and endpoint.address and not is_ip(endpoint.address):
                yield Fault((*at, "address"), f"`{endpoint.address[:80]}` is no IP; write one, or resolution DNS")
