"""Which records a zone should have for the publications, and what to write so that it has them. Pure.

Each service is NAME.NAMESPACE under the zone: A and AAAA records of its addresses, and a TXT record at `_fedgate` below it that says how
ready it is. A service nothing healthy is behind keeps its addresses, as answers of DNS outlive them anyway, and says `ready=no`.

Whose a record set is stands in its description. One without our mark is somebody else's: it is a conflict and never touched. One with
our mark is ours to change; but if others keep changing it back, they win: nobody is served by two writers who take turns.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from federation.publish.publication import Publication

_LABELS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_MOST_RECORDS = 20  # in a record set: Designate's default quota (quota_recordset_records)
_MOST_REVERTED = 3  # times that somebody else may undo what we wrote
_OWNING = frozenset({"A", "AAAA", "CNAME", "NS"})  # who has one of these at a name answers for it

Name = tuple[str, str]
"""Of a record set: its name with the final dot, and its type."""


class RecordSet(msgspec.Struct, frozen=True):
    """As Designate has it. status: ACTIVE when its nameservers answer with it; PENDING, ERROR."""

    id: str
    name: str
    type: str
    records: tuple[str, ...] = ()
    ttl: int | None = None
    description: str | None = None
    status: str = "ACTIVE"

    @property
    def key(self) -> Name:
        return self.name, self.type


class ZoneOptions(msgspec.Struct, frozen=True):
    """zone: its name. prefix: before each service's name. ttl: seconds. owner: whose records these are: equal gateways say the same,
    as they write the same. except_sources: of which nothing is written, as they read this zone."""

    zone: str
    prefix: str = ""
    ttl: int = 30
    owner: str = "fedgate"
    except_sources: frozenset[str] = frozenset()

    @property
    def mark(self) -> str:
        return f"fedgate owner={self.owner}"

    @property
    def description(self) -> str:
        """Of each record set: at most Designate's 160 characters."""
        return f"{self.mark}; written by a gateway, changes are undone"[:160]

    @property
    def origin(self) -> str:
        return self.zone.lower().rstrip(".") + "."


class Plan(msgspec.Struct, frozen=True):
    """What to write, in the order it should be written. conflicts: names that are left to somebody else."""

    update: tuple[tuple[RecordSet, tuple[str, ...]], ...] = ()
    delete: tuple[RecordSet, ...] = ()
    create: tuple[tuple[Name, tuple[str, ...]], ...] = ()
    conflicts: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        return len(self.update) + len(self.delete) + len(self.create)


def wished(publications: Mapping[str, Publication], options: ZoneOptions) -> tuple[dict[Name, tuple[str, ...]], frozenset[str]]:
    """The records of each set, sorted, and the hostnames that have no place in the zone, as another's name is the same there."""
    wishes: dict[Name, tuple[str, ...]] = {}
    clashes = set()
    owned: set[str] = set()
    for hostname, publication in sorted(publications.items()):
        name = _name(publication, options)
        if name is None or publication.sources & options.except_sources:
            continue
        if name in owned:
            clashes.add(hostname)
            continue
        owned.add(name)
        addresses = _addresses(publication.addresses)
        for kind, version in (("A", 4), ("AAAA", 6)):
            if records := tuple(sorted(str(each) for each in addresses if each.version == version)[:_MOST_RECORDS]):
                wishes[name, kind] = records
        wishes[f"_fedgate.{name}", "TXT"] = (f'"ready={_readiness(publication)}"',)
    return wishes, frozenset(clashes)


def _name(publication: Publication, options: ZoneOptions) -> str | None:
    """None for what is no DNS name, and for what is in the zone already: that would be written back to where it came from."""
    labels = f"{options.prefix}{publication.service}.{publication.namespace}".lower().strip(".")
    name = f"{labels}.{options.origin}"
    if f"{publication.hostname}.".endswith(f".{options.origin}") or not _LABELS.fullmatch(labels):
        return None
    return name if len(f"_fedgate.{name}") <= 253 else None


def _addresses(texts: Iterable[str]) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Those that are IP addresses: a name or the path of a socket has no record."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_address(text))
        except ValueError:
            continue
    return found


def _readiness(publication: Publication) -> str:
    """Three words, not counts: each change is a new serial of the zone and a transfer to every nameserver."""
    if not publication.healthy:
        return "no"
    return "yes" if publication.healthy >= publication.total else "partly"


class ZonePlanner:
    """Plans, and remembers what was written and who undid it."""

    def __init__(self, options: ZoneOptions) -> None:
        self._options = options
        self._written: dict[Name, tuple[str, ...]] = {}
        self._reverted: dict[Name, int] = {}

    def ours(self, standing: RecordSet) -> bool:
        return (standing.description or "").partition(";")[0] == self._options.mark

    def listed(self, standing: Mapping[Name, RecordSet]) -> None:
        """The zone was read anew: note what is no longer as it was written. What stands as written forgives once: an equal gateway that left
        took it along, and nobody fights us."""
        for key, records in list(self._written.items()):
            found = standing.get(key)
            if found is None or set(found.records) != set(records) or not self.ours(found):
                self._reverted[key] = self._reverted.get(key, 0) + 1
                del self._written[key]
            elif self._reverted.get(key):
                self._reverted[key] -= 1

    def wrote(self, key: Name, records: tuple[str, ...] | None) -> None:
        """None: deleted."""
        if records is None:
            self._written.pop(key, None)
        else:
            self._written[key] = records

    def plan(self, wishes: Mapping[Name, tuple[str, ...]], standing: Mapping[Name, RecordSet]) -> Plan:
        """The least that makes the zone as wished. A name that somebody else has addresses for is all theirs: two writers' answers
        must not be mixed, so what we had there goes."""
        theirs = {each.name for each in standing.values() if each.type in _OWNING and not self.ours(each)}
        update, create, conflicts = [], [], set()
        for key, records in sorted(wishes.items()):
            found = standing.get(key)
            if key[0] in theirs or self._reverted.get(key, 0) >= _MOST_REVERTED or (found and not self.ours(found)):
                conflicts.add(key[0])
            elif found is None:
                create.append((key, records))
            elif set(found.records) != set(records) or found.ttl != self._options.ttl:
                update.append((found, records))
        gone = [found for key, found in sorted(standing.items()) if key not in wishes or found.name in theirs]
        delete = tuple(found for found in gone if self.ours(found))
        return Plan(tuple(update), delete, tuple(create), frozenset(conflicts))
