"""Everything that was written and could be read, by kind: what compile works from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from discovery.document import Origin
from federation.resources.destination_rule import DestinationRule
from federation.resources.document import Document
from federation.resources.external_service import ExternalService
from federation.resources.fedgate import Export, Peer, ServicePolicy
from federation.resources.gateway import Gateway
from federation.resources.kubernetes import EndpointSlice, Secret, Service
from federation.resources.message import Message
from federation.resources.node import Node
from federation.resources.service_entry import ServiceEntry, WorkloadEntry
from federation.resources.virtual_service import VirtualService
from federation.resources.workload_group import WorkloadGroup


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class Problem:
    """One thing wrong with one document (or, among the notes, worth knowing). path "" = the document itself."""

    file: str
    line: int
    kind: str
    name: str
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line} {self.kind}/{self.name}".rstrip("/ ")
        return f"{where} {self.path}: {self.message}" if self.path else f"{where}: {self.message}"

    @property
    def origin(self) -> Origin:
        return Origin(self.file, self.line)


@dataclasses.dataclass(frozen=True, slots=True)
class Resources:
    """Documents by kind, in the order read. A faulty document is in none of them and has at least one problem. What an
    ExternalService stands for is among the others, so `external_services` is for people only."""

    gateways: tuple[Document[Gateway], ...] = ()
    virtual_services: tuple[Document[VirtualService], ...] = ()
    destination_rules: tuple[Document[DestinationRule], ...] = ()
    service_entries: tuple[Document[ServiceEntry], ...] = ()
    workload_entries: tuple[Document[WorkloadEntry], ...] = ()
    workload_groups: tuple[Document[WorkloadGroup], ...] = ()
    services: tuple[Document[Service], ...] = ()
    endpoint_slices: tuple[Document[EndpointSlice], ...] = ()
    secrets: tuple[Document[Secret], ...] = ()
    nodes: tuple[Document[Node], ...] = ()
    peers: tuple[Document[Peer], ...] = ()
    exports: tuple[Document[Export], ...] = ()
    service_policies: tuple[Document[ServicePolicy], ...] = ()
    external_services: tuple[Document[ExternalService], ...] = ()
    notes: tuple[Problem, ...] = ()
    problems: tuple[Problem, ...] = ()

    def every(self) -> Iterator[Document[Message]]:
        """All documents that were written, kind by kind; not what an ExternalService stands for."""
        for each in dataclasses.fields(self):
            if each.name not in ("notes", "problems"):
                yield from (document for document in getattr(self, each.name) if not document.owner[0])
