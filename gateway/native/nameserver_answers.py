"""What the nameserver answers by itself.

Theory of operation. A service with addresses is answered by them, whatever becomes of its endpoints: the gateway fails over behind them. A
headless one is answered by endpoints, those in service of the first priority that has any, as requests would be sent. Such an answer is
`volatile`: it is true as long as `Answers.places` of that service says the same.

What is no service's name but in a zone of ours is NXDOMAIN, or NOERROR without records where longer names exist (RFC 8020: an NXDOMAIN
would deny them too); SERVFAIL as long as not every source has said what it knows. Anything else is not ours to answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.native.backend import BackendState
from gateway.native.codec.dns import (
    ANY,
    NXDOMAIN,
    POINTER,
    PTR,
    SERVFAIL,
    SOA,
    SRV,
    Query,
    encode_name,
    first_label,
    parent,
    pointer,
    record,
    soa_data,
    srv_data,
)
from gateway.native.nameserver_names import Found, Names
from gateway.native.nameserver_places import Place, address_records, chosen, places, places_of
from gateway.parts.name import Name

NEGATIVE_TTL = 5
"""Seconds that "there is none" holds at most: a service that comes into being is found soon (CoreDNS's kubernetes plugin says 5 too)."""

_SERIAL = 1  # nobody transfers these zones
_MOST_RECORDS = 1000  # of one answer: 16 KB of A records, more than any client looks at
_WEIGHT = 100  # of the only record of its priority: no client looks at it
_LARGEST = 65535
_LONGEST_NAME = 255

Shuffle = Callable[[list[Place]], object]


class Answer(msgspec.Struct, frozen=True):
    """Records by section."""

    rcode: int = 0
    answers: Sequence[bytes] = ()
    authorities: Sequence[bytes] = ()
    additional: Sequence[bytes] = ()
    volatile: Name | None = None


class Answers:
    """names, states: kept up to date by others. shuffle: puts endpoints in the order they are answered in."""

    def __init__(self, names: Names, states: Mapping[str, BackendState], shuffle: Shuffle) -> None:
        self._names = names
        self._states = states
        self._shuffle = shuffle

    def answer(self, query: Query) -> Answer | None:
        """None: not ours."""
        names, name = self._names, query.name
        if name[1:2] == b"_" and (service := self._service(query)) is not None:
            return service
        found, zone = names.find(name), names.zone(name)
        if found is None:
            if zone is not None:
                return self._nothing_here(query, zone)
            owners = names.pointed(name)
            return self._pointed(query, owners) if owners else None
        if not found.name.addresses and not found.name.backends:
            if zone is None:
                return None  # it leads nowhere from here: the name as others know it
            if not names.dns.synced:
                return Answer(SERVFAIL)  # its address is still to come
        if query.kind == SRV:
            return self._srv(query, found, "", "", zone)
        return self._addresses(query, found, zone)

    def places(self, name: Name) -> list[Place]:
        """The endpoints of a headless service that may be answered now."""
        return places(self._states, name)

    def _nothing_here(self, query: Query, zone: bytes) -> Answer:
        if not self._names.dns.synced:
            return Answer(SERVFAIL)
        exists = query.name == zone or self._names.above(query.name)
        if exists and query.name == zone and query.kind in (SOA, ANY):
            return Answer(answers=(self._soa(query, zone),))
        return Answer(0 if exists else NXDOMAIN, authorities=(self._soa(query, zone),))

    def _soa(self, query: Query, zone: bytes | None) -> bytes:
        """A name outside our zones is a zone of its own: no other server is asked for it."""
        zone = query.name if zone is None else zone
        return pointer(query, zone) + _soa_without_owner(zone, min(self._names.dns.ttl, NEGATIVE_TTL))

    def _ttl(self, name: Name) -> int:
        return self._names.dns.ttl if name.ttl < 0 else name.ttl

    def _addresses(self, query: Query, found: Found, zone: bytes | None) -> Answer:
        name, volatile = found.name, None
        addresses: Sequence[str] = name.addresses
        if not addresses:
            volatile = name
            near = chosen(self.places(name), found.below)[:_MOST_RECORDS]
            if found.below and not near:
                return Answer(NXDOMAIN, authorities=(self._soa(query, zone or found.host),), volatile=name)
            self._shuffle(near)
            addresses = [place.address for place in near]
        records = address_records(addresses, query.kind, self._ttl(name), POINTER)
        if records:
            return Answer(answers=records, volatile=volatile)
        return Answer(authorities=(self._soa(query, zone),), volatile=volatile)

    def _service(self, query: Query) -> Answer | None:
        """`_PORT._PROTOCOL.HOST`; None: no name of ours."""
        port, rest = first_label(query.name), parent(query.name)
        protocol, host = first_label(rest), parent(rest)
        if not protocol.startswith("_") or (found := self._names.find(host)) is None:
            return None
        zone = self._names.zone(host)
        if not found.name.addresses and not found.name.backends and zone is None:
            return None
        if not any(_offers(each, port[1:], protocol[1:]) for each in found.name.ports):
            return Answer(NXDOMAIN, authorities=(self._soa(query, zone),))
        if query.kind not in (SRV, ANY):
            return Answer(authorities=(self._soa(query, zone),))
        return self._srv(query, found, port[1:], protocol[1:], zone)

    def _srv(self, query: Query, found: Found, port: str, protocol: str, zone: bytes | None) -> Answer:
        """port "": all of them."""
        name, ttl = found.name, self._ttl(found.name)
        ports = [each for each in name.ports if not port or _offers(each, port, protocol)]
        owner = pointer(query, found.host)
        if name.addresses:
            answers = [record(SRV, ttl, srv_data(0, _WEIGHT, number, found.host)) for _, _, number in ports]
            more = address_records(name.addresses, ANY, ttl, owner)
            return Answer(answers=answers, additional=more if answers else ()) if answers else self._none(query, zone, None)
        answers, more, seen = [], [], set[str]()
        near = {place.address for place in chosen(self.places(name), found.below)[:_MOST_RECORDS]}
        for _, _, number in ports:
            for place in self._at(name, number):
                front = place.front
                if place.address not in near or len(front) + len(found.host) > _LONGEST_NAME:
                    continue
                data = srv_data(min(place.priority, _LARGEST), min(place.weight, _LARGEST), place.port, front + found.host)
                answers.append(record(SRV, ttl, data))
                if place.address not in seen:
                    seen.add(place.address)
                    more += address_records((place.address,), ANY, ttl, front + owner)
        return Answer(answers=answers, additional=more, volatile=name) if answers else self._none(query, zone, name)

    def _none(self, query: Query, zone: bytes | None, volatile: Name | None) -> Answer:
        return Answer(authorities=(self._soa(query, zone),), volatile=volatile)

    def _at(self, name: Name, number: int) -> list[Place]:
        """The endpoints of one port: backends are named direction|PORT|SUBSET|HOST."""
        of_port = [backend for backend in name.backends if backend.split("|")[1:2] == [str(number)]]
        return [place for backend in of_port for place in places_of(self._states.get(backend))]

    def _pointed(self, query: Query, owners: Sequence[Name]) -> Answer:
        if query.kind not in (PTR, ANY):
            return self._none(query, None, None)
        return Answer(answers=[record(PTR, self._ttl(name), encode_name(name.name)) for name in owners[:_MOST_RECORDS]])


@functools.lru_cache(maxsize=1024)
def _soa_without_owner(zone: bytes, ttl: int) -> bytes:
    return record(SOA, ttl, soa_data(zone, _SERIAL, ttl), b"")


def _offers(port: tuple[str, str, int], name: str, protocol: str) -> bool:
    return port[0].lower() == name and port[1] == protocol
