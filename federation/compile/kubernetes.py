"""Kubernetes Services and EndpointSlices in files → discovery Services.

Theory of operation. The hostname is `{service}.{namespace}.svc.{clusterDomain}`. Endpoints come from the Service's EndpointSlices
(one address in several slices has the ports of all), and from WorkloadEntries that its selector picks, as in Istio. A slice has no
Pods' labels, so its own stand for its endpoints: a slice per version makes subsets. An endpoint that is not ready is there but
unhealthy, one that terminates drains; that keeps "healthy of total" true. A Service of both families uses IPv4: the same Pod
would count twice. One of type ExternalName is another name: of a Service here, whose endpoints it has, else of a DNS name to resolve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from discovery.model import HOSTNAME_LABEL, Endpoint, Health, Locality, Port, Protocol, Resolution, Service
from discovery.reading import labelled_locality, port_protocol
from discovery.resolving import DnsService, DnsTarget
from federation.compile.workloads import Where, selects, workload_endpoint, workload_labels
from federation.resources import kubernetes as kube
from federation.resources.document import Document
from federation.resources.resources import Resources
from federation.resources.service_entry import ServicePort, WorkloadEntry

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
_BOOKKEEPING = ("kubernetes.io/", "endpointslice.kubernetes.io/", "endpoints.kubernetes.io/")  # labels that are not a workload's


def kubernetes_services(resources: Resources, where: Where, cluster_domain: str) -> Iterator[tuple[Document[Any], Service]]:
    """Every Service document but the ExternalNames with what it describes, one by one. A Service without EndpointSlices simply has no
    endpoints."""
    slices: dict[tuple[str, str], list[Document[kube.EndpointSlice]]] = {}
    for document in resources.endpoint_slices:
        owner = document.metadata.labels.get(SERVICE_NAME_LABEL, "")
        slices.setdefault((document.namespace, owner), []).append(document)
    workloads: dict[str, list[Document[WorkloadEntry]]] = {}
    for entry in resources.workload_entries:
        workloads.setdefault(entry.namespace, []).append(entry)
    for service in resources.services:
        if service.spec.is_external_name:
            continue
        own = slices.get((service.namespace, service.name), [])
        endpoints = _slice_endpoints(service.spec, own, where)
        endpoints += _selected_workloads(service, workloads.get(service.namespace, []), where)
        yield service, _service(service, endpoints, cluster_domain)


def external_names(
    resources: Resources, where: Where, cluster_domain: str, known: Mapping[str, Service]
) -> Iterator[tuple[Document[Any], Service | DnsService]]:
    """Every Service document of type ExternalName. known: the other Services by hostname. Of another ExternalName it is no other name:
    that could go in circles."""
    for document in resources.services:
        if not document.spec.is_external_name:
            continue
        service = _service(document, [], cluster_domain)
        name = document.spec.external_name.rstrip(".").lower()
        target = known.get(name)
        if target is not None:
            ports = service.ports or target.ports
            endpoints = tuple(_renamed(endpoint, ports, target) for endpoint in target.endpoints)
            yield document, msgspec.structs.replace(service, ports=ports, endpoints=endpoints)
            continue
        pairs = tuple((port.name, port.target_port or port.port) for port in document.spec.ports)
        listening = tuple((port, number) for port, number in pairs if isinstance(number, int))
        made = Endpoint("", ports=listening, cluster=where.cluster, network=where.network, locality=where.locality)
        outside = msgspec.structs.replace(service, resolution=Resolution.DNS, external=True)
        yield document, DnsService(outside, (DnsTarget(name, endpoint=made),))


def _renamed(endpoint: Endpoint, ports: Iterable[Port], target: Service) -> Endpoint:
    """The endpoint under the other name's ports: a number is the same port."""
    names = {port.number: port.name for port in target.ports}
    pairs = [(port.name, endpoint.port(names.get(port.number, port.name))) for port in ports]
    return msgspec.structs.replace(endpoint, ports=tuple((name, number) for name, number in pairs if number))


