"""What Nomad's answers mean: registrations, checks of allocations and nodes → Services. Pure; sources/nomad.py asks.

Nomad's services have no metadata but tags, so what a gateway must know stands there. `key=value` is a label; a few keys say more:
`fedgate-port=8080` the number clients use (otherwise the ports that jobs have fixed, each of which leads to all instances, or 80 where all
are dynamic), `fedgate-port-name=admin`, `fedgate-protocol=grpc` (or a tag `grpc`), `fedgate-weight=3`. A tag without `=` is a label
`tag.fedgate.io/<tag>: "true"`. Registrations of one name in one allocation whose ports have different names are one endpoint.

Health. The answer about a service carries none (hashicorp/nomad#15603), so it comes from the allocation's checks: one that fails, whether
for healthiness or for readiness, takes the endpoint out. A check that has not run yet counts as failing, unless it is known to have
passed before (an agent that restarts runs all checks anew). Without checks the allocation's own status decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from discovery.here import Here
from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service
from discovery.reading import labelled_locality, port_protocol

TAG = "tag.fedgate.io/"
_PROTOCOL_TAGS = frozenset({"http", "http2", "https", "grpc", "grpc-web", "tcp", "tls", "mongo"})
DYNAMIC = 20_000  # Nomad's dynamic ports begin there (min_dynamic_port): no client names one of those
MOST_PORTS = 16  # fixed ports of one service: more are a registration gone wrong
DEFAULT_PORT = 80  # what a client that writes http://NAME means
MOST_LABELS = 64  # of one endpoint: nodes have been seen with hundreds of metadata keys, selectors name two or three

PORT, PORT_NAME, PROTOCOL, WEIGHT = "fedgate-port", "fedgate-port-name", "fedgate-protocol", "fedgate-weight"
_OURS = frozenset({PORT, PORT_NAME, PROTOCOL, WEIGHT})

# Where an instance stands by what clouds and Kubernetes call it, and by what Nomad's own fingerprint found.
_REGION = ("topology.kubernetes.io/region", "platform.gce.region", "platform.azure.location")
_AWS_ZONE = "platform.aws.placement.availability-zone"  # a region's name and a letter; the region itself is not fingerprinted
_ZONE = ("topology.kubernetes.io/zone", _AWS_ZONE, "platform.gce.zone", "platform.azure.zone")
_SUBZONE = "topology.istio.io/subzone"


class Registration(msgspec.Struct, frozen=True, rename="pascal"):
    """One instance of a service (GET /v1/service/NAME)."""

    id: str = msgspec.field(name="ID")
    service_name: str
    namespace: str
    address: str
    port: int
    node_id: str = msgspec.field(name="NodeID", default="")
    alloc_id: str = msgspec.field(name="AllocID", default="")
    datacenter: str = ""
    tags: tuple[str, ...] | None = None
    modify_index: int = 0


class Named(msgspec.Struct, frozen=True, rename="pascal"):
    service_name: str


class NamespaceList(msgspec.Struct, frozen=True, rename="pascal"):
    """The services of one namespace (GET /v1/services)."""

    namespace: str
    services: tuple[Named, ...] | None = None


class CheckResult(msgspec.Struct, frozen=True, rename="pascal"):
    """The latest result of one check (GET /v1/client/allocation/ID/checks). status: success, failure or pending (has not run yet)."""

    service: str
    status: str
    check: str = ""
    mode: str = ""
    task: str = ""
    output: str = ""


class JobService(msgspec.Struct, frozen=True, rename="pascal"):
    provider: str = ""
    checks: tuple[msgspec.Raw, ...] | None = None


class JobTask(msgspec.Struct, frozen=True, rename="pascal"):
    services: tuple[JobService, ...] | None = None


class TaskGroup(msgspec.Struct, frozen=True, rename="pascal"):
    name: str
    services: tuple[JobService, ...] | None = None
    tasks: tuple[JobTask, ...] | None = None


class Job(msgspec.Struct, frozen=True, rename="pascal"):
    task_groups: tuple[TaskGroup, ...] | None = None


class Allocation(msgspec.Struct, frozen=True, rename="pascal"):
    """GET /v1/allocation/ID."""

    client_status: str = ""
    task_group: str = ""
    job: Job | None = None

    @property
    def checks(self) -> int:
        """How many checks its services have that Nomad runs itself."""
        groups = (self.job and self.job.task_groups) or ()
        own = [group for group in groups if group.name == self.task_group]
        services = [service for group in own for service in group.services or ()]
        services += [service for group in own for task in group.tasks or () for service in task.services or ()]
        return sum(len(service.checks or ()) for service in services if service.provider == "nomad")


class NodeStub(msgspec.Struct, frozen=True, rename="pascal"):
    """GET /v1/nodes."""

    id: str = msgspec.field(name="ID")
    modify_index: int = 0


class Node(msgspec.Struct, frozen=True, rename="pascal"):
    """GET /v1/node/ID."""

    name: str = ""
    node_class: str = ""
    node_pool: str = ""
    meta: dict[str, str] | None = None
    attributes: dict[str, str] | None = None


class Seen(msgspec.Struct, frozen=True):
    """What is known of one allocation. status: of the client, "" when it could not be asked. declared: how many checks it should have.
    passing: service → whether all of its checks pass."""

    status: str = ""
    declared: int = 0
    passing: Mapping[str, bool] = {}
    results: int = 0

    def health(self, service: str) -> Health:
        """Of an endpoint of this allocation."""
        passing = self.passing.get(service)
        if passing is None:
            if self.results < self.declared:
                return Health.UNHEALTHY  # it may be this service's whose first result is still to come
            return _BY_STATUS.get(self.status, Health.UNKNOWN)
        return Health.HEALTHY if passing else Health.UNHEALTHY


# A group's services are registered before its tasks start, and servers hear of `running` 200 ms late at best: pending says
# nothing against it.
_BY_STATUS = {
    "running": Health.HEALTHY,
    "complete": Health.UNHEALTHY,
    "failed": Health.UNHEALTHY,
    "lost": Health.UNHEALTHY,
    "unknown": Health.DEGRADED,  # its client is disconnected: it may well serve
}


def seen(allocation: Allocation, results: Mapping[str, CheckResult], before: Seen | None) -> Seen:
    """What an allocation's checks say now. before: what they said last."""
    passing: dict[str, bool] = {}
    for result in results.values():
        passed = result.status == "success"
        if result.status == "pending" and before is not None:
            passed = before.passing.get(result.service, False)
        passing[result.service] = passing.get(result.service, True) and passed
    return Seen(allocation.client_status, allocation.checks, passing, len(results))


