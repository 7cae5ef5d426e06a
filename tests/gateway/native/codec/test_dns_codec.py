"""DNS questions and answers, read and written by dnspython on the other side."""

import contextlib

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.native.codec.dns import (
    AAAA,
    ANY,
    LARGEST_TCP,
    SOA,
    SRV,
    A,
    Unreadable,
    decode_name,
    encode_name,
    first_label,
    parent,
    parse_query,
    pointer,
    question,
    record,
    reply,
    skip_name,
    soa_data,
    srv_data,
)

LABELS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)


def asked(name="a.test", kind="A", **options):
    return dns.message.make_query(name, kind, **options)


@given(NAMES)
def test_names_are_written_as_dnspython_does_and_read_again(text):
    wire = encode_name(text.upper())
    assert wire == dns.name.from_text(text).to_wire()
    assert decode_name(wire) == text
    assert (first_label(wire), decode_name(parent(wire))) == (text.split(".")[0], text.partition(".")[2] or ".")


def test_the_root():
    assert encode_name(".") == encode_name("") == b"\0"
    assert (decode_name(b"\0"), parent(b"\0"), first_label(b"\0")) == (".", b"\0", "")
    assert decode_name(b"\x03a.b\0") == "a\\.b"


@pytest.mark.parametrize("text", ["a..b", ".a", "x" * 64, ".".join(["x" * 63] * 4), "bücher.test"])
def test_what_is_no_name_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        encode_name(text)


@given(NAMES, st.sampled_from(["A", "AAAA", "SRV", "TXT"]), st.booleans(), st.integers(0, 65535), st.booleans())
def test_questions_are_read(text, kind, edns, size, secure):
    options = {"use_edns": 0, "payload": size, "want_dnssec": secure} if edns else {}
    query = asked(text, kind, **options)
    wire = query.to_wire()
    read = parse_query(wire)
    assert (read.id, read.name) == (query.id.to_bytes(2, "big"), encode_name(text))
    assert (read.kind, read.class_, read.edns, read.secure) == (query.question[0].rdtype, 1, edns, edns and secure)
    assert read.size == (min(max(size, 512), 1232) if edns else 512)
    assert read.common
    assert read.question == question(encode_name(text), read.kind)
    assert (read.key == wire[2:]) == (not edns or 512 <= size <= 1232)


def test_what_is_peculiar_to_a_client_is_not_in_the_key():
    plain = parse_query(asked(use_edns=0, payload=1232).to_wire())
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    for other in (asked("A.tEst", use_edns=0, payload=1232), asked(use_edns=0, payload=1232, options=[cookie])):
        read = parse_query(other.to_wire())
        assert read.key == plain.key
        assert not read.common
    for other in (asked(), asked("b.test"), asked(kind="AAAA"), asked(use_edns=0, payload=1232, want_dnssec=True)):
        assert parse_query(other.to_wire()).key != plain.key


def test_a_question_with_a_signature_is_read_without_it():
    wire = bytearray(asked().to_wire())
    wire[11] = 1
    read = parse_query(bytes(wire) + b"\0\0\xfa\0\xff\0\0\0\0\0\0")  # TSIG
    assert (read.edns, read.common) == (False, False)


