"""What names come to, without sockets: Names, places and answers, read by dnspython."""

import ipaddress

import dns.message
import dns.rcode
import msgspec
import pytest
from nameserving import texts
from native_engine import backend, endpoint

from discovery.model import HOSTNAME_LABEL
from gateway.native.codec.dns import encode_name, parse_query, reply
from gateway.native.nameserver_answers import Answers
from gateway.native.nameserver_names import Names
from gateway.native.upstream import Upstreams
from gateway.snapshot import Dns, EndpointSet, Name, Node, Snapshot
from gateway.verdicts import Health, Verdict, Verdicts

LONG = "reviews.shop.svc.cluster.local"
REVIEWS = Name(
    LONG,
    aliases=("reviews.shop", "reviews.shop.svc.clusterset.local"),
    addresses=("240.240.0.7", "2001:2::7"),
    ports=(("http", "tcp", 80), ("dns", "udp", 53)),
)
PG, UI = "outbound|5432||db.shop", "outbound|8080||db.shop"
DB = "db.shop.svc.clusterset.local"
HEADLESS = Name(DB, backends=(PG, UI), ports=(("pg", "tcp", 5432), ("ui", "tcp", 8080)), headless=True)


class World:
    """Names and backends of a Snapshot, asked directly."""

    def __init__(self, *parts, synced=True, **dns):
        self.upstreams = Upstreams(random=lambda: 0.5)
        self.names = Names()
        self.answers = Answers(self.names, self.upstreams.states, lambda places: places.reverse())
        self.become(*parts, synced=synced, **dns)

    def become(self, *parts, synced=True, changed=None, **options):
        snapshot = Snapshot.of([Node(name="gw", cluster="east"), *parts])
        self.upstreams.apply(snapshot, 0.0)
        return any(list(self.names.apply(Dns(synced=synced, **options), snapshot.parts, changed)))

    def ask(self, name, kind="A"):
        query = parse_query(dns.message.make_query(name, kind).to_wire())
        found = self.answers.answer(query)
        if found is None:
            return None
        wire = reply(query, found.rcode, found.answers, found.authorities, found.additional, limit=65535)
        return dns.message.from_wire(wire)

    def texts(self, name, kind="A"):
        return texts(self.ask(name, kind))


def of(rcode):
    return dns.rcode.to_text(rcode.rcode())


def db(*endpoints, also=()):
    """endpoints: (address, hostname, cluster, priority)."""
    made = [
        endpoint(5432, address=address, priority=priority, labels=((HOSTNAME_LABEL, hostname),) if hostname else ())
        for address, hostname, _, priority in endpoints
    ]
    made = [msgspec.structs.replace(one, cluster=each[2]) for one, each in zip(made, endpoints, strict=True)]
    ui = tuple(msgspec.structs.replace(one, port=8080, id=f"{one.address}:8080") for one in made)
    return (HEADLESS, backend(PG), EndpointSet(PG, tuple(made)), backend(UI), EndpointSet(UI, ui), *also)


THREE = (
    ("10.0.0.1", "db-0", "east", 0),
    ("10.0.0.2", "db-1", "east", 0),
    ("10.1.0.1", "db-0", "west", 1),
)


def test_an_address_of_the_other_family_is_none_but_the_name_is_there():
    world = World(Name("a.shop.svc.cluster.local", addresses=("10.0.0.1",)))
    answer = world.ask("a.shop.svc.cluster.local", "AAAA")
    assert (of(answer), answer.answer, answer.authority[0].ttl) == ("NOERROR", [], 5)
    assert answer.authority[0].name.to_text() == "cluster.local."
    assert of(world.ask("a.shop.svc.cluster.local", "TXT")) == "NOERROR"


def test_srv_of_a_service_with_addresses():
    world = World(REVIEWS)
    answer = world.ask(f"_http._tcp.{LONG}", "SRV")
    assert texts(answer) == [f"0 100 80 {LONG}."]
    assert texts(answer, "additional") == ["2001:2::7", "240.240.0.7"]
    assert str(answer.additional[0].name) == f"{LONG}."
    assert world.texts("_dns._udp.reviews.shop", "SRV") == ["0 100 53 reviews.shop."]
    assert world.texts(LONG, "SRV") == [f"0 100 53 {LONG}.", f"0 100 80 {LONG}."]
    assert of(world.ask(f"_http._udp.{LONG}", "SRV")) == "NXDOMAIN"
    assert of(world.ask(f"_none._tcp.{LONG}", "SRV")) == "NXDOMAIN"
    assert of(world.ask(f"_http._tcp.{LONG}")) == "NOERROR"
    assert world.texts(f"_http._tcp.{LONG}") == []
    assert of(world.ask(f"_http.{LONG}")) == "NXDOMAIN"


