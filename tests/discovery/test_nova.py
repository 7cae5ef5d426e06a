"""What Nova's servers and Neutron's ports say, as services."""

import msgspec
import pytest

from discovery.draft import Drafts
from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol
from discovery.nova import Address, FixedAddress, NeutronPort, Server, add_servers, zones_of

HERE = Here("east", "net", Locality("r1"))
MARKED = {"fedgate-service": "web", "fedgate-ports": "http:80:8080"}


def server(identity="vm1", address="10.0.0.1", *, metadata=None, **more):
    addresses = {"private": (Address(address),)} if address else {}
    values = {"id": identity, "name": identity, "status": "ACTIVE", "addresses": addresses, "zone": "az1", **more}
    return Server(metadata=MARKED if metadata is None else metadata, **values)


def port(address="10.0.0.1", device="vm1", *, owner="compute:az1", subnet="s", **more):
    return NeutronPort(
        id=f"port-{address}", device_id=device, device_owner=owner, fixed_ips=(FixedAddress(address, subnet),), **more
    )


def said(*servers, ports=()):
    drafts = Drafts()
    add_servers(drafts, servers, ports, here=HERE, project="shop")
    return drafts.built()


def one(*servers, ports=()):
    (service,) = said(*servers, ports=ports).values()
    return service


def test_a_marked_server_is_an_endpoint():
    service = one(server(metadata=MARKED | {"version": "v1"}, created="2026-01-02T03:04:05Z"), server("vm2", metadata={}))
    assert service.hostname == "web.shop.svc.cluster.local"
    assert service.ports == (Port(80, "http", Protocol.HTTP),)
    assert service.created == "2026-01-02T03:04:05Z"
    (endpoint,) = service.endpoints
    assert (endpoint.address, endpoint.ports, endpoint.locality) == ("10.0.0.1", (("http", 8080),), Locality("r1", "az1"))
    assert ("version", "v1") in endpoint.labels


@pytest.mark.parametrize(
    ("fields", "health"),
    [
        ({}, Health.UNKNOWN),
        ({"status": "VERIFY_RESIZE"}, Health.UNKNOWN),
        ({"status": "SHUTOFF"}, Health.UNHEALTHY),
        ({"status": "ERROR"}, Health.UNHEALTHY),
        ({"task": "deleting"}, Health.DRAINING),
        ({"metadata": MARKED | {"fedgate-weight": "0"}}, Health.DRAINING),
        ({"metadata": MARKED | {"fedgate-weight": "none"}}, Health.UNKNOWN),
    ],
)
def test_a_server_s_state(fields, health):
    assert one(server(**fields)).endpoints[0].health is health


@pytest.mark.parametrize("status", ["BUILD", "DELETED", "SOFT_DELETED"])
def test_what_is_not_there_is_no_endpoint(status):
    assert said(server(status=status)) == {}


@pytest.mark.parametrize(
    ("fields", "health"),
    [({"status": "ACTIVE"}, Health.UNKNOWN), ({"status": "DOWN"}, Health.UNHEALTHY), ({"admin_state_up": False}, Health.UNHEALTHY)],
)
def test_a_port_that_is_down_takes_no_traffic(fields, health):
    assert one(server(), ports=[port(**fields)]).endpoints[0].health is health
    assert one(server(), ports=[port(device="another", **fields)]).endpoints[0].health is Health.UNKNOWN


def test_several_services_and_several_ports_with_weight():
    metadata = {
        "fedgate-service": "web, api",
        "fedgate-ports": "http:80:8080, grpc:9090",
        "fedgate-weight": "5",
        "fedgate-namespace": "x",
    }
    found = said(server(metadata=metadata))
    assert set(found) == {"web.x.svc.cluster.local", "api.x.svc.cluster.local"}
    service = found["api.x.svc.cluster.local"]
    assert service.ports == (Port(80, "http", Protocol.HTTP), Port(9090, "grpc", Protocol.GRPC))
    assert (service.endpoints[0].ports, service.endpoints[0].weight) == ((("grpc", 9090), ("http", 8080)), 5)


@pytest.mark.parametrize("ports", ["", "http", "http:", "http:x", "http:0", "http:70000", "http:80:90:100", "http:²"])
def test_ports_that_cannot_be_read_are_noted(ports):
    service = one(server(metadata={"fedgate-service": "web", "fedgate-ports": ports}))
    assert service.endpoints == ()
    assert all("fedgate-ports" in note for note in service.notes)
    assert service.notes


def test_the_address_is_of_the_wished_network_fixed_and_ipv4_first():
    addresses = {
        "b": (Address("10.2.0.1"),),
        "a": (Address("fd00::1", 6), Address("10.1.0.1"), Address("203.0.113.1", 4, "floating")),
        "c": (),
    }

    def taken(network=""):
        found = one(server(addresses=addresses, metadata=MARKED | ({"fedgate-network": network} if network else {})))
        return [each.address for each in found.endpoints]

    assert taken() == ["10.1.0.1"]
    assert taken("b") == ["10.2.0.1"]
    assert taken("c") == taken("unknown") == []
    assert one(server(address="")).endpoints == ()


def test_locality_from_metadata_goes_before_the_zone():
    assert one(server(metadata=MARKED | {"istio-locality": "r2.z2"})).endpoints[0].locality == Locality("r2", "z2")


def test_zones_are_of_the_server_else_of_the_port_s_owner_and_not_guessed():
    ports = [
        port(),
        port("10.0.0.2", "gone", owner="compute:az3"),
        port("10.0.0.3", "gone", owner="compute:None"),
        port("10.0.0.4", "x", owner="compute:az1", subnet="s1"),
        port("10.0.0.4", "y", owner="compute:az2", subnet="s2"),
    ]
    zones = zones_of(ports, [server(zone="az9")])
    assert [zones.of(f"10.0.0.{number}", None) for number in (1, 2, 3, 4)] == ["az9", "az3", "", ""]
    assert (zones.of("10.0.0.4", "s1"), zones.of("10.0.0.4", "s2")) == ("az1", "az2")


def test_an_answer_of_nova_s_is_read_by_its_own_names():
    text = b"""{"id": "v", "name": "v", "status": "ACTIVE", "OS-EXT-AZ:availability_zone": "az1", "OS-EXT-STS:task_state": null,
        "metadata": {"a": "b"}, "addresses": {"n": [{"addr": "10.0.0.1", "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "x"}]}}"""
    found = msgspec.convert(msgspec.json.decode(text), Server, strict=False)
    assert (found.zone, found.task, found.addresses["n"][0].kind) == ("az1", None, "fixed")
