"""fedgate.io/v1 Peer, Export and ServicePolicy: the other clusters, what they may have, and what Istio has no field for."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field

from federation.resources.access import From, network_faults, source_address_faults
from federation.resources.checks import duplicates, fault, host_fault, resource_name_fault
from federation.resources.health_check import GrpcCheck, HealthCheck, HttpCheck, TcpCheck
from federation.resources.message import Fault, Message
from federation.resources.node import OnLoss, dialled_fault
from federation.resources.rate_limit import RateLimit
from federation.resources.scalars import Address, Milliseconds, choice_reader, ms

__all__ = ["Bundle", "Export", "Failback", "GrpcCheck", "HealthCheck", "HttpCheck", "Peer", "ServicePolicy", "TcpCheck"]


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
    """addresses: each is dialled; a name with several addresses is several. imports: hosts this peer may claim (default: all).
    on_loss: what becomes of what it said once it has no session with us."""

    kind: Annotated[PeerKind, BeforeValidator(choice_reader(PeerKind, later=("istio",)))] = PeerKind.FEDGATE
    trust_domain: str
    addresses: tuple[Address, ...]
    bundle: Bundle
    imports: tuple[str, ...] = ("*",)
    on_loss: OnLoss | None = None

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


class Failback(Message):
    """Of a priority that was lost: healthy for hold_down before traffic returns, then more and more over ramp."""

    hold_down: Milliseconds = ms(30_000)
    ramp: Milliseconds = ms(30_000)


class ServicePolicy(Message):
    """from: who may use it; None = everybody, empty = nobody. source_address: of this machine, that connections leave from.
    private_addresses: CIDRs: names that clients name (DYNAMIC_DNS, NONE) may resolve into these; other private, loopback and special
    addresses are refused.

    Each field is taken from the policy with the most specific host that writes it."""

    later = ("capacity",)

    hosts: tuple[str, ...]
    health_check: HealthCheck | None = None
    failback: Failback | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    from_: tuple[From, ...] | None = Field(default=None, alias="from")
    source_address: str = ""
    private_addresses: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from _pattern_faults("hosts", self.hosts, "the hosts this is about")
        if self.model_fields_set <= {"hosts"}:  # an empty list says something too: that what a wider policy says does not hold here
            text = "the policy says nothing; write healthCheck, failback, rateLimits, from, sourceAddress or privateAddresses"
            yield Fault((), text)
        yield from source_address_faults(self.source_address, ("sourceAddress",))
        yield from network_faults(self.private_addresses, ("privateAddresses",))
