"""Consul's instances made into services."""

import pytest

from discovery.clients.consul_entries import Instance
from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol
from discovery.sources.consul_services import Names, build, names_to_resolve, parts_of

HERE = Here("east", network="net", locality=Locality("r", "z"))
NAMES = Names(HERE, own="dc1")
WEB = "web.default.svc.cluster.local"


def instance(ident, address="10.0.0.1", port=8080, **more):
    return Instance(node="n", ident=ident, address=address, port=port, datacenter=more.pop("datacenter", "dc1"), **more)


def service(*instances, names=NAMES, key=("", "web"), hostname=WEB, resolved=None):
    return build(hostname, [parts_of(key, instances, names)[hostname]], names, resolved or {})


def test_an_endpoint_has_all_that_its_instance_says():
    (endpoint,) = service(instance("a", health=Health.UNHEALTHY, weight=3, tags=("v=1",), locality=Locality("x"))).endpoints
    assert (endpoint.address, endpoint.ports, endpoint.labels) == ("10.0.0.1", (("http", 8080),), (("v", "1"),))
    assert (endpoint.cluster, endpoint.network, endpoint.locality) == ("east", "net", Locality("x"))
    assert (endpoint.weight, endpoint.health, endpoint.healthy, endpoint.total) == (3, Health.UNHEALTHY, 0, 1)


@pytest.mark.parametrize(
    ("peer", "datacenter", "own", "locality"),
    [
        ("", "dc1", "dc1", Locality("r", "z")),
        ("", "dc2", "dc1", Locality("dc2")),
        ("", "dc2", "", Locality("r", "z")),
        ("", "", "dc1", Locality("r", "z")),
        ("two", "dc1", "dc1", Locality("dc1")),  # a peer's datacenter may bear our name
    ],
)
def test_where_consul_says_nothing_of_locality(peer, datacenter, own, locality):
    found = service(instance("a", datacenter=datacenter), names=Names(HERE, own=own), key=(peer, "web"))
    assert found.endpoints[0].locality == locality


def test_instances_of_several_namespaces_are_several_services_and_two_consul_services_may_be_one():
    parts = parts_of(("", "web"), [instance("a"), instance("b", meta={"fedgate-namespace": "shop"})], NAMES)
    assert {hostname: part.namespace for hostname, part in parts.items()} == {WEB: "default", "web.shop.svc.cluster.local": "shop"}
    other = parts_of(("two", "web"), [instance("c", "10.0.0.3")], NAMES)
    found = build(WEB, [other[WEB], parts[WEB]], NAMES, {})
    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.1", "10.0.0.3"]


def test_only_instances_with_all_the_tags_count_and_names_that_dns_cannot_have_are_left_out():
    names = Names(HERE, tags=("a", "b"))
    assert not parts_of(("", "web"), [instance("x", tags=("a",))], names)
    assert parts_of(("", "web"), [instance("x", tags=("a", "b", "c"))], names)
    for bad in ("a b", "x" * 64, "-a", "a/b", ""):
        assert not parts_of(("", bad), [instance("x")], NAMES)
    assert "web_1.default.svc.cluster.local" in parts_of(("", "WEB_1"), [instance("x")], NAMES)


def test_well_known_ports_lead_to_every_instance():
    found = service(instance("a", port=8080), instance("b", "10.0.0.2", 8081), instance("c", "10.0.0.3", 31000))
    assert found.ports == (Port(8080, "http"), Port(8081, "http-8081"))
    assert [endpoint.ports for endpoint in found.endpoints] == [
        (("http", 8080), ("http-8081", 8080)),
        (("http", 8081), ("http-8081", 8081)),
        (("http", 31000), ("http-8081", 31000)),
    ]


