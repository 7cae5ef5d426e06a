"""What Nomad's answers mean: tags, ports, localities, health."""

import msgspec
import pytest

from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol
from discovery.nomad import MOST_LABELS, Allocation, CheckResult, Node, Registration, Seen, make_service, seen

HERE = Here("east", network="net", locality=Locality("eu", "eu-1"))


def one(number=1, *tags, port=21000, alloc=None, datacenter="dc1", service="web", **more):
    alloc = f"a{number}" if alloc is None else alloc
    return Registration(
        id=f"r{number}-{port}",
        service_name=service,
        namespace="default",
        address=f"10.0.0.{number}",
        port=port,
        alloc_id=alloc,
        node_id="n1",
        datacenter=datacenter,
        tags=tags,
        **more,
    )


def made(*registrations, allocations=None, nodes=None, here=HERE, region=""):
    return make_service("web.x", registrations, here, allocations=allocations or {}, nodes=nodes or {}, region=region)


def test_a_service_as_nomad_prints_it():
    text = (
        '[{"Address":"10.0.0.1","AllocID":"a1","CreateIndex":20,"Datacenter":"dc1","ID":"_nomad-x","JobID":"j","ModifyIndex":24,'
        '"Namespace":"default","NodeID":"n1","Port":29702,"ServiceName":"web","Tags":["version=v2","canary"]}]'
    )
    (read,) = msgspec.json.decode(text, type=tuple[Registration, ...])
    service = made(read)
    assert (service.hostname, service.namespace, service.ports) == ("web.x", "default", (Port(80, "http"),))
    (endpoint,) = service.endpoints
    assert (endpoint.address, endpoint.ports, endpoint.cluster, endpoint.network) == ("10.0.0.1", (("http", 29702),), "east", "net")
    assert dict(endpoint.labels) == {"version": "v2", "tag.fedgate.io/canary": "true", "nomad.datacenter": "dc1"}


def test_no_registration_leads_to_a_socket_of_this_machine():
    there = msgspec.structs.replace(one(2), address="/run/x.sock")
    assert [endpoint.address for endpoint in made(one(1), there).endpoints] == ["10.0.0.1"]


def test_tags_name_port_protocol_and_weight():
    service = made(one(1, "fedgate-port=9000", "fedgate-port-name=grpc-api", "fedgate-weight=5"))
    assert service.ports == (Port(9000, "grpc-api", Protocol.GRPC),)
    assert service.endpoints[0].weight == 5
    assert made(one(1, "fedgate-protocol=http2")).ports == (Port(80, "http2", Protocol.HTTP2),)
    assert not service.notes


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        (["fedgate-port=http"], "no port number"),
        (["fedgate-protocol=smtp2"], "names no protocol"),
        (["fedgate-protocol=tcp"], "write fedgate-port=NUMBER"),
    ],
)
def test_tags_that_cannot_be_followed_are_noted(tags, words):
    (note,) = made(one(1, *tags)).notes
    assert words in note


def test_fixed_ports_are_the_service_s_and_lead_to_all_instances():
    service = made(one(1, port=8080), one(2, port=9090), one(3, port=21000))
    assert service.ports == (Port(8080, "http"), Port(9090, "http-9090"))
    assert [endpoint.ports for endpoint in service.endpoints] == [
        (("http", number), ("http-9090", number)) for number in (8080, 9090, 21000)
    ]
    assert made(one(1, "fedgate-port=81"), one(2, port=8080)).ports == (Port(81, "http"),)
    assert len(made(*(one(n, port=n) for n in range(1, 40))).ports) == 16


def test_instances_that_disagree_about_the_protocol_are_noted():
    service = made(one(3, "grpc", "fedgate-port=1"), one(2, "fedgate-protocol=http"))
    assert service.ports == (Port(1, "grpc", Protocol.GRPC),)
    (note,) = service.notes
    assert "disagree" in note
    assert made(one(1, "grpc")).ports == (Port(80, "grpc", Protocol.GRPC),)


def test_two_ports_of_one_allocation_are_one_endpoint():
    service = made(one(1, port=21000), one(1, "fedgate-port=9090", "fedgate-port-name=admin", port=21001))
    assert [(port.number, port.name) for port in service.ports] == [(80, "http"), (9090, "admin")]
    (endpoint,) = service.endpoints
    assert endpoint.ports == (("admin", 21001), ("http", 21000))
    assert len(made(one(1, port=21000), one(1, port=21001)).endpoints) == 2
    crowded = made(one(1, port=21000), one(1, "fedgate-port-name=admin", port=21001))
    assert [port.name for port in crowded.ports] == ["http"]
    assert "no number of its own" in crowded.notes[0]