def test_srv_of_a_headless_service_names_each_endpoint_and_the_names_are_answered():
    world = World(*db(*THREE[:2], ("10.0.0.3", "", "east", 0)))
    answer = world.ask(f"_pg._tcp.{DB}", "SRV")
    targets = {text.split()[3].rstrip("."): text.split()[:3] for text in texts(answer)}
    assert set(targets) == {f"db-0.east.{DB}", f"db-1.east.{DB}", f"10-0-0-3.{DB}"}
    assert set(map(tuple, targets.values())) == {("0", "1", "5432")}
    extra = {str(rrset.name).rstrip("."): rrset[0].to_text() for rrset in answer.additional}
    assert {name: world.texts(name) for name in targets} == {name: [address] for name, address in extra.items()}
    assert len(world.texts(DB, "SRV")) == 6
    assert of(world.ask(f"_none._tcp.{DB}", "SRV")) == "NXDOMAIN"


def test_names_of_clusters_and_hosts_of_a_headless_service():
    world = World(*db(*THREE))
    assert world.texts(DB) == ["10.0.0.1", "10.0.0.2"]
    assert world.texts(f"east.{DB}") == ["10.0.0.1", "10.0.0.2"]
    assert world.texts(f"west.{DB}") == ["10.1.0.1"]
    assert world.texts(f"db-0.west.{DB}") == ["10.1.0.1"]
    assert world.texts(f"DB-0.East.{DB}") == ["10.0.0.1"]
    assert world.texts(f"db-1.{DB}") == ["10.0.0.2"]
    assert world.texts(f"10-1-0-1.{DB}") == ["10.1.0.1"]
    for nobody in (f"north.{DB}", f"db-9.east.{DB}", f"x.db-0.east.{DB}"):
        assert of(world.ask(nobody)) == "NXDOMAIN"
    assert of(World(REVIEWS).ask(f"east.{LONG}")) == "NXDOMAIN"


def test_sick_endpoints_and_those_behind_a_peer_are_left_out():
    behind = endpoint(15443, address="192.0.2.9", peer="west")
    world = World(HEADLESS, backend(PG), EndpointSet(PG, (endpoint(5432, address="10.0.0.1"), behind)), backend(UI))
    assert world.texts(DB) == ["10.0.0.1"]
    world.upstreams.assess(Verdicts(endpoints={PG: {"10.0.0.1:5432": Verdict(Health.UNHEALTHY)}}))
    answer = world.ask(DB)
    assert (of(answer), answer.answer) == ("NOERROR", [])
    assert texts(world.ask(f"_pg._tcp.{DB}", "SRV")) == []


def test_only_answers_of_endpoints_are_volatile():
    world = World(REVIEWS, *db(*THREE))

    def volatile(name, kind="A"):
        return world.answers.answer(parse_query(dns.message.make_query(name, kind).to_wire())).volatile

    assert volatile(LONG) is None
    assert volatile(f"_http._tcp.{LONG}", "SRV") is None
    assert all(
        volatile(*each) is not None
        for each in ((DB,), (DB, "AAAA"), (f"north.{DB}",), (f"_pg._tcp.{DB}", "SRV"), (f"west.{DB}", "SRV"))
    )


def test_wildcards_answer_what_no_other_name_does_the_longest_first():
    world = World(
        Name("*.corp", addresses=("10.9.0.1",)),
        Name("*.shop.corp", addresses=("10.9.0.2",)),
        Name("a.shop.corp", addresses=("10.9.0.3",), ttl=7),
    )
    assert world.texts("x.corp") == ["10.9.0.1"]
    assert world.texts("x.y.corp") == ["10.9.0.1"]
    assert world.texts("x.y.shop.corp") == ["10.9.0.2"]
    assert world.texts("a.shop.corp") == ["10.9.0.3"]
    assert world.ask("a.shop.corp").answer[0].ttl == 7
    assert world.ask("corp") is None
    assert world.ask("x.test") is None


def test_reverse_names():
    world = World(REVIEWS, Name("other.test", addresses=("240.240.0.7",)), Name("*.wild", addresses=("10.9.0.1",)))
    assert world.texts("7.0.240.240.in-addr.arpa", "PTR") == ["other.test.", f"{LONG}."]
    assert world.texts(dns_reverse("2001:2::7"), "PTR") == [f"{LONG}."]
    assert world.texts("7.0.240.240.in-addr.arpa", "A") == []
    assert world.ask("1.0.9.10.in-addr.arpa", "PTR") is None


