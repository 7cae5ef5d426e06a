"""A source of services that somebody else in this process knows: documents that the federation plane turned into Services."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import trio

from discovery.model import Service
from discovery.update import Remove, Reset, Update, Upsert
from discovery.watch import Watchable


class StaticSource:
    """Says what `services` holds: all of it at first, then each difference. Never lost. Of one hostname twice the last counts."""

    def __init__(self, name: str, cluster: str, services: Watchable[tuple[Service, ...]]) -> None:
        self.name = name
        self.cluster = cluster
        self._services = services

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """See Source. A reader slower than the changes gets their sum."""
        seen, services = self._services.version, self._services.value
        known = _by_name(services)
        yield Reset(tuple(known.values()))
        while True:
            seen, services = await self._services.newer_than(seen)
            wanted = _by_name(services)
            for hostname in known.keys() - wanted.keys():
                yield Remove(hostname)
            for hostname, service in wanted.items():
                if known.get(hostname) != service:
                    yield Upsert(service)
            known = wanted

    def __repr__(self) -> str:
        return f"<StaticSource {self.cluster}/{self.name} services={len(self._services.value)}>"


def _by_name(services: tuple[Service, ...]) -> dict[str, Service]:
    return {service.hostname: service for service in services}
