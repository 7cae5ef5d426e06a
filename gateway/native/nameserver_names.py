"""What the nameserver knows by itself: names of services, and the answers they come to.

Theory of operation. Names are indexed by their wire form. A question's name is looked for as it is; then as CLUSTER.NAME, HOSTNAME.NAME and
HOSTNAME.CLUSTER.NAME of a headless service; then under a wildcard, the longest suffix first. What is none of these but in a zone of
ours is NXDOMAIN, or NOERROR without records where longer names exist (RFC 8020: an NXDOMAIN would deny them too); anything else is not
ours to answer.

A service with addresses is answered by them, whatever becomes of its endpoints: the gateway fails over behind them. A headless one is
answered by endpoints: those in service for this worker, of the first priority that has any, as requests would be sent. Endpoints behind a
peer's gateway are left out: that address speaks to gateways only. Such an answer is `volatile`: the nameserver keeps what it was made
of and looks from time to time whether it still is so.
"""

from __future__ import annotations

import functools
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from gateway.native.backend import BackendState
from gateway.native.codec.dns import (
    AAAA,
    ANY,
    NXDOMAIN,
    POINTER,
    PTR,
    SERVFAIL,
    SOA,
    SRV,
    A,
    Query,
    encode_name,
    first_label,
    parent,
    pointer,
    record,
    soa_data,
    srv_data,
)
from gateway.parts.name import HOSTNAME_LABEL, Dns, Name
from gateway.snapshot import Part

NEGATIVE_TTL = 5
"""Seconds that "there is none" holds at most: a service that comes into being is found soon (CoreDNS's kubernetes plugin says 5 too)."""

_SERIAL = 1  # nobody transfers these zones
_MOST_RECORDS = 1000  # of one answer: 16 KB of A records, more than any client looks at
_LABEL_BYTES = 63
_PREFIX = "name/"
_WILD = b"\x01*"

Shuffle = Callable[[list["Place"]], object]
_Owners = dict[tuple[bool, str], Name]  # (it is only an alias, the service's name) → Name: several may claim one spelling


class Place(msgspec.Struct, frozen=True):
    """An endpoint that may be answered."""

    address: str
    port: int
    cluster: str
    hostname: str
    priority: int
    weight: int

    @property
    def front(self) -> bytes:
        """What stands before its service's name in its own, wire form: HOSTNAME.CLUSTER, or the address with dashes, as Kubernetes does
        for what has no hostname."""
        labels = (self.hostname, self.cluster) if self.hostname else (dashed(self.address),)
        return b"".join(_label(text) for text in labels if text)


class Answer(msgspec.Struct, frozen=True):
    """Records by section. volatile: made of endpoints, so true only as long as `Names.places` of it says the same."""

    rcode: int = 0
    answers: Sequence[bytes] = ()
    authorities: Sequence[bytes] = ()
    additional: Sequence[bytes] = ()
    volatile: Name | None = None


class _Found(msgspec.Struct, frozen=True):
    """A Name and how it was asked for. host: the part of the question's name that stands for the service, wire form; below: labels in
    front of it that choose among its endpoints."""

    name: Name
    host: bytes
    below: tuple[str, ...] = ()


def _label(text: str) -> bytes:
    data = text.lower().encode("ascii", "replace")[:_LABEL_BYTES]
    return bytes((len(data),)) + data


def dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