def dns_reverse(address):
    return ipaddress.ip_address(address).reverse_pointer


def test_in_a_zone_what_is_not_there_is_denied_and_what_is_above_a_name_is_not():
    world = World(REVIEWS)
    denied = world.ask("other.shop.svc.cluster.local")
    assert (of(denied), texts(denied, "authority")) == (
        "NXDOMAIN",
        ["ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"],
    )
    for above in ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "global"):
        assert (of(world.ask(above)), world.ask(above).answer) == ("NOERROR", [])
    assert len(world.ask("cluster.local", "SOA").answer) == 1
    assert world.ask("example.com") is None
    assert world.ask(".", "NS") is None


def test_before_the_first_sync():
    world = World(REVIEWS, Name("new.shop.svc.cluster.local"), Name("new.corp"), synced=False)
    assert of(world.ask("other.shop.svc.cluster.local")) == "SERVFAIL"
    assert of(world.ask("new.shop.svc.cluster.local")) == "SERVFAIL"
    assert world.texts(LONG) == ["240.240.0.7"]
    assert world.ask("new.corp") is None
    assert world.ask("_http._tcp.new.corp", "SRV") is None
    world.become(REVIEWS, Name("new.shop.svc.cluster.local"))
    assert of(world.ask("new.shop.svc.cluster.local")) == "NOERROR"


def test_a_spelling_that_two_claim_is_the_ones_whose_own_it_is():
    mine = Name("x.test", addresses=("10.0.0.1",))
    a, b = (
        Name(name, aliases=("x.test", "y.test"), addresses=(address,))
        for name, address in (("a.a", "10.0.0.2"), ("b.b", "10.0.0.3"))
    )
    for order in ((a, mine, b), (b, a, mine)):
        world = World(*order)
        assert world.texts("x.test") == ["10.0.0.1"]
        assert world.texts("y.test") == ["10.0.0.2"]
        world.become(b)
        assert world.texts("x.test") == ["10.0.0.3"]


def test_what_is_no_dns_name_or_address_is_passed_over():
    world = World(
        Name("bücher.test", aliases=("books.test",), addresses=("10.0.0.1",)),
        Name("net.test", addresses=("10.0.0.0/8", "10.0.0.1")),
    )
    assert world.texts("books.test") == ["10.0.0.1"]
    assert world.texts("net.test") == ["10.0.0.1"]
    assert world.texts("1.0.0.10.in-addr.arpa", "PTR") == ["net.test."]


def test_applying_looks_at_what_changed_only_and_forgets_everything_of_what_is_gone():
    world = World(REVIEWS)
    other = Name("other.svc.cluster.local", addresses=("10.0.0.5",))
    assert not world.become(REVIEWS, changed=())
    assert not world.become(REVIEWS)
    assert world.become(REVIEWS, other, changed=(f"name/{other.name}", "backend/x"))
    assert world.texts(other.name) == ["10.0.0.5"]
    assert not world.become(REVIEWS, other, changed=(f"name/{other.name}",))
    assert world.become(other, changed=(f"name/{LONG}",))
    assert of(world.ask(LONG)) == "NXDOMAIN"
    assert world.become(other, zones=("corp",))
    assert world.ask("x.cluster.local") is None
    assert world.become(zones=("corp",))
    empty = World(zones=("corp",)).names
    for table in ("_parts", "_owners", "_wild", "_reverse", "_above"):
        assert getattr(world.names, table) == getattr(empty, table)
    assert (len(world.names), repr(world.names)) == (0, "<Names 0 names 0 spellings>")


@pytest.mark.parametrize("hostname", ["x" * 80, "é"])
def test_a_hostname_that_is_no_label_does_no_harm(hostname):
    world = World(*db(("10.0.0.1", hostname, "east", 0)))
    assert len(world.texts(f"_pg._tcp.{DB}", "SRV")) == 1


def test_a_target_that_would_be_too_long_is_left_out():
    long = ".".join(["x" * 60] * 4)
    name = Name(long, backends=(PG,), ports=(("pg", "tcp", 5432),), headless=True)
    called = endpoint(5432, address="10.0.0.1", labels=((HOSTNAME_LABEL, "a-hostname-too-many"),))
    world = World(name, backend(PG), EndpointSet(PG, (called,)))
    assert world.texts(long) == ["10.0.0.1"]
    assert world.texts(long, "SRV") == []
    assert encode_name(long)
