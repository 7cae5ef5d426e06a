"""DNS answers into endpoints: every rule without a socket."""

import pytest

from discovery.model import Endpoint, Locality, Port, Resolution, Service
from discovery.resolving import (
    Answer,
    DnsService,
    DnsTarget,
    Question,
    SrvRecord,
    failed,
    is_address,
    needs,
    normal,
    of_host,
    questions,
    resolve,
)

BOTH = ("A", "AAAA")
PORTS = (Port(80, "http"), Port(443, "https"))


def a(name, *addresses):
    return {Question(name, "A"): Answer(addresses=addresses), Question(name, "AAAA"): Answer()}


def test_every_address_of_a_and_aaaa_is_an_endpoint():
    template = Endpoint("", (("http", 8080),), locality=Locality("r"), weight=3)
    service = DnsService(Service("x", ports=PORTS), (DnsTarget("DB.Example.", endpoint=template),))
    answers = {Question("db.example", "A"): Answer(("10.0.0.1", "10.0.0.2")), Question("db.example", "AAAA"): Answer(("fd00::1",))}
    endpoints = resolve(service, answers, BOTH).endpoints
    assert [endpoint.address for endpoint in endpoints] == ["10.0.0.1", "10.0.0.2", "fd00::1"]
    assert {(endpoint.ports, endpoint.locality, endpoint.weight) for endpoint in endpoints} == {
        ((("http", 8080),), Locality("r"), 3)
    }


def test_one_at_a_time_is_the_address_answered_first_and_ipv6_only_without_ipv4():
    template = Endpoint("", (("http", 8080),))
    service = DnsService(Service("x", ports=PORTS, resolution=Resolution.DNS_ROUND_ROBIN), (DnsTarget("a", endpoint=template),))

    def chosen(v4, v6):
        return resolve(service, {Question("a", "A"): v4, Question("a", "AAAA"): v6}, BOTH).endpoints

    rotated = Answer(("10.0.0.1", "10.0.0.2"), first="10.0.0.2")
    assert chosen(rotated, Answer(("fd00::1",))) == (Endpoint("10.0.0.2", (("http", 8080),)),)
    assert [each.address for each in chosen(Answer(), Answer(("fd00::1",)))] == ["fd00::1"]
    assert chosen(Answer(), Answer()) == ()
    literal = DnsService(service.service, (DnsTarget("192.0.2.1", endpoint=template),))
    assert [each.address for each in resolve(literal, {}, BOTH).endpoints] == ["192.0.2.1"]


def test_literals_pass_through_unasked_and_the_templates_own_endpoints_stay():
    service = DnsService(Service("x", endpoints=(Endpoint("/run/x.sock"),)), (DnsTarget("192.0.2.1"), DnsTarget("fd00::1")))
    assert questions([service], {}, BOTH) == frozenset()
    assert [endpoint.address for endpoint in resolve(service, {}, BOTH).endpoints] == ["/run/x.sock", "192.0.2.1", "fd00::1"]


def test_two_names_for_one_address_are_one_endpoint_unless_ports_differ():
    targets = (DnsTarget("a"), DnsTarget("b"), DnsTarget("b", endpoint=Endpoint("", (("http", 81),))))
    endpoints = resolve(DnsService(Service("x"), targets), a("a", "10.0.0.1") | a("b", "10.0.0.1"), BOTH).endpoints
    assert [endpoint.ports for endpoint in endpoints] == [(), (("http", 81),)]


def test_a_service_waits_until_every_question_was_tried():
    service = of_host("db.example")
    assert resolve(service, {Question("db.example", "A"): Answer(("10.0.0.1",))}, BOTH) is None
    assert resolve(service, {Question("db.example", "A"): Answer(("10.0.0.1",))}, ("A",)).endpoints
    tried = a("db.example") | {Question("db.example", "AAAA"): failed(None, "timeout")}
    assert resolve(service, tried, BOTH).endpoints == ()