class Names:
    """The Names of a Snapshot. `states`: where the engine keeps its backends."""

    def __init__(self, states: Mapping[str, BackendState]) -> None:
        self._states = states
        self._dns = Dns()
        self._parts: dict[str, Name] = {}
        self._owners: dict[bytes, _Owners] = {}  # every spelling → the Names that have it
        self._wild: dict[bytes, _Owners] = {}  # suffix of `*.suffix` → the same
        self._reverse: dict[bytes, _Owners] = {}
        self._above: Counter[bytes] = Counter()  # names that are none themselves but have some below
        self._zones: frozenset[bytes] = frozenset()

    # -------------------------------------------------------------------------------------------------------- applying

    def apply(self, dns: Dns, parts: Mapping[str, Part], changed: Iterable[str] | None = None) -> Iterator[bool]:
        """Be what the Snapshot says, in steps that yield whether anything changed. Between steps both old and new may be found. changed:
        names of parts; None = look at all."""
        if dns != self._dns:
            self._dns = dns
            self._zones = frozenset(_encoded(dns.zones))
            yield True
        if changed is None:
            changed = [
                *(name for name, part in parts.items() if type(part) is Name),
                *(name for name in self._parts if name not in parts),
            ]
            yield False
        for name in changed:
            if name.startswith(_PREFIX) and self._take(name, parts.get(name)):
                yield True

    def _take(self, name: str, part: Part | None) -> bool:
        old, new = self._parts.get(name), part if type(part) is Name else None
        if old is new or old == new:
            return False
        if old is not None:
            self._forget(self._parts.pop(name))
        if new is not None:
            self._parts[name] = new
            self._learn(new)
        return True

    def _learn(self, name: Name) -> None:
        own = _own(name)
        for table, key in self._keys(name):
            table.setdefault(key, {})[key != own, name.name] = name
            while len(key := parent(key)) > 1:
                self._above[key] += 1

    def _forget(self, name: Name) -> None:
        own = _own(name)
        for table, key in self._keys(name):
            owners = table[key]
            del owners[key != own, name.name]
            if not owners:
                del table[key]
            while len(key := parent(key)) > 1:
                self._above[key] -= 1
                if not self._above[key]:
                    del self._above[key]

    def _keys(self, name: Name) -> list[tuple[dict[bytes, _Owners], bytes]]:
        """Where it is indexed, each place once. What is no DNS name cannot be asked for."""
        found: dict[tuple[int, bytes], tuple[dict[bytes, _Owners], bytes]] = {}
        for spelling in _encoded((name.name, *name.aliases)):
            wild = spelling.startswith(_WILD)
            table, key = (self._wild, spelling[2:]) if wild else (self._owners, spelling)
            found[wild, key] = table, key
        if not name.name.startswith("*") and _own(name):
            for address in name.addresses:
                if packed(address):
                    key = encode_name(ipaddress.ip_address(address).reverse_pointer)
                    found[2, key] = self._reverse, key
        return list(found.values())

    def __len__(self) -> int:
        return len(self._parts)

    # ---------------------------------------------------------------------------------------------------------- asking

    def answer(self, query: Query, shuffle: Shuffle) -> Answer | None:
        """None: not ours. shuffle: puts endpoints in the order they are answered in."""
        name = query.name
        owners = self._reverse.get(name)
        if owners is not None:
            return self._pointed(query, owners)
        if name[1:2] == b"_" and (service := self._service(query)) is not None:
            return service
        found = self._find(name)
        zone = self._zone(name)
        if found is None:
            return None if zone is None else self._nothing_here(query, zone)
        if not found.name.addresses and not found.name.backends and zone is None:
            return None  # it leads nowhere from here: the name as others know it
        if query.kind == SRV:
            return self._srv(query, found, "", "", zone, shuffle)
        return self._addresses(query, found, zone, shuffle)

    def places(self, name: Name) -> list[Place]:
        """The endpoints of a headless service that may be answered now: of the first priority that has any, each address once."""
        found: dict[str, Place] = {}
        for backend in name.backends:
            for place in self._of(backend):
                found.setdefault(place.address, place)
        first = min((place.priority for place in found.values()), default=0)
        return [place for place in found.values() if place.priority == first][:_MOST_RECORDS]

    def _of(self, backend: str) -> Iterator[Place]:
        state = self._states.get(backend)
        for host in state.hosts.values() if state is not None else ():
            endpoint = host.endpoint
            if not host.out and not endpoint.peer and packed(endpoint.address):
                hostname = next((value for key, value in endpoint.labels if key == HOSTNAME_LABEL), "")
                yield Place(endpoint.address, endpoint.port, endpoint.cluster, hostname, host.priority, endpoint.weight)

    # --------------------------------------------------------------------------------------------------------- finding

    def _find(self, name: bytes) -> _Found | None:
        owners = self._owners.get(name)
        if owners is not None:
            return _Found(_first(owners), name)
        labels: tuple[str, ...] = ()
        host = name
        for _ in range(2):
            if len(host) <= 1:
                break
            labels, host = (*labels, first_label(host)), parent(host)
            owners = self._owners.get(host)
            if owners is not None and (below := _first(owners)) and not below.addresses and below.backends:
                return _Found(below, host, labels)
        suffix = name
        while self._wild and len(suffix) > 1:
            suffix = parent(suffix)
            owners = self._wild.get(suffix)
            if owners is not None:
                return _Found(_first(owners), name)
        return None

    def _zone(self, name: bytes) -> bytes | None:
        while name not in self._zones:
            if len(name) <= 1:
                return None
            name = parent(name)
        return name

    def _nothing_here(self, query: Query, zone: bytes) -> Answer:
        if not self._dns.synced:
            return Answer(SERVFAIL)
        exists = query.name == zone or query.name in self._above
        if exists and query.name == zone and query.kind in (SOA, ANY):
            return Answer(answers=(self._soa(query, zone),))
        return Answer(0 if exists else NXDOMAIN, authorities=(self._soa(query, zone),))

    def _soa(self, query: Query, zone: bytes | None) -> bytes:
        """A name outside our zones is a zone of its own: no other server is asked for it."""
        zone = query.name if zone is None else zone
        ttl = min(self._dns.ttl, NEGATIVE_TTL)
        return record(SOA, ttl, soa_data(zone, _SERIAL, ttl), pointer(query, zone))

    def _ttl(self, name: Name) -> int:
        return self._dns.ttl if name.ttl < 0 else name.ttl

    # ------------------------------------------------------------------------------------------------------- answering

    def _addresses(self, query: Query, found: _Found, zone: bytes | None, shuffle: Shuffle) -> Answer:
        name, volatile = found.name, None
        addresses: Sequence[str] = name.addresses
        if not addresses:
            volatile = name
            places = _below(self.places(name), found.below)
            if found.below and not places:
                if zone is None:
                    zone = found.host
                return Answer(NXDOMAIN, authorities=(self._soa(query, zone),), volatile=name)
            shuffle(places)
            addresses = [place.address for place in places]
        records = address_records(addresses, query.kind, self._ttl(name), POINTER)
        if records:
            return Answer(answers=records, volatile=volatile)
        return Answer(authorities=(self._soa(query, zone),), volatile=volatile)

    def _service(self, query: Query) -> Answer | None:
        """`_PORT._PROTOCOL.HOST`; None: no name of ours."""
        port, rest = first_label(query.name), parent(query.name)
        protocol, host = first_label(rest), parent(rest)
        if not protocol.startswith("_") or (found := self._find(host)) is None:
            return None
        zone = self._zone(host)
        if not any(_offers(each, port[1:], protocol[1:]) for each in found.name.ports):
            return Answer(NXDOMAIN, authorities=(self._soa(query, zone),))
        if query.kind not in (SRV, ANY):
            return Answer(authorities=(self._soa(query, zone),))
        return self._srv(query, found, port[1:], protocol[1:], zone, _in_order)

    def _srv(self, query: Query, found: _Found, port: str, protocol: str, zone: bytes | None, shuffle: Shuffle) -> Answer:
        """port "": all of them."""
        name, ttl = found.name, self._ttl(found.name)
        ports = [each for each in name.ports if not port or _offers(each, port, protocol)]
        owner = pointer(query, found.host)
        if name.addresses:
            answers = [record(SRV, ttl, srv_data(0, 100, number, found.host)) for _, _, number in ports]
            more = address_records(name.addresses, ANY, ttl, owner)
            return Answer(answers=answers, additional=more if answers else ()) if answers else self._none(query, zone, None)
        answers, more, seen = [], [], set[str]()
        allowed = {place.address for place in _below(self.places(name), found.below)}
        for _, _, number in ports:
            places = [place for place in self._at(name, number) if place.address in allowed]
            shuffle(places)
            for place in places:
                front = place.front
                data = srv_data(min(place.priority, 65535), min(place.weight, 65535), place.port, front + found.host)
                answers.append(record(SRV, ttl, data))
                if place.address not in seen:
                    seen.add(place.address)
                    more += address_records((place.address,), ANY, ttl, front + owner)
        return Answer(answers=answers, additional=more, volatile=name) if answers else self._none(query, zone, name)

    def _none(self, query: Query, zone: bytes | None, volatile: Name | None) -> Answer:
        return Answer(authorities=(self._soa(query, zone),), volatile=volatile)

    def _at(self, name: Name, number: int) -> list[Place]:
        """The endpoints of one port: backends are named direction|PORT|SUBSET|HOST."""
        return [place for backend in name.backends if backend.split("|")[1:2] == [str(number)] for place in self._of(backend)]

    def _pointed(self, query: Query, owners: _Owners) -> Answer:
        if query.kind not in (PTR, ANY):
            return Answer(authorities=(self._soa(query, None),))
        return Answer(
            answers=[
                record(PTR, self._ttl(name), encode_name(text))
                for (_, text), name in sorted(owners.items(), key=lambda each: each[0])[:_MOST_RECORDS]
            ]
        )

    def __repr__(self) -> str:
        return f"<Names {len(self._parts)} names {len(self._owners)} spellings>"


