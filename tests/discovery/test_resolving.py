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


def test_srv_gives_ports_weights_and_the_priority_as_a_label():
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
        Endpoint("10.0.0.2", (("http", 8002), ("https", 8002)), (("fedgate.io/srv-priority", "2"),), weight=7),
    )


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
