"""EndpointSlices, Pods and Nodes → Endpoints. Pure.

Where a workload is: its own locality label, else its node's labels, else the slice's zone in our own region (FIELD i8). What it is: its
Pod's labels and service account. Whether it takes traffic: its conditions, with Kubernetes' own rule that unknown is ready and serving
follows ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from discovery.here import Here
from discovery.kubernetes.objects import (
    SOURCE_CLUSTER,
    Conditions,
    EndpointSlice,
    Node,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    Target,
)
from discovery.model import HOSTNAME_LABEL, Endpoint, Health, Locality
from discovery.reading import labelled_locality

_REGION = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_ZONE = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
_SUBZONE = "topology.istio.io/subzone"
_NETWORK = "topology.istio.io/network"
_NOT_BALANCED = "node.kubernetes.io/exclude-from-external-load-balancers"
# Labels that controllers write and no subset names; they differ from Pod to Pod and would only cost memory.
_BOOKKEEPING = frozenset({"controller-revision-hash", "pod-template-generation"})
_NO_LABELS: Mapping[str, str] = {}


class Surroundings(msgspec.Struct, frozen=True):
    """What slices point at: Pods by `namespace/name`, Nodes by name."""

    here: Here
    pods: Mapping[str, Pod]
    nodes: Mapping[str, Node]


def slice_endpoints(
    found: EndpointSlice, ports: Iterable[ServicePort], *, ready: bool, around: Surroundings
) -> tuple[Endpoint, ...]:
    """A slice's endpoints. ports: the service's, for a slice that leaves its numbers open. ready: taken as ready whatever it says."""
    known = {port.name: port.port for port in ports}
    offered = [(port.name or "", port.port or known.get(port.name or "", 0)) for port in found.ports or ()]
    served = tuple(pair for pair in offered if pair[1])
    cluster = (found.metadata.labels or _NO_LABELS).get(SOURCE_CLUSTER, "")
    made = []
    alike: dict[Any, Any] = {}  # equal labels and localities are one object: Pods of a service mostly differ in neither
    for each in found.endpoints or ():
        if each.addresses:  # the others are the same Pod's: consumers use the first (EndpointSlice's own words)
            made.append(_endpoint(each, served, found.metadata.namespace, around, ready=ready, cluster=cluster, alike=alike))
    return tuple(made)


def _endpoint(
    found: SliceEndpoint,
    ports: tuple[tuple[str, int], ...],
    namespace: str,
    around: Surroundings,
    *,
    ready: bool,
    cluster: str,
    alike: dict[Any, Any],
) -> Endpoint:
    pod = around.pods.get(pod_key(found.target_ref, namespace)) if found.target_ref else None
    labels = (pod.metadata.labels if pod else None) or _NO_LABELS
    here = around.here
    if found.hostname:
        labels = {**labels, HOSTNAME_LABEL: found.hostname}
    sorted_labels = tuple(sorted(pair for pair in labels.items() if pair[0] not in _BOOKKEEPING))
    locality = labelled_locality(labels) or _where(found, around)
    return Endpoint(
        address=(found.addresses or ("",))[0],
        ports=ports,
        labels=alike.setdefault(sorted_labels, sorted_labels),
        cluster=cluster or here.cluster,
        network=labels.get(_NETWORK) or here.network,
        locality=alike.setdefault(locality, locality),
        health=Health.HEALTHY if ready else health(found.conditions),
        identity=f"{pod.metadata.namespace}/{pod.spec.service_account_name}" if pod and pod.spec.service_account_name else "",
    )


def pod_key(target: Target | None, namespace: str) -> str:
    """Of the Pod that an endpoint is; "" if it is none."""
    if target is None or target.kind != "Pod":
        return ""
    return f"{target.namespace or namespace}/{target.name}"


def node_of(found: SliceEndpoint) -> str:
    """The Node that an endpoint runs on; "" if it is not said."""
    return found.node_name or (found.topology or _NO_LABELS).get("kubernetes.io/hostname", "")


def _where(found: SliceEndpoint, around: Surroundings) -> Locality:
    node = around.nodes.get(node_of(found))
    if node is not None:
        return node_locality(node, around.here)
    topology = found.topology or _NO_LABELS
    zone = found.zone or _first(topology, _ZONE)
    return _placed(_first(topology, _REGION), zone, "", around.here)


def node_locality(node: Node, here: Here) -> Locality:
    labels = node.metadata.labels or _NO_LABELS
    return labelled_locality(labels) or _placed(_first(labels, _REGION), _first(labels, _ZONE), labels.get(_SUBZONE, ""), here)


def _placed(region: str, zone: str, subzone: str, here: Here) -> Locality:
    """A zone is one of our own region when nobody says of which; a subzone without a zone is nothing."""
    if not zone:
        return Locality(region) if region else here.locality
    region = region or here.locality.region
    return Locality(region, zone, subzone) if region else here.locality


def _first(labels: Mapping[str, str], names: Iterable[str]) -> str:
    return next((labels[name] for name in names if labels.get(name)), "")


def health(conditions: Conditions) -> Health:
    """What terminates and still serves may finish and gets nothing new."""
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    if conditions.terminating:
        return Health.DRAINING if serving else Health.UNHEALTHY
    return Health.HEALTHY if ready else Health.UNHEALTHY


def joined(parts: Iterable[tuple[Endpoint, ...]]) -> tuple[Endpoint, ...]:
    """One endpoint an address, with the ports of all its slices, ordered by address.

    A service of which nothing is ready, but something still serves while it terminates, is served by that: a rollout of a
    single Pod is no outage (as kube-proxy does). It counts as degraded, so anything healthy anywhere goes first."""
    found: dict[str, Endpoint] = {}
    for part in parts:
        for endpoint in part:
            first = found.get(endpoint.address)
            found[endpoint.address] = endpoint if first is None else _both(first, endpoint)
    if found and not any(endpoint.health is Health.HEALTHY for endpoint in found.values()):
        found = {address: _last_resort(endpoint) for address, endpoint in found.items()}
    return tuple(found[address] for address in sorted(found))


def _both(first: Endpoint, second: Endpoint) -> Endpoint:
    known = {name for name, _ in first.ports}
    more = tuple(pair for pair in second.ports if pair[0] not in known)
    better = second.health if second.health is Health.HEALTHY else first.health
    return msgspec.structs.replace(first, ports=first.ports + more, labels=first.labels or second.labels, health=better)


def _last_resort(endpoint: Endpoint) -> Endpoint:
    return msgspec.structs.replace(endpoint, health=Health.DEGRADED) if endpoint.health is Health.DRAINING else endpoint


def node_endpoints(
    service: Service, behind: tuple[Endpoint, ...], hosts: frozenset[str], around: Surroundings
) -> tuple[Endpoint, ...]:
    """The service by its node ports: one endpoint a Node that can take traffic. behind: the Pods. hosts: the Nodes with a ready one of
    them, the only ones that answer under externalTrafficPolicy Local. Without a Pod that takes traffic, no Node does."""
    ports = tuple((port.name, port.node_port) for port in service.spec.ports or () if port.node_port)
    if not ports:
        return ()
    local = service.spec.external_traffic_policy == "Local"
    state = Health.HEALTHY if any(endpoint.health.usable for endpoint in behind) else Health.UNHEALTHY
    made = []
    for node in around.nodes.values():
        address = _address(node, (service.spec.ip_families or ("IPv4",))[0])
        if not address or not node.ready or _NOT_BALANCED in (node.metadata.labels or _NO_LABELS):
            continue
        if local and node.metadata.name not in hosts:
            continue
        here = around.here
        locality = node_locality(node, here)
        made.append(Endpoint(address, ports=ports, cluster=here.cluster, network=here.network, locality=locality, health=state))
    return tuple(sorted(made, key=lambda endpoint: endpoint.address))


def _address(node: Node, family: str) -> str:
    """The internal one: a gateway that reaches Nodes stands in their network."""
    for kind in ("InternalIP", "ExternalIP"):
        for each in node.status.addresses or ():
            if each.type == kind and (":" in each.address) == (family == "IPv6"):
                return each.address
    return ""
