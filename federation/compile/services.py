"""What documents say about services → discovery Services for the `static` source, and what the `dns` source is to resolve.

Theory of operation. A pure function of the documents and the Node. Several documents may speak of one hostname: a Kubernetes
Service comes first, then the oldest ServiceEntry (FIELD d15); the first one decides the ports, the others add endpoints and SANs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import Any

import msgspec

from discovery.model import Endpoint, Locality, Port, Resolution, Service
from discovery.resolving import DnsService, DnsTarget
from federation.compile.kubernetes import external_names, kubernetes_services
from federation.compile.names import visible
from federation.compile.status import Problem, Subject, left_out, warning
from federation.compile.workloads import Where, oldest_first, selects, workload_endpoint, workload_labels
from federation.resources import node as nodes
from federation.resources.checks import is_ip
from federation.resources.document import Document
from federation.resources.resources import Resources
from federation.resources.service_entry import Location, ServiceEntry, ServicePort, WorkloadEntry


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
    own = {service.hostname: service for _, service in static}
    for document, each in external_names(resources, where, node.spec.cluster_domain, own):
        if isinstance(each, DnsService):
            dns.append((document, each))
        else:
            static.append((document, each))
    for document in oldest_first(resources.service_entries):
        if not visible(document.spec.export_to, document.namespace, node.namespace):
            text = f"exportTo does not name this gateway's namespace {node.namespace}; nothing here can reach these hosts"
            problems.append(left_out(subject_of(document), "spec.exportTo", "NotExported", text))
        elif document.spec.resolution in (Resolution.DNS, Resolution.DNS_ROUND_ROBIN):
            dns += [(document, each) for each in _dns(document, resources.workload_entries, where, problems)]
        else:
            static += [(document, each) for each in _static(document, resources.workload_entries, where, problems)]
        yield
    for source in node.spec.sources:
        dns += [(node, _dns_of_node(service, where)) for service in source.dns.services] if source.dns else []
    return Described(static=_united(static, problems), dns=_first_of_each(dns, problems), problems=tuple(problems))


def subject_of(document: Document[Any]) -> Subject:
    """Of a document that another one stands for, that one: it is what can be changed."""
    kind, name = document.owner if document.owner[0] else (document.kind, document.name)
    return Subject(kind, document.namespace, name)


def _static(
    document: Document[ServiceEntry], entries: Iterable[Document[WorkloadEntry]], where: Where, problems: list[Problem]
) -> list[Service]:
    """Resolution STATIC; NONE and DYNAMIC_DNS list nothing."""
    endpoints: tuple[Endpoint, ...] = ()
    if document.spec.resolution is Resolution.STATIC:
        chosen = _workloads(document, entries, problems)
        endpoints = tuple(workload_endpoint(each.spec, document.spec.ports, where, **each.more) for each in chosen)
    return [_service(document, host, endpoints) for host in document.spec.hosts]


class _Workload(msgspec.Struct, frozen=True):
    """One that a ServiceEntry has, written in it or selected."""

    spec: WorkloadEntry
    labels: Mapping[str, str]
    namespace: str

    @property
    def more(self) -> dict[str, Any]:
        return {"labels": self.labels, "namespace": self.namespace}


def _workloads(
    document: Document[ServiceEntry], entries: Iterable[Document[WorkloadEntry]], problems: list[Problem]
) -> list[_Workload]:
    """Its endpoints, or the WorkloadEntries of its namespace that it selects. Those that it cannot have are left out, and said."""
    spec = document.spec
    if spec.workload_selector is None:
        return [_Workload(each, each.labels, document.namespace) for each in spec.endpoints if each.address]
    found: list[_Workload] = []
    for entry in entries:
        labels, address = workload_labels(entry), entry.spec.address
        if entry.namespace != document.namespace or not address or not selects(spec.workload_selector.labels, labels):
            continue
        path = f"resolution {spec.resolution.value} of {subject_of(document)}"
        if spec.resolution is Resolution.STATIC and not entry.spec.is_unix and not is_ip(address):
            text = f"{address} is a name, and {path} takes addresses only; write an IP, or resolution DNS there"
            problems.append(left_out(subject_of(entry), "spec.address", "NotAnAddress", text))
        elif spec.resolution is not Resolution.STATIC and entry.spec.is_unix:
            text = f"a unix socket is nothing to look up, and {path} does; write resolution STATIC there"
            problems.append(left_out(subject_of(entry), "spec.address", "NotAName", text))
        elif found and spec.resolution is Resolution.DNS_ROUND_ROBIN:
            text = (
                f"{path} takes one workload, which is {found[0].spec.address}; narrow its selector, or write resolution DNS there"
            )
            problems.append(left_out(subject_of(entry), "spec.address", "OneEndpointOnly", text))
        else:
            found.append(_Workload(entry.spec, labels, entry.namespace))
    return found


def _service(document: Document[ServiceEntry], host: str, endpoints: tuple[Endpoint, ...]) -> Service:
    spec = document.spec
    return Service(
        hostname=host.lower(),
        namespace=document.namespace,
        ports=tuple(Port(port.number, port.name, port.protocol, _target(port, spec.resolution)) for port in spec.ports),
        endpoints=endpoints,
        addresses=spec.addresses,
        labels=tuple(sorted(document.metadata.labels.items())),
        resolution=spec.resolution,
        external=spec.location is Location.MESH_EXTERNAL,
        subject_alt_names=spec.subject_alt_names,
        created=document.metadata.creation_timestamp,
    )


def _target(port: ServicePort, resolution: Resolution) -> int:
    """Where listed endpoints listen, they say themselves."""
    return port.target_port if resolution in (Resolution.NONE, Resolution.DYNAMIC_DNS) and port.target_port != port.number else 0


def _dns(
    document: Document[ServiceEntry], entries: Iterable[Document[WorkloadEntry]], where: Where, problems: list[Problem]
) -> list[DnsService]:
    """Every endpoint is a name (or an address, which resolves to itself); without endpoints the host itself is (FIELD d7)."""
    spec = document.spec
    workloads = _workloads(document, entries, problems)
    found = []
    for host in spec.hosts:
        chosen = workloads
        if not spec.endpoints and spec.workload_selector is None:
            chosen = [_Workload(WorkloadEntry(address=host.lower()), {}, document.namespace)]
        made = [workload_endpoint(each.spec, spec.ports, where, **each.more) for each in chosen]
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
