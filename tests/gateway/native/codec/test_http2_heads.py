"""Heads of HTTP/2 as they come out: in the form of HTTP/1.1, with every attribute; and those that are malformed."""

import inspect

import pytest
from h2_dialogue import END_HEADERS, END_STREAM, GET, HEADERS, POST, RST_STREAM, client, frame, frames_of, head, literals, server

from gateway.native.codec.events import END, RequestHead, ResponseHead, Trailers
from gateway.native.codec.fields import Kind
from gateway.native.codec.h1 import ServerCodec
from gateway.native.codec.http2_events import Reset, TooLarge
from gateway.native.codec.http2_limits import Limits2

PROTOCOL_ERROR = 1


def attributes_of(type_):
    """Names of what its objects have, whether it is compiled or not."""
    return [name for name, value in vars(type_).items() if name[0] != "_" and inspect.isdatadescriptor(value)]


def asked(pairs, *, end=True, limits=None):
    """The events of one request on a fresh server, and what it says."""
    codec = server(limits or Limits2())
    return codec.receive(head(1, pairs, end=end)), frames_of(codec.pending()), codec


def answered(pairs, *, end=True, method=b"GET"):
    codec = client()
    sid = codec.send_request(method + b" / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    codec.pending()
    return codec.receive(head(sid, pairs, end=end)), frames_of(codec.pending()), codec


# ---------------------------------------------------------------------------------------------------------------- requests


def test_a_request_has_the_form_of_http1():
    events, said, _ = asked(
        [*GET[:2], (b":path", b"/p/%41?q=1"), GET[3], (b"user-agent", b"ua"), (b"x-request-id", b"7"), (b"a", b"b")]
    )
    ((sid, found),) = events
    assert said == []
    assert sid == 1
    assert isinstance(found, RequestHead)
    attributes = {name: getattr(found, name) for name in attributes_of(RequestHead)}
    assert attributes == {
        "authority": b"a.test",
        "block": b"GET /p/%41?q=1 HTTP/1.1\r\nhost: a.test\r\nuser-agent: ua\r\nx-request-id: 7\r\na: b",
        "body": b"",
        "end": True,
        "expect": False,
        "host": b"a.test",
        "keep_alive": True,
        "length": 0,
        "line": b"GET /p/%41?q=1 HTTP/2",
        "lines": [b"host: a.test", b"user-agent: ua", b"x-request-id: 7", b"a: b"],
        "method": b"GET",
        "minor": 2,
        "nominated": (),
        "odd": True,
        "path": b"/p/%41",
        "request_id": b"7",
        "rewrite": False,
        "specials": found.specials,
        "target": b"/p/%41?q=1",
        "upgrade": b"",
        "user_agent": b"ua",
    }
    assert {field[0] for field in found.specials} == {Kind.HOST, Kind.USER_AGENT, Kind.REQUEST_ID}


@pytest.mark.parametrize(
    "lines",
    [
        [b"accept: */*"],
        [b"expect: 100-continue"],
        [b"expect: something"],
        [b"x-forwarded-for: 1.2.3.4", b"x-envoy-max-retries: 3"],
        [b"te: trailers"],
        [b"x-fedgate-hops: 1", b"user-agent: a"],
        [b"cookie: a=b"],
    ],
)
def test_the_block_means_to_http1_what_the_head_says(lines):
    events, _, _ = asked([*POST, *(tuple(line.split(b": ", 1)) for line in lines), (b"content-length", b"5")], end=False)
    found = events[0][1]
    again = ServerCodec().next_event(found.block + b"\r\n\r\n")
    for name in set(attributes_of(RequestHead)) - {"minor", "line", "specials"}:
        assert getattr(found, name) == getattr(again, name), name
    assert sorted(map(repr, found.specials)) == sorted(map(repr, again.specials))


def test_crumbs_of_cookies_are_joined_where_the_first_was():
    events, _, _ = asked([*GET, (b"cookie", b"a=b"), (b"x", b"y"), (b"cookie", b"c=d"), (b"cookie", b"a=b")])
    assert events[0][1].lines == [b"host: a.test", b"cookie: a=b; c=d; a=b", b"x: y"]


@pytest.mark.parametrize(
    ("pairs", "authority", "lines"),
    [
        ([*GET[:3], (b"x", b"y"), (b"host", b"B.test:8")], b"B.test:8", [b"host: B.test:8", b"x: y"]),
        ([*GET, (b"x", b"y"), (b"host", b"A.TEST")], b"a.test", [b"host: a.test", b"x: y"]),
    ],
)
def test_authority_and_host(pairs, authority, lines):
    events, _, _ = asked(pairs)
    found = events[0][1]
    assert (found.authority, found.lines) == (authority, lines)
    assert found.host == authority.lower().partition(b":")[0]
    assert len(found.special(Kind.HOST)) == 1


def test_lengths():
    assert asked(POST, end=False)[0][0][1].length == -1
    found = asked([*POST, (b"content-length", b"7")], end=False)[0][0][1]
    assert (found.length, found.end) == (7, False)
    found = asked([*POST, (b"content-length", b"0")])[0][0][1]
    assert (found.length, found.end) == (0, True)


def test_an_extended_connect_is_a_get_that_asks_for_an_upgrade():
    pairs = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/chat?x"), GET[3]]
    found = asked(pairs, end=False)[0][0][1]
    assert (found.method, found.target, found.path, found.upgrade) == (b"GET", b"/chat?x", b"/chat", b"websocket")
    assert (found.length, found.end, found.rewrite) == (-1, False, True)
    assert found.block == b"GET /chat?x HTTP/1.1\r\nhost: a.test"


def test_a_connect_has_its_authority_as_target():
    found = asked([(b":method", b"CONNECT"), (b":authority", b"b.test:443")], end=False)[0][0][1]
    assert (found.method, found.target, found.path, found.upgrade) == (b"CONNECT", b"b.test:443", b"", b"")
    assert found.rewrite
    assert found.block == b"CONNECT b.test:443 HTTP/1.1\r\nhost: b.test:443"


def without(name):
    return [pair for pair in GET if pair[0] != name]


MALFORMED = {
    "no method": without(b":method"),
    "no path": without(b":path"),
    "no scheme": without(b":scheme"),
    "no authority": without(b":authority"),
    "two methods": [*GET, GET[0]],
    "two schemes": [*GET, GET[1]],
    "two paths": [*GET, GET[2]],
    "two authorities": [*GET, GET[3]],
    "a status": [*GET, (b":status", b"200")],
    "an unknown pseudo-header": [*GET, (b":a", b"b")],
    "a pseudo-header after a field": [*GET[:3], (b"a", b"b"), GET[3]],
    "a pseudo-header after a cookie": [*GET[:3], (b"cookie", b"b"), GET[3]],
    "an upper-case name": [*GET, (b"A", b"b")],
    "connection": [*GET, (b"connection", b"close")],
    "te": [*GET, (b"te", b"gzip")],
    "another host": [*GET, (b"host", b"b.test")],
    "two hosts": [*GET, (b"host", b"a.test"), (b"host", b"a.test")],
    "two lengths": [*GET, (b"content-length", b"0"), (b"content-length", b"0")],
    "a length and no body": [*GET, (b"content-length", b"1")],
    "a newline": [*GET, (b"a", b"b\r\nc: d")],
    "an empty path": [*without(b":path")[:2], (b":path", b""), GET[3]],
    "a star that is no OPTIONS": [*without(b":path")[:2], (b":path", b"*"), GET[3]],
    "a protocol without CONNECT": [*GET, (b":protocol", b"websocket")],
    "two protocols": [(b":method", b"CONNECT"), *GET[1:], (b":protocol", b"a"), (b":protocol", b"a")],
    "a CONNECT with a path": [(b":method", b"CONNECT"), *GET[1:]],
    "an extended CONNECT without a path": [(b":method", b"CONNECT"), GET[1], GET[3], (b":protocol", b"websocket")],
    "an extended CONNECT without a scheme": [(b":method", b"CONNECT"), *GET[2:], (b":protocol", b"websocket")],
    "nothing": [],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_requests_are_reset_and_never_told_of(what):
    events, said, codec = asked(MALFORMED[what])
    assert events == []
    assert said == [(RST_STREAM, 0, 1, PROTOCOL_ERROR.to_bytes(4, "big"))]
    assert codec.malformed == 1
    assert codec.open == 0
    assert len(codec.receive(head(3, GET))) == 1  # the connection goes on


def test_a_star_is_for_options():
    found = asked([(b":method", b"OPTIONS"), GET[1], (b":path", b"*"), GET[3]])[0][0][1]
    assert (found.target, found.path) == (b"*", b"*")


@pytest.mark.parametrize(
    ("pairs", "detail"),
    [
        ([(b"a", b"b")] * 101, "http2.too_many_headers"),
        ([(b"a", b"b" * 10_000)] * 7, "http2.headers_too_large"),
        ([(b"cookie", b"b" * 10_000)] * 7, "http2.headers_too_large"),
    ],
)
def test_heads_over_the_limits_may_be_answered(pairs, detail):
    codec = server()
    block = literals([*POST, *pairs])
    pieces = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    data = frame(HEADERS, 0, 1, pieces[0]) + b"".join(frame(9, 0, 1, piece) for piece in pieces[1:]) + frame(9, END_HEADERS, 1)
    ((sid, found),) = codec.receive(data)
    assert sid == 1
    assert isinstance(found, TooLarge)
    assert found.detail == detail
    assert codec.receive(frame(0, 0, 1, b"body that nobody reads")) == []
    codec.send_head(1, 431, [], end=True)
    codec.reset(1, 0)
    assert [kind for kind, *_ in frames_of(codec.pending())] == [HEADERS, RST_STREAM]
    assert codec.open == 0
    assert codec.receive(frame(0, END_STREAM, 1, b"that was on its way")) == []


def test_just_within_the_limits():
    assert isinstance(asked([*GET, *[(b"a", b"b")] * 99, (b"cookie", b"a"), (b"cookie", b"b")])[0][0][1], RequestHead)
    assert isinstance(asked([*GET, *[(b"a", b"b")] * 99, (b"cookie", b"a"), (b"c", b"b")])[0][0][1], TooLarge)


# --------------------------------------------------------------------------------------------------------------- responses


def test_a_response_has_the_form_of_http1():
    events, said, _ = answered(
        [(b":status", b"404"), (b"content-type", b"a"), (b"content-length", b"3"), (b"x-fedgate-unsent", b"x")], end=False
    )
    ((sid, found),) = events
    assert sid == 1
    assert said == []
    attributes = {name: getattr(found, name) for name in attributes_of(ResponseHead)}
    assert attributes == {
        "body": b"",
        "end": False,
        "interim": False,
        "keep_alive": True,
        "length": 3,
        "lines": [b"content-type: a", b"content-length: 3", b"x-fedgate-unsent: x"],
        "minor": 2,
        "nominated": (),
        "raw": b"content-type: a\r\ncontent-length: 3\r\nx-fedgate-unsent: x",
        "rewrite": True,
        "specials": found.specials,
        "start": b"HTTP/1.1 404 Not Found",
        "status": 404,
    }


def test_starts_and_interim_heads():
    codec = client()
    sid = codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    first = codec.receive(head(sid, [(b":status", b"103"), (b"link", b"a")], end=False))[0][1]
    assert (first.interim, first.end, first.start) == (True, True, b"HTTP/1.1 103 Early Hints")
    last = codec.receive(head(sid, [(b":status", b"299")]))[0][1]
    assert (last.interim, last.end, last.length, last.start) == (False, True, 0, b"HTTP/1.1 299 Unknown")
    assert codec.open == 0


def test_the_answer_to_a_connect_has_no_length():
    codec = client()
    sid = codec.send_request(b"GET /a HTTP/1.1\r\nhost: a", scheme=b"http", end=False, connect_protocol=b"websocket")
    found = codec.receive(head(sid, [(b":status", b"200"), (b"content-length", b"3")], end=False))[0][1]
    assert (found.length, found.end) == (-1, False)
    assert codec.receive(frame(0, 0, sid, b"more than three")) == [(sid, b"more than three")]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", b"200"), (b"GET", b"304"), (b"GET", b"204")])
def test_answers_without_a_body_may_have_a_length(method, status):
    for end in (True, False):
        events, said, _ = answered([(b":status", status), (b"content-length", b"3")], end=end, method=method)
        assert said == []
        assert (events[0][1].length, events[0][1].end) == (0, end)
    events, said, codec = answered([(b":status", status), (b"content-length", b"3")], end=False, method=method)
    assert [type(event) for _, event in codec.receive(frame(0, 0, 1, b"x"))] == [Reset]


@pytest.mark.parametrize(
    ("pairs", "end"),
    [
        ([], True),
        ([(b"a", b"b")], True),
        ([(b":status", b"200"), (b":status", b"200")], True),
        ([(b":status", b"200"), (b":path", b"/")], True),
        ([(b":status", b"101")], False),
        ([(b":status", b"100")], True),
        ([(b":status", b"200"), (b"content-length", b"3")], True),
        ([(b":status", b"200"), (b"content-length", b"3"), (b"content-length", b"3")], False),
        ([(b":status", b"200"), (b"connection", b"close")], True),
        ([(b":status", b"200"), (b"A", b"close")], True),
        ([(b"a", b"b"), (b":status", b"200")], True),
        ([(b":status", b"200"), *[(b"a", b"b")] * 101], True),
        ([(b":status", b"200"), *[(b"a", b"b" * 4000)] * 16], True),
    ],
)
def test_malformed_responses_reset_their_stream(pairs, end):
    codec = client()
    sid = codec.send_request(b"GET / HTTP/1.1\r\nhost: a", scheme=b"http", end=True)
    codec.pending()
    block = literals(pairs)
    data = frame(HEADERS, end, sid, block[:16_000]) + b"".join(
        frame(9, 0, sid, block[at : at + 16_000]) for at in range(16_000, len(block), 16_000)
    )
    ((where, event),) = codec.receive(data + frame(9, END_HEADERS, sid))
    assert where == sid
    assert isinstance(event, Reset)
    assert event.local
    assert event.detail.startswith("http")
    assert [kind for kind, *_ in frames_of(codec.pending())] == [RST_STREAM]
    assert codec.open == 0


# ---------------------------------------------------------------------------------------------------------------- trailers


def test_trailers_lose_what_belongs_to_a_hop_or_frames_a_message():
    codec = server()
    codec.receive(head(1, POST, end=False))
    late = [
        (b"x-sum", b"1"),
        (b"content-length", b"5"),
        (b"te", b"trailers"),
        (b"host", b"b"),
        (b"x-envoy-a", b"b"),
        (b"user-agent", b"u"),
    ]
    (_, found), (_, last) = codec.receive(head(1, late))
    assert isinstance(found, Trailers)
    assert found.lines == [b"x-sum: 1", b"user-agent: u"]
    assert last is END


def test_trailers_of_which_nothing_is_left_are_an_end():
    codec = server()
    codec.receive(head(1, POST, end=False))
    assert codec.receive(head(1, [(b"te", b"trailers")])) == [(1, END)]


@pytest.mark.parametrize(
    ("pairs", "end"),
    [
        ([(b"a", b"b")], False),
        ([(b":path", b"/")], True),
        ([(b":status", b"200")], True),
        ([(b"A", b"b")], True),
        ([(b"connection", b"close")], True),
        ([(b"a", b"b")] * 101, True),
    ],
)
def test_malformed_trailers_reset_their_stream(pairs, end):
    codec = server()
    codec.receive(head(1, POST, end=False))
    ((sid, event),) = codec.receive(head(1, pairs, end=end))
    assert sid == 1
    assert isinstance(event, Reset)
    assert event.local
    assert [kind for kind, *_ in frames_of(codec.pending())] == [RST_STREAM]


@pytest.mark.parametrize(
    ("sizes", "last", "fails"),
    [
        ([3], None, True),
        ([3, 2], None, False),
        ([6], None, True),
        ([5], "trailers", False),
        ([4], "trailers", True),
        ([], None, True),
    ],
)
def test_bytes_of_a_body_must_be_as_many_as_its_length_says(sizes, last, fails):
    codec = server()
    codec.receive(head(1, [*POST, (b"content-length", b"5")], end=False))
    data = b"".join(frame(0, 0, 1, b"x" * size) for size in sizes)
    events = codec.receive(data + (head(1, [(b"a", b"b")]) if last else frame(0, END_STREAM, 1)))
    if fails:
        assert isinstance(events[-1][1], Reset)
        assert not any(event is END or isinstance(event, Trailers) for _, event in events)
    else:
        assert events[-1] == (1, END)
        assert b"".join(event for _, event in events if isinstance(event, bytes)) == b"xxxxx"


def test_a_grpc_call_needs_no_rewriting():
    """`te` belongs to this hop; the block can go on as it is, and says it no more."""
    codec = server()
    call = [(b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"x-a", b"1")]
    ((_, found),) = codec.receive(head(1, [*GET, *call], end=False))
    assert not found.rewrite
    assert b"te:" not in found.block
    assert found.lines == [b"host: a.test", b"content-type: application/grpc", b"x-a: 1"]
    assert [field[0] for field in found.specials] == [Kind.GRPC, Kind.HOST]
