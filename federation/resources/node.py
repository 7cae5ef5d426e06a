"""fedgate.io/v1 Node: what one gateway is, where it stands, what it listens on and where it finds services."""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from discovery import loss
from discovery.model import Locality, Protocol
from federation.resources.checks import duplicates, fault, host_fault, is_ip, is_label, range_fault
from federation.resources.connection_pool import ConnectionPoolSettings
from federation.resources.destination_rule import OutlierDetection
from federation.resources.message import Fault, Message
from federation.resources.registry.consul import ConsulConnection, ConsulDocuments, ConsulPublish, ConsulSource
from federation.resources.registry.kubernetes import KubernetesDocuments, KubernetesSource
from federation.resources.registry.nomad import NomadSource
from federation.resources.registry.openstack import DesignatePublish, OpenStackSource
from federation.resources.scalars import Address, Flag, HostPort, Milliseconds, Place, Whole, choice_reader, parse_duration
from federation.resources.service_entry import ServicePort

MOST_WORKERS = (
    256  # every worker holds every listening socket: far more than any machine has cores for, far below descriptor limits
)


class Defaults(enum.Enum):
    """What holds where nothing is written: ours, or exactly Istio's."""

    FEDGATE = "fedgate"
    ISTIO = "istio"


class OutboundMode(enum.Enum):
    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


class LogFormat(enum.Enum):
    TEXT = "text"
    JSON = "json"


def _workers(value: object) -> object:
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a number of processes, or auto (one per core)")
    return value


class Listen(Message):
    """Addresses of this machine. Port 0 takes any free one."""

    admin: Address = HostPort("127.0.0.1", 15000)
    health: Address = HostPort("0.0.0.0", 15021)
    east_west: Address = HostPort("0.0.0.0", 15443)
    http: Address = HostPort("127.0.0.1", 15080)
    dns: Address = HostPort("127.0.0.1", 15053)

    def faults(self) -> Iterator[Fault]:
        named = {
            "admin": self.admin,
            "health": self.health,
            "eastWest": self.east_west,
            "http": self.http,
            "dns": self.dns,
        }
        for name, address in named.items():
            if not is_ip(address.host):
                yield Fault((name,), "a listener needs an IP of this machine; write for example 0.0.0.0:15443")
        taken: set[HostPort] = set()
        for name, address in named.items():
            if address.port and address in taken:
                yield Fault((name,), f"{address} is taken by another listener of this Node; write another port")
            taken.add(address)


class Advertise(Message):
    """Addresses at which others reach this gateway."""

    east_west: Address | None = None

    def faults(self) -> Iterator[Fault]:
        if self.east_west is not None:
            yield from fault(("eastWest",), dialled_fault(self.east_west))


def dialled_fault(address: HostPort) -> str | None:
    """Of an address that others dial."""
    if address.port == 0:
        return "port 0 cannot be dialled; write the port"
    return None if is_ip(address.host) else host_fault(address.host, wildcard=False)


class AccessLog(Message):
    """path "" = off."""

    path: str = "/dev/stdout"
    format: Annotated[LogFormat, BeforeValidator(choice_reader(LogFormat))] = LogFormat.TEXT


class ForwardClientCert(enum.Enum):
    """What becomes of x-forwarded-client-cert (Istio's ForwardClientCertDetails)."""

    UNDEFINED = "UNDEFINED"  # as SANITIZE_SET
    SANITIZE = "SANITIZE"
    FORWARD_ONLY = "FORWARD_ONLY"
    APPEND_FORWARD = "APPEND_FORWARD"
    SANITIZE_SET = "SANITIZE_SET"
    ALWAYS_FORWARD_ONLY = "ALWAYS_FORWARD_ONLY"


class ProxyProtocol(Message):
    """Nothing is to be said of it: `proxyProtocol: {}` asks for the header on every connection to a Gateway's server."""


class Topology(Message):
    """What stands before this gateway (Istio's ProxyConfig.Topology)."""

    num_trusted_proxies: Whole = 0
    forward_client_cert_details: Annotated[ForwardClientCert, BeforeValidator(choice_reader(ForwardClientCert))] = (
        ForwardClientCert.UNDEFINED
    )
    proxy_protocol: ProxyProtocol | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("numTrustedProxies",), range_fault(self.num_trusted_proxies, 0, 2**32 - 1))


_NEVER = "never"


def _limit(value: object) -> object:
    return -1 if value == _NEVER else value


Limit = Annotated[Whole | None, BeforeValidator(_limit)]
"""A number, `never`, or None for the built-in one."""


