"""The catalog: every source's shard, merged into one set of services, the same way every time.

A Catalog is immutable; an update gives a new one that shares everything the update did not touch, and the names it did.
What a merged service is depends on the shards alone, never on the order in which updates came; the cost is that of the names
touched. Namespace sameness: a hostname in two clusters is one service, merged by the rule in `merge`. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from discovery.mapping import FrozenMap
from discovery.merge import Claim, Finding, explain, merge
from discovery.model import Endpoint, Provenance, Service, ShardKey
from discovery.update import Absent, Remove, Reset, Update, Upsert

_NO_CLAIMS: tuple[Claim, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """A new Catalog and the hostnames whose merged service or findings are not what they were."""

    catalog: Catalog
    touched: frozenset[str] = frozenset()


class Catalog(msgspec.Struct, frozen=True, eq=False):
    """All shards and what they merge to. Make the first with `Catalog(own)`, the next with `apply` and `drop`.

    own: the own cluster's name. shards: each source's services, endpoints stamped with its cluster. services: the merged
    ones; a service that an update left as it was is the same object as before. findings: contradictions by hostname.
    `hostname in services` tells "exists, perhaps without endpoints" from "no such service".
    """

    own: str
    shards: Mapping[ShardKey, Mapping[str, Service]] = {}
    services: FrozenMap[Service] = FrozenMap()
    findings: FrozenMap[tuple[Finding, ...]] = FrozenMap()
    claims: FrozenMap[tuple[Claim, ...]] = FrozenMap()

    def apply(self, key: ShardKey, update: Update) -> Change:
        """What the catalog is after the source `key` said `update`. Absent counts as Remove: either way the source has no such
        service. A Reset with nothing in it leaves the source an empty shard (`drop` takes the shard itself away)."""
        return self.write(key, self.differing(key, update))

    def differing(self, key: ShardKey, update: Update) -> dict[str, Service | None]:
        """What `update` changes in the shard of `key`, by hostname, None for what goes: to be given to `write`, at once or,
        if a Reset is long, in pieces."""
        shard = self.shards.get(key, {})
        said: dict[str, Service | None]
        match update:
            case Reset(services=services):
                said = dict.fromkeys(shard)
                said.update((service.hostname, service) for service in (_stamped(service, key) for service in services))
            case Upsert(service=service):
                service = _stamped(service, key)
                said = {service.hostname: service}
            case Remove(hostname=hostname) | Absent(hostname=hostname):
                said = {hostname.lower(): None}
        return {name: service for name, service in said.items() if shard.get(name) != service}

    def differing_in(self, key: ShardKey, services: Iterable[Service]) -> dict[str, Service | None]:
        """As `differing`, of a part of a Reset."""
        shard = self.shards.get(key, {})
        stamped = (_stamped(service, key) for service in services)
        return {service.hostname: service for service in stamped if shard.get(service.hostname) != service}

    def write(self, key: ShardKey, said: Mapping[str, Service | None]) -> Change:
        """The catalog with each service of `said` in the shard of `key`, or without it where None. `said` holds what
        `differing` gave, all or part of it."""
        if not said and key in self.shards:
            return Change(self)
        shard = self.shards.get(key, FrozenMap())
        assert isinstance(shard, FrozenMap)
        claims = {name: _claims(self.claims.get(name, _NO_CLAIMS), key, service) for name, service in said.items()}
        services: dict[str, Service | None] = {}
        findings: dict[str, tuple[Finding, ...] | None] = {}
        for name, of_name in claims.items():
            merged, found = merge(of_name, self.own) if of_name else (None, ())
            if merged != self.services.get(name):
                services[name] = merged
            if found != self.findings.get(name, ()):
                findings[name] = found or None
        catalog = Catalog(
            self.own,
            {**self.shards, key: shard.updated(said)},
            self.services.updated(services),
            self.findings.updated(findings),
            self.claims.updated({name: of_name or None for name, of_name in claims.items()}),
        )
        return Change(catalog, frozenset((*services, *findings)))

    def drop(self, key: ShardKey) -> Change:
        """The catalog without the shard of a source that was taken out of the configuration, or whose lease ran out."""
        if key not in self.shards:
            return Change(self)
        change = self.write(key, dict.fromkeys(self.shards[key]))
        shards = {other: shard for other, shard in change.catalog.shards.items() if other != key}
        return Change(msgspec.structs.replace(change.catalog, shards=shards), change.touched)

    def provenance(self, hostname: str) -> tuple[Provenance, ...]:
        """Which source won each field of the service, and why; empty if there is no such service. Computed when asked."""
        claims = self.claims.get(hostname, _NO_CLAIMS)
        return explain(claims, self.own) if claims else ()


def _claims(old: Iterable[Claim], key: ShardKey, service: Service | None) -> tuple[Claim, ...]:
    others = [claim for claim in old if claim.key != key]
    if service is not None:
        others.append(Claim(key, service))
    return tuple(sorted(others, key=lambda claim: claim.key))


def _stamped(service: Service, key: ShardKey) -> Service:
    """The service with its name in lower case and the shard's cluster on every endpoint that names none."""
    hostname = service.hostname.lower()
    if hostname != service.hostname:
        service = msgspec.structs.replace(service, hostname=hostname)
    if all(endpoint.cluster for endpoint in service.endpoints):
        return service
    return msgspec.structs.replace(service, endpoints=tuple(_of_cluster(endpoint, key.cluster) for endpoint in service.endpoints))


def _of_cluster(endpoint: Endpoint, cluster: str) -> Endpoint:
    return endpoint if endpoint.cluster else msgspec.structs.replace(endpoint, cluster=cluster)
