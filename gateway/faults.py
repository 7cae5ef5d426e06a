"""What is wrong with a Snapshot: references that lead nowhere, numbers that cannot be. An engine runs none with a fault. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator

from gateway.snapshot import Backend, EndpointSet, Forward, Inbound, Listener, Name, Part, Snapshot, VirtualHost, part_name


def validate(snapshot: Snapshot) -> list[str]:
    """Every fault of references and numbers, each `part name: what is wrong`; empty when an engine can run it."""
    faults: list[str] = []
    for found in validating(snapshot, None):
        faults += found
    return faults


def validating(snapshot: Snapshot, good: Snapshot | None) -> Iterator[list[str]]:
    """`validate` in steps of at most a millisecond or so. good: a Snapshot without faults; where the difference from it is known,
    only that is looked at, unless something is gone that others may name."""
    names: Iterable[str] | None = snapshot.differing(good)
    if names is None or any(name not in snapshot.parts and name.startswith(_NAMED) for name in names):
        names = snapshot.parts
    tables: set[str] | None = None
    for index, name in enumerate(names):
        part = snapshot.parts.get(name)
        if part is None:
            continue
        if isinstance(part, Listener):
            if tables is None:
                tables = {each.table for each in snapshot.parts.values() if isinstance(each, VirtualHost)}
            yield _listener_faults(name, part, snapshot, tables)
        elif found := _part_faults(name, part, snapshot):
            yield found
        elif index % _STEP == 0:
            yield []
    yield [] if "node" in snapshot.parts else ["node: missing"]


_NAMED = ("backend/", "host/", "node")
_STEP = 100  # parts: 2 to 5 µs each


def _listener_faults(name: str, part: Listener, snapshot: Snapshot, tables: Collection[str]) -> list[str]:
    faults = [] if name == part_name(part) else [_misnamed(name, part)]
    if not 1 <= part.port <= 65535 and not part.unix:
        faults.append(f"{name}: port {part.port} is not in 1..65535")
    faults += [
        f"{name}: chain {chain.name} names table {chain.table!r}, which has no virtual host"
        for chain in part.chains
        if chain.table and chain.table not in tables
    ]
    return faults + _relay_faults(name, part, snapshot)


def _part_faults(name: str, part: Part, snapshot: Snapshot) -> list[str]:
    faults = [] if name == part_name(part) else [_misnamed(name, part)]
    match part:
        case Inbound() | EndpointSet():
            if f"backend/{part.backend}" not in snapshot.parts:
                faults.append(f"{name}: backend {part.backend!r} does not exist")
            if isinstance(part, EndpointSet) and len({endpoint.id for endpoint in part.endpoints}) != len(part.endpoints):
                faults.append(f"{name}: two endpoints have one id")
        case VirtualHost():
            faults += _route_faults(name, part, snapshot)
        case Backend():
            if part.overprovisioning < 100:
                faults.append(f"{name}: overprovisioning {part.overprovisioning} is under 100")
            faults += _network_faults(name, part)
        case Name():
            faults += [
                f"{name}: backend {backend!r} does not exist"
                for backend in part.backends
                if f"backend/{backend}" not in snapshot.parts
            ]
    return faults


def _network_faults(name: str, backend: Backend) -> Iterator[str]:
    for text in (*backend.dynamic_networks, *(block for each in backend.allowed or () for block in each.ip_blocks)):
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield f"{name}: {text!r} is no network"


def _misnamed(name: str, part: Part) -> str:
    return f"{name}: is kept under a name that is not its own, {part_name(part)}"


def _relay_faults(name: str, listener: Listener, snapshot: Snapshot) -> list[str]:
    faults = []
    for chain in listener.chains:
        for route in chain.tcp:
            if sum(split.weight for split in route.splits) <= 0:
                faults.append(f"{name}: weights of route {route.name!r} of chain {chain.name} sum to 0")
            faults += [
                f"{name}: chain {chain.name} relays to backend {split.backend!r}, which does not exist"
                for split in route.splits
                if f"backend/{split.backend}" not in snapshot.parts
            ]
    return faults


def _route_faults(name: str, host: VirtualHost, snapshot: Snapshot) -> list[str]:
    faults = []
    for index, route in enumerate(host.routes):
        if not isinstance(route.action, Forward):
            continue
        if sum(split.weight for split in route.action.splits) <= 0:
            faults.append(f"{name}.routes[{index}]: weights sum to 0")
        named = [*(split.backend for split in route.action.splits), *(mirror.backend for mirror in route.action.mirrors)]
        faults += [
            f"{name}.routes[{index}]: backend {backend!r} does not exist"
            for backend in named
            if f"backend/{backend}" not in snapshot.parts
        ]
    return faults
