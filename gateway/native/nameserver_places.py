"""Endpoints as the nameserver answers them: those of a headless service that are in service for this worker.

Endpoints behind a peer's gateway are left out: that address speaks to gateways only.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from discovery.model import HOSTNAME_LABEL
from gateway.native.backend import BackendState
from gateway.native.codec.dns import AAAA, ANY, A, record
from gateway.parts.name import Name

_LABEL_BYTES = 63


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

    def called(self, label: str) -> bool:
        """Whether `label` in front of its service's name means it."""
        return label in (self.hostname.lower(), dashed(self.address))


def _label(text: str) -> bytes:
    data = text.lower().encode("ascii", "replace")[:_LABEL_BYTES]
    return bytes((len(data),)) + data


def dashed(address: str) -> str:
    return address.replace(".", "-").replace(":", "-")


def places(states: Mapping[str, BackendState], name: Name) -> list[Place]:
    """Every endpoint of a service that is in service, each address once."""
    found: dict[str, Place] = {}
    for backend in name.backends:
        for place in places_of(states.get(backend)):
            found.setdefault(place.address, place)
    return list(found.values())


def places_of(state: BackendState | None) -> Iterator[Place]:
    """Those of one backend."""
    for host in state.hosts.values() if state is not None else ():
        endpoint = host.endpoint
        if not host.out and not endpoint.peer and packed(endpoint.address):
            hostname = next((value for key, value in endpoint.labels if key == HOSTNAME_LABEL), "")
            yield Place(endpoint.address, endpoint.port, endpoint.cluster, hostname, host.priority, endpoint.weight)


def chosen(found: list[Place], labels: tuple[str, ...]) -> list[Place]:
    """Those that are meant by the labels in front of the service's name, of the first priority that has any. CLUSTER, HOSTNAME, or HOSTNAME
    and CLUSTER; Kubernetes knows no clusters, HOSTNAME alone is its form."""
    if len(labels) == 2:
        found = [place for place in found if place.cluster.lower() == labels[1] and place.called(labels[0])]
    elif labels:
        there = [place for place in found if place.cluster.lower() == labels[0]]
        found = there or [place for place in found if place.called(labels[0])]
    first = min((place.priority for place in found), default=0)
    return [place for place in found if place.priority == first]


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
