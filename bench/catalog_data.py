"""A made-up federation for `python -m bench catalog`: five registries with 10,000 services and 100,000 endpoints between them.

Everything is an object of its own, down to the labels' strings, as it is when registries' answers are decoded: shared constants would make
memory look better than it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service

SOURCES = ("kubernetes", "consul", "nomad", "openstack", "legacy")
SERVICES = 10_000
ENDPOINTS = 10  # of a service, all sources together
ADMIN = 10  # every tenth service has a second port
_SHARES = ((0,), (1,), (2,), (3,), (4,), (0, 1), (1, 2), (0, 3), (0, 1, 2), (2, 3, 4))
"""Which sources have a service, by its number: half of them have one source, three tenths two, a fifth three (wherever a migration is on)."""
_CREATED = ("2024-03-01T00:00:00Z", "2023-07-01T12:00:00Z", "", "2025-01-01T00:00:00Z", "")


def hostname(number: int) -> str:
    return f"service-{number:05}.team-{number % 100:02}.svc.cluster.local"


def of_source(index: int, services: int = SERVICES) -> tuple[Service, ...]:
    """What one registry says."""
    return tuple(service(index, number) for number in range(services) if index in sharing(number))


def sharing(number: int) -> tuple[int, ...]:
    """The sources that have a service."""
    return _SHARES[number // 100 % len(_SHARES)]  # // 100: team and sharing are independent


def service(index: int, number: int) -> Service:
    """One source's word on one service; its part of the endpoints."""
    sources = sharing(number)
    own = [each for each in range(ENDPOINTS) if sources[each % len(sources)] == index]
    ports = [Port(80, _new("http"), Protocol.HTTP)]
    if number % ADMIN == 0:
        ports.append(Port(9090, _new("grpc-admin"), Protocol.GRPC))
    return Service(
        hostname(number),
        namespace=f"team-{number % 100:02}",
        ports=tuple(ports),
        endpoints=tuple(endpoint(number, each) for each in own),
        labels=((_new("app"), f"service-{number:05}"), (_new("team"), f"team-{number % 100:02}")),
        created=_CREATED[index],
    )


def endpoint(number: int, each: int) -> Endpoint:
    """Address 10.x.y.z by its number in the whole; three zones."""
    place = number * ENDPOINTS + each
    return Endpoint(
        f"10.{place >> 16}.{place >> 8 & 255}.{place & 255}",
        ports=((_new("http"), 8080), (_new("grpc-admin"), 9090))[: 2 if number % ADMIN == 0 else 1],
        labels=(
            (_new("app"), f"service-{number:05}"),
            (_new("version"), f"v{each % 2}"),
            (_new("pod-template-hash"), f"{place * 2654435761 & 0xFFFFFFFF:08x}"),
        ),
        locality=Locality(_new("region-1"), f"zone-{each % 3}"),
        health=Health.HEALTHY,
    )


def changes(index: int, count: int, services: int = SERVICES) -> Iterator[Service]:
    """Services of one source with one endpoint changed: another weight, a new one, one less, in turns."""
    numbers = [number for number in range(services) if index in sharing(number)]
    for turn in range(count):
        number = numbers[turn * 37 % len(numbers)]
        base = service(index, number)
        endpoints = list(base.endpoints)
        match turn % 3:
            case 0:
                endpoints[0] = msgspec.structs.replace(endpoints[0], weight=2 + turn)
            case 1:
                new = msgspec.structs.replace(endpoints[0], address=f"10.200.{turn >> 8 & 255}.{turn & 255}")
                endpoints.append(new)
            case _:
                endpoints.pop()
        yield msgspec.structs.replace(base, endpoints=tuple(endpoints))


def _new(text: str) -> str:
    """An equal string that is another object."""
    return "".join(list(text))
