"""Endpoints from EndpointSlices, Pods and Nodes: where they are, what they are, and whether they take traffic."""

import kube_api
import msgspec
import pytest

from discovery.here import Here
from discovery.kubernetes import objects as kube
from discovery.kubernetes.endpoints import Surroundings, health, joined, node_endpoints, node_locality, slice_endpoints
from discovery.model import Endpoint, Health, Locality

HERE = Here("east", network="net", locality=Locality("r1", "z1"))


def read(kind, content):
    return msgspec.convert(content, kind)


def around(pods=(), nodes=(), here=HERE):
    pods = [read(kube.Pod, each) for each in pods]
    nodes = [read(kube.Node, each) for each in nodes]
    return Surroundings(here, {each.metadata.key: each for each in pods}, {each.metadata.name: each for each in nodes})


def endpoints(content, *, ports=(), ready=False, where=None):
    written = [read(kube.ServicePort, each) for each in ports]
    return slice_endpoints(read(kube.EndpointSlice, content), written, ready=ready, around=where or around())


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, Health.HEALTHY),  # unknown is ready
        ({"ready": True}, Health.HEALTHY),
        ({"ready": False}, Health.UNHEALTHY),
        ({"ready": False, "serving": True, "terminating": True}, Health.DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, Health.UNHEALTHY),
        ({"ready": True, "terminating": True}, Health.DRAINING),  # serving follows ready
        ({"ready": False, "terminating": False}, Health.UNHEALTHY),
    ],
)
def test_conditions(conditions, expected):
    assert health(read(kube.Conditions, conditions)) is expected


@pytest.mark.parametrize(
    ("pod_labels", "node", "fields", "expected"),
    [
        ({"topology.istio.io/locality": "a.b.c"}, {"zone": "z9", "region": "r9"}, {}, "a/b/c"),
        ({}, {"zone": "z9", "region": "r9"}, {"zone": "z5"}, "r9/z9"),
        ({}, {"zone": "z9"}, {}, "r1/z9"),  # a zone is one of our region
        ({}, {"region": "r9"}, {}, "r9"),
        ({}, {"zone": "z9", "region": "r9", "labels": {"topology.istio.io/subzone": "rack3"}}, {}, "r9/z9/rack3"),
        ({}, None, {"zone": "z5"}, "r1/z5"),
        ({}, None, {"topology": {"topology.kubernetes.io/zone": "z6", "topology.kubernetes.io/region": "r6"}}, "r6/z6"),
        ({}, None, {}, "r1/z1"),
        ({}, {}, {}, "r1/z1"),
    ],
)
def test_localities(pod_labels, node, fields, expected):
    where = around([kube_api.pod("p", **pod_labels)], [kube_api.node("n", **node)] if node is not None else [])
    (found,) = endpoints(kube_api.slice_of("web", ("10.0.0.1", {"pod": "p", "nodeName": "n", **fields})), where=where)
    assert str(found.locality) == expected


def test_an_endpoint_is_its_pod():
    pod = kube_api.pod("p", account="cart", version="v1", **{"controller-revision-hash": "x", "topology.istio.io/network": "far"})
    (found,) = endpoints(kube_api.slice_of("web", ("10.0.0.1", {"pod": "p"})), where=around([pod]))
    assert found == Endpoint(
        "10.0.0.1",
        ports=(("http", 8080),),
        labels=(("topology.istio.io/network", "far"), ("version", "v1")),
        cluster="east",
        network="far",
        locality=Locality("r1", "z1"),
        health=Health.HEALTHY,
        identity="shop/cart",
    )


def test_a_pod_of_a_stateful_set_has_a_name_of_its_own():
    (found,) = endpoints(
        kube_api.slice_of("db", ("10.0.0.1", {"hostname": "db-0", "pod": "p"})), where=around([kube_api.pod("p", a="b")])
    )
    assert found.labels == (("a", "b"), ("fedgate.io/hostname", "db-0"))


def test_a_port_that_is_left_open_is_the_services_own_and_one_nobody_knows_is_not_served():
    content = kube_api.slice_of("web", "10.0.0.1", ports=[{"name": "http"}, {"name": "who"}, {"port": 9}])
    (found,) = endpoints(content, ports=[{"name": "http", "port": 80}])
    assert found.ports == (("http", 80), ("", 9))


