"""Kubernetes' objects, the fields that a gateway reads and no others: a hundred thousand of them are kept. Pure.

Leaves are kept out of the garbage collector (`gc=False`): they refer to nothing that could refer back. Go prints an empty list or
mapping as `null` or leaves it out; both are None here.
"""

from __future__ import annotations

import msgspec

SERVICE_NAME = "kubernetes.io/service-name"
MULTICLUSTER_SERVICE_NAME = "multicluster.kubernetes.io/service-name"
SOURCE_CLUSTER = "multicluster.kubernetes.io/source-cluster"


class Object(msgspec.Struct, frozen=True, rename="camel"):
    """What is kept of every object's metadata."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    creation_timestamp: str | None = None

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServicePort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    target_port: int | str = 0
    node_port: int = 0


class ServiceSpec(msgspec.Struct, frozen=True, rename="camel"):
    type: str = "ClusterIP"
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    cluster_ips: tuple[str, ...] | None = msgspec.field(default=None, name="clusterIPs")
    ports: tuple[ServicePort, ...] | None = None
    external_name: str = ""
    external_traffic_policy: str = ""
    publish_not_ready_addresses: bool = False
    ip_families: tuple[str, ...] | None = None


class Ingress(msgspec.Struct, frozen=True, gc=False):
    """An address of a cloud's load balancer."""

    ip: str = ""
    hostname: str = ""


class LoadBalancer(msgspec.Struct, frozen=True):
    ingress: tuple[Ingress, ...] | None = None


class ServiceStatus(msgspec.Struct, frozen=True, rename="camel"):
    load_balancer: LoadBalancer = LoadBalancer()


class Service(msgspec.Struct, frozen=True):
    metadata: Object
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """None: not known."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Target(msgspec.Struct, frozen=True, gc=False):
    kind: str = ""
    name: str = ""
    namespace: str = ""


class SliceEndpoint(msgspec.Struct, frozen=True, rename="camel"):
    """topology: v1beta1's word for zone and node."""

    addresses: tuple[str, ...] | None = None
    conditions: Conditions = Conditions()
    target_ref: Target | None = None
    node_name: str | None = None
    zone: str | None = None
    topology: dict[str, str] | None = None
    hostname: str | None = None


class SlicePort(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """port None: every port, each on its own number."""

    name: str | None = None
    port: int | None = None
    protocol: str | None = None
    app_protocol: str | None = None


class EndpointSlice(msgspec.Struct, frozen=True, rename="camel"):
    """discovery.k8s.io, v1 and v1beta1 alike."""

    metadata: Object
    address_type: str = "IPv4"
    endpoints: tuple[SliceEndpoint, ...] | None = None
    ports: tuple[SlicePort, ...] | None = None


class PodSpec(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    service_account_name: str = ""
    node_name: str = ""


class Pod(msgspec.Struct, frozen=True):
    metadata: Object
    spec: PodSpec = PodSpec()


class NodeAddress(msgspec.Struct, frozen=True, gc=False):
    type: str
    address: str


class NodeCondition(msgspec.Struct, frozen=True, gc=False):
    """Without its heartbeat's time, so that a node is equal to itself five minutes later."""

    type: str
    status: str


class NodeStatus(msgspec.Struct, frozen=True):
    addresses: tuple[NodeAddress, ...] | None = None
    conditions: tuple[NodeCondition, ...] | None = None


class Node(msgspec.Struct, frozen=True):
    metadata: Object
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        return any(each.type == "Ready" and each.status == "True" for each in self.status.conditions or ())


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """metav1.Condition."""

    type: str
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    observed_generation: int = 0
    last_transition_time: str | None = None


class ExportStatus(msgspec.Struct, frozen=True):
    conditions: tuple[Condition, ...] | None = None


class Versioned(Object, frozen=True, rename="camel"):
    """Of an object whose status is written."""

    resource_version: str = ""
    generation: int = 0


class ServiceExport(msgspec.Struct, frozen=True):
    """multicluster.x-k8s.io: the Service of this name is offered to the cluster set."""

    metadata: Versioned
    status: ExportStatus = ExportStatus()


class ServiceImportSpec(msgspec.Struct, frozen=True):
    ports: tuple[ServicePort, ...] | None = None
    ips: tuple[str, ...] | None = None
    type: str = "ClusterSetIP"


class ServiceImport(msgspec.Struct, frozen=True):
    """multicluster.x-k8s.io: what another implementation of the cluster set offers here."""

    metadata: Object
    spec: ServiceImportSpec = ServiceImportSpec()
