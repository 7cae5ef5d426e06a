"""What is written outward of the merged catalog, and what writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
import trio

from discovery.model import Port
from discovery.watch import Watchable


class Publication(msgspec.Struct, frozen=True):
    """A service as others are told of it. addresses: where this gateway takes its traffic (VIPs, else what the gateway advertises); of a
    headless service the usable endpoints. healthy of total: workloads behind it, as the Verdicts count them; healthy 0 is published as
    failing, not withdrawn. sources: the names of this node's sources that speak of it: what comes from a registry is not written back to
    it. clusters: where it runs."""

    hostname: str
    service: str
    namespace: str
    ports: tuple[Port, ...] = ()
    addresses: tuple[str, ...] = ()
    healthy: int = 0
    total: int = 0
    sources: frozenset[str] = frozenset()
    clusters: tuple[str, ...] = ()


Publications = Mapping[str, Publication]
"""By hostname."""


class PublisherStatus(msgspec.Struct, frozen=True):
    """connected: the last write or read succeeded. published: entries that stand there. pending: changes not written yet. conflicts:
    names that somebody else owns there, left alone. error: the last failure, "" while connected."""

    name: str
    connected: bool = False
    published: int = 0
    pending: int = 0
    conflicts: tuple[str, ...] = ()
    error: str = ""


class Publisher(Protocol):
    """Writes Publications to one registry."""

    @property
    def name(self) -> str: ...

    @property
    def status(self) -> Watchable[PublisherStatus]: ...

    async def run(
        self, publications: Watchable[Publications], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what differs, and what changes, until cancelled; a registry that cannot be reached is tried again with backoff and is an
        error in `status`, never an exception. Cancelled, it leaves what it wrote: a restart must not take services away."""
        ...

    async def leave(self) -> None:
        """Take everything back that this gateway wrote. Raises what the registry's client raises. Cancelled: some of it stands."""
        ...