class Overload(Message):
    """When a worker sheds. max_lag: how late its loop may be."""

    max_connections: Limit = None
    max_memory_mb: Limit = None
    max_lag: Annotated[int | None, BeforeValidator(lambda value: -1 if value in (_NEVER, -1) else parse_duration(value))] = None

    def faults(self) -> Iterator[Fault]:
        named = {"maxConnections": self.max_connections, "maxMemoryMb": self.max_memory_mb, "maxLag": self.max_lag}
        for name, value in named.items():
            if value is not None and value < 1 and value != -1:
                yield Fault((name,), f"{name} is 1 or more, or `never`; leave it out for the built-in limit")


class DnsService(Message):
    """A service found in DNS. srv: an SRV name (its targets and ports, by TTL); names: A and AAAA names; neither: `host` itself."""

    host: str
    srv: str = ""
    names: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = (ServicePort(number=80, name="http", protocol=Protocol.HTTP),)
    locality: Place = Locality()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("host",), host_fault(self.host, wildcard=False))
        if self.srv and self.names:
            yield Fault((), "srv and names exclude each other; keep one")
        if self.srv and not all(is_label(label.lstrip("_")) for label in self.srv.rstrip(".").split(".")):
            yield Fault(("srv",), "is no SRV name; write for example _http._tcp.shop.example")
        for index, name in enumerate(self.names):
            yield from fault(("names", index), host_fault(name, wildcard=False))
        if not self.ports:
            yield Fault(("ports",), "the service needs a port; write one, or leave ports out for http on 80")
        for index, number in duplicates([port.number for port in self.ports]):
            yield Fault(("ports", index, "number"), f"port {number} is written twice; numbers are unique")


class DnsSource(Message):
    services: tuple[DnsService, ...]

    def faults(self) -> Iterator[Fault]:
        if not self.services:
            yield Fault(("services",), "the source finds nothing; write its services")
        for index, host in duplicates([service.host.lower() for service in self.services]):
            yield Fault(("services", index, "host"), f"`{host}` is written twice; merge them")


class OnLoss(Message):
    """What becomes of what a source or a peer said once it cannot be reached. Nothing written: it is kept for ever; an outdated endpoint is
    found by checks and ejection, a missing one by nobody. keep: it is kept so long, then dropped. degrade: after so long its endpoints
    take traffic only when others cannot."""

    keep: Milliseconds | None = None
    degrade: Milliseconds | None = None

    @property
    def policy(self) -> loss.LossPolicy:
        if self.keep is not None:
            return loss.LossPolicy(loss.OnLoss.EXPIRE, self.keep / 1000)
        return loss.LossPolicy(loss.OnLoss.DEGRADE, (self.degrade or 0) / 1000)

    def faults(self) -> Iterator[Fault]:
        if (self.keep is None) == (self.degrade is None):
            yield Fault((), "onLoss is one of keep and degrade, each a duration; write for example keep: 10m")


class Source(Message):
    """One registry: exactly one of the kinds."""

    name: str
    dns: DnsSource | None = None
    consul: ConsulSource | None = None
    kubernetes: KubernetesSource | None = None
    nomad: NomadSource | None = None
    openstack: OpenStackSource | None = None
    on_loss: OnLoss | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind in _KINDS if getattr(self, kind) is not None)

    def faults(self) -> Iterator[Fault]:
        if not is_label(self.name):
            yield Fault(("name",), f"`{self.name[:80]}` is no source name; use letters, digits and `-`, 63 at most")
        if self.name in _RESERVED:
            yield Fault(("name",), f"`{self.name}` is the name of a source that every gateway has; choose another")
        if not self.kinds:
            yield Fault((), f"the source says nothing of where to look; write one of {', '.join(_KINDS)}")
        if len(self.kinds) > 1:
            yield Fault((), f"{' and '.join(self.kinds)} are two registries; write a source for each")


_KINDS = ("dns", "consul", "kubernetes", "nomad", "openstack")
_RESERVED = frozenset({"static", "peer"})  # what documents say, and what peers say


class ResourcesFrom(Message):
    """A place of documents besides the paths given to `-c`."""

    consul: ConsulDocuments | None = None
    kubernetes: KubernetesDocuments | None = None

    def faults(self) -> Iterator[Fault]:
        if (self.consul is None) == (self.kubernetes is None):
            yield Fault((), "each entry is one of consul and kubernetes")


class Publish(Message):
    """Where the merged catalog is written to."""

    consul: ConsulPublish | None = None
    designate: DesignatePublish | None = None

    def faults(self) -> Iterator[Fault]:
        if (self.consul is None) == (self.designate is None):
            yield Fault((), "each entry is one of consul and designate")


class SharedStore(Message):
    """What the gateways of one cluster agree through."""

    consul: ConsulConnection


