"""Whatever bytes come: events or ConnectionFault, in bounded time and memory, wherever the bytes are cut."""

import pytest
from h2_dialogue import GET, POST, PREFACE, client, frame, head, literals, server, settings
from hpack import Encoder
from hypothesis import HealthCheck, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from gateway.native.codec.events import END, RequestHead
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import ConnectionFault

MANY = profile(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
sids = st.sampled_from([0, 1, 1, 1, 2, 3, 3, 5, 7, 2**31 - 1])
payloads = (
    st.binary(max_size=40)
    | st.sampled_from(
        [b"", b"\0\0\0\0", b"\0\0\0\1", b"\x7f\xff\xff\xff", b"\0\0\0\1\0", b"12345678", b"\0\4\0\0\0\1", b"\0\4\x7f\xff\xff\xff"]
    )
    | st.sampled_from(
        [literals(GET), literals(POST), Encoder().encode(GET), literals([(b"a", b"b")]), b"\x88", b"\xbe", b"\x40\x01a\x01b"]
    )
)
frames = st.builds(frame, st.integers(0, 10), st.sampled_from([0, 1, 4, 5, 8, 13, 32, 37, 0xFF]), sids, payloads)
valid = st.sampled_from(
    [
        head(1, GET),
        head(1, POST, end=False),
        head(3, POST, end=False),
        head(5, GET),
        frame(0, 0, 1, b"x" * 100),
        frame(0, 1, 1, b"x"),
        frame(0, 0, 3, b"x" * 16_384),
        settings((4, 1)),
        settings((4, 70_000)),
        frame(8, 0, 0, b"\0\0\xff\xff"),
        frame(8, 0, 1, b"\0\0\xff\xff"),
        frame(3, 0, 1, b"\0\0\0\x08"),
        frame(6, 0, 0, b"12345678"),
    ]
)


def drive(codec, pieces, *, answer):
    """Feed it; answer what it hears as a server would. Returns what it said, by event."""
    heard = []
    for piece in pieces:
        try:
            events = codec.receive(piece)
        except ConnectionFault as fault:
            events = fault.events
        heard += events
        for sid, event in events:
            if answer and isinstance(event, RequestHead):
                codec.send_head(sid, 200, [b"a: b"], end=False)
                codec.send_data(sid, b"x" * 300)
            elif answer and event is END:
                codec.send_trailers(sid, [b"c: d"])
            elif isinstance(event, bytes):
                codec.consumed(sid, len(event))
        assert len(codec._buffer) < 16_384 + 9
        assert sum(map(len, codec._fragments)) <= 9 * 16_384
        assert codec.open <= 100
        assert len(codec.pending()) < 200_000
    return heard


def cut(data, sizes):
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces.append(data[at : at + size])
        at += size
        turn += 1
    return pieces


def story(heard):
    """Events without their objects, bytes of a body run together."""
    told = []
    for sid, event in heard:
        if isinstance(event, bytes) and told and told[-1][0] == sid and isinstance(told[-1][1], bytes):
            told[-1] = (sid, told[-1][1] + event)
        else:
            told.append((sid, event if isinstance(event, bytes) else repr(event)))
    return told


@pytest.mark.slow
@MANY
@given(
    st.lists(frames | valid | st.binary(max_size=30), max_size=25),
    st.lists(st.integers(1, 300), min_size=1, max_size=4),
    st.booleans(),
)
def test_any_frames(pieces, sizes, as_server):
    data = b"".join(pieces)

    def fresh():
        if as_server:
            return server()
        codec = client()
        for method in (b"GET", b"HEAD"):
            codec.send_request(method + b" / HTTP/1.1\r\nhost: a", scheme=b"http", end=method == b"GET")
        return codec

    whole = drive(fresh(), [data] if data else [], answer=False)
    parts = drive(fresh(), cut(data, sizes), answer=False)
    assert story(parts) == story(whole)
    drive(fresh(), cut(data, sizes), answer=as_server)


@pytest.mark.slow
@MANY
@given(st.binary(max_size=400))
def test_any_bytes(data):
    drive(Http2Codec(server=True), cut(data, [7]), answer=True)
    drive(Http2Codec(server=False), cut(data, [7]), answer=False)
    drive(server(), [data], answer=True)


CONVERSATION = (
    PREFACE
    + settings((3, 50), (4, 100_000))
    + frame(8, 0, 0, b"\0\1\0\0")
    + frame(1, 5, 1, Encoder().encode([*GET, (b"user-agent", b"someone"), (b"accept", b"*/*")]))
    + head(3, [*POST, (b"content-length", b"10")], end=False)
    + frame(0, 8, 3, b"\3hello\0\0\0")
    + frame(0, 0, 3, b"world")
    + head(3, [(b"x-sum", b"1")])
    + frame(6, 0, 0, b"12345678")
    + frame(1, 37, 5, b"\0\0\0\1\x10" + literals(GET))
    + frame(3, 0, 5, b"\0\0\0\x08")
    + frame(1, 1, 7, literals(GET)[:9])
    + frame(9, 4, 7, literals(GET)[9:])
)


def test_the_conversation_itself():
    heard = drive(Http2Codec(server=True), [CONVERSATION], answer=True)
    assert [sid for sid, event in heard if isinstance(event, RequestHead)] == [1, 3, 5, 7]


@pytest.mark.slow
@MANY
@given(
    st.lists(st.tuples(st.integers(0, len(CONVERSATION) - 1), st.integers(0, 255), st.sampled_from("sdi")), min_size=1, max_size=6),
    st.lists(st.integers(1, 200), min_size=1, max_size=3),
)
def test_a_conversation_with_errors_in_it(changes, sizes):
    data = bytearray(CONVERSATION)
    for at, byte, what in changes:
        at %= len(data)
        if what == "s":
            data[at] = byte
        elif what == "d":
            del data[at]
        else:
            data.insert(at, byte)
    drive(Http2Codec(server=True), cut(bytes(data), sizes), answer=True)


@pytest.mark.slow
def test_each_bit_of_a_conversation_flipped():
    for at in range(24, len(CONVERSATION)):
        for bit in range(8):
            data = bytearray(CONVERSATION)
            data[at] ^= 1 << bit
            drive(Http2Codec(server=True), [bytes(data)], answer=True)