def test_the_same_whatever_the_order():
    several = [one(n, f"v={n}") for n in range(1, 6)]
    assert made(*several) == made(*reversed(several))


@pytest.mark.parametrize(
    ("meta", "attributes", "datacenter", "region", "expected"),
    [
        ({}, {}, "dc1", "", "eu/dc1"),
        ({}, {}, "eu", "", "eu/eu-1"),
        ({"topology.istio.io/locality": "us/us-1/r7"}, {}, "dc1", "", "us/us-1/r7"),
        ({"topology.istio.io/locality": "us.us-1"}, {}, "dc1", "", "us/us-1"),
        ({"topology.kubernetes.io/region": "ap", "topology.kubernetes.io/zone": "ap-1"}, {}, "dc1", "", "ap/ap-1"),
        ({}, {"platform.aws.placement.availability-zone": "us-east-1a"}, "dc1", "", "us-east-1/us-east-1a"),
        ({}, {"platform.gce.zone": "z"}, "dc1", "", "eu/z"),
        ({}, {}, "", "", "eu"),
    ],
)
def test_localities(meta, attributes, datacenter, region, expected):
    service = made(one(1, datacenter=datacenter), nodes={"n1": Node(meta=meta, attributes=attributes)}, region=region)
    assert str(service.endpoints[0].locality) == expected


def test_without_a_locality_of_its_own_the_gateway_learns_it_from_nomad():
    assert made(one(1), here=Here("east")).endpoints[0].locality == Locality("dc1")
    assert made(one(1), here=Here("east"), region="europe").endpoints[0].locality == Locality("europe", "dc1")


def test_labels_of_nodes_yield_to_tags_and_are_bounded():
    meta = {f"k{n:03}": "v" for n in range(100)} | {"version": "node"}
    service = made(one(1, "version=v2"), nodes={"n1": Node(name="n-1", node_class="big", node_pool="gpu", meta=meta)})
    labels = dict(service.endpoints[0].labels)
    assert labels["version"] == "v2"
    assert len(labels) == MOST_LABELS
    plain = dict(made(one(1), nodes={"n1": Node(name="n-1", node_class="big", node_pool="gpu")}).endpoints[0].labels)
    assert plain == {"nomad.datacenter": "dc1", "nomad.node.name": "n-1", "nomad.node.class": "big", "nomad.node.pool": "gpu"}


def result(status, service="web", check="alive"):
    return {f"{service}/{check}": CheckResult(service, status, check=check)}


def allocation(checks, status="running"):
    group = {"Name": "g", "Services": [{"Provider": "nomad", "Checks": [{}] * checks}, {"Provider": "consul", "Checks": [{}]}]}
    task = {"Services": [{"Provider": "nomad", "Checks": None}]}
    text = {"ClientStatus": status, "TaskGroup": "g", "Job": {"TaskGroups": [group | {"Tasks": [task]}, {"Name": "h"}]}}
    return msgspec.json.decode(msgspec.json.encode(text), type=Allocation)


def test_an_allocation_counts_the_checks_of_its_group_that_nomad_runs():
    assert allocation(3).checks == 3
    assert Allocation().checks == 0


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (seen(allocation(0), {}, None), Health.HEALTHY),
        (seen(allocation(0, "pending"), {}, None), Health.UNKNOWN),
        (seen(allocation(0, "failed"), {}, None), Health.UNHEALTHY),
        (seen(allocation(0, "unknown"), {}, None), Health.DEGRADED),
        (seen(allocation(1), {}, None), Health.UNHEALTHY),
        (seen(allocation(1), result("success"), None), Health.HEALTHY),
        (seen(allocation(1), result("failure"), None), Health.UNHEALTHY),
        (seen(allocation(1), result("pending"), None), Health.UNHEALTHY),
        (seen(allocation(2), result("success") | result("failure", check="b"), None), Health.UNHEALTHY),
        (seen(allocation(2), result("failure") | result("success", check="b"), None), Health.UNHEALTHY),
        (seen(allocation(1), result("failure", service="other"), None), Health.HEALTHY),
        (Seen(), Health.UNKNOWN),
    ],
)
def test_health(state, expected):
    assert state.health("web") is expected
    (endpoint,) = made(one(1), allocations={"a1": state}).endpoints
    assert (endpoint.health, endpoint.healthy, endpoint.total) == (expected, int(expected.usable), 1)


def test_a_check_that_starts_anew_keeps_what_it_said():
    passed = seen(allocation(1), result("success"), None)
    again = seen(allocation(1), result("pending"), passed)
    assert again.health("web") is Health.HEALTHY
    assert seen(allocation(1), result("failure"), again).health("web") is Health.UNHEALTHY
