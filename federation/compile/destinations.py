"""What a destination of a VirtualService means: the backend that it names, and what is wrong with it.

Theory of operation. A table belongs to one gateway and one port; whatever names destinations (HTTP, TLS and TCP routes, mirrors) is made
for a Table, which collects the backends that are needed as References, so that the backends stage makes exactly those. The only thing
that depends on the catalog is a destination's port when it is not written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from discovery.model import Service
from federation.compile.names import backend_name, resolve
from federation.compile.scope import Rule, Scope, namespace_of
from federation.compile.services import subject_of
from federation.compile.status import Problem, Subject, problem, warning
from federation.resources.document import Document
from federation.resources.virtual_service import Destination, VirtualService


class Reference(msgspec.Struct, frozen=True, order=True, gc=False):
    """A backend that something needs."""

    host: str
    port: int
    subset: str = ""

    @property
    def backend(self) -> str:
        return backend_name(self.host, self.port, self.subset)


@dataclass
class Table:
    """Where routes are made for: one gateway (`namespace/name` or `mesh`) and one port of it. Collects what the routes need and
    what is wrong with them."""

    gateway: str
    port: int
    scope: Scope
    services: Mapping[str, Service]
    labels: Mapping[str, str]  # of the Node: what sourceLabels of gateway `mesh` are compared with
    fedgate: bool
    outage: str = "requests are answered 503"  # what a destination that leads nowhere means
    references: set[Reference] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


def reference(destination: Destination, document: Document[VirtualService], table: Table, path: str, outage: str = "") -> Reference:
    """The backend, noted in the table. It is named even when it does not exist: it will have no endpoints, and the
    status says why. outage: what that means, if not what it means for the table's routes."""
    subject = subject_of(document)
    host = resolve(destination.host, document.namespace, table.scope.cluster_domain)
    service = table.services.get(host)
    namespace = service.namespace if service else namespace_of(host, table.scope.cluster_domain)
    rule = table.scope.rule(host, namespace) if destination.subset else None
    table.problems += _missing(destination, host, service, rule, subject, path, outage or table.outage)
    if service is not None and destination.port is None and len(service.ports) > 1:
        table.problems.append(_unclear(host, service, table.port, subject, f"{path}.port"))
    if destination.port is not None:
        port = destination.port.number
    elif service is not None and len(service.ports) == 1:
        port = service.ports[0].number
    else:
        port = table.port
    made = Reference(host, port, destination.subset)
    table.references.add(made)
    return made


def _missing(
    destination: Destination, host: str, service: Service | None, rule: Rule | None, subject: Subject, path: str, outage: str
) -> Iterable[Problem]:
    if service is None:
        text = f"no source knows a service {host}; {outage} until one does"
        yield problem(subject, f"{path}.host", "BackendNotFound", text)
        return
    ports = ", ".join(str(port.number) for port in service.ports)
    if destination.port is not None and service.port(destination.port.number) is None:
        text = f"{host} has no port {destination.port.number}; it has {ports or 'none'}"
        yield problem(subject, f"{path}.port", "PortNotFound", text)
    if destination.subset and (rule is None or destination.subset not in rule.subsets):
        text = f"no DestinationRule for {host} has a subset {destination.subset!r}; {outage} until one does"
        yield problem(subject, f"{path}.subset", "SubsetNotFound", text)


def _unclear(host: str, service: Service, port: int, subject: Subject, path: str) -> Problem:
    """IST0112: only a warning where the listener's own port happens to be one of the service's."""
    ports = ", ".join(str(each.number) for each in service.ports)
    if service.port(port) is not None:
        text = f"{host} has several ports ({ports}); {port} is taken, the listener's: write which one is meant (IST0112)"
        return warning(subject, path, "PortRequired", text)
    return problem(subject, path, "PortRequired", f"{host} has several ports ({ports}); write which one is meant (IST0112)")