def make_service(
    hostname: str,
    registrations: Iterable[Registration],
    here: Here,
    *,
    allocations: Mapping[str, Seen],
    nodes: Mapping[str, Node],
    region: str = "",
) -> Service:
    """One service of what is registered under its name. allocations and nodes: by id, what is known of them. region: Nomad's, "" when it
    was not said."""
    there = (each for each in registrations if not each.address.startswith("/"))  # no way to a socket of this machine
    ordered = sorted(there, key=lambda each: (each.namespace, each.address, each.port, each.id))
    notes: list[str] = []
    tagged = [(each, *_tags(each.tags or ())) for each in ordered]
    ports = _ports([(each, ours) for each, ours, _ in tagged], notes)
    grouped: dict[tuple[str, str], list[Endpoint]] = {}
    for each, ours, labels in tagged:
        endpoint = _endpoint(each, here, node=nodes.get(each.node_id), labels=labels, region=region)
        health = allocations.get(each.alloc_id, Seen()).health(each.service_name)
        served = tuple((port.name, each.port) for port in ports.get(ours.get(PORT_NAME, ""), ()))
        weight = _whole(ours.get(WEIGHT), 1, 1, 10_000)
        changed = msgspec.structs.replace(endpoint, ports=served, weight=weight, health=health, healthy=int(health.usable))
        _join(grouped.setdefault((each.address, each.alloc_id or each.id), []), changed)
    return Service(
        hostname=hostname,
        namespace=ordered[0].namespace if ordered else "",
        ports=tuple(sorted(port for group in ports.values() for port in group)),
        endpoints=tuple(endpoint for group in grouped.values() for endpoint in group),
        notes=tuple(dict.fromkeys(notes)),
    )


def _join(group: list[Endpoint], new: Endpoint) -> None:
    """Put its ports to the endpoint of the same allocation that has none of them."""
    names = {name for name, _ in new.ports}
    for index, endpoint in enumerate(group):
        if names.isdisjoint(name for name, _ in endpoint.ports):
            group[index] = msgspec.structs.replace(endpoint, ports=tuple(sorted((*endpoint.ports, *new.ports))))
            return
    group.append(new)


def _ports(registered: list[tuple[Registration, dict[str, str]]], notes: list[str]) -> dict[str, list[Port]]:
    """By the name that tags give (or none): the service's ports, each of which leads to all instances of that name."""
    groups: dict[str, list[tuple[Registration, dict[str, str]]]] = {}
    for each, ours in registered:
        groups.setdefault(ours.get(PORT_NAME, ""), []).append((each, ours))
    ports: dict[str, list[Port]] = {}
    taken: set[int] = set()
    for written, members in sorted(groups.items()):
        protocol = _protocol(written, members, notes)
        name = written or ("http" if protocol is Protocol.UNKNOWN else protocol.value.lower())
        found = [number for number in _numbers(members, protocol, notes) if number not in taken]
        if not found:
            notes.append(f"port `{name}` has no number of its own, so it gets no traffic; give its instances a tag {PORT}=NUMBER")
        taken.update(found)
        ports[written] = [Port(number, f"{name}-{number}" if index else name, protocol) for index, number in enumerate(found)]
    return ports