def address_records(addresses: Iterable[str], kind: int, ttl: int, owner: bytes) -> list[bytes]:
    """A and AAAA records, those of the kind that is asked for."""
    found = []
    for address in addresses:
        data = packed(address)
        its = A if len(data) == 4 else AAAA
        if data and kind in (its, ANY):
            found.append(record(its, ttl, data, owner))
    return found


@functools.lru_cache(maxsize=1 << 16)
def packed(address: str) -> bytes:
    """4 or 16 bytes, none of what is no address."""
    try:
        return ipaddress.ip_address(address).packed
    except ValueError:
        return b""


def _below(places: list[Place], labels: tuple[str, ...]) -> list[Place]:
    """CLUSTER, HOSTNAME, or HOSTNAME and CLUSTER in front of a service's name. Kubernetes knows no clusters: HOSTNAME alone is its form."""
    if not labels:
        return places
    if len(labels) == 2:
        return [place for place in places if place.cluster == labels[1] and _called(place, labels[0])]
    return [place for place in places if place.cluster == labels[0]] or [place for place in places if _called(place, labels[0])]


def _called(place: Place, label: str) -> bool:
    return label in (place.hostname.lower(), dashed(place.address))


def _offers(port: tuple[str, str, int], name: str, protocol: str) -> bool:
    return port[0].lower() == name and port[1] == protocol


def _first(owners: _Owners) -> Name:
    """Of several services with one name: the one whose own it is, else the first by name, so that all gateways say the same."""
    if len(owners) == 1:
        return next(iter(owners.values()))
    return owners[min(owners)]


def _own(name: Name) -> bytes:
    """Its own name as `_keys` has it, b"" if that is no DNS name."""
    spelling = next(_encoded((name.name,)), b"")
    return spelling[2:] if spelling.startswith(_WILD) else spelling


def _in_order(places: list[Place]) -> None:
    """SRV records carry weights: clients draw."""


def _encoded(names: Iterable[str]) -> Iterator[bytes]:
    """Those that are DNS names."""
    for text in names:
        try:
            yield encode_name(text)
        except ValueError:
            continue
