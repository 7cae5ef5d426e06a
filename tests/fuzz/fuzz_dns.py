"""What must hold for DNS messages, whatever their bytes are."""

import dns.exception
import dns.message

from gateway.native.codec.dns import Unreadable, decode_name, encode_name, parse_query, question, record, reply
from gateway.native.codec.dns_relay import Wrong, ask, read_answer, relay

ID = b"\x12\x34"
QUESTION = question(encode_name("www.a.test"), 1)


def questions(data):
    """A question that we read dnspython reads alike, and the answer to it it takes for one."""
    try:
        query = parse_query(data)
    except Unreadable:
        return
    wire = reply(query, answers=[record(1, 5, b"\x0a\0\0\1")], limit=query.size)
    assert len(wire) <= max(query.size, 12 + len(query.question) + 11)
    answer = dns.message.from_wire(wire)
    assert answer.question[0].name.to_wire().lower() == query.name
    assert len(query.key) <= len(data) - 2
    again = parse_query(ID + query.key)
    assert (again.name, again.kind, again.size, again.secure, again.key) == (
        query.name,
        query.kind,
        query.size,
        query.secure,
        query.key,
    )
    assert decode_name(query.name)
    try:
        theirs = dns.message.from_wire(data, ignore_trailing=True)
    except (dns.exception.DNSException, ValueError):
        return  # it reads options too, and knows signatures
    assert theirs.is_response(answer) or theirs.opcode() != 0 or not theirs.question


def answers(data):
    """What is relayed is read again as what was received, and is never longer than it may be."""
    for wire in (data, ID + data[2:]):
        try:
            received = read_answer(wire, ID, QUESTION)
        except Wrong:
            continue
        query = parse_query(ask(ID, QUESTION, secure=False, checking_disabled=False))
        passed = relay(received, query, age=1)
        assert len(passed) <= 1232
        again = read_answer(passed, ID, QUESTION)
        assert again.rcode == received.rcode
        assert again.truncated or (again.counts, len(again.body)) == (received.counts, len(received.body))


_HEAD = ID + b"\x81\x80\0\1\0\1\0\1\0\1" + QUESTION
QUERIES = (
    ID + b"\1\0\0\1\0\0\0\0\0\0" + QUESTION,
    ask(ID, QUESTION, secure=True, checking_disabled=True),
    ID + b"\1\0\0\1\0\0\0\0\0\1" + QUESTION.upper() + b"\0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x0a\0\x0812345678",
)
ANSWERS = (
    _HEAD
    + b"\xc0\x0c\0\1\0\1\0\0\1\x2c\0\4\x0a\0\0\1"
    + b"\xc0\x10\0\2\0\1\0\0\0\x10\0\2\xc0\x0c"
    + b"\0\0\x29\x04\xd0\0\0\0\0\0\0",
    _HEAD[:6] + b"\0\0\0\0\0\0" + QUESTION,
)
