"""What Nomad's answers mean: registrations, checks of allocations and nodes → Services. Pure; sources/nomad.py asks.

Nomad's services have no metadata but tags, so what a gateway must know stands there. `key=value` is a label; a few keys say more:
`fedgate-port=8080` the number clients use (80 otherwise; a Nomad service has only the ports of its allocations), `fedgate-port-name=admin`,
`fedgate-protocol=grpc`, `fedgate-weight=3`. A tag without `=` is a label `tag.fedgate.io/<tag>: "true"`. Registrations of one name in one
allocation whose ports have different names are one endpoint with several ports.

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
    ordered = sorted(registrations, key=lambda each: (each.namespace, each.address, each.port, each.id))
    ports: dict[str, Port] = {}
    notes: list[str] = []
    grouped: dict[tuple[str, str], list[Endpoint]] = {}
    for each in ordered:
        tags, labels = _tags(each.tags or ())
        port = _port(tags, notes)
        known = ports.setdefault(port.name, port)
        if known != port:
            notes.append(
                f"instances disagree about port `{port.name}`: {known.number} {known.protocol.value}, "
                f"{port.number} {port.protocol.value}; give all the same {PORT} and {PROTOCOL} tags (the first by address counts)"
            )
        endpoint = _endpoint(each, here, node=nodes.get(each.node_id), labels=labels, region=region)
        state = allocations.get(each.alloc_id, Seen())
        health = state.health(each.service_name)
        changed = msgspec.structs.replace(
            endpoint,
            ports=((port.name, each.port),),
            weight=_whole(tags.get(WEIGHT), 1, 1, 10_000),
            health=health,
            healthy=int(health.usable),
        )
        _join(grouped.setdefault((each.address, each.alloc_id or each.id), []), changed)
    return Service(
        hostname=hostname,
        namespace=ordered[0].namespace if ordered else "",
        ports=tuple(sorted(ports.values())),
        endpoints=tuple(endpoint for group in grouped.values() for endpoint in group),
        notes=tuple(dict.fromkeys(notes)),
    )


def _join(group: list[Endpoint], new: Endpoint) -> None:
    """Put its port to the endpoint of the same allocation that has none of that name."""
    for index, endpoint in enumerate(group):
        if endpoint.port(new.ports[0][0]) is None:
            group[index] = msgspec.structs.replace(endpoint, ports=tuple(sorted((*endpoint.ports, *new.ports))))
            return
    group.append(new)


def _tags(tags: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What tags say to us, and the labels that the others are."""
    ours: dict[str, str] = {}
    labels: dict[str, str] = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if key in _OURS:
            ours[key] = value
        elif equals and key:
            labels[key] = value
        elif tag:
            labels[TAG + tag] = "true"
    return ours, labels


def _port(tags: Mapping[str, str], notes: list[str]) -> Port:
    said, name = tags.get(PROTOCOL, ""), tags.get(PORT_NAME, "")
    protocol = port_protocol(name, said, 0)
    if said and protocol is Protocol.UNKNOWN:
        notes.append(f"the tag {PROTOCOL}={said[:40]} names no protocol; write for example {PROTOCOL}=http")
    number = _whole(tags.get(PORT), 0, 1, 65535)
    if not number and PORT in tags:
        notes.append(f"the tag {PORT}={tags[PORT][:40]} is no port number; write for example {PORT}=8080")
    if not number and protocol not in _GUESSED:
        notes.append(
            f"clients reach this {protocol.value} service on port {DEFAULT_PORT}, as no tag says otherwise; write {PORT}=NUMBER"
        )
    return Port(number or DEFAULT_PORT, name or protocol.value.lower().replace("unknown", "http"), protocol)


_GUESSED = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.UNKNOWN})


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
