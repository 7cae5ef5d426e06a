"""fedgate.io/v1 Peer, Export and ServicePolicy: the other clusters, what they may have, and what Istio has no field for."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duplicates, duration_fault, fault, host_fault, port_fault, range_fault, resource_name_fault
from federation.resources.message import Fault, Message
from federation.resources.node import dialled_fault
from federation.resources.rate_limit import RateLimit
from federation.resources.scalars import Address, Milliseconds, Whole, choice_reader, ms


class PeerKind(enum.Enum):
    FEDGATE = "fedgate"


class ExportTls(enum.Enum):
    TERMINATE = "terminate"


class Bundle(Message):
    """path: a PEM file of the peer's root certificates."""

    path: str

    def faults(self) -> Iterator[Fault]:
        if not self.path:
            yield Fault(("path",), "path is empty; write the file with the peer's root certificates")


def _pattern_faults(field: str, patterns: Sequence[str], what: str) -> Iterator[Fault]:
    if not patterns:
        yield Fault((field,), f"{field} is empty; write {what}")
    for index, pattern in enumerate(patterns):
        yield from fault((field, index), host_fault(pattern))
    for index, pattern in duplicates([pattern.lower() for pattern in patterns]):
        yield Fault((field, index), f"`{pattern}` is written twice; remove one")


class Peer(Message):
    """addresses: each is dialled; a name with several addresses is several. imports: hosts this peer may claim (default: all)."""

    kind: Annotated[PeerKind, BeforeValidator(choice_reader(PeerKind, later=("istio",)))] = PeerKind.FEDGATE
    trust_domain: str
    addresses: tuple[Address, ...]
    bundle: Bundle
    imports: tuple[str, ...] = ("*",)

    def faults(self) -> Iterator[Fault]:
        yield from fault(("trustDomain",), host_fault(self.trust_domain, wildcard=False))
        if not self.addresses:
            yield Fault(("addresses",), "addresses is empty; write where the peer's gateway is, such as gw-west.example.com:15443")
        for index, address in enumerate(self.addresses):
            yield from fault(("addresses", index), dialled_fault(address))
        for index, address in duplicates(self.addresses):
            yield Fault(("addresses", index), f"{address} is written twice; remove one")
        yield from _pattern_faults("imports", self.imports, "the hosts this peer may claim, or leave it out for all")


class Export(Message):
    """services: exact hosts, `*.suffix` or `*`. peers: names of Peers, or `*`."""

    services: tuple[str, ...]
    peers: tuple[str, ...]
    tls: Annotated[ExportTls, BeforeValidator(choice_reader(ExportTls, later=("passthrough",)))] = ExportTls.TERMINATE

    def faults(self) -> Iterator[Fault]:
        yield from _pattern_faults("services", self.services, "the hosts that are offered")
        if not self.peers:
            yield Fault(("peers",), "peers is empty; write the names of Peers, or `*`")
        for index, peer in enumerate(self.peers):
            if peer != "*":
                yield from fault(("peers", index), resource_name_fault(peer))
        for index, peer in duplicates(self.peers):
            yield Fault(("peers", index), f"`{peer}` is written twice; remove one")


class HttpCheck(Message):
    """GET path; 200 is healthy. host "": the service's. port 0: the endpoint's own."""

    path: str = "/"
    host: str = ""
    port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        if not self.path.startswith("/") or any(letter <= " " or letter > "~" for letter in self.path):
            yield Fault(("path",), "is no path; begin it with /, without spaces")
        if self.host:
            yield from fault(("host",), host_fault(self.host, wildcard=False))
        yield from fault(("port",), port_fault(self.port, zero=True))


class TcpCheck(Message):
    """A connection that is taken is healthy."""

    port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port, zero=True))


class HealthCheck(Message):
    later = ("grpc",)

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    interval: Milliseconds = ms(1000)
    timeout: Milliseconds = ms(500)
    unhealthy_threshold: Whole = 2
    healthy_threshold: Whole = 2

    def faults(self) -> Iterator[Fault]:
        if (self.http is None) == (self.tcp is None):
            yield Fault((), "a health check is one of http and tcp; write one")
        yield from fault(("interval",), duration_fault(self.interval))
        yield from fault(("timeout",), duration_fault(self.timeout))
        yield from fault(("unhealthyThreshold",), range_fault(self.unhealthy_threshold, 1))
        yield from fault(("healthyThreshold",), range_fault(self.healthy_threshold, 1))


class Failback(Message):
    """Of a priority that was lost: healthy for hold_down before traffic returns, then more and more over ramp."""

    hold_down: Milliseconds = ms(30_000)
    ramp: Milliseconds = ms(30_000)


class ServicePolicy(Message):
    later = ("capacity",)

    hosts: tuple[str, ...]
    health_check: HealthCheck | None = None
    failback: Failback | None = None
    rate_limits: tuple[RateLimit, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from _pattern_faults("hosts", self.hosts, "the hosts this is about")
        if self.health_check is None and self.failback is None and not self.rate_limits:
            yield Fault((), "the policy says nothing; write healthCheck, failback or rateLimits")
