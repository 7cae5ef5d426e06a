"""Answers of upstreams, written by dnspython, as they are passed on."""

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.native.codec.dns import encode_name, parse_query, question
from gateway.native.codec.dns_relay import STALE_TTL, Wrong, ask, read_answer, relay, usable

NAME = "www.a.test"
QUESTION = question(encode_name(NAME), 1)
ID = b"\x12\x34"
SOA = "ns.a.test. admin.a.test. 1 2 3 4 60"


def asked(**options):
    return parse_query(dns.message.make_query(NAME.upper(), "A", **options).to_wire())


def answer(*records, rcode=0, flags=0, edns=True, authority=(), additional=()):
    """records: (name, ttl, kind, text)."""
    query = dns.message.from_wire(ask(ID, QUESTION, secure=False, checking_disabled=False, edns=edns))
    response = dns.message.make_response(query, recursion_available=True)
    response.set_rcode(rcode)
    response.flags |= flags
    for section, given_records in ((response.answer, records), (response.authority, authority), (response.additional, additional)):
        section += [dns.rrset.from_text(f"{name}.", ttl, "IN", kind, text) for name, ttl, kind, text in given_records]
    return response.to_wire()


def read(wire):
    return read_answer(wire, ID, QUESTION)


@pytest.mark.parametrize(("secure", "checking"), [(False, False), (True, False), (False, True)])
def test_a_question_for_an_upstream(secure, checking):
    query = dns.message.from_wire(ask(ID, QUESTION, secure=secure, checking_disabled=checking))
    assert (query.id, query.question[0].to_text()) == (0x1234, f"{NAME}. IN A")
    assert (query.edns, query.payload, bool(query.ednsflags & dns.flags.DO)) == (0, 1232, secure)
    assert bool(query.flags & dns.flags.CD) == checking
    assert query.flags & dns.flags.RD
    assert dns.message.from_wire(ask(ID, QUESTION, secure=False, checking_disabled=False, edns=False)).edns == -1


def test_the_records_are_passed_on_with_the_clients_id_letters_and_older():
    received = read(
        answer(
            (NAME, 300, "CNAME", "web.a.test."),
            ("web.a.test", 60, "A", "192.0.2.1"),
            authority=[("a.test", 90, "NS", "ns.a.test.")],
            additional=[("ns.a.test", 20, "A", "192.0.2.9")],
        )
    )
    assert (received.ttl, received.counts) == (60, (2, 1, 1))
    for query in (asked(), asked(use_edns=0, want_dnssec=True)):
        passed = dns.message.from_wire(relay(received, query, age=25))
        assert passed.id.to_bytes(2, "big") == query.id
        assert passed.question[0].name.to_text() == f"{NAME.upper()}."
        shown = [rrset.to_text().lower() for rrset in (*passed.answer, *passed.authority, *passed.additional)]
        assert shown == [
            f"{NAME}. 275 in cname web.a.test.",
            "web.a.test. 35 in a 192.0.2.1",
            "a.test. 65 in ns ns.a.test.",
            "ns.a.test. 0 in a 192.0.2.9",
        ]
        assert passed.edns == (0 if query.edns else -1)
        assert passed.flags & dns.flags.RA
        assert not passed.flags & dns.flags.AA


def test_an_outdated_answer_holds_for_half_a_minute():
    passed = dns.message.from_wire(relay(read(answer((NAME, 1, "A", "192.0.2.1"))), asked(), age=500, stale=True))
    assert passed.answer[0].ttl == STALE_TTL


def test_ttls_are_an_hour_at_most_and_negative_ones_none():
    assert read(answer((NAME, 100_000, "A", "192.0.2.1"))).ttl == 3600
    assert read(answer((NAME, 0xFFFFFFF, "A", "192.0.2.1")).replace(b"\x0f\xff\xff\xff", b"\xff\xff\xff\xff")).ttl == 0


def test_how_long_there_is_none():
    assert read(answer(rcode=3, authority=[("a.test", 300, "SOA", SOA)])).ttl == 60
    assert read(answer(rcode=3, authority=[("a.test", 30, "SOA", SOA)])).ttl == 30
    assert read(answer()).ttl == 1
    assert read(answer((NAME, 10, "CNAME", "x.test."), authority=[("a.test", 300, "SOA", SOA)])).ttl == 10


def test_what_does_not_fit_or_was_cut_short_says_so():
    received = read(answer(*[(NAME, 60, "A", f"192.0.2.{number}") for number in range(1, 60)]))
    cut = dns.message.from_wire(relay(received, asked(), age=0, limit=512))
    assert cut.flags & dns.flags.TC
    assert not cut.answer
    assert dns.message.from_wire(relay(received, asked(), age=0)).answer
    short = read(answer(flags=dns.flags.TC))
    assert short.truncated
    assert dns.message.from_wire(relay(short, asked(), age=0)).flags & dns.flags.TC


@pytest.mark.parametrize(("options", "passed"), [({}, False), ({"use_edns": 0, "want_dnssec": True}, True)])
def test_that_it_was_verified_is_told_to_those_who_asked(options, passed):
    received = read(answer((NAME, 60, "A", "192.0.2.1"), flags=dns.flags.AD))
    assert bool(dns.message.from_wire(relay(received, asked(**options), age=0)).flags & dns.flags.AD) == passed
    query = dns.message.make_query(NAME, "A")
    query.flags |= dns.flags.AD
    assert dns.message.from_wire(relay(received, parse_query(query.to_wire()), age=0)).flags & dns.flags.AD


def test_failures():
    for rcode in (dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.BADVERS):
        received = read(answer(rcode=rcode))
        assert received.rcode == rcode
        assert not usable(received)
    assert usable(read(answer(rcode=dns.rcode.NXDOMAIN)))
    could_not_read = read(ID + b"\x81\x81" + bytes(8))
    assert (could_not_read.rcode, usable(could_not_read)) == (dns.rcode.FORMERR, False)
    shown = dns.message.from_wire(relay(read(answer(rcode=dns.rcode.BADVERS)), asked(use_edns=0), age=0))
    assert shown.rcode() == dns.rcode.BADVERS


def test_what_stands_after_opt_goes_with_it():
    wire = bytearray(answer((NAME, 60, "A", "192.0.2.1")))
    wire[11] += 1
    received = read(bytes(wire) + b"\0\0\xfa\0\xff\0\0\0\0\0\0")
    assert dns.message.from_wire(relay(received, asked(), age=0)).additional == []


GOOD = answer((NAME, 60, "A", "192.0.2.1"))


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x12\x35" + GOOD[2:],
        GOOD[:2] + b"\x01" + GOOD[3:],
        GOOD.replace(b"\x03www", b"\x03xxx"),
        GOOD[:5] + b"\0" + GOOD[6:],
        GOOD[:-12],
        GOOD[:-1],
        GOOD[:40],
        GOOD.replace(b"\xc0\x0c", b"\xc0\xff"),
    ],
)
def test_what_is_no_answer_to_this_is_wrong(wire):
    with pytest.raises(Wrong):
        read(wire)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_else(data):
    for wire in (data, ID + data, GOOD[: 12 + len(QUESTION)] + data):
        try:
            relay(read(wire), asked(), age=1)
        except Wrong:
            continue