def test_srv_gives_ports_weights_and_the_priority_as_a_tier_and_a_label():
    service = of_host("billing.corp", srv="_billing._tcp.corp.example", ports=PORTS)
    owner = Question("_billing._tcp.corp.example", "SRV")
    assert list(needs(service, {}, BOTH)) == [owner]
    records = (SrvRecord(1, 0, 8001, "a.example"), SrvRecord(2, 7, 8002, "b.example"))
    answers = {owner: Answer(records=records)}
    assert set(needs(service, answers, BOTH)) == {owner, *a("a.example"), *a("b.example")}
    assert resolve(service, answers, BOTH) is None
    endpoints = resolve(service, answers | a("a.example", "10.0.0.1") | a("b.example", "10.0.0.2"), BOTH).endpoints
    assert endpoints == (
        Endpoint("10.0.0.1", (("http", 8001), ("https", 8001)), (("fedgate.io/srv-priority", "1"),), weight=1),
        Endpoint("10.0.0.2", (("http", 8002), ("https", 8002)), (("fedgate.io/srv-priority", "2"),), weight=7, tier=1),
    )


def srv(*records, **addresses):
    """records: (priority, weight, target). addresses: target → its own. (address, weight, tier) of each endpoint."""
    service = of_host("x", srv="_x._tcp")
    answers = {Question("_x._tcp", "SRV"): Answer(records=tuple(SrvRecord(p, w, 80, target) for p, w, target in records))}
    for target, found in addresses.items():
        answers |= a(target, *found)
    return [(each.address, each.weight, each.tier) for each in resolve(service, answers, BOTH).endpoints]


def test_tiers_count_the_priorities_whatever_their_numbers():
    records = [(10, 1, "a"), (10, 1, "b"), (500, 1, "c"), (65535, 1, "d")]
    found = srv(*records, a=["10.0.0.1"], b=["10.0.0.2"], c=["10.0.0.3"], d=["10.0.0.4"])
    assert [tier for _, _, tier in found] == [0, 0, 1, 2]


def test_a_target_with_several_addresses_gets_no_more_than_its_records_weight():
    found = srv(
        (1, 10, "a"), (1, 10, "b"), (2, 7, "c"), a=["10.0.0.1", "10.0.0.2", "10.0.0.3"], b=["10.0.0.4", "10.0.0.5"], c=["10.0.0.6"]
    )
    assert found == [
        ("10.0.0.1", 20, 0),
        ("10.0.0.2", 20, 0),
        ("10.0.0.3", 20, 0),
        ("10.0.0.4", 30, 0),
        ("10.0.0.5", 30, 0),
        ("10.0.0.6", 7, 1),
    ]
    assert srv((1, 0, "a"), (1, 5, "b"), a=[], b=["10.0.0.4"]) == [("10.0.0.4", 5, 0)]
    many = {
        "a": [f"10.1.0.{n}" for n in range(11)],
        "b": [f"10.2.0.{n}" for n in range(13)],
        "c": [f"10.3.0.{n}" for n in range(240)],
    }
    weights = {address: weight for address, weight, _ in srv((1, 65535, "a"), (1, 1, "b"), (1, 1, "c"), **many)}
    assert 65_000 < 13 * weights["10.1.0.1"] * 11 / (13 * weights["10.2.0.1"] * 13) < 66_000
    assert all(0 < weight < 2**31 for weight in weights.values())


def test_an_srv_target_of_the_root_means_decidedly_no_service():
    service = of_host("x", srv="_x._tcp")
    answers = {Question("_x._tcp", "SRV"): Answer(records=(SrvRecord(0, 0, 0, ""),))}
    assert list(needs(service, answers, BOTH)) == [Question("_x._tcp", "SRV")]
    assert resolve(service, answers, BOTH).endpoints == ()


def test_a_host_without_ports_has_port_80():
    assert of_host("Billing.Corp").service == Service("billing.corp", ports=(Port(80, "http"),))
    assert of_host("x").targets[0].endpoint.ports == (("http", 80),)


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [(Answer(ttl=300), 300), (Answer(ttl=0), 1), (Answer(), 60), (Answer(ttl=5, error="SERVFAIL"), 60), (failed(None, "x"), 60)],
)
def test_when_to_ask_again(answer, seconds):
    assert answer.refresh == seconds


def test_a_failure_keeps_the_last_good_answer():
    assert failed(Answer(("10.0.0.1",), ttl=5), "SERVFAIL") == Answer(("10.0.0.1",), ttl=5, error="SERVFAIL")
    assert not failed(None, "SERVFAIL").good


def test_names_and_addresses():
    assert normal("DB.Example.") == "db.example"
    assert normal(".") == ""
    assert [is_address(text) for text in ("10.0.0.1", "fd00::1", "a.example", "10.0.0")] == [True, True, False, False]
