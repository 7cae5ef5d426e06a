"""fedgate.io/v1 Peer, Export and ServicePolicy: the other clusters, what they may have, and what Istio has no field for."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.message import Message
from federation.resources.scalars import Address, Milliseconds, Whole, choice_reader, ms


class PeerKind(enum.Enum):
    FEDGATE = "fedgate"


class ExportTls(enum.Enum):
    TERMINATE = "terminate"


class Bundle(Message):
    """path: a PEM file of the peer's root certificates."""

    path: str


class Peer(Message):
    """addresses: each is dialled; a name with several addresses is several. imports: hosts this peer may claim (default: all)."""

    kind: Annotated[PeerKind, BeforeValidator(choice_reader(PeerKind, later=("istio",)))] = PeerKind.FEDGATE
    trust_domain: str
    addresses: tuple[Address, ...]
    bundle: Bundle
    imports: tuple[str, ...] = ("*",)


class Export(Message):
    """services: exact hosts, `*.suffix` or `*`. peers: names of Peers, or `*`."""

    services: tuple[str, ...]
    peers: tuple[str, ...]
    tls: Annotated[ExportTls, BeforeValidator(choice_reader(ExportTls, later=("passthrough",)))] = ExportTls.TERMINATE


class HttpCheck(Message):
    """GET path; 200 is healthy. host "": the service's. port 0: the endpoint's own."""

    path: str = "/"
    host: str = ""
    port: Whole = 0


class TcpCheck(Message):
    """A connection that is taken is healthy."""

    port: Whole = 0


class HealthCheck(Message):
    later = ("grpc",)

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    interval: Milliseconds = ms(1000)
    timeout: Milliseconds = ms(500)
    unhealthy_threshold: Whole = 2
    healthy_threshold: Whole = 2


class Failback(Message):
    """Of a priority that was lost: healthy for hold_down before traffic returns, then more and more over ramp."""

    hold_down: Milliseconds = ms(30_000)
    ramp: Milliseconds = ms(30_000)


class ServicePolicy(Message):
    later = ("capacity",)

    hosts: tuple[str, ...]
    health_check: HealthCheck | None = None
    failback: Failback | None = None