def _service(document: Document[kube.Service], endpoints: list[Endpoint], cluster_domain: str) -> Service:
    spec = document.spec
    headless = spec.cluster_ip == "None"
    return Service(
        hostname=f"{document.name}.{document.namespace}.svc.{cluster_domain}".lower(),
        namespace=document.namespace,
        ports=tuple(_port(port) for port in spec.ports),
        endpoints=tuple(endpoints),
        addresses=() if headless or not spec.cluster_ip else (spec.cluster_ip,),
        labels=tuple(sorted(document.metadata.labels.items())),
        headless=headless,
        created=document.metadata.creation_timestamp,
    )


def _port(port: kube.ServicePort) -> Port:
    if port.protocol is not kube.TransportProtocol.TCP:
        return Port(port.port, port.name, Protocol.UDP)
    return Port(port.port, port.name, port_protocol(port.name, port.app_protocol, port.port))


def _slice_endpoints(service: kube.Service, slices: Iterable[Document[kube.EndpointSlice]], where: Where) -> list[Endpoint]:
    ordered = sorted(slices, key=lambda each: each.name)
    families = {each.spec.address_type for each in ordered}
    wanted = kube.AddressType.IPV4 if kube.AddressType.IPV4 in families else kube.AddressType.IPV6
    numbers = {port.name: port.port for port in service.ports}
    found: dict[str, Endpoint] = {}
    for document in ordered:
        if document.spec.address_type is not wanted:
            continue
        labels = {k: v for k, v in document.metadata.labels.items() if not k.startswith(_BOOKKEEPING)}
        ports = tuple((port.name, port.port or numbers.get(port.name, 0)) for port in document.spec.ports)
        for endpoint in document.spec.endpoints:
            for address in endpoint.addresses[:1]:  # the others are the same Pod's (Kubernetes: "consumers should use the first")
                made = _endpoint(address, endpoint, ports, labels, where, ready=service.publish_not_ready_addresses)
                found[address] = _joined(found[address], made) if address in found else made
    return list(found.values())


def _endpoint(
    address: str,
    written: kube.SliceEndpoint,
    ports: tuple[tuple[str, int], ...],
    labels: Mapping[str, str],
    where: Where,
    *,
    ready: bool,
) -> Endpoint:
    if written.hostname:
        labels = {**labels, HOSTNAME_LABEL: written.hostname}
    zoned = Locality(where.locality.region, written.zone) if written.zone and where.locality.region else where.locality
    return Endpoint(
        address=address,
        ports=tuple(pair for pair in ports if pair[1]),
        labels=tuple(sorted(labels.items())),
        cluster=where.cluster,
        network=where.network,
        locality=labelled_locality(labels) or zoned,
        health=Health.HEALTHY if ready else _health(written.conditions),
    )


def _health(conditions: kube.EndpointConditions) -> Health:
    """Kubernetes: unknown is ready, serving follows ready; what terminates and still serves may finish and gets nothing new."""
    ready = conditions.ready is not False
    serving = ready if conditions.serving is None else conditions.serving
    if conditions.terminating:
        return Health.DRAINING if serving else Health.UNHEALTHY
    return Health.HEALTHY if ready else Health.UNHEALTHY


def _joined(first: Endpoint, second: Endpoint) -> Endpoint:
    known = {name for name, _ in first.ports}
    return Endpoint(
        address=first.address,
        ports=(*first.ports, *(pair for pair in second.ports if pair[0] not in known)),
        labels=tuple(sorted({**dict(second.labels), **dict(first.labels)}.items())),
        cluster=first.cluster,
        network=first.network,
        locality=first.locality,
        health=first.health,
    )


def _selected_workloads(
    service: Document[kube.Service], entries: Iterable[Document[WorkloadEntry]], where: Where
) -> list[Endpoint]:
    ports = [
        ServicePort.model_construct(
            number=port.port,
            name=port.name,
            protocol=Protocol.UNKNOWN,
            target_port=port.target_port if isinstance(port.target_port, int) else 0,
        )
        for port in service.spec.ports
    ]
    found = []
    for entry in entries:
        labels = workload_labels(entry)
        if entry.spec.address and selects(service.spec.selector, labels):
            found.append(workload_endpoint(entry.spec, ports, where, labels=labels, namespace=entry.namespace))
    return found
