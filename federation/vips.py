"""Virtual addresses: which service has which, the same on every gateway of a cluster, now and after a restart.

Theory of operation. A range has slots, one an address (the first and the last are never used: network and broadcast address). A service's
slot is found by the hash of its name and, where that is taken, the next free one; IPv4 and IPv6 addresses are the same slot of two
ranges. So what gateways find is the same without a word between them, save where two names meet in one slot and came in different
orders: the Table remembers who was there first, is kept on disk, and is agreed on through a shared store where there is one
(`federation/vip_keeper`).

A row says when its name was last wanted. Nobody deletes one: a name that went keeps its address for RESERVED_S, so a service that is
deployed anew has its old address, and a client that still holds the old answer meets nobody else's service. Only when nothing else is
free an address is given away earlier, the one longest unwanted first, and never within LEAST_S.

Pure: time is an argument.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import msgspec

from discovery.model import Resolution, Service

RESERVED_S = 24 * 3600
"""Clients keep answers far longer than their TTL: the JVM for ever under a security manager, connection pools for hours. A day covers
those, and a service that is away over night."""

LEAST_S = 3600
"""Ten times what rows may be behind (vip_keeper.REFRESH_S is 900 s, and a gateway may miss a few), and 120 times the TTL of our answers."""

OPT_OUT = ("networking.istio.io/enable-autoallocate-ip", "false")
"""Istio's label of a service that shall have no address by itself."""

MOST_SEGMENTS = 8
SEGMENT_SLOTS = 4096
"""The table is agreed on in segments, so that one change does not rewrite it whole and each stays under what a store takes for one value
(Consul: 512 KB, 6,000 rows of 85 bytes; eight hold 48,000 services). Each segment is one long poll, so there are not more."""


class Reach(Protocol):
    """Which addresses are this machine's own (appliance.anyip)."""

    def claim(self, network: str, *, add_route: bool) -> bool:
        """Whether connections to every address of this range come to its sockets; add_route: it is made so. Never raises."""
        ...

    def has(self, address: str) -> bool:
        """Whether connections to this address do. Never raises."""
        ...


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A name's place. seen: when it was last wanted, whole seconds of the epoch."""

    host: str
    slot: int
    seen: int


class Assigned(msgspec.Struct, frozen=True):
    """What compile is given. addresses: hostname → its virtual addresses, IPv4 first. lacking: hostname → why it has none. local: networks of
    the ranges, and addresses that services bring themselves, whose connections this machine takes as its own (AnyIP): only there it
    makes sense to listen."""

    addresses: Mapping[str, tuple[str, ...]] = {}
    lacking: Mapping[str, str] = {}
    local: frozenset[str] = frozenset()


def written_addresses(service: Service) -> tuple[str, ...]:
    """Addresses that clients shall reach it by because somebody wrote so (a ServiceEntry). Those that a registry says of a service of its
    own, `NAME.NAMESPACE.svc.DOMAIN`, lead past the gateway (a ClusterIP): there would be no failover, so they are passed over."""
    labels = service.hostname.split(".", 3)
    return () if len(labels) == 4 and labels[2] == "svc" else service.addresses


def needs_address(service: Service) -> bool:
    """Whether clients reach it by a virtual address of ours (Istio's rule): it has none written, its connections can be told to belong to
    it, and nobody asked for none."""
    return (
        not written_addresses(service)
        and not service.headless
        and "*" not in service.hostname
        and bool(service.ports)
        and service.resolution not in (Resolution.NONE, Resolution.DYNAMIC_DNS)
        and OPT_OUT not in service.labels
    )


