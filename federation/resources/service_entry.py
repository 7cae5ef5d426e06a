"""Istio ServiceEntry and WorkloadEntry (networking/v1alpha3): services that no registry knows, and the workloads behind them."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Locality, Resolution
from federation.resources.gateway import PortProtocol
from federation.resources.message import Message
from federation.resources.scalars import Place, Whole, choice_reader


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


class WorkloadEntry(Message):
    """address: an IP, a DNS name (resolution DNS), or unix:///path. ports: name of the service's port → number here."""

    address: str = ""
    ports: dict[str, Whole] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    network: str = ""
    locality: Place = Locality()
    weight: Whole = 0
    service_account: str = ""


class WorkloadSelector(Message):
    labels: dict[str, str] = Field(default_factory=dict)


class ServiceEntry(Message):
    """resolution is required: what Istio takes for none written, NONE, is not supported yet."""

    hosts: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: _Location = Location.MESH_EXTERNAL
    resolution: Annotated[Resolution, BeforeValidator(_resolution)]
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: WorkloadSelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