def _protocol(name: str, members: list[tuple[Registration, dict[str, str]]], notes: list[str]) -> Protocol:
    words = {ours[PROTOCOL] for _, ours in members if ours.get(PROTOCOL)}
    said = {word: port_protocol(name, word, 0) for word in sorted(words)}
    for word in [word for word, protocol in said.items() if protocol is Protocol.UNKNOWN]:
        notes.append(f"the tag {PROTOCOL}={word[:40]} names no protocol; write for example {PROTOCOL}=http")
        del said[word]
    if len(set(said.values())) > 1:
        notes.append(
            f"instances disagree about the protocol: {', '.join(said)}; the first counts; give all the same {PROTOCOL} tag"
        )
    return next(iter(said.values()), port_protocol(name, "", 0))


def _numbers(members: list[tuple[Registration, dict[str, str]]], protocol: Protocol, notes: list[str]) -> list[int]:
    """What clients write: what tags say, else the ports that jobs have fixed, else the protocol's usual one."""
    said = {ours[PORT]: _whole(ours[PORT], 0, 1, 65535) for _, ours in members if PORT in ours}
    for word in sorted(word for word, number in said.items() if not number):
        notes.append(f"the tag {PORT}={word[:40]} is no port number; write for example {PORT}=8080")
    numbers = sorted(filter(None, set(said.values()))) or sorted({each.port for each, _ in members if 0 < each.port < DYNAMIC})
    if not numbers and protocol not in _ON_80:
        notes.append(
            f"clients reach this {protocol.value} service on port {DEFAULT_PORT}, as no tag says otherwise; write {PORT}=NUMBER"
        )
    return (numbers or [DEFAULT_PORT])[:MOST_PORTS]


def _tags(tags: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What tags say to us, and the labels that the others are."""
    ours: dict[str, str] = {}
    labels: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if equals and key in _OURS:
            ours[key] = value
        elif equals and key:
            labels[key] = value
        elif tag:
            labels[TAG + tag] = "true"
            if tag in _PROTOCOL_TAGS:
                ours.setdefault(PROTOCOL, tag)
    return ours, labels


_ON_80 = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.UNKNOWN})


def _whole(text: str | None, default: int, least: int, most: int) -> int:
    if not text or not (text.isascii() and text.isdigit() and len(text) <= 9):
        return default
    return int(text) if least <= int(text) <= most else default


def _endpoint(each: Registration, here: Here, *, node: Node | None, labels: Mapping[str, str], region: str) -> Endpoint:
    """Without what the registration's port and health add."""
    meta = (node.meta if node else None) or {}
    everything = {**dict(_metadata(each, node)), **labels}
    kept = sorted(everything.items(), key=lambda item: (item[0] not in labels, item[0]))[:MOST_LABELS]
    return Endpoint(
        address=each.address,
        labels=tuple(sorted(kept)),
        cluster=here.cluster,
        network=here.network,
        locality=labelled_locality({**meta, **labels}) or _locality(each, here, node, region),
    )


def _metadata(each: Registration, node: Node | None) -> Iterator[tuple[str, str]]:
    """Labels of where it runs; tags, which are nearer to the workload, win over them."""
    if node is not None:
        yield from (node.meta or {}).items()
        for key, value in (("name", node.name), ("class", node.node_class), ("pool", node.node_pool)):
            if value:
                yield f"nomad.node.{key}", value
    if each.datacenter:
        yield "nomad.datacenter", each.datacenter


def _locality(each: Registration, here: Here, node: Node | None, region: str) -> Locality:
    """Region: the node's, else the gateway's own (a Nomad region is one site), else Nomad's. Zone: the node's, else the datacenter."""
    said = {**((node.attributes if node else None) or {}), **((node.meta if node else None) or {})}
    wide = next((said[key] for key in _REGION if said.get(key)), "") or said.get(_AWS_ZONE, "")[:-1]
    wide = wide or here.locality.region or region
    zone = next((said[key] for key in _ZONE if said.get(key)), "")
    if not wide:
        return Locality(each.datacenter)
    if not zone and each.datacenter in (wide, here.locality.region):
        return here.locality if wide == here.locality.region else Locality(wide)  # the datacenter says no more than the region
    return Locality(wide, zone or each.datacenter, said.get(_SUBZONE, "") if zone or each.datacenter else "")
