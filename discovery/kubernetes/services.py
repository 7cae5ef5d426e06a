"""Kubernetes Services → discovery Services, by the addresses that the gateway can reach. Pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from discovery.here import Here
from discovery.kubernetes import objects as kube
from discovery.model import Endpoint, Health, Port, Protocol, Resolution, Service
from discovery.reading import port_protocol

CLUSTERSET = "{service}.{namespace}.svc.clusterset.local"
"""The name of an exported service in all clusters of the set (KEP-1645)."""


class Reach(enum.Enum):
    """Which addresses of a service the gateway can reach."""

    POD = "pod"
    NODE = "node"
    LOAD_BALANCER = "loadBalancer"


def clusterset_host(key: str) -> str:
    namespace, _, name = key.partition("/")
    return CLUSTERSET.format(service=name, namespace=namespace).lower()


def ports(written: Iterable[kube.ServicePort] | None) -> tuple[Port, ...]:
    return tuple(_port(each) for each in written or ())


def _port(port: kube.ServicePort) -> Port:
    if port.protocol != "TCP":
        return Port(port.port, port.name, Protocol.UDP)
    return Port(port.port, port.name, port_protocol(port.name, port.app_protocol or "", port.port))


def service(hostname: str, found: kube.Service, endpoints: tuple[Endpoint, ...], *, reach: Reach) -> Service:
    """A Service that is not ExternalName, with the endpoints that it has for this gateway."""
    headless = found.spec.cluster_ip == "None"
    return Service(
        hostname=hostname,
        namespace=found.metadata.namespace,
        ports=ports(found.spec.ports),
        endpoints=endpoints,
        addresses=() if headless else _cluster_ips(found.spec),
        labels=_labels(found.metadata),
        headless=headless,
        created=found.metadata.creation_timestamp or "",
        notes=_notes(found, endpoints, reach),
    )


def _cluster_ips(spec: kube.ServiceSpec) -> tuple[str, ...]:
    return spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())


def _labels(metadata: kube.Object) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((metadata.labels or {}).items()))


def _notes(found: kube.Service, endpoints: tuple[Endpoint, ...], reach: Reach) -> tuple[str, ...]:
    if endpoints or reach is Reach.POD:
        return ()
    if reach is Reach.NODE and not any(port.node_port for port in found.spec.ports or ()):
        return ("it has no node port, and this source's addresses are `node`: make it of type NodePort, or set addresses: pod",)
    if reach is Reach.LOAD_BALANCER and not (found.status.load_balancer.ingress or ()):
        return (
            "no load balancer has an address for it, and this source's addresses are `loadBalancer`: make it of type LoadBalancer",
        )
    return ()


def external(hostname: str, found: kube.Service, addresses: tuple[str, ...], target: Service | None, here: Here) -> Service:
    """An ExternalName Service. addresses: what the name resolves to. target: the service of this registry that it is another name of,
    which then says endpoints and, where nothing is written, ports."""
    written = ports(found.spec.ports)
    notes: tuple[str, ...] = ()
    if target is not None:
        made = tuple(_renamed(endpoint, written, target) for endpoint in target.endpoints) if written else target.endpoints
    else:
        pairs = tuple(
            (port.name, number) for port in found.spec.ports or () if isinstance(number := port.target_port or port.port, int)
        )
        made = tuple(
            Endpoint(address, ports=pairs, cluster=here.cluster, network=here.network, locality=here.locality)
            for address in sorted(addresses)
        )
        if not pairs:
            notes = (
                f"it is another name of {found.spec.external_name}, but says no ports, so nothing can be sent there: write ports",
            )
    return Service(
        hostname=hostname,
        namespace=found.metadata.namespace,
        ports=written or (target.ports if target else ()),
        endpoints=made,
        labels=_labels(found.metadata),
        resolution=Resolution.STATIC if target else Resolution.DNS,
        external=target is None,
        created=found.metadata.creation_timestamp or "",
        notes=notes,
    )


def _renamed(endpoint: Endpoint, written: tuple[Port, ...], target: Service) -> Endpoint:
    """The endpoint under the alias' own port names: a number is the same port."""
    names = {port.number: port.name for port in target.ports}
    pairs = [(port.name, endpoint.port(names.get(port.number, port.name))) for port in written]
    return Endpoint(
        endpoint.address,
        ports=tuple((name, number) for name, number in pairs if number),
        labels=endpoint.labels,
        cluster=endpoint.cluster,
        network=endpoint.network,
        locality=endpoint.locality,
        health=endpoint.health,
        identity=endpoint.identity,
    )


def balanced_endpoints(
    found: kube.Service, behind: tuple[Endpoint, ...], names: Mapping[str, tuple[str, ...]], here: Here
) -> tuple[Endpoint, ...]:
    """The service by its cloud load balancer's addresses. behind: the Pods; when there are some and none takes traffic, the balancer
    has nobody to send it to. names: what its host names resolve to."""
    served = tuple((port.name, port.port) for port in found.spec.ports or ())
    usable = not behind or any(endpoint.health.usable for endpoint in behind)
    addresses: set[str] = set()
    for each in found.status.load_balancer.ingress or ():
        addresses.update((each.ip,) if each.ip else names.get(each.hostname.lower(), ()))
    return tuple(
        Endpoint(
            address,
            ports=served,
            cluster=here.cluster,
            network=here.network,
            locality=here.locality,
            health=Health.HEALTHY if usable else Health.UNHEALTHY,
        )
        for address in sorted(addresses)
    )


def names_of(found: kube.Service, reach: Reach) -> tuple[str, ...]:
    """The DNS names that its endpoints come from."""
    if found.spec.type == "ExternalName":
        return (found.spec.external_name.rstrip(".").lower(),) if found.spec.external_name else ()
    if reach is not Reach.LOAD_BALANCER:
        return ()
    return tuple(each.hostname.lower() for each in found.status.load_balancer.ingress or () if each.hostname and not each.ip)


def imported(
    hostname: str,
    exported: Service | None,
    export: kube.ServiceExport | None,
    found: kube.ServiceImport | None,
    more: tuple[Endpoint, ...],
) -> Service:
    """The service under its name in the cluster set. exported: what this cluster offers under it. found: what another implementation
    says of it here, with the endpoints that it knows in `more`. The age that decides conflicts is the ServiceExport's (KEP-1645)."""
    known = {endpoint.address for endpoint in more}
    own = exported.endpoints if exported else ()
    ours = exported.ports if exported else ()
    said = ports(found.spec.ports) if found else ()
    metadata: kube.Object = export.metadata if export and exported else found.metadata if found else kube.Object()
    return Service(
        hostname=hostname,
        namespace=metadata.namespace,
        ports=ours or said,
        endpoints=(*(endpoint for endpoint in own if endpoint.address not in known), *more),
        addresses=tuple(found.spec.ips or ()) if found else (),
        labels=exported.labels if exported else (),
        headless=exported.headless if exported else bool(found and found.spec.type == "Headless"),
        created=metadata.creation_timestamp or "",
        notes=exported.notes if exported else (),
    )
