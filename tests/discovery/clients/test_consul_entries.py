"""What Consul's health endpoint says, read."""

import pytest
from scripted_consul import entry

from discovery.clients.consul_entries import Instance, read
from discovery.model import Health, Locality


def one(made, own="dc1"):
    (found,) = read([made], own=own)
    return found


def test_an_instance_with_all_it_says():
    found = one(entry("web-1", "10.0.0.1", 8080, tags=["v1", "team=a", "x|y"], meta={"version": "v2"}))
    assert found == Instance(
        node="n1",
        ident="web-1",
        address="10.0.0.1",
        port=8080,
        datacenter="dc1",
        health=Health.HEALTHY,
        tags=("team=a", "v1", "x|y"),
        meta={"version": "v2"},
    )
    assert dict(found.labels) == {"team": "a", "tag.fedgate.io/v1": "true", "x": "y", "version": "v2"}


def test_they_come_in_order_and_without_what_a_gateway_published():
    entries = [
        entry("b", "10.0.0.2", 1),
        entry("a", "10.0.0.1", 1),
        entry("c", "10.0.0.3", 1, meta={"fedgate-published-by": "east/gw"}),
    ]
    assert [found.ident for found in read(entries, own="")] == ["a", "b"]


WAN = {"wan": {"Address": "203.0.113.1", "Port": 9443}}


@pytest.mark.parametrize(
    ("service", "node", "own", "address"),
    [
        ({}, {}, "dc1", ("10.0.0.1", 80)),
        ({"Address": ""}, {}, "dc1", ("10.0.0.9", 80)),
        ({"TaggedAddresses": WAN}, {}, "dc1", ("10.0.0.1", 80)),
        ({"TaggedAddresses": WAN}, {}, "dc2", ("203.0.113.1", 9443)),
        ({"TaggedAddresses": {"wan": {"Address": "203.0.113.2"}}}, {}, "dc2", ("203.0.113.2", 80)),
        ({}, {"wan": "203.0.113.9"}, "dc2", ("10.0.0.1", 80)),
        ({"Address": ""}, {"wan": "203.0.113.9"}, "dc2", ("203.0.113.9", 80)),
        ({"Address": ""}, {"wan": "203.0.113.9"}, "", ("10.0.0.9", 80)),
        ({"SocketPath": "/run/web.sock"}, {}, "dc1", ("/run/web.sock", 0)),
    ],
)
def test_the_address(service, node, own, address):
    made = entry("web-1", "10.0.0.1", 80, **service)
    made["Node"]["TaggedAddresses"] = node
    found = one(made, own)
    assert (found.address, found.port) == address


def check(status, ident="c"):
    return {"CheckID": ident, "Status": status}


@pytest.mark.parametrize(
    ("checks", "warning", "expected"),
    [
        ([], 1, (Health.UNKNOWN, 5)),
        (["passing"], 1, (Health.HEALTHY, 5)),
        (["passing", "warning"], 2, (Health.HEALTHY, 2)),
        (["warning"], 0, (Health.DEGRADED, 1)),
        (["warning", "critical"], 2, (Health.UNHEALTHY, 5)),
        (["something new"], 2, (Health.UNHEALTHY, 5)),
    ],
)
def test_health_is_the_worst_of_all_checks_and_warning_has_its_own_weight(checks, warning, expected):
    made = entry("web-1", "10.0.0.1", 80, Weights={"Passing": 5, "Warning": warning})
    made["Checks"] = [check(status) for status in checks]
    found = one(made)
    assert (found.health, found.weight) == expected


@pytest.mark.parametrize("ident", ["_node_maintenance", "_service_maintenance:web-1"])
def test_maintenance_drains_whatever_else_is_wrong(ident):
    made = entry("web-1", "10.0.0.1", 80)
    made["Checks"] = [check("critical"), check("critical", ident)]
    assert one(made).health is Health.DRAINING
    made["Checks"] = [check("passing"), check("passing", ident)]
    assert one(made).health is Health.HEALTHY


@pytest.mark.parametrize(("weight", "share"), [(0, 1), (-1, 1), (70_000, 65_535)])
def test_weights_out_of_bounds(weight, share):
    assert one(entry("a", "10.0.0.1", 80, Weights={"Passing": weight, "Warning": 1})).weight == share


ZONES = {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z", "topology.istio.io/subzone": "s"}


@pytest.mark.parametrize(
    ("service", "node", "locality"),
    [
        ({}, {}, None),
        ({"Meta": {"topology.istio.io/locality": "r1.z1"}}, {"Meta": ZONES}, Locality("r1", "z1")),
        ({}, {"Meta": ZONES}, Locality("r", "z", "s")),
        ({"Locality": {"Region": "r2", "Zone": "z2"}}, {"Meta": ZONES}, Locality("r2", "z2")),
        ({}, {"Locality": {"Region": "r3"}}, Locality("r3")),
        ({"Meta": {"topology.istio.io/locality": "a//b"}}, {}, None),
        ({}, {"Meta": {"topology.kubernetes.io/region": "r", "topology.istio.io/subzone": "s"}}, Locality("r")),
    ],
)
def test_locality_of_the_service_before_that_of_the_node(service, node, locality):
    made = entry("a", "10.0.0.1", 80, **service)
    made["Node"].update(node)
    assert one(made).locality == locality


def test_connect_proxies_say_whose_and_how():
    proxy = {"DestinationServiceName": "web", "DestinationServiceID": "web-1", "Mode": "transparent"}
    found = one(entry("p", "10.0.0.1", 21000, Kind="connect-proxy", Proxy=proxy))
    assert (found.kind, found.proxies) == ("connect-proxy", ("web", "web-1", True))
    assert one(entry("p", "10.0.0.1", 80, Connect={"Native": True})).native


@pytest.mark.parametrize(
    "bad", [{}, {"Node": {}}, {"Node": {"Node": "n"}, "Service": {"Port": "x"}}, {"Node": 1, "Service": 2}, "entry", None]
)
def test_what_is_no_entry_says_so(bad):
    with pytest.raises(ValueError, match="not what Consul's health endpoint answers"):
        read([bad], own="")