def test_published_although_not_ready():
    content = kube_api.slice_of("web", ("10.0.0.1", {"conditions": {"ready": False}}))
    assert [each.health for each in endpoints(content, ready=True)] == [Health.HEALTHY]


def test_nothing_is_in_a_slice_of_nulls_and_only_the_first_address_counts():
    assert endpoints({"metadata": {"name": "a", "namespace": "b"}, "endpoints": None, "ports": None}) == ()
    content = kube_api.slice_of("web", "10.0.0.1")
    content["endpoints"] = [{"addresses": ["10.0.0.1", "10.0.0.2"]}, {"addresses": None}]
    assert [each.address for each in endpoints(content)] == ["10.0.0.1"]


def test_slices_of_another_cluster_say_which():
    labels = {kube.MULTICLUSTER_SERVICE_NAME: "web", kube.SOURCE_CLUSTER: "west"}
    (found,) = endpoints(kube_api.slice_of("web", "10.0.0.1", labels=labels))
    assert found.cluster == "west"


def one(address, state=Health.HEALTHY, ports=(("http", 80),)):
    return Endpoint(address, ports=ports, health=state)


def test_slices_are_joined_by_address():
    found = joined([(one("b"),), (one("a"), one("b", Health.UNHEALTHY, (("http", 81), ("grpc", 90))))])
    assert found == (one("a"), one("b", ports=(("http", 80), ("grpc", 90))))


def test_what_terminates_serves_when_nothing_else_does():
    draining, gone = one("a", Health.DRAINING), one("b", Health.UNHEALTHY)
    assert [each.health for each in joined([(draining, gone)])] == [Health.DEGRADED, Health.UNHEALTHY]
    assert [each.health for each in joined([(draining, one("c"))])] == [Health.DRAINING, Health.HEALTHY]


def nodes_of(service, nodes, *, state=Health.HEALTHY, hosts=frozenset()):
    return node_endpoints(read(kube.Service, service), (one("p", state),), hosts, around(nodes=nodes))


PORTED = [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "none", "port": 81}]


def test_node_ports():
    nodes = [
        kube_api.node("a", zone="z2", region="r2", address="10.1.0.2"),
        kube_api.node("b", address="10.1.0.1"),
        kube_api.node("broken", address="10.1.0.3", ready=False),
        kube_api.node("apart", address="10.1.0.4", labels={"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
    ]
    found = nodes_of(kube_api.service("web", ports=PORTED), nodes)
    assert [(each.address, each.ports, str(each.locality), each.health) for each in found] == [
        ("10.1.0.1", (("http", 30080),), "r1/z1", Health.HEALTHY),
        ("10.1.0.2", (("http", 30080),), "r2/z2", Health.HEALTHY),
    ]
    assert nodes_of(kube_api.service("web"), nodes) == ()


def test_node_ports_answer_only_where_a_pod_does():
    nodes = [kube_api.node("a", address="10.1.0.1"), kube_api.node("b", address="10.1.0.2")]
    local = kube_api.service("web", ports=PORTED, externalTrafficPolicy="Local")
    assert [each.address for each in nodes_of(local, nodes, hosts=frozenset({"b"}))] == ["10.1.0.2"]
    nobody = nodes_of(kube_api.service("web", ports=PORTED), nodes, state=Health.UNHEALTHY)
    assert {each.health for each in nobody} == {Health.UNHEALTHY}


def test_nodes_by_the_family_of_the_service():
    node = kube_api.node("a")
    node["status"]["addresses"] = [
        {"type": "Hostname", "address": "a"},
        {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "fd00::1"},
    ]
    assert [each.address for each in nodes_of(kube_api.service("web", ports=PORTED), [node])] == ["192.0.2.1"]
    six = kube_api.service("web", ports=PORTED, ipFamilies=["IPv6"])
    assert [each.address for each in nodes_of(six, [node])] == ["fd00::1"]


def test_a_node_may_name_its_locality():
    node = read(kube.Node, kube_api.node("a", labels={"topology.istio.io/locality": "x.y"}))
    assert node_locality(node, HERE) == Locality("x", "y")