@pytest.mark.parametrize(
    ("instances", "port"),
    [
        ([instance("a", port=31000)], Port(80, "http")),
        ([instance("a", port=31000, meta={"fedgate-port": "9090", "fedgate-port-name": "adm"})], Port(9090, "adm")),
        ([instance("a", port=8080, meta={"fedgate-port": "x"})], Port(8080, "http")),
        ([instance("a", port=8080, meta={"fedgate-port": "70000"})], Port(8080, "http")),
        ([instance("a", meta={"protocol": "grpc"})], Port(8080, "grpc", Protocol.GRPC)),
        ([instance("a", meta={"protocol": "grpc", "fedgate-protocol": "tcp"})], Port(8080, "tcp", Protocol.TCP)),
        ([instance("a", tags=("http2", "v1"))], Port(8080, "http2", Protocol.HTTP2)),
        ([instance("a", port=3306)], Port(3306, "tcp", Protocol.TCP)),
    ],
)
def test_the_port_that_clients_name(instances, port):
    assert service(*instances).ports == (port,)


def test_an_instance_without_a_port_is_none_nor_is_a_socket_of_the_machine_that_registered_it():
    found = service(instance("a", port=0), instance("b", "/run/web.sock", 0), instance("c", "", 80), instance("d", "/run/b.sock"))
    assert found.endpoints == ()


def test_what_is_registered_twice_counts_once_and_healthy_if_one_is():
    found = service(
        instance("a", health=Health.UNHEALTHY), instance("b", health=Health.HEALTHY), instance("c", health=Health.UNHEALTHY)
    )
    assert [endpoint.health for endpoint in found.endpoints] == [Health.HEALTHY]


def test_native_connect_gets_no_traffic_and_is_named():
    found = service(instance("a", native=True), instance("b", "10.0.0.2"))
    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.2"]
    (note,) = found.notes
    assert note.startswith("1 of 2 instances in Consul take the mutual TLS of Consul Connect only")
    assert "register a plain port" in note
    assert not service(instance("b")).notes


def proxy(of, transparent, **more):
    return instance(f"{of}-proxy", port=21000, kind="connect-proxy", proxies=("web", of, transparent), **more)


def proxied(*proxies):
    return parts_of(("", "web-sidecar-proxy"), proxies, NAMES)


def test_behind_a_transparent_proxy_no_plain_traffic_arrives():
    parts = [parts_of(("", "web"), [instance("a"), instance("b", "10.0.0.2")], NAMES)[WEB], proxied(proxy("a", True))[WEB]]
    found = build(WEB, parts, NAMES, {})
    assert [endpoint.address for endpoint in found.endpoints] == ["10.0.0.2"]
    assert found.notes[0].startswith("1 of 2 instances")


def test_a_sidecar_that_is_not_transparent_leaves_the_plain_port():
    parts = [parts_of(("", "web"), [instance("a")], NAMES)[WEB], proxied(proxy("a", False))[WEB]]
    found = build(WEB, parts, NAMES, {})
    assert len(found.endpoints) == 1
    assert not found.notes


def test_sidecars_alone_are_a_service_without_endpoints_and_a_note_and_gateways_are_none():
    assert set(proxied(proxy("a", False))) == {WEB}
    found = build(WEB, [proxied(proxy("a", False))[WEB]], NAMES, {})
    assert not found.endpoints
    assert found.notes[0].startswith("Consul has sidecar proxies of it and no instance of its own")
    assert not parts_of(("", "mesh"), [instance("m", kind="mesh-gateway")], NAMES)


def test_instances_with_a_dns_name_have_its_addresses():
    plain = instance("a", "db.example.com")
    part = parts_of(("", "web"), [plain, instance("b"), instance("c", "/sock")], NAMES)[WEB]
    assert names_to_resolve([part]) == {"db.example.com"}
    found = service(plain, resolved={"db.example.com": ("10.1.0.2", "10.1.0.1")})
    assert [endpoint.address for endpoint in found.endpoints] == ["10.1.0.1", "10.1.0.2"]
    assert not found.notes
    unknown = service(plain)
    assert not unknown.endpoints
    assert unknown.notes[0].startswith("db.example.com: no address found in DNS")
