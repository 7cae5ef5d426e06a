"""What is made of a peer's claims, and what is not believed."""

import pytest

from discovery.model import Health, Locality, Port, Protocol, Service
from federation.peering.accept import accepted
from federation.peering.terms import Finding, PeerTerms
from federation.peering.wire import ExportedPort, ExportedService, LocalityCount

WEST = PeerTerms("west", "west.example.com", imports=("*.shop",))
PORTS = (ExportedPort(80, "http", "HTTP"), ExportedPort(90, "odd", "HTTP9"))
V1, V2 = (("app", "a"), ("version", "v1")), (("app", "a"), ("version", "v2"))
COUNTS = (LocalityCount("r1/z1", 1, 2, V1), LocalityCount("r1/z1", 2, 2, V2), LocalityCount("r2", 0, 3))
GATEWAYS = [("192.0.2.1", 15443), ("2001:db8::1", 443)]


def accept(hostname="a.shop", ports=PORTS, localities=COUNTS, terms=WEST, addresses=GATEWAYS, distinguish=None, **options):
    exported = ExportedService(hostname, "ns", ports, localities, **options)
    return accepted(exported, terms, cluster="west", network="w", addresses=addresses, distinguish=distinguish)


def test_each_address_stands_for_the_same_workloads():
    made = accept(distinguish=())
    assert isinstance(made, Service)
    assert made.ports == (Port(80, "http", Protocol.HTTP), Port(90, "odd", Protocol.UNKNOWN))
    assert [(e.address, str(e.locality), e.healthy, e.total, e.health) for e in made.endpoints] == [
        ("192.0.2.1", "r1/z1", 3, 4, Health.HEALTHY),
        ("192.0.2.1", "r2", 0, 3, Health.UNHEALTHY),
        ("2001:db8::1", "r1/z1", 3, 4, Health.HEALTHY),
        ("2001:db8::1", "r2", 0, 3, Health.UNHEALTHY),
    ]
    first = made.endpoints[0]
    assert (first.port("http"), first.port("odd"), made.endpoints[2].port("http")) == (15443, 15443, 443)
    assert (first.peer, first.cluster, first.network, first.locality) == ("west", "west", "w", Locality("r1", "z1"))
    assert first.labels == (("app", "a"),)  # what all of them share
    assert first.identity == "spiffe://west.example.com/ns/fedgate/sa/gateway"


@pytest.mark.parametrize("distinguish", [None, ("version",)])
def test_kept_apart_by_labels_for_subsets(distinguish):
    made = accept(addresses=GATEWAYS[:1], distinguish=distinguish)
    assert [(str(e.locality), e.labels, e.healthy, e.total) for e in made.endpoints] == [
        ("r1/z1", V1, 1, 2),
        ("r1/z1", V2, 2, 2),
        ("r2", (), 0, 3),
    ]


def test_together_the_addresses_have_the_weight_of_what_is_behind():
    made = accept(localities=(LocalityCount("r1", 4, 4),))
    assert [e.weight for e in made.endpoints] == [2, 2]
    assert [e.weight for e in accept(localities=(LocalityCount("r1", 0, 0),)).endpoints] == [1, 1]


def test_no_addresses_or_no_workloads_is_a_service_without_endpoints():
    assert accept(addresses=[]).endpoints == ()
    assert accept(localities=()).endpoints == ()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"hostname": "bank.example.com"}, "spec.imports of Peer west does not allow"),
        ({"hostname": "shop"}, "does not allow"),
        ({"hostname": "*.shop"}, "no wildcard"),
        ({"hostname": "A.shop"}, "lower case"),
        ({"hostname": "a..shop"}, "no DNS name"),
        ({"hostname": "a b.shop"}, "no DNS name"),
        ({"hostname": "a\r\n.shop"}, "no DNS name"),
        ({"hostname": "a|b.shop"}, "no DNS name"),
        ({"hostname": "ä.shop"}, "no DNS name"),
        ({"hostname": "x" * 64 + ".shop"}, "no DNS name"),
        ({"tls": "telepathy"}, "TLS form 'telepathy'"),
        ({"ports": (PORTS[0], ExportedPort(80, "again"))}, "two ports of one number"),
        ({"ports": (PORTS[0], ExportedPort(81, "http"))}, "one name"),
        ({"localities": (LocalityCount("r1", 2, 1),)}, "2 healthy of 1"),
        ({"localities": (LocalityCount("a/b/c/d", 1, 1),)}, "4 parts"),
        ({"localities": (LocalityCount("/z", 1, 1),)}, "empty part"),
    ],
)
def test_not_believed(changes, says):
    found = accept(**changes)
    assert isinstance(found, Finding)
    assert says in found.message