@dataclass(frozen=True)
class Ranges:
    """Where addresses come from. size: slots, of which 1 … size - 2 are used."""

    v4: ipaddress.IPv4Network
    v6: ipaddress.IPv6Network | None = None

    @classmethod
    def parse(cls, range4: str, range6: str = "") -> Ranges:
        """Raises ValueError for what is no network."""
        return cls(ipaddress.IPv4Network(range4), ipaddress.IPv6Network(range6) if range6 else None)

    @property
    def size(self) -> int:
        return self.v4.num_addresses if self.v6 is None else min(self.v4.num_addresses, self.v6.num_addresses)

    @property
    def networks(self) -> tuple[str, ...]:
        return (str(self.v4), *([str(self.v6)] if self.v6 is not None else []))

    @cached_property
    def _beginnings(self) -> tuple[str, ...]:
        """Every address of the range begins with one of these: the octets that all have in common; of IPv6 the first digit, which is safe
        however the rest is written."""
        first, last = str(self.v4[0]).split("."), str(self.v4[-1]).split(".")
        same = [octet for octet, other in zip(first, last, strict=True) if octet == other]
        common = ".".join(same) + "." if len(same) < 4 and same else ""
        return (common, *([str(self.v6[0])[:1]] if self.v6 is not None else []))

    def addresses(self, slot: int) -> tuple[str, ...]:
        found = [str(ipaddress.IPv4Address(int(self.v4.network_address) + slot))]
        if self.v6 is not None:
            found.append(str(ipaddress.IPv6Address(int(self.v6.network_address) + slot)))
        return tuple(found)

    def slots(self, text: str) -> range:
        """The slots that an address or CIDR takes; none when it lies elsewhere, or is no address (a unix socket, a name)."""
        if not text.startswith(self._beginnings) and "/" not in text:
            return range(
                0
            )  # looked at for every endpoint there is: nearly all are elsewhere, and reading an address takes microseconds
        try:
            other = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return range(0)
        mine = self.v4 if other.version == 4 else self.v6
        if mine is None:
            return range(0)
        start = int(other.network_address) - int(mine.network_address)
        first, end = max(0, start), min(self.size, start + other.num_addresses)
        return range(first, max(first, end))


def home(host: str, size: int) -> int:
    """The slot that a name has when nobody is there."""
    return 1 + int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "big") % (size - 2)


def segments(size: int) -> int:
    """Into how many the table of so many slots is cut."""
    return max(1, min(MOST_SEGMENTS, size // SEGMENT_SLOTS))


def segment_of(slot: int, size: int) -> int:
    return slot * segments(size) // size


class Table:
    """Rows by name and by slot. One slot has one name, one name one slot."""

    def __init__(self, size: int, rows: Iterable[Row] = ()) -> None:
        """Rows that do not fit are passed over: out of the range, or in a slot or of a name that an earlier one has."""
        self.size = size
        self.rows: dict[str, Row] = {}
        self._at: dict[int, str] = {}
        for row in rows:
            if 0 < row.slot < size - 1 and row.slot not in self._at and row.host not in self.rows:
                self.put(row)

    def put(self, row: Row) -> None:
        """Sets or replaces a name's row; whoever had the slot before loses it."""
        self.drop(row.host)
        before = self._at.get(row.slot)
        if before is not None:
            del self.rows[before]
        self.rows[row.host] = row
        self._at[row.slot] = row.host

    def drop(self, host: str) -> None:
        row = self.rows.pop(host, None)
        if row is not None:
            del self._at[row.slot]

    def holder(self, slot: int) -> str | None:
        """Whose slot it is."""
        return self._at.get(slot)

    def place(self, host: str, now: int, taken: Callable[[int], bool]) -> int | None:
        """The slot that a name without a row gets; None when there is no room. taken: slots that are somebody else's addresses."""
        used = self.size - 2
        first = home(host, self.size)
        for step in range(used):
            slot = 1 + (first - 1 + step) % used
            holder = self._at.get(slot)
            if (holder is None or self.rows[holder].seen < now - RESERVED_S) and not taken(slot):
                return slot
        return self._longest_unwanted(now, taken)

    def _longest_unwanted(self, now: int, taken: Callable[[int], bool]) -> int | None:
        unwanted = (row for row in self.rows.values() if row.seen < now - LEAST_S and not taken(row.slot))
        oldest = min(unwanted, key=lambda row: (row.seen, row.slot), default=None)
        return oldest.slot if oldest is not None else None

    def claim(self, hosts: Iterable[str], now: int, taken: Callable[[int], bool]) -> list[Row]:
        """Rows for names that have none, in an order of their own, so that it does not matter in which they came. They are put; names
        that get none are passed over."""
        made = []
        full = False
        for host in sorted(set(hosts) - self.rows.keys()):
            slot = None if full else self.place(host, now, taken)
            if slot is None:
                full = True  # what there is no room for is not looked for again: each look goes through the whole range
                continue
            row = Row(host, slot, now)
            self.put(row)
            made.append(row)
        return made

    def forget(self, now: int) -> list[Row]:
        """Drops, and returns, rows that nobody has wanted for RESERVED_S."""
        gone = [row for row in self.rows.values() if row.seen < now - RESERVED_S]
        for row in gone:
            self.drop(row.host)
        return gone

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<Table {len(self.rows)} of {self.size - 2}>"
