"""Services that come together piece by piece."""

import itertools

from discovery.draft import Drafts
from discovery.model import Endpoint, Port, Protocol


def test_the_order_of_endpoints_does_not_matter():
    seats = [Endpoint("10.0.0.2"), Endpoint("10.0.0.1", weight=2), Endpoint("10.0.0.1", tier=1)]
    told = set()
    for order in itertools.permutations(enumerate(seats)):
        draft = Drafts().draft("a.b", "b", of="x")
        name = draft.port(80, "http", Protocol.HTTP)
        for number, seat in order:
            draft.endpoint(seat, name, 8080 + number)
        told.add(draft.built())
    assert len(told) == 1


def test_who_says_the_same_of_an_address_later_is_not_heard():
    draft = Drafts().draft("a.b", "b", of="x")
    draft.endpoint(Endpoint("10.0.0.1", weight=5), "http", 80)
    draft.endpoint(Endpoint("10.0.0.1"), "http", 80)
    assert [each.weight for each in draft.built().endpoints] == [5]


def test_a_number_has_one_name_and_a_name_one_number():
    draft = Drafts().draft("a.b", "b", of="x")
    assert draft.port(80, "HTTP", Protocol.HTTP) == "http"
    assert draft.port(80, "other", Protocol.TCP) == "http"
    assert draft.port(81, "http", Protocol.HTTP) == "http-81"
    assert draft.port(82, "not a name", Protocol.TCP) == "tcp-82"
    assert draft.port(80, "dns", Protocol.UDP) == "dns"
    assert [port.number for port in draft.built().ports] == [80, 80, 81, 82]
    assert Port(80, "dns", Protocol.UDP) in draft.built().ports


def test_what_says_nothing_is_no_service():
    drafts = Drafts()
    drafts.draft("empty.b", "b", of="x")
    drafts.draft("noted.b", "b", of="x").notes.add("why")
    assert list(drafts.built()) == ["noted.b"]
    assert drafts.draft("no name", "b", of="load balancer q") is None
    assert "load balancer q" in next(iter(drafts.passed_over))