HEAD = b"\x12\x34\x01\0\0\x01" + b"\0" * 6
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("wire", "rcode"),
    [
        (b"\x12\x34\x01", None),
        (b"\x12\x34\x81\0\0\x01" + b"\0" * 6 + b"\0\0\1\0\1", None),
        (b"\x12\x34\x29\0\0\x01" + b"\0" * 6 + b"\0\0\1\0\1", dns.rcode.NOTIMP),
        (b"\x12\x34\x01\0\0\0" + b"\0" * 6, dns.rcode.FORMERR),
        (b"\x12\x34\x01\0\0\1\0\1\0\0\0\0" + b"\0\0\1\0\1", dns.rcode.FORMERR),
        (HEAD[:11] + b"\x05" + b"\0\0\1\0\1" + OPT * 5, dns.rcode.FORMERR),
        (HEAD + b"\x03ab", dns.rcode.FORMERR),
        (HEAD + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),
        (HEAD + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", dns.rcode.FORMERR),
        (HEAD + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", dns.rcode.FORMERR),
        (HEAD + b"\x01a\0\0\1", dns.rcode.FORMERR),
        (HEAD[:11] + b"\x02" + b"\0\0\1\0\1" + OPT * 2, dns.rcode.FORMERR),
        (HEAD[:11] + b"\x01" + b"\0\0\1\0\1" + OPT[:-1] + b"\x05", dns.rcode.FORMERR),
        (HEAD[:11] + b"\x01" + b"\0\0\1\0\1" + OPT[:5], dns.rcode.FORMERR),
    ],
)
def test_what_is_no_question_gets_an_error_or_nothing(wire, rcode):
    with pytest.raises(Unreadable, match=r"bytes to say") as caught:
        parse_query(wire)
    if rcode is None:
        assert caught.value.reply == b""
    else:
        answer = dns.message.from_wire(caught.value.reply)
        assert (answer.id, answer.rcode(), bool(answer.flags & dns.flags.QR)) == (0x1234, rcode, True)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_else(data):
    with contextlib.suppress(Unreadable):
        assert parse_query(data).name.endswith(b"\0")


def test_an_answer_is_what_dnspython_reads():
    query = asked("a.b.TEST", "ANY", use_edns=0, want_dnssec=True)
    query.flags |= dns.flags.CD
    read = parse_query(query.to_wire())
    zone = encode_name("test")
    wire = reply(
        read,
        answers=[record(A, 30, b"\x0a\0\0\1"), record(AAAA, 30, bytes(15) + b"\1"), record(SRV, 5, srv_data(1, 2, 3, zone))],
        authorities=[record(SOA, 9, soa_data(zone, 7, 5), pointer(read, zone))],
        additional=[record(A, 30, b"\x0a\0\0\2", b"\x01x" + pointer(read, encode_name("b.test")))],
        limit=1232,
    )
    answer = dns.message.from_wire(wire)
    assert query.is_response(answer)
    assert [rrset.to_text() for rrset in answer.answer] == [
        "a.b.TEST. 30 IN A 10.0.0.1",
        "a.b.TEST. 30 IN AAAA ::1",
        "a.b.TEST. 5 IN SRV 1 2 3 test.",
    ]
    assert answer.authority[0].to_text() == "TEST. 9 IN SOA ns.dns.test. hostmaster.test. 7 7200 1800 86400 5"
    assert answer.additional[0].to_text() == "x.b.TEST. 30 IN A 10.0.0.2"
    assert dns.flags.to_text(answer.flags) == "QR AA RD RA CD"
    assert (answer.edns, answer.payload, bool(answer.ednsflags & dns.flags.DO)) == (0, 1232, True)


def test_what_does_not_fit_is_left_out():
    read = parse_query(asked(use_edns=0).to_wire())
    one = record(A, 30, b"\x0a\0\0\1")
    cut = dns.message.from_wire(reply(read, answers=[one] * 50, authorities=[one], limit=100))
    assert cut.flags & dns.flags.TC
    assert not cut.authority
    assert len(reply(read, answers=[one] * 50, limit=100)) <= 100
    whole = dns.message.from_wire(reply(read, answers=[one], additional=[record(AAAA, 1, bytes(16))] * 5, limit=80))
    assert not whole.flags & dns.flags.TC
    assert (len(whole.answer), whole.edns) == (1, 0)
    assert (
        len(reply(read, answers=[record(A, 1, bytes([1, 1, n // 250, n % 250])) for n in range(5000)], limit=LARGEST_TCP)) < 65536
    )


def test_errors_beyond_four_bits_are_in_the_opt_record():
    read = parse_query(asked(use_edns=0).to_wire())
    assert dns.message.from_wire(reply(read, dns.rcode.BADVERS, limit=512)).rcode() == dns.rcode.BADVERS
    assert parse_query(asked(kind="ANY").to_wire()).kind == ANY


@pytest.mark.parametrize("name", [b"\xc0\x0e", b"\xc0\x00", b"\x41" + b"a" * 65 + b"\0", b"\xc0"])
def test_a_pointer_must_lead_back_into_the_message(name):
    with pytest.raises((ValueError, IndexError)):
        skip_name(bytes(12) + b"\0\0" + name, 14)
