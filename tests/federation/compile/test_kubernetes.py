"""Kubernetes Services and EndpointSlices → Services: names, ports, conditions, zones, families."""

from __future__ import annotations

import pytest
from compiling import NODE, resources_of

from discovery.model import Endpoint, Health, Locality, Protocol, Resolution, Service
from discovery.reading import port_protocol
from discovery.resolving import DnsTarget
from federation.compile.kubernetes import kubernetes_services
from federation.compile.services import described
from federation.compile.workloads import Where

WHERE = Where("east", "east", Locality("r1", "z1"))
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80, name: http, targetPort: 8080}, {port: 81, name: grpc}], %s}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, namespace: shop, labels: {kubernetes.io/service-name: web%s}}
addressType: %s
ports: [%s]
endpoints: [%s]
"""
HTTP = "{name: http, port: 8080}"


def made(*documents: str, spec: str = "") -> Service:
    resources, _ = resources_of("\n---\n".join([NODE % "fedgate", SERVICE % spec, *documents]))
    ((_, service),) = kubernetes_services(resources, WHERE, "cluster.local")
    return service


def part(endpoints: str, *, name: str = "web-1", labels: str = "", family: str = "IPv4", ports: str = HTTP) -> str:
    return SLICE % (name, labels, family, ports, endpoints)


@pytest.mark.parametrize(
    ("name", "app", "number", "protocol"),
    [
        ("http", "", 80, Protocol.HTTP),
        ("http-web", "", 80, Protocol.HTTP),
        ("HTTP-web", "", 80, Protocol.HTTP),
        ("http2-web", "", 80, Protocol.HTTP2),
        ("grpc", "", 80, Protocol.GRPC),
        ("grpc-web", "", 80, Protocol.GRPC_WEB),
        ("grpc-web-ui", "", 80, Protocol.GRPC_WEB),
        ("https", "", 443, Protocol.HTTPS),
        ("tls-x", "", 443, Protocol.TLS),
        ("tcp-x", "", 1, Protocol.TCP),
        ("web", "", 80, Protocol.UNKNOWN),
        ("httpx", "", 80, Protocol.UNKNOWN),
        ("", "", 3306, Protocol.TCP),
        ("tcp", "http", 80, Protocol.HTTP),
        ("", "kubernetes.io/h2c", 80, Protocol.HTTP2),
        ("http", "example.com/own", 80, Protocol.UNKNOWN),
    ],
)
def test_protocols(name: str, app: str, number: int, protocol: Protocol) -> None:
    assert port_protocol(name, app, number) is protocol


def test_the_name_the_ports_and_the_address() -> None:
    service = made(spec="clusterIP: 10.96.0.1")
    assert service.hostname == "web.shop.svc.cluster.local"
    assert [(port.number, port.name, port.protocol) for port in service.ports] == [
        (80, "http", Protocol.HTTP),
        (81, "grpc", Protocol.GRPC),
    ]
    assert (service.addresses, service.endpoints, service.headless) == (("10.96.0.1",), (), False)
    assert made(spec="clusterIP: None").headless
    assert made(spec="clusterIP: None").addresses == ()


def test_an_endpoint_of_a_slice() -> None:
    (endpoint,) = made(part("{addresses: [10.0.0.1, 10.0.0.9], zone: z2}", labels=", version: v1")).endpoints
    assert endpoint == Endpoint(
        "10.0.0.1",
        ports=(("http", 8080),),
        labels=(("version", "v1"),),
        cluster="east",
        network="east",
        locality=Locality("r1", "z2"),
        health=Health.HEALTHY,
    )


@pytest.mark.parametrize(
    ("conditions", "health"),
    [
        ("{}", Health.HEALTHY),
        ("{ready: true}", Health.HEALTHY),
        ("{ready: false}", Health.UNHEALTHY),
        ("{ready: false, serving: true, terminating: true}", Health.DRAINING),
        ("{ready: false, serving: false, terminating: true}", Health.UNHEALTHY),
        ("{ready: true, terminating: false}", Health.HEALTHY),
    ],
)
def test_conditions(conditions: str, health: Health) -> None:
    document = part(f"{{addresses: [10.0.0.1], conditions: {conditions}}}")
    assert made(document).endpoints[0].health is health
    assert made(document, spec="publishNotReadyAddresses: true").endpoints[0].health is Health.HEALTHY


def test_one_address_in_two_slices_has_the_ports_of_both() -> None:
    (endpoint,) = made(
        part("{addresses: [10.0.0.1]}"), part("{addresses: [10.0.0.1]}", name="web-2", ports="{name: grpc, port: 9090}")
    ).endpoints
    assert endpoint.ports == (("http", 8080), ("grpc", 9090))


def test_both_families_are_one_workload() -> None:
    four, six = part("{addresses: [10.0.0.1]}"), part("{addresses: ['fd00::1']}", name="web-6", family="IPv6")
    assert [each.address for each in made(six, four).endpoints] == ["10.0.0.1"]
    assert [each.address for each in made(six).endpoints] == ["fd00::1"]


def test_the_locality_label_of_a_slice_wins_over_the_zone() -> None:
    (endpoint,) = made(part("{addresses: [10.0.0.1], zone: z2}", labels=", topology.istio.io/locality: r5.z5")).endpoints
    assert endpoint.locality == Locality("r5", "z5")


def test_a_selector_picks_workload_entries_too() -> None:
    head = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
    workload = head + "metadata: {name: vm, namespace: shop}\nspec: {address: 10.1.0.1, labels: {app: web}}"
    (endpoint,) = made(workload, spec="selector: {app: web}").endpoints
    assert (endpoint.address, endpoint.ports) == ("10.1.0.1", (("http", 8080), ("grpc", 81)))
    assert not made(workload).endpoints


def test_slices_of_others_are_not_taken() -> None:
    assert not made(part("{addresses: [10.0.0.1]}").replace("namespace: shop", "namespace: other")).endpoints


ALIAS = """
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {type: ExternalName, externalName: %s%s}
"""


def aliased(name: str, *documents: str, ports: str = ""):
    resources, _ = resources_of("\n---\n".join([NODE % "fedgate", SERVICE % "", ALIAS % (name, ports), *documents]))
    found = described(resources, resources.nodes[0])
    assert not found.problems
    return found


def test_an_external_name_is_resolved() -> None:
    found = aliased(
        "API.example.", ports=", ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 81, targetPort: named}]"
    )
    (dns,) = found.dns
    assert (dns.service.hostname, dns.service.resolution, dns.service.external) == (
        "other.shop.svc.cluster.local",
        Resolution.DNS,
        True,
    )
    assert [(port.number, port.name) for port in dns.service.ports] == [(80, "http"), (81, "tcp")]
    endpoint = Endpoint("", ports=(("http", 8080),), cluster="east", network="east", locality=dns.targets[0].endpoint.locality)
    assert dns.targets == (DnsTarget("api.example", endpoint=endpoint),)
    assert [service.hostname for service in found.static] == ["web.shop.svc.cluster.local"]


def test_an_external_name_of_a_service_here_is_that_service() -> None:
    found = aliased("web.shop.svc.cluster.local", part("{addresses: [10.0.0.1]}"))
    other, web = found.static
    assert other.hostname == "other.shop.svc.cluster.local"
    assert (other.ports, other.endpoints, other.external) == (web.ports, web.endpoints, False)
    assert not found.dns


def test_an_external_name_has_its_own_names_for_the_ports_of_a_service_here() -> None:
    ports = ", ports: [{name: http-mine, port: 80}, {name: none, port: 99}]"
    other, _ = aliased("web.shop.svc.cluster.local", part("{addresses: [10.0.0.1]}"), ports=ports).static
    assert [(port.number, port.name) for port in other.ports] == [(80, "http-mine"), (99, "none")]
    assert other.endpoints[0].ports == (("http-mine", 8080),)


def test_an_external_name_of_an_external_name_is_a_name_of_dns() -> None:
    found = aliased("other.shop.svc.cluster.local")
    assert [dns.targets[0].name for dns in found.dns] == ["other.shop.svc.cluster.local"]
