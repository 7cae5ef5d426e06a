"""The merge rule by tables: who wins, what is united, what is found to be contradictory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.merge import Claim, _Merging, explain, merge
from discovery.model import Endpoint, Locality, Port, Protocol, Resolution, Service, ShardKey

HTTP, TCP, UDP, UNKNOWN = Protocol.HTTP, Protocol.TCP, Protocol.UDP, Protocol.UNKNOWN
EAST, WEST, WEST2 = ShardKey("east", "k8s"), ShardKey("west", "k8s"), ShardKey("west", "consul")
OLD, YOUNG = "2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"


def claim(key, **fields):
    return Claim(key, Service("a.example", **fields))


def merged(*claims):
    return merge(claims, "east")[0]


def provenance(field, *claims):
    return next(entry for entry in explain(claims, "east") if entry.field == field)


def test_a_single_claim_is_the_service_itself():
    only = claim(WEST, ports=(Port(80, "http", HTTP),))
    assert merged(only) is only.service
    assert {entry.reason for entry in explain((only,), "east")} == {"only one says it"}


@pytest.mark.parametrize(
    ("winner", "loser", "reason"),
    [
        ((EAST, YOUNG), (WEST, OLD), "own cluster first"),
        ((WEST, OLD), (WEST2, YOUNG), f"oldest, created {OLD}"),
        ((WEST, YOUNG), (WEST2, ""), f"oldest, created {YOUNG}"),
        ((WEST, "2025-01-01T00:00:00+02:00"), (WEST2, YOUNG), "oldest, created 2025-01-01T00:00:00+02:00"),
        ((WEST2, OLD), (WEST, OLD), "first by shard key"),
        ((WEST2, ""), (WEST, "yesterday"), "first by shard key"),
    ],
)
def test_who_wins_and_why(winner, loser, reason):
    first = claim(winner[0], created=winner[1], addresses=("10.0.0.1",), resolution=Resolution.DNS)
    second = claim(loser[0], created=loser[1], addresses=("10.0.0.2",), resolution=Resolution.STATIC)
    for order in ((first, second), (second, first)):
        service, findings = merge(order, "east")
        assert service.addresses == ("10.0.0.1",)
        assert [(finding.field, finding.winner, finding.losers) for finding in findings] == [("resolution", winner[0], (loser[0],))]
        entry = provenance("addresses", *order)
        assert (entry.winner, entry.reason, entry.losers) == (winner[0], reason, (loser[0],))


def test_who_says_nothing_does_not_compete():
    service, findings = merge((claim(EAST), claim(WEST, addresses=("10.0.0.2",), namespace="shop", labels=(("app", "a"),))), "east")
    assert (service.addresses, service.namespace, service.labels) == (("10.0.0.2",), "shop", (("app", "a"),))
    assert findings == ()
    assert provenance("headless", claim(EAST), claim(WEST)).reason == "all agree"


def test_a_finding_says_what_each_said():
    _, (finding,) = merge((claim(EAST, external=True), claim(WEST)), "east")
    assert finding.message == "east/k8s says True and is followed (own cluster first); west/k8s says False"


@pytest.mark.parametrize(
    ("own", "other", "ports", "fields"),
    [
        ([(80, "http", HTTP)], [(80, "http", HTTP)], [(80, "http", HTTP)], []),
        ([(80, "http", HTTP)], [(90, "grpc", HTTP)], [(80, "http", HTTP), (90, "grpc", HTTP)], []),
        ([(80, "http", HTTP)], [(8080, "http", HTTP)], [(80, "http", HTTP)], ["ports[80].number"]),
        ([(80, "http", HTTP)], [(80, "web", HTTP)], [(80, "http", HTTP)], ["ports[80].name"]),
        ([(80, "http", HTTP)], [(80, "http", TCP)], [(80, "http", HTTP)], ["ports[80].protocol"]),
        ([(80, "http", UNKNOWN)], [(80, "http", TCP)], [(80, "http", TCP)], []),
        ([(80, "", HTTP)], [(80, "web", UNKNOWN)], [(80, "web", HTTP)], []),
        ([(53, "dns", UDP)], [(53, "dns-tcp", TCP)], [(53, "dns", UDP), (53, "dns-tcp", TCP)], []),
        ([(80, "http", HTTP)], [(80, "web", HTTP), (90, "http", HTTP)], [(80, "http", HTTP)], ["ports[80]", "ports[80].number"]),
    ],
)
def test_ports_are_united_by_name_then_by_number(own, other, ports, fields):
    service, findings = merge(
        (claim(EAST, ports=tuple(Port(*port) for port in own)), claim(WEST, ports=tuple(Port(*port) for port in other))), "east"
    )
    assert service.ports == tuple(Port(*port) for port in ports)
    assert sorted(finding.field for finding in findings) == fields


def test_a_port_named_by_the_second_is_met_by_name_by_the_third():
    ports = [(EAST, Port(80, "")), (WEST2, Port(80, "http")), (WEST, Port(8080, "http"))]
    assert merged(*(claim(key, ports=(port,)) for key, port in ports)).ports == (Port(80, "http"),)


def test_a_losers_endpoints_serve_under_the_winners_port_name():
    own = claim(EAST, ports=(Port(80, "http"),), endpoints=(Endpoint("10.0.0.1", (("http", 8000),), cluster="east"),))
    other = claim(WEST, ports=(Port(80, "web"),), endpoints=(Endpoint("10.1.0.1", (("web", 9000),), cluster="west"),))
    assert [endpoint.port("http") for endpoint in merged(own, other).endpoints] == [8000, 9000]


def test_endpoints_are_the_union_and_a_duplicate_of_one_cluster_counts_once():
    def of(key, cluster, weight, **fields):
        return claim(key, endpoints=(Endpoint("10.0.0.1", (("http", 80),), cluster=cluster, weight=weight),), **fields)

    service = merged(of(WEST, "west", 2, created=OLD), of(WEST2, "west", 3), of(EAST, "east", 1))
    assert [(endpoint.cluster, endpoint.weight) for endpoint in service.endpoints] == [("east", 1), ("west", 2)]
    entries = [
        entry
        for entry in explain((of(WEST, "west", 2, created=OLD), of(WEST2, "west", 3)), "east")
        if entry.field == "endpoints[10.0.0.1:80]"
    ]
    assert [(entry.winner, entry.losers, entry.reason) for entry in entries] == [(WEST, (WEST2,), f"oldest, created {OLD}")]


def test_endpoints_that_share_an_address_are_told_apart():
    endpoints = (
        Endpoint("10.0.0.1", (("http", 8001),)),
        Endpoint("10.0.0.1", (("http", 8002), ("admin", 9000))),
        Endpoint("2001:db8::1", (("http", 80),)),
        Endpoint("/run/web.sock", (("http", 0),)),
    )
    fields = [entry.field for entry in explain((claim(EAST, endpoints=endpoints),), "east") if entry.field.startswith("endpoints")]
    places = ("10.0.0.1:8001", "10.0.0.1:8002,9000", "[2001:db8::1]:80", "/run/web.sock")
    assert fields == [f"endpoints[{place}]" for place in places]


def test_one_claim_may_say_a_gateways_address_once_for_each_locality():
    def gateway(region):
        return Endpoint("10.0.0.9", (("http", 15443),), cluster="west", peer="west", locality=Locality(region))

    service = merged(claim(WEST, endpoints=(gateway("a"), gateway("b"))), claim(EAST))
    assert [endpoint.locality.region for endpoint in service.endpoints] == ["a", "b"]


def test_subject_alt_names_are_united():
    service = merged(claim(WEST, subject_alt_names=("b", "c")), claim(EAST, subject_alt_names=("a", "b")))
    assert service.subject_alt_names == ("a", "b", "c")


def test_in_a_cluster_set_the_oldest_export_wins_in_every_cluster_alike():
    def exported(key, created, protocol):
        return Claim(key, Service("a.shop.svc.clusterset.local", created=created, ports=(Port(80, "http", protocol),)))

    claims = (exported(EAST, YOUNG, TCP), exported(WEST, OLD, HTTP))
    for own in ("east", "west", "north"):
        service, (finding,) = merge(claims, own)
        assert service.ports == (Port(80, "http", HTTP),)
        assert (finding.field, finding.winner, finding.losers, finding.conflict) == ("ports[80].protocol", WEST, (EAST,), True)
        assert f"oldest, created {OLD}" in finding.message


def test_notes_become_findings_that_are_no_conflicts():
    _, (alone,) = merge((claim(WEST, notes=("speaks only mTLS of its own",)),), "east")
    assert (alone.field, alone.conflict) == ("notes", False)
    assert alone.message == "west/k8s: speaks only mTLS of its own"
    _, both = merge((claim(WEST, notes=("one",)), claim(EAST, notes=("two",))), "east")
    assert [finding.winner for finding in both] == [EAST, WEST]


def test_created_is_since_when_the_own_cluster_has_it_so_that_peers_compare_their_own():
    assert merged(claim(EAST, created=YOUNG), claim(WEST, created=OLD)).created == YOUNG
    assert merged(claim(WEST2, created=YOUNG), claim(WEST, created=OLD)).created == OLD
    assert provenance("created", claim(WEST, created=OLD), claim(EAST, created=YOUNG)).reason == "oldest of the own cluster"
    assert provenance("created", claim(EAST), claim(ShardKey("east", "consul"), created=OLD)).reason == "only one says it"


def test_what_is_behind_a_peers_gateway_does_not_say_whether_a_service_is_headless():
    peers = claim(ShardKey("west", "peer"), endpoints=(Endpoint("10.9.9.9", peer="west"),))
    service, findings = merge((claim(EAST, headless=True), peers), "east")
    assert service.headless
    assert findings == ()


PORTS = st.builds(Port, st.sampled_from([80, 81]), st.sampled_from(["", "http", "web"]), st.sampled_from([HTTP, UDP, UNKNOWN]))
# So that several say the same, also what the rule has to change.
SAME = [(Port(80, "http", HTTP),), (Port(80, "", HTTP), Port(81, "web")), (Port(80), Port(80))]
ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    ports=st.lists(st.tuples(st.sampled_from(["http", "web"]), st.sampled_from([80, 81])), max_size=2).map(tuple),
    cluster=st.sampled_from(["east", "west"]),
    weight=st.integers(1, 2),
)
CLAIMS = st.lists(
    st.builds(
        Claim,
        st.sampled_from([EAST, WEST, WEST2]),
        st.builds(
            Service,
            st.just("a.example"),
            namespace=st.sampled_from(["", "a", "b"]),
            ports=st.one_of(st.lists(PORTS, max_size=3).map(tuple), st.sampled_from(SAME)),
            endpoints=st.lists(ENDPOINTS, max_size=3).map(tuple),
            addresses=st.sampled_from([(), ("10.9.0.1",)]),
            external=st.booleans(),
            created=st.sampled_from(["", OLD, YOUNG]),
        ),
    ),
    min_size=2,
    max_size=3,
    unique_by=lambda claim: claim.key,
)


@given(CLAIMS)
def test_a_merge_that_explains_itself_decides_alike(claims):
    explaining = _Merging(claims, "east", explaining=True)
    service = explaining.service()
    assert merge(claims, "east") == (service, tuple(explaining.findings))