class Vips(Message):
    """Where services without addresses get theirs. Products overlap here (Istio 240.240.0.0/16, Consul 240.0.0.0/4, Kuma 241 to 243/8),
    so it is settable. addRoute: make the ranges this machine's own, as `ip route add local RANGE dev lo` does (takes CAP_NET_ADMIN); without
    it that was done by somebody else, or the range is in 127.0.0.0/8, or services are not reached at these addresses here."""

    range: str = "240.240.0.0/16"
    range6: str = "2001:2::/48"
    add_route: Flag = False

    def faults(self) -> Iterator[Fault]:
        for name, text, version in (("range", self.range, 4), ("range6", self.range6, 6)):
            if not text and version == 6:
                continue  # no addresses of that family
            try:
                network = ipaddress.ip_network(text)
            except ValueError:
                yield Fault(
                    (name,), f"`{text[:80]}` is no network; write for example {Vips().range if version == 4 else Vips().range6}"
                )
                continue
            if network.version != version:
                yield Fault((name,), f"{text} is of IP version {network.version}; write one of version {version}")
            elif network.num_addresses < 256:
                yield Fault((name,), f"{text} has {network.num_addresses} addresses; give it 256 at least, one a service is used")


class Dns(Message):
    """The nameserver. upstreams: who is asked for names that are no service's, `ADDRESS[:PORT]`; none: the system's. allow: networks whose
    questions are answered; none: private, loopback and link-local ones, so that it is no open resolver. ttl: seconds."""

    upstreams: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    ttl: Whole = 30  # Istio's

    def faults(self) -> Iterator[Fault]:
        for index, text in enumerate(self.allow):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield Fault(("allow", index), f"`{text[:80]}` is no network; write for example 10.0.0.0/8")
        for index, text in enumerate(self.upstreams):
            host, _, port = text.rpartition(":")
            if not is_ip(text) and not (is_ip(host.strip("[]")) and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                yield Fault(("upstreams", index), f"`{text[:80]}` is no IP; write for example 10.0.0.2 or 10.0.0.2:53")
        yield from fault(("ttl",), range_fault(self.ttl, 0, 86_400))


class DefaultTrafficPolicy(Message):
    """Istio's MeshConfig.defaultTrafficPolicy: what holds where no DestinationRule says otherwise."""

    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None

    def faults(self) -> Iterator[Fault]:
        if self.connection_pool is None and self.outlier_detection is None:
            yield Fault((), "defaultTrafficPolicy is empty; write connectionPool or outlierDetection, or remove it")


class Node(Message):
    """Only cluster is required. network "": the cluster's name. workers None: one per core. drain_duration: what connections have to
    end in once the gateway stops; 45 s is Istio's."""

    cluster: str
    network: str = ""
    locality: Place = Locality()
    trust_domain: str = "cluster.local"
    cluster_domain: str = "cluster.local"
    workers: Annotated[Whole | None, BeforeValidator(_workers)] = None
    defaults: Annotated[Defaults, BeforeValidator(choice_reader(Defaults))] = Defaults.FEDGATE
    state_dir: str = "./state"
    listen: Listen = Listen()
    advertise: Advertise = Advertise()
    outbound_traffic_policy: Annotated[OutboundMode, BeforeValidator(choice_reader(OutboundMode))] = OutboundMode.REGISTRY_ONLY
    access_log: AccessLog = AccessLog()
    gateway_topology: Topology = Topology()
    default_traffic_policy: DefaultTrafficPolicy | None = None
    overload: Overload = Overload()
    drain_duration: Milliseconds = 45_000
    sources: tuple[Source, ...] = ()
    resources: tuple[ResourcesFrom, ...] = ()
    publish: tuple[Publish, ...] = ()
    shared: SharedStore | None = None
    vips: Vips = Vips()
    dns: Dns = Dns()

    def faults(self) -> Iterator[Fault]:
        for name, text in (("cluster", self.cluster), *((("network", self.network),) if self.network else ())):
            if not is_label(text):
                yield Fault((name,), f"`{text[:80]}` is no name; use letters, digits and `-`, 63 at most")
        yield from fault(("trustDomain",), host_fault(self.trust_domain, wildcard=False))
        yield from fault(("clusterDomain",), host_fault(self.cluster_domain, wildcard=False))
        yield from fault(("workers",), range_fault(self.workers, 1, MOST_WORKERS))
        if not self.state_dir:
            yield Fault(("stateDir",), "stateDir is empty; write a directory, or leave it out for ./state")
        for index, name in duplicates([source.name for source in self.sources]):
            yield Fault(("sources", index, "name"), f"source `{name}` is written twice; names are unique")
