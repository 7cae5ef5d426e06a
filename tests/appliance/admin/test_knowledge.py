"""What the plane knows, as rows: services counted once, sources with their age, documents with what is wrong with them."""

from appliance.admin.knowledge import document_rows, peer_row, service_row, source_row
from discovery.catalog import Catalog
from discovery.document import Origin, parse
from discovery.model import Endpoint, Health, Locality, Port, Protocol, Service, ShardKey
from discovery.source import SourceStatus
from discovery.update import Reset
from federation.compile.status import Subject, statuses
from federation.compile.status import problem as unresolved
from federation.peering.status import AddressStatus, LinkState, PeerStatus
from federation.peering.terms import Finding
from federation.resources.read import read

NAME = "a.shop"
OWN, PEER = ShardKey("east", "static"), ShardKey("west", "peer")


def endpoint(address, **options):
    return Endpoint(address, ports=(("http", 80),), **options)


def catalog():
    ports = (Port(80, "http"),)
    own = Service(NAME, ports=ports, endpoints=(endpoint("10.0.0.1"), endpoint("10.0.0.2", health=Health.UNHEALTHY)))
    gateways = tuple(
        endpoint(f"10.9.0.{n}", peer="west", cluster="west", locality=Locality("r2"), healthy=3, total=4) for n in (1, 2)
    )
    theirs = Service(NAME, ports=ports, endpoints=gateways)
    return Catalog("east").apply(OWN, Reset((own,))).catalog.apply(PEER, Reset((theirs,))).catalog


def resources(text):
    return read(parse(text, "a.yaml")[0])


EXPORT = """
apiVersion: fedgate.io/v1
kind: Export
metadata: {name: shop}
spec: {services: ['%s'], peers: [west]}
"""


def test_workloads_are_counted_once_however_many_gateways_a_peer_has():
    found = catalog()
    row = service_row(found, found.services[NAME], resources(EXPORT % "*.shop").exports)
    assert row.clusters == {"east": "1/2", "west": "3/4"}
    assert row.sources == ("east/static", "west/peer")
    assert row.ports == ("80/UNKNOWN",)
    assert row.exported_to == ("west",)
    assert row.virtual_addresses == ()
    given = service_row(found, found.services[NAME], (), ("240.240.0.9",))
    assert (given.addresses, given.virtual_addresses) == (row.addresses, ("240.240.0.9",))
    assert service_row(found, found.services[NAME], resources(EXPORT % "*.other").exports).exported_to == ()


def test_a_source_has_an_age_when_it_is_lost():
    found = catalog()
    connected = SourceStatus(OWN, connected=True, updated=100.0, shard="live", services=1)
    assert source_row(found, connected, 130.0).age_s == 0.0
    lost = SourceStatus(OWN, connected=False, updated=100.0, error="refused", shard="kept", services=1)
    row = source_row(found, lost, 130.0)
    assert (row.age_s, row.problem, row.state, row.endpoints) == (30.0, "refused", "kept", 2)
    assert source_row(found, SourceStatus(ShardKey("x", "y")), 130.0).age_s == 0.0
    assert source_row(found, SourceStatus(ShardKey("x", "y")), 130.0).said_s == -1.0


def test_what_is_odd_about_a_source_is_said_while_nothing_worse_is():
    odd = SourceStatus(OWN, connected=True, updated=100.0, shard="live", remark="came back with 1 of 20 endpoints", damped=3)
    row = source_row(catalog(), odd, 130.0, findings=2)
    assert (row.problem, row.damped, row.findings, row.said_s, row.lost_s) == (odd.remark, 3, 2, 30.0, -1.0)


def test_contradictions_and_notes_are_said_of_their_service():
    other = Service(NAME, ports=(Port(80, "http", Protocol.TCP),), notes=("speaks an odd dialect",))
    found = catalog().apply(ShardKey("east", "consul"), Reset((other,))).catalog
    found = found.apply(ShardKey("east", "nomad"), Reset((Service(NAME, ports=(Port(80, "http", Protocol.HTTP),)),))).catalog
    row = service_row(found, found.services[NAME], ())
    assert [finding.split(":")[0] for finding in row.findings] == ["ports[80].protocol", "east/consul"]


def test_a_peer_with_its_addresses_and_what_is_not_believed():
    status = PeerStatus(
        "west",
        "west.example.com",
        LinkState.LOST,
        imported=2,
        exported=1,
        sessions=1,
        error="timed out",
        addresses=(AddressStatus("10.9.0.1:15443", LinkState.LOST, verdict="suspect"),),
        findings=(Finding("b.shop", "not in spec.imports"),),
    )
    row = peer_row(status)
    assert (row.name, row.state, row.services, row.exported, row.problem) == ("west", "lost", 2, 1, "timed out")
    assert [(each.address, each.verdict) for each in row.addresses] == [("10.9.0.1:15443", "suspect")]
    assert row.findings == ("b.shop: not in spec.imports",)


NODES = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: good}
spec: {cluster: east}
---
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: bad}
spec: {clusters: east}
"""


def test_documents_that_stand_and_documents_that_do_not():
    found = resources(NODES)
    subject = Subject("Node", "default", "good")
    rows = document_rows(found, found.problems, statuses([subject], []))
    assert [(row.name, row.good, row.line) for row in rows] == [("good", True, 2), ("bad", False, rows[1].line)]
    assert any("cluster" in error for error in rows[1].errors)
    assert all(condition.status for condition in rows[0].conditions)


def test_a_document_that_compile_cannot_use_is_not_good_and_says_why():
    found = resources(NODES)
    subject = Subject("Node", "default", "good")
    (row, _) = document_rows(found, found.problems, statuses([subject], [unresolved(subject, "spec.x", "Missing", "is not there")]))
    assert not row.good
    assert row.errors == ("spec.x: is not there",)


def test_a_file_that_cannot_be_read_is_a_row_too():
    _, errors = parse("kind: [", "b.yaml")
    from federation.reading import Reading
    from federation.resources.resources import Resources

    problems = Reading(Resources(), unread=errors).problems
    (row,) = document_rows(Resources(), problems, {})
    assert (row.file, row.kind, row.good) == ("b.yaml", "", False)
    assert Origin("b.yaml", row.line)
