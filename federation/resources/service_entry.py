"""Istio ServiceEntry and WorkloadEntry (networking/v1alpha3): services that no registry knows, and the workloads behind them.

What each resolution takes: NONE, what the client itself meant, so no endpoints; STATIC, endpoints that are addresses; DNS, names, every
address of which is an endpoint; DNS_ROUND_ROBIN, one name, one address at a time; DYNAMIC_DNS, wildcard hosts, looked up as they are
asked for, so neither addresses nor endpoints.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Locality, Protocol, Resolution
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
from federation.resources.message import Fault, Message, Path
from federation.resources.scalars import Place, Whole, choice_reader

UNIX = "unix://"
MOST_HOSTS = 256  # Istio's limits, from its CRD
MOST_ENDPOINTS = 4096
LONGEST_UNIX = 107  # bytes of sockaddr_un's sun_path on Linux, less the NUL


class Location(enum.Enum):
    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


_Resolution = Annotated[Resolution, BeforeValidator(choice_reader(Resolution))]
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
        if not self.address and self.network:
            text = f"without an address it is reached by the gateways of network {self.network[:80]}; a Peer brings what is behind those"
            yield from warning(("address",), f"{text}, so this endpoint is left out")

    def _address_fault(self) -> str | None:
        if not self.address:
            return None if self.network else "the address is empty; write an IP, a DNS name (resolution DNS) or unix:///path"
        if self.is_unix:
            path = self.address.removeprefix(UNIX)
            if len(path.encode()) > LONGEST_UNIX:
                return f"a unix socket's path has {LONGEST_UNIX} bytes at most (sun_path); write a shorter one"
            good = (path.startswith("/") and not path.endswith("/")) or (path.startswith("@") and len(path) > 1)
            return None if good else "write an absolute path: unix:///run/app.sock, or unix://@name for an abstract one"
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
    """resolution not written: NONE, as in Istio."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: _Location = Location.MESH_EXTERNAL
    resolution: _Resolution = Resolution.NONE
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from self._hosts()
        yield from self._addresses()
        yield from self._ports()
        yield from self._endpoints()
        for index, endpoint in enumerate(self.endpoints):
            yield from self._endpoint(("endpoints", index), endpoint)
        yield from export_to_faults(self.export_to)

    def _hosts(self) -> Iterator[Fault]:
        if not 1 <= len(self.hosts) <= MOST_HOSTS:
            yield Fault(("hosts",), f"a ServiceEntry has 1 to {MOST_HOSTS} hosts, this one {len(self.hosts)}")
        for index, host in enumerate(self.hosts):
            message = host_fault(host)
            if host == "*":
                message = "`*` alone would be every host there is; write hosts, or `*.suffix`"
            elif message is None:
                message = self._host_fault(host)
            yield from fault(("hosts", index), message)
        for index, host in duplicates([host.lower() for host in self.hosts]):
            yield Fault(("hosts", index), f"`{host}` is written twice; remove one")

    def _host_fault(self, host: str) -> str | None:
        wildcard = host.startswith("*")
        if self.resolution is Resolution.DYNAMIC_DNS and not wildcard:
            return f"`{host}` is a full name, which resolution DNS is for; DYNAMIC_DNS looks up the names below a wildcard host"
        alone = not self.endpoints and self.workload_selector is None
        if wildcard and alone and self.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
            text = f"`{host}` cannot be resolved in DNS: a wildcard is no name; "
            return text + "write endpoints, a full host, or resolution DYNAMIC_DNS"
        return None

    def _addresses(self) -> Iterator[Fault]:
        if self.addresses and self.resolution is Resolution.DYNAMIC_DNS:
            yield Fault(
                ("addresses",), "hosts of DYNAMIC_DNS are told apart by name (Host, SNI), addresses mean nothing; remove them"
            )
            return
        for index, address in enumerate(self.addresses):
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError:
                yield Fault(
                    ("addresses", index), f"`{address[:80]}` is no IP and no CIDR; write for example 240.0.0.7 or 10.1.0.0/16"
                )
                continue
            if "/" in address and self.resolution not in (Resolution.NONE, Resolution.STATIC):
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
        for index, port in enumerate(self.ports):
            if self.resolution is Resolution.DYNAMIC_DNS and port.protocol not in _NAMED:
                words = ", ".join(sorted(each.value for each in _NAMED))
                text = f"protocol {port.protocol.value} says no name that could be looked up; DYNAMIC_DNS takes {words}"
                yield Fault(("ports", index, "protocol"), text)
            elif self.resolution is Resolution.NONE and not self.addresses and port.protocol in (Protocol.TCP, Protocol.MONGO):
                text = f"without addresses, resolution NONE takes port {port.number} of every address there is; write addresses"
                yield from warning(("ports", index), text)

    def _endpoints(self) -> Iterator[Fault]:
        several, resolution = len(self.endpoints), self.resolution
        if several > MOST_ENDPOINTS:
            yield Fault(("endpoints",), f"{several} endpoints, {MOST_ENDPOINTS} at most; use workloadSelector")
        if self.endpoints and self.workload_selector is not None:
            yield Fault(("workloadSelector",), "endpoints and workloadSelector exclude each other; keep one")
        if resolution in (Resolution.NONE, Resolution.DYNAMIC_DNS):
            means = "goes where the client meant" if resolution is Resolution.NONE else "looks up what the client asks for"
            text = f"resolution {resolution.value} {means}, so there is nothing to list; remove it, or write STATIC or DNS"
            if self.endpoints:
                yield Fault(("endpoints",), text)
            elif self.workload_selector is not None:
                yield from warning(("workloadSelector",), text)
        elif resolution is Resolution.DNS_ROUND_ROBIN and several > 1:
            yield Fault(("endpoints",), f"DNS_ROUND_ROBIN is about one name, there are {several}; keep one, or write DNS")
        elif resolution is Resolution.STATIC and not self.endpoints and self.workload_selector is None:
            yield from warning(
                ("endpoints",), "resolution STATIC without endpoints: every request is answered 503; write endpoints"
            )

    def _endpoint(self, at: Path, endpoint: WorkloadEntry) -> Iterator[Fault]:
        names = {port.name for port in self.ports}
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


_NAMED = frozenset(
    {Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.HTTPS, Protocol.TLS}
)  # whose connections say a name: Host, or SNI
