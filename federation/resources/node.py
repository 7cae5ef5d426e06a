"""fedgate.io/v1 Node: what one gateway is, where it stands, what it listens on and where it finds services."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator

from discovery.model import Locality, Protocol
from federation.resources.message import Message
from federation.resources.scalars import Address, HostPort, Place, Whole, choice_reader
from federation.resources.service_entry import ServicePort


class Defaults(enum.Enum):
    """What holds where nothing is written: ours, or exactly Istio's."""

    FEDGATE = "fedgate"
    ISTIO = "istio"


class OutboundMode(enum.Enum):
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

    later = ("dns",)

    admin: Address = HostPort("127.0.0.1", 15000)
    health: Address = HostPort("0.0.0.0", 15021)
    east_west: Address = HostPort("0.0.0.0", 15443)
    http: Address = HostPort("127.0.0.1", 15080)


class Advertise(Message):
    """Addresses at which others reach this gateway."""

    east_west: Address | None = None


class AccessLog(Message):
    """path "" = off."""

    path: str = "/dev/stdout"
    format: Annotated[LogFormat, BeforeValidator(choice_reader(LogFormat))] = LogFormat.TEXT


class DnsService(Message):
    """A service found in DNS. srv: an SRV name (its targets and ports, by TTL); names: A and AAAA names; neither: `host` itself."""

    host: str
    srv: str = ""
    names: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = (ServicePort(number=80, name="http", protocol=Protocol.HTTP),)
    locality: Place = Locality()


class DnsSource(Message):
    services: tuple[DnsService, ...] = ()


class Source(Message):
    later = ("kubernetes", "consul", "nomad", "openstack", "onLoss")

    name: str
    dns: DnsSource | None = None


class Node(Message):
    """Only cluster is required. network "": the cluster's name. workers None: one per core."""

    later = ("vips", "resources", "publish", "shared")

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
    outbound_traffic_policy: Annotated[OutboundMode, BeforeValidator(choice_reader(OutboundMode, later=("ALLOW_ANY",)))] = (
        OutboundMode.REGISTRY_ONLY
    )
    access_log: AccessLog = AccessLog()
    sources: tuple[Source, ...] = ()
