"""Workloads as documents name them → discovery Endpoints: localities, ports, labels, and which documents come first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from discovery.model import Endpoint, Locality
from discovery.reading import labelled_locality
from federation.resources.document import Document
from federation.resources.message import Message
from federation.resources.node import Node
from federation.resources.service_entry import ServicePort, WorkloadEntry

UNIX = "unix://"

M = TypeVar("M", bound=Message)


class Where(msgspec.Struct, frozen=True):
    """What an endpoint of this gateway's own documents has when it says nothing itself."""

    cluster: str
    network: str
    locality: Locality

    @classmethod
    def of(cls, node: Node) -> Where:
        return cls(node.cluster, node.network or node.cluster, node.locality)


def oldest_first(documents: Iterable[Document[M]]) -> list[Document[M]]:
    """Istio's order of conflict: creation time, then name, then namespace; a document without a time is the youngest."""
    return sorted(documents, key=lambda each: (each.metadata.creation_timestamp or "~", each.name, each.namespace))


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether every label of the selector is there. An empty selector selects nothing."""
    return bool(selector) and selector.items() <= labels.items()


def workload_labels(document: Document[WorkloadEntry]) -> dict[str, str]:
    """Of the workload: its own before its document's (Istio joins both)."""
    return {**document.metadata.labels, **document.spec.labels}


def workload_endpoint(
    entry: WorkloadEntry,
    ports: Iterable[ServicePort],
    where: Where,
    *,
    labels: Mapping[str, str],
    namespace: str,
    address: str = "",
) -> Endpoint:
    """One address of a service with these ports. address: in place of the entry's own (a service whose host is itself resolved)."""
    address = address or entry.address
    unix = address.startswith(UNIX)
    numbers = tuple((port.name, 0 if unix else entry.ports.get(port.name) or port.target_port or port.number) for port in ports)
    written = entry.locality if entry.locality != Locality() else where.locality
    return Endpoint(
        address=address.removeprefix(UNIX),
        ports=numbers,
        labels=tuple(sorted(labels.items())),
        cluster=where.cluster,
        network=entry.network or where.network,
        locality=labelled_locality(labels) or written,
        weight=entry.weight or 1,
        identity=f"{namespace}/{entry.service_account}" if entry.service_account else "",
    )
