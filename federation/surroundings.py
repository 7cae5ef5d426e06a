"""What the plane is given by those who put it together: how to make what the Node asks for, and what of the world it may touch."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import trio

from discovery.model import Service
from discovery.resolving import DnsService, Nameservers
from discovery.source import Source
from discovery.watch import Watchable
from federation.peering.dial import connect
from federation.peering.link import Dial, Lookup
from federation.peering.names import system_lookup
from federation.places import MakeDocuments
from federation.probe import Target, probe
from federation.publishing import MakePublisher
from federation.registries import MakeRegistry
from federation.trust.authority import Issued
from gateway.native.tls import ClientTls


class Trust(Protocol):
    """Who this gateway is: federation.trust.keeper."""

    credential: Watchable[Issued | None]
    bundle: Watchable[str]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None: ...


MakeStatic = Callable[[str, str, Watchable[tuple[Service, ...]]], Source]
MakeDns = Callable[[str, str, Watchable[tuple[DnsService, ...]], Watchable[Nameservers]], Source]


@dataclass(frozen=True)
class Factories:
    """Handed in, because this room imports no registry. static, dns: sources that the plane feeds itself: (name, cluster, what to serve, and
    for dns whom to ask) → Source. The others make what an entry of the Node's `sources`, `resources` and `publish` asks for; None: such
    entries are passed over."""

    static: MakeStatic
    dns: MakeDns | None = None
    registry: MakeRegistry | None = None
    documents: MakeDocuments | None = None
    publisher: MakePublisher | None = None


@dataclass(frozen=True)
class Surroundings:
    """What the plane takes from the world. wall: UTC. check: one active health check."""

    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    rng: Callable[[], float] = random.random
    lookup: Lookup = system_lookup
    dial: Dial = connect
    check: Callable[[Target, ClientTls | None], Awaitable[None]] = probe
