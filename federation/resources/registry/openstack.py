"""What a Node says of an OpenStack cloud: as a source, and Designate to publish to."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from discovery.here import HOSTNAME
from federation.resources.checks import range_fault
from federation.resources.message import Fault, Message
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import Milliseconds, Whole, choice_reader, ms


class Discover(enum.Enum):
    OCTAVIA = "octavia"
    SERVERS = "servers"


def _discover(value: object) -> object:
    read = choice_reader(Discover)
    return tuple(read(each) for each in value) if isinstance(value, list | tuple) else value


class OpenStackConnection(Message):
    """cloud: its name in clouds.yaml (`file`, or openstacksdk's usual places). Application credentials are the recommended kind."""

    cloud: str
    file: str = ""
    region: str = ""

    def faults(self) -> Iterator[Fault]:
        if not self.cloud:
            yield Fault(("cloud",), "cloud is empty; write its name in clouds.yaml")


class OpenStackSource(OpenStackConnection):
    """discover: load balancers with their pools and members, servers by metadata, or both. interval: between two readings, as OpenStack
    does not push."""

    discover: Annotated[tuple[Discover, ...], BeforeValidator(_discover)] = (Discover.OCTAVIA, Discover.SERVERS)
    interval: Milliseconds = ms(10_000)
    hostname: str = HOSTNAME

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.discover:
            yield Fault(("discover",), "discover is empty; write octavia, servers, or leave it out for both")
        if text := range_fault(self.interval, 1_000):
            yield Fault(("interval",), f"{text}: an OpenStack API answers in seconds, not sooner")
        yield from hostname_faults(self.hostname)


class DesignatePublish(OpenStackConnection):
    """zone: the zone's name, which must exist. prefix: before every record's name. ttl: of records, in seconds."""

    zone: str
    prefix: str = ""
    ttl: Whole = 30

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.zone:
            yield Fault(("zone",), "zone is empty; write the zone's name, such as fed.example.com.")
        if text := range_fault(self.ttl, 1):
            yield Fault(("ttl",), text)
