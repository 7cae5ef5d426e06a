"""What Nova's servers say of services by their metadata, with the ports that Neutron gave them. Pure.

A server whose metadata names a service is an endpoint of it:

    fedgate-service    the service's name; several with commas
    fedgate-ports      NAME:PORT or NAME:PORT:TARGET, with commas: the service's port, and the server's where that is another
    fedgate-namespace  else the project's name
    fedgate-weight     1 unless written; 0 drains: nothing new is sent
    fedgate-network    which network's address is taken; else the first network's by name, IPv4 first

All metadata are the endpoint's labels, `istio-locality` its locality, else region and availability zone. Nobody checks these servers
unless a ServicePolicy says so, so one that is ACTIVE with its port up is taken as healthy, one in any other state takes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from discovery.draft import Draft, Drafts
from discovery.here import Here
from discovery.model import Endpoint, Health
from discovery.octavia import NAMESPACE_TAG, SERVICE_TAG, Zones, rfc3339, within
from discovery.reading import labelled_locality, port_protocol

PORTS_KEY = "fedgate-ports"
WEIGHT_KEY = "fedgate-weight"
NETWORK_KEY = "fedgate-network"
_RUNNING = frozenset({"ACTIVE", "PASSWORD", "MIGRATING", "VERIFY_RESIZE", "REVERT_RESIZE"})
_NOT_THERE = frozenset({"BUILD", "DELETED", "SOFT_DELETED"})  # not yet, or no longer


class Address(msgspec.Struct, frozen=True):
    addr: str
    version: int = 4
    kind: str = msgspec.field(default="fixed", name="OS-EXT-IPS:type")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str | None = ""
    status: str = ""
    metadata: dict[str, str] = {}
    addresses: dict[str, tuple[Address, ...]] = {}
    created: str | None = ""
    zone: str | None = msgspec.field(default="", name="OS-EXT-AZ:availability_zone")
    task: str | None = msgspec.field(default=None, name="OS-EXT-STS:task_state")


class FixedAddress(msgspec.Struct, frozen=True):
    ip_address: str
    subnet_id: str = ""


class NeutronPort(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    device_id: str = ""
    device_owner: str = ""
    status: str = ""
    admin_state_up: bool = True
    fixed_ips: tuple[FixedAddress, ...] = ()


def zones_of(ports: Sequence[NeutronPort], servers: Sequence[Server]) -> Zones:
    """Where each address is. Nova writes the zone into its ports' owner too (`compute:az1`), for who may not read servers."""
    of_servers = {server.id: server.zone for server in servers if server.zone}
    by_subnet = {}
    for port in ports:
        owner = port.device_owner.partition(":")[2]
        zone = of_servers.get(port.device_id) or ("" if owner == "None" else owner)
        if zone:
            by_subnet.update({(fixed.subnet_id, fixed.ip_address): zone for fixed in port.fixed_ips})
    often = Counter(address for _, address in by_subnet)
    return Zones(by_subnet, {address: zone for (_, address), zone in by_subnet.items() if often[address] == 1})


def add_servers(drafts: Drafts, servers: Sequence[Server], ports: Sequence[NeutronPort], *, here: Here, project: str) -> None:
    """Tell `drafts` of every server that names a service. ports: Neutron's; a server none is known of counts by its own state."""
    down = {
        fixed.ip_address: port.device_id
        for port in ports
        if not port.admin_state_up or port.status == "DOWN"
        for fixed in port.fixed_ips
    }
    for server in sorted(servers, key=lambda each: (each.created or "", each.id)):
        names = [name.strip() for name in server.metadata.get(SERVICE_TAG, "").split(",")]
        if server.status in _NOT_THERE or not any(names):
            continue
        address = _address(server)
        for name in filter(None, names):
            namespace = server.metadata.get(NAMESPACE_TAG) or project
            draft = drafts.draft(here.host(name, namespace), namespace, of=f"server {server.name or server.id}")
            if draft is not None:
                _add_server(draft, server, address, here, port_down=down.get(address) == server.id)


def _add_server(draft: Draft, server: Server, address: str, here: Here, *, port_down: bool) -> None:
    named = f"server {server.name or server.id}"
    ports, wrong = _ports(server.metadata.get(PORTS_KEY, ""))
    if wrong:
        draft.notes.add(f"{named}: {PORTS_KEY} has `{wrong[:60]}`; write NAME:PORT or NAME:PORT:TARGET, such as http:80:8080")
    if not ports:
        draft.notes.add(f"{named} says no port, so nothing is sent there; write metadata {PORTS_KEY}, such as http:80:8080")
    draft.created = min(filter(None, (draft.created, rfc3339(server.created))), default="")
    if address:
        seat = _seat(server, address, here, port_down=port_down)
    for name, number, target in ports:
        protocol = port_protocol(name, "", number)
        port = draft.port(number, name, protocol)
        if address:
            draft.endpoint(seat, port, target)


def _seat(server: Server, address: str, here: Here, *, port_down: bool) -> Endpoint:
    weight = _weight(server.metadata)
    if weight == 0 or server.task == "deleting":
        health = Health.DRAINING
    else:
        health = Health.UNHEALTHY if port_down or server.status not in _RUNNING else Health.UNKNOWN
    return Endpoint(
        address=address,
        labels=tuple(sorted(server.metadata.items())),
        cluster=here.cluster,
        network=here.network,
        locality=labelled_locality(server.metadata) or within(here.locality, server.zone or ""),
        weight=max(weight, 1),
        health=health,
    )


def _weight(metadata: Mapping[str, str]) -> int:
    """What is no number is 1, as nothing written is: a typing mistake must not drain a server."""
    text = metadata.get(WEIGHT_KEY, "").strip()
    return min(int(text), 256) if text.isascii() and text.isdecimal() and len(text) < 10 else 1  # 256 is Octavia's largest


def _address(server: Server) -> str:
    """A fixed address of the wished network; "" if there is none yet."""
    wished = server.metadata.get(NETWORK_KEY, "")
    networks = [wished] if wished else sorted(server.addresses)
    for network in networks:
        found = [each for each in server.addresses.get(network, ()) if each.kind == "fixed"]
        if found:
            return min(found, key=lambda each: (each.version, each.addr)).addr
    return ""


def _ports(text: str) -> tuple[list[tuple[str, int, int]], str]:
    """(name, service's port, server's port) of each, and what could not be read."""
    ports, wrong = [], ""
    for item in filter(None, (item.strip() for item in text.split(","))):
        numbers = list(_numbers(item))
        if len(numbers) in (1, 2):
            ports.append((item.partition(":")[0], numbers[0], numbers[-1]))
        else:
            wrong = wrong or item
    return ports, wrong


def _numbers(item: str) -> Iterator[int]:
    """The numbers after the name; none at all if one of them is no port."""
    texts = item.split(":")[1:]
    if all(text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536 for text in texts):
        yield from map(int, texts)
