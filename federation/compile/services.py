"""What documents say about services → discovery Services for the `static` source, and what the `dns` source is to resolve.

Theory of operation. A pure function of the documents and the Node. Several documents may speak of one hostname: a Kubernetes
Service comes first, then the oldest ServiceEntry (FIELD d15); the first one decides the ports, the others add endpoints and SANs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import msgspec

from discovery.model import Endpoint, Locality, Port, Resolution, Service
from discovery.resolving import DnsService, DnsTarget
from federation.compile.kubernetes import kubernetes_services
from federation.compile.names import visible
from federation.compile.status import Problem, Subject, left_out, warning
from federation.compile.workloads import Where, oldest_first, selects, workload_endpoint, workload_labels
from federation.resources import node as nodes
from federation.resources.document import Document
from federation.resources.resources import Resources
from federation.resources.service_entry import Location, ServiceEntry, WorkloadEntry


class Described(msgspec.Struct, frozen=True):
    """Everything the documents describe, each hostname once in each tuple, ordered by hostname. dns: services whose endpoints are
    names still to be resolved."""

    static: tuple[Service, ...] = ()
    dns: tuple[DnsService, ...] = ()
    problems: tuple[Problem, ...] = ()


def described(resources: Resources, node: Document[nodes.Node]) -> Described:
    """Raises nothing: what cannot be used is left out and is a Problem."""
    steps = describing(resources, node)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Described = end.value
            return result


def describing(resources: Resources, node: Document[nodes.Node]) -> Generator[None, None, Described]:
    """`described` in steps, one a document."""
    where = Where.of(node.spec)
    problems: list[Problem] = []
    static: list[tuple[Document[Any], Service]] = []
    dns: list[tuple[Document[Any], DnsService]] = []
    for pair in kubernetes_services(resources, where, node.spec.cluster_domain):
        static.append(pair)
        yield
    for document in oldest_first(resources.service_entries):
        if not visible(document.spec.export_to, document.namespace, node.namespace):
            text = f"exportTo does not name this gateway's namespace {node.namespace}; nothing here can reach these hosts"
            problems.append(left_out(subject_of(document), "spec.exportTo", "NotExported", text))
        elif document.spec.resolution is Resolution.STATIC:
            static += [(document, service) for service in _static(document, resources.workload_entries, where)]
        else:
            dns += [(document, each) for each in _dns(document, where)]
        yield
    for source in node.spec.sources:
        dns += [(node, _dns_of_node(service, where)) for service in source.dns.services] if source.dns else []
    return Described(static=_united(static, problems), dns=_first_of_each(dns, problems), problems=tuple(problems))


def subject_of(document: Document[Any]) -> Subject:
    return Subject(document.kind, document.namespace, document.name)


def _static(document: Document[ServiceEntry], entries: Iterable[Document[WorkloadEntry]], where: Where) -> list[Service]:
    spec = document.spec
    found = [
        workload_endpoint(each, spec.ports, where, labels=each.labels, namespace=document.namespace) for each in spec.endpoints
    ]
    if spec.workload_selector is not None:
        for entry in entries:
            labels = workload_labels(entry)
            if entry.namespace == document.namespace and entry.spec.address and selects(spec.workload_selector.labels, labels):
                found.append(workload_endpoint(entry.spec, spec.ports, where, labels=labels, namespace=entry.namespace))
    return [_service(document, host, tuple(found)) for host in spec.hosts]


def _service(document: Document[ServiceEntry], host: str, endpoints: tuple[Endpoint, ...]) -> Service:
    spec = document.spec
    return Service(
        hostname=host.lower(),
        namespace=document.namespace,
        ports=tuple(Port(port.number, port.name, port.protocol) for port in spec.ports),
        endpoints=endpoints,
        addresses=spec.addresses,
        labels=tuple(sorted(document.metadata.labels.items())),
        resolution=spec.resolution,
        external=spec.location is Location.MESH_EXTERNAL,
        subject_alt_names=spec.subject_alt_names,
        created=document.metadata.creation_timestamp,
    )


def _dns(document: Document[ServiceEntry], where: Where) -> list[DnsService]:
    """Every endpoint is a name (or an address, which resolves to itself); without endpoints the host itself is (FIELD d7)."""
    spec = document.spec
    found = []
    for host in spec.hosts:
        entries = spec.endpoints or (WorkloadEntry(address=host.lower()),)
        made = [workload_endpoint(each, spec.ports, where, labels=each.labels, namespace=document.namespace) for each in entries]
        targets = tuple(DnsTarget(each.address, endpoint=msgspec.structs.replace(each, address="")) for each in made)
        found.append(DnsService(_service(document, host, ()), targets))
    return found


def _dns_of_node(written: nodes.DnsService, where: Where) -> DnsService:
    locality = written.locality if written.locality != Locality() else where.locality
    ports = tuple((port.name, port.target_port or port.number) for port in written.ports)
    template = Endpoint("", ports=ports, cluster=where.cluster, network=where.network, locality=locality)
    names = written.names or (() if written.srv else (written.host.lower(),))
    targets = [DnsTarget(name, endpoint=template) for name in names]
    if written.srv:
        targets.append(DnsTarget(written.srv, srv=True, endpoint=template))
    service = Service(
        hostname=written.host.lower(),
        ports=tuple(Port(port.number, port.name, port.protocol) for port in written.ports),
        resolution=Resolution.DNS,
    )
    return DnsService(service, tuple(targets))


def _united(pairs: Iterable[tuple[Document[Any], Service]], problems: list[Problem]) -> tuple[Service, ...]:
    """One Service a hostname. Later ones add endpoints (for the ports that the first has) and SANs."""
    found: dict[str, tuple[Document[Any], Service]] = {}
    for document, service in pairs:
        first = found.get(service.hostname)
        if first is None:
            found[service.hostname] = (document, service)
            continue
        problems.append(_duplicate(document, first[0], service.hostname))
        known = {endpoint.address for endpoint in first[1].endpoints}
        added = tuple(endpoint for endpoint in service.endpoints if endpoint.address not in known)
        names = dict.fromkeys((*first[1].subject_alt_names, *service.subject_alt_names))
        merged = msgspec.structs.replace(first[1], endpoints=first[1].endpoints + added, subject_alt_names=tuple(names))
        found[service.hostname] = (first[0], merged)
    return tuple(found[hostname][1] for hostname in sorted(found))


def _first_of_each(pairs: Iterable[tuple[Document[Any], DnsService]], problems: list[Problem]) -> tuple[DnsService, ...]:
    """One description a hostname; later ones add names."""
    found: dict[str, tuple[Document[Any], DnsService]] = {}
    for document, each in pairs:
        hostname = each.service.hostname
        first = found.get(hostname)
        if first is None:
            found[hostname] = (document, each)
            continue
        problems.append(_duplicate(document, first[0], hostname))
        targets = tuple(dict.fromkeys((*first[1].targets, *each.targets)))
        found[hostname] = (first[0], msgspec.structs.replace(first[1], targets=targets))
    return tuple(found[hostname][1] for hostname in sorted(found))


def _duplicate(document: Document[Any], first: Document[Any], hostname: str) -> Problem:
    text = f"{hostname} is also described by {subject_of(first)}, which comes first: its ports hold, endpoints are joined"
    return warning(subject_of(document), "spec.hosts", "DuplicateHost", text)
