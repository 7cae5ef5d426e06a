"""A registry that suddenly knows of almost nothing: what it no longer says is kept for a while, where keeping is better than nothing.

Theory of operation. Registries answer, and have lost most of what they knew: restored from an old backup, a token that may read
less than before, a follower that has not caught up. So when the first answer after a connection (a Reset) leaves fewer than half of the
endpoints that the shard had, and the shard had MANY, it is applied where it still has somebody for a service, and the services that it
takes away or leaves without endpoints stay as they were, DEGRADED, for KEPT seconds. What it says meanwhile of one service is applied at
once. After that time it is believed. Single changes are never kept back: a registry that says of a service that it is gone means it.

Half is Envoy's panic threshold (FIELD section 0), with the same thought: when most is gone, the view is more likely wrong than the world.
Pure: `now` is passed in.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import msgspec

from discovery.model import Endpoint, Health, Service

MANY = 10  # endpoints; a shard of a few loses half of them in an ordinary change
KEPT = 30.0  # seconds: as long as Istio waits for a remote registry to be whole (PILOT_REMOTE_CLUSTER_TIMEOUT), and elections take less


class Vanishing:
    """Of one shard: `begin` with each Reset, then `kept` for each service that it changes."""

    def __init__(self) -> None:
        self._truth: dict[str, Service | None] = {}  # what the registry says of the services that are kept
        self._until = 0.0
        self._doubted = False
        self.remark = ""

    def begin(self, shard: Mapping[str, Service], services: Iterable[Service], now: float) -> None:
        """A Reset that says these services comes to this shard."""
        left = sum(len(service.endpoints) for service in services)
        had = sum(len(service.endpoints) for service in shard.values())
        self._doubted = had >= MANY and left * 2 < had
        if not self._doubted:
            self._truth.clear()
            self.remark = ""
            return
        if not self._truth:
            self._until = now + KEPT
        self.remark = (
            f"it came back with {left:,} of {had:,} endpoints; the services that it leaves without any are kept as degraded for"
            f" {KEPT:.0f} s; see whether it was restored from a backup, or its token may read less"
        )

    def kept(self, old: Service | None, new: Service | None, *, reset: bool) -> Service | None:
        """What is to be believed instead of `new`, where `old` was. reset: it is said by the Reset of `begin`."""
        hostname = new.hostname if new is not None else old.hostname if old is not None else ""
        if not reset or not self._doubted or old is None or not old.endpoints or (new is not None and new.endpoints):
            self._truth.pop(hostname, None)
            return new
        self._truth[hostname] = new
        return degraded(old)

    def due(self) -> float | None:
        """When `believed` has something to say; None: nothing is kept."""
        return self._until if self._truth else None

    def believed(self, now: float, most: int) -> Mapping[str, Service | None]:
        """What is to be written now, `most` services at a time; None = the service goes."""
        if not self._truth or now < self._until:
            return {}
        names = list(itertools.islice(self._truth, most))
        truth = {name: self._truth.pop(name) for name in names}
        if not self._truth:
            self.remark = ""
        return truth


def degraded(service: Service) -> Service:
    """The service with every endpoint used after those of others."""
    return msgspec.structs.replace(service, endpoints=tuple(_degraded(endpoint) for endpoint in service.endpoints))


def _degraded(endpoint: Endpoint) -> Endpoint:
    if endpoint.health not in (Health.HEALTHY, Health.UNKNOWN):
        return endpoint
    return msgspec.structs.replace(endpoint, health=Health.DEGRADED)
