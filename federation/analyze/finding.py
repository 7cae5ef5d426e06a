"""A finding, and the view of all documents that rules look at.

Pure. Rules see what compile sees (its scope and its effective policies), so that what they say is about what would happen, not about
what is written in one place.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from discovery.document import Origin
from discovery.model import Service
from federation.compile.inputs import Inputs
from federation.compile.names import most_specific, resolve
from federation.compile.scope import Scope, scope
from federation.resources.document import Document
from federation.resources.virtual_service import Destination, TCPRoute, TLSRoute, VirtualService


class Level(enum.Enum):
    ERROR = "error"  # something will not work
    WARNING = "warning"  # something works otherwise than its author may think
    INFO = "info"  # something worth knowing


class Finding(msgspec.Struct, frozen=True):
    """code: Istio's (IST…) where the finding is theirs, else ours (FG…). message: what, why, what to do. origin: of the document; path:
    where in it, "" = all of it."""

    code: str
    level: Level
    kind: str
    name: str
    message: str
    origin: Origin
    namespace: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.origin} {self.kind}/{self.name} {self.level.value} {self.code}: {self.text}"

    @property
    def text(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True)
class View:
    """Everything a rule may look at."""

    inputs: Inputs
    scope: Scope

    @classmethod
    def of(cls, inputs: Inputs) -> View:
        return cls(inputs, scope(inputs))

    @property
    def services(self) -> Mapping[str, Service]:
        return self.inputs.services

    def service(self, host: str) -> Service | None:
        """The service a full name means: its own, or the closest wildcard's."""
        found = self.services.get(host)
        if found is None:
            pattern = most_specific((name for name in self.services if name.startswith("*")), host)
            found = self.services[pattern] if pattern else None
        return found

    def destinations(self) -> Iterator[tuple[Document[VirtualService], str, Destination, str]]:
        """(VirtualService, path, destination, its full host) of every destination of every VirtualService."""
        for document in self.inputs.resources.virtual_services:
            for path, destination in _destinations(document.spec):
                yield document, path, destination, resolve(destination.host, document.namespace, self.scope.cluster_domain)


def _destinations(spec: VirtualService) -> Iterator[tuple[str, Destination]]:
    """Of every route and mirror, with the path to it."""
    for index, http in enumerate(spec.http):
        for place, split in enumerate(http.route):
            yield f"spec.http[{index}].route[{place}].destination", split.destination
        for name, mirror, _ in http.mirrored:
            yield f"spec.http[{index}].{name}", mirror
    relays: tuple[tuple[str, Sequence[TLSRoute | TCPRoute]], ...] = (("tls", spec.tls), ("tcp", spec.tcp))
    for field, routes in relays:
        for index, route in enumerate(routes):
            for place, each in enumerate(route.route):
                yield f"spec.{field}[{index}].route[{place}].destination", each.destination


def about(document: Document[Any], code: str, level: Level, message: str, path: str = "") -> Finding:
    return Finding(code, level, document.kind, document.name, message, document.origin, document.namespace, path)
