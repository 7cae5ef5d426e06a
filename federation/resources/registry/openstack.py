"""What a Node says of an OpenStack cloud: as a source, and Designate to publish to."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from discovery.here import HOSTNAME
from federation.resources.checks import range_fault
from federation.resources.message import Fault, Message
from federation.resources.registry.hostname import hostname_faults
from federation.resources.scalars import Milliseconds, Whole, choice_reader, ms

_PREFIX = re.compile(r"[a-z0-9-]{0,32}")


class Discover(enum.Enum):
    OCTAVIA = "octavia"
    SERVERS = "servers"


def _discover(value: object) -> object:
    read = choice_reader(Discover)
    return tuple(read(each) for each in value) if isinstance(value, list | tuple) else value


class ApplicationCredential(Message):
    """id: of the credential. secret_file: holds its secret alone; read anew when it changes."""

    id: str
    secret_file: str

    def faults(self) -> Iterator[Fault]:
        if not self.id:
            yield Fault(("id",), "id is empty; write the id that `openstack application credential create` printed")
        if not self.secret_file:
            yield Fault(("secretFile",), "secretFile is empty; write the path of a file that holds the secret")


class OpenStackConnection(Message):
    """cloud: its name in clouds.yaml (`file`, or openstacksdk's usual places), or auth_url with application_credential. Application
    credentials are the recommended kind in either. interface: public unless written. ca_file: what the APIs' certificates are checked
    against."""

    cloud: str = ""
    file: str = ""
    auth_url: str = ""
    application_credential: ApplicationCredential | None = None
    region: str = ""
    interface: str = ""
    ca_file: str = ""

    def faults(self) -> Iterator[Fault]:
        if not self.cloud and not self.auth_url:
            yield Fault(("cloud",), "is required; write the cloud's name in clouds.yaml, or authUrl with applicationCredential")
        if self.cloud and self.auth_url:
            yield Fault(("cloud",), "cloud and authUrl exclude each other; write the one that holds")
        if bool(self.auth_url) != (self.application_credential is not None):
            yield Fault(("authUrl",), "authUrl and applicationCredential go together; write both or neither")
        if self.auth_url and not self.auth_url.startswith(("https://", "http://")):
            yield Fault(("authUrl",), f"`{self.auth_url[:80]}` is no URL; write for example https://keystone.example.com/v3")
        if self.file and not self.cloud:
            yield Fault(("file",), "file is a clouds.yaml, which needs cloud: write the cloud's name in it")
        if self.interface not in ("", "public", "internal", "admin"):
            yield Fault(("interface",), f"`{self.interface[:80]}` is no interface of a catalog; write public, internal or admin")


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
    """zone: the zone's name, which must exist. prefix: before every record's name. ttl: of records, in seconds. writes_per_second: at
    most, so that a rollout does not load Designate and the nameservers behind it."""

    zone: str
    prefix: str = ""
    ttl: Whole = 30
    writes_per_second: Whole = 5

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if not self.zone:
            yield Fault(("zone",), "zone is empty; write the zone's name, such as fed.example.com.")
        if not _PREFIX.fullmatch(self.prefix):
            yield Fault(("prefix",), f"`{self.prefix[:80]}` cannot begin a DNS name; write lower-case letters, digits and hyphens")
        if text := range_fault(self.ttl, 1):
            yield Fault(("ttl",), text)
        if text := range_fault(self.writes_per_second, 1, 1000):
            yield Fault(("writesPerSecond",), text)
