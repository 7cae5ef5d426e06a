"""HTTP/1 as dialogues: what is accepted, what is refused, and that no cut of the bytes makes a difference."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, UpstreamProtocolError, WrongScheme
from gateway.native.codec.events import END, RequestHead, ResponseHead, Trailers
from gateway.native.codec.h1 import HEAD_LIMIT, ClientCodec, ServerCodec

HOST = b"Host: a.test\r\n"


def events(codec, *pieces):
    """What the pieces say, each a tuple; bodies joined, so that cuts do not show."""
    said = []
    for piece in pieces:
        event = codec.next_event(piece)
        while event is not None:
            if isinstance(event, RequestHead):
                said.append(("request", event.method, event.target, event.host, event.length, event.keep_alive, tuple(event.lines)))
                said += [("data", event.body)] * bool(event.body) + [("end",)] * event.end
            elif isinstance(event, ResponseHead):
                said.append(("response", event.status, event.length, event.keep_alive, tuple(event.lines)))
                said += [("data", event.body)] * bool(event.body) + [("end",)] * event.end
            elif event is END:
                said.append(("end",))
            elif isinstance(event, Trailers):
                said.append(("trailers", tuple(event.lines)))
            elif said[-1][0] == "data":
                said[-1] = ("data", said[-1][1] + event)
            else:
                said.append(("data", event))
            event = codec.next_event()
    return said


def head(data):
    event = ServerCodec().next_event(data)
    assert isinstance(event, RequestHead)
    return event


def get(*lines):
    return b"GET / HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


# ------------------------------------------------------------------------------------------------------------- refused

SMUGGLED = {
    "both framings": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, other order": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "bare LF after the request line": b"GET / HTTP/1.1\n" + HOST + b"\r\n",
    "bare LF only": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in a header": get(b"a: b\nc: d"),
    "bare CR in a header": get(b"a: b\rc: d"),
    "NUL in a header": get(b"a: b\0c"),
    "obs-fold": get(b"a: b", b" c"),
    "obs-fold with a tab": get(b"a: b", b"\tc"),
    "space before the colon": get(b"Content-Length : 3"),
    "tab before the colon": get(b"a\t: 3"),
    "no colon": get(b"abc"),
    "empty name": get(b": 3"),
    "name with a bad character": get(b"a(b: 3"),
    "first line begins with space": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": get(b"Host: a.test"),
    "empty host": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "host with a slash": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "two lengths": get(b"Content-Length: 3", b"Content-Length: 4"),
    "two equal lengths": get(b"Content-Length: 3", b"Content-Length: 3"),
    "list of lengths": get(b"Content-Length: 3, 3"),
    "length with a plus": get(b"Content-Length: +3"),
    "negative length": get(b"Content-Length: -3"),
    "hexadecimal length": get(b"Content-Length: 0x3"),
    "empty length": get(b"Content-Length:"),
    "endless length": get(b"Content-Length: " + b"9" * 19),
    "length in other digits": get("Content-Length: ٣".encode()),
    "coding gzip, chunked": get(b"Transfer-Encoding: gzip, chunked"),
    "coding chunked, chunked": get(b"Transfer-Encoding: chunked, chunked"),
    "coding twice": get(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "coding identity": get(b"Transfer-Encoding: identity"),
    "coding with a vertical tab": get(b"Transfer-Encoding: \x0bchunked"),
    "coding in quotes": get(b'Transfer-Encoding: "chunked"'),
    "coding in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in the request line": b"GET\t/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "no version": b"GET /\r\n" + HOST + b"\r\n",
    "version 2": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + HOST + b"\r\n",
    "lower-case version": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "method with a bad character": b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no method": b" / HTTP/1.1\r\n" + HOST + b"\r\n",
    "no target": b"GET  HTTP/1.1\r\n" + HOST + b"\r\n",
    "control character in the target": b"GET /\x01 HTTP/1.1\r\n" + HOST + b"\r\n",
    "NUL in the target": b"GET /\0 HTTP/1.1\r\n" + HOST + b"\r\n",
    "high byte in the target": b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment in the target": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "relative target": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "asterisk of GET": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
    "target contradicts host": b"GET http://b.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "target's port contradicts host": b"GET http://a.test:81/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "two empty lines first": b"\r\n\r\nGET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "connection with bad names": get(b"Connection: a b"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("data", SMUGGLED.values(), ids=SMUGGLED)
def test_what_two_parsers_could_read_differently_is_refused(data):
    with pytest.raises(BadRequest) as caught:
        ServerCodec().next_event(data)
    assert caught.value.status == 400
    assert " " not in caught.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\na\r\n",
        b"0x1\r\na\r\n",
        b"\r\n",
        b" 1\r\na\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n",
        b"1\r\na0\r\n",
        b"1;a\x01\r\na\r\n",
        b"1;a\nb\r\na\r\n",
        b"1000000000000000\r\n",
        b"1;" + b"x" * 300 + b"\r\n",
        b"x" * 300,
        b"0\r\na b: c\r\n\r\n",
        b"0\r\na: b\nc: d\r\n\r\n",
        b"0\r\na\n",
        b"0\r\n" + b"a: b\r\n" * 2000,
        b"1;abcdefghijklmnop\r\na\r\n" * 1000,
    ],
)
def test_bad_chunks_are_refused(body):
    codec = ServerCodec()
    assert codec.next_event(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n") is not None
    with pytest.raises(BadRequest):
        events(codec, body)


def test_a_head_that_is_too_large_is_431_complete_or_not():
    with pytest.raises(HeadersTooLarge):
        ServerCodec().next_event(get(b"a: " + b"x" * HEAD_LIMIT))
    with pytest.raises(HeadersTooLarge):
        ServerCodec().next_event(b"GET / HTTP/1.1\r\na: " + b"x" * HEAD_LIMIT)
    with pytest.raises(HeadersTooLarge):
        ServerCodec().next_event(get(*[b"a: b"] * 100))
    assert len(head(get(*[b"a: b"] * 99)).lines) == 100


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((b"Upgrade: websocket", b"Connection: upgrade"), b"websocket"),
        ((b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"), b"WebSocket"),
        ((b"Upgrade: websocket",), b""),  # Connection does not name it
        ((b"Upgrade: h2c", b"Connection: upgrade, http2-settings"), b""),
        ((b"Upgrade: H2C, websocket", b"Connection: upgrade"), b""),
        ((b"Upgrade: websocket", b"Connection: upgrade", b"Content-Length: 3"), b""),
        ((), b""),
    ],
)
def test_what_a_request_asks_to_be_upgraded_to(lines, expected):
    head = ServerCodec().next_event(get(*lines))
    assert head.upgrade == expected
    assert head.rewrite is any(line.startswith((b"Upgrade", b"Connection")) for line in lines)


def test_connect_names_its_target_twice_or_once():
    codec = ServerCodec()
    head = codec.next_event(b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\nhello")
    assert (head.method, head.target, head.path, head.host, head.authority) == (
        b"CONNECT",
        b"b.test:443",
        b"",
        b"b.test",
        b"b.test:443",
    )
    assert codec.buffer == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        b"CONNECT b.test HTTP/1.1\r\nHost: b.test\r\n\r\n",
        b"CONNECT /x HTTP/1.1\r\nHost: b.test\r\n\r\n",
        b"CONNECT b.test:443 HTTP/1.1\r\nHost: c.test\r\n\r\n",
        b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test\r\nContent-Length: 3\r\n\r\nabc",
        b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_connect_that_could_be_read_in_two_ways_is_refused(data):
    with pytest.raises(BadRequest):
        ServerCodec().next_event(data)


def test_after_101_nothing_is_http_any_more():
    codec = ClientCodec()
    codec.expect, codec.upgrade = b"GET", True
    head = codec.next_event(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x00")
    assert (head.status, head.end, head.interim, codec.buffer) == (101, True, False, b"\x81\x00")
    codec = ClientCodec()
    codec.expect = b"CONNECT"
    head = codec.next_event(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    assert (head.status, head.end, codec.buffer) == (200, True, b"hello")


# ------------------------------------------------------------------------------------------------------------ accepted


@pytest.mark.parametrize(
    ("data", "host", "authority"),
    [
        (b"Host: A.Test", b"a.test", b"A.Test"),
        (b"host:a.test:8080", b"a.test", b"a.test:8080"),
        (b"HOST: \t[::1]:80 ", b"[::1]", b"[::1]:80"),
        (b"Host: under_score.test", b"under_score.test", b"under_score.test"),
    ],
)
def test_hosts(data, host, authority):
    found = head(b"GET / HTTP/1.1\r\n" + data + b"\r\n\r\n")
    assert (found.host, found.authority) == (host, authority)


def test_the_absolute_form_becomes_the_origin_form():
    found = head(b"GET http://a.test/x?y HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (found.target, found.path, found.rewrite) == (b"/x?y", b"/x", True)
    assert head(b"GET http://a.test HTTP/1.1\r\n" + HOST + b"\r\n").target == b"/"
    found = head(b"GET http://a.test/ HTTP/1.0\r\n\r\n")
    assert (found.host, found.lines) == (b"a.test", [b"host: a.test"])
    assert head(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n").target == b"*"


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (get(), True),
        (get(b"Connection: close"), False),
        (get(b"Connection: x, Close"), False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", True),
        (b"\r\n" + get(), True),
    ],
)
def test_which_connections_are_kept(data, kept):
    assert head(data).keep_alive is kept


def test_an_offer_of_h2c_is_passed_over():
    found = head(get(b"Upgrade: h2c", b"HTTP2-Settings: AA", b"Connection: upgrade, http2-settings"))
    assert found.rewrite


def test_an_expectation():
    assert head(get(b"Expect: 100-continue", b"Content-Length: 1")).expect
    assert not head(get(b"Expect: 100-continue")).expect
    assert head(get(b"Expect: wonders", b"Content-Length: 1")).rewrite


PIPELINE = (
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n"
    b"\r\nGET /3?q HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\nGET /4 HTTP/1.0\r\n\r\n"
)
ANSWERS = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 204 None\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end"
)


def cuts(data):
    return st.lists(st.integers(1, len(data) - 1), max_size=12, unique=True).map(sorted)


def cut(data, places):
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(cuts(PIPELINE))
def test_no_cut_of_requests_makes_a_difference(places):
    assert events(ServerCodec(), *cut(PIPELINE, places)) == events(ServerCodec(), PIPELINE)


@given(cuts(ANSWERS))
def test_no_cut_of_responses_makes_a_difference(places):
    assert events(ClientCodec(), *cut(ANSWERS, places)) == events(ClientCodec(), ANSWERS)


def test_what_the_pipeline_says():
    said = events(ServerCodec(), PIPELINE)
    assert [each[2] for each in said if each[0] == "request"] == [b"/1", b"/2", b"/3?q", b"/4"]
    assert [each[1] for each in said if each[0] == "data"] == [b"hello", b"hello!"]
    assert sum(each == ("end",) for each in said) == 4


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"]),
)
def test_nonsense_raises_nothing_but_gateway_errors(data, before):
    with contextlib.suppress(GatewayError):
        events(ServerCodec(), before + data + b"\r\n\r\n")


# ----------------------------------------------------------------------------------------------------------- responses


def answer(data, method=b"GET"):
    codec = ClientCodec()
    codec.expect = method
    return codec, codec.next_event(data)


@pytest.mark.parametrize(
    ("data", "method", "length", "end", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"GET", 5, False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET", 0, True, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"HEAD", 0, True, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET", -1, False, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HEAD", 0, True, True),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", -2, False, False),
        (b"HTTP/1.1 204 OK\r\n\r\n", b"GET", 0, True, True),
        (b"HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n", b"GET", 0, True, True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET", 0, True, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b"GET", 0, True, False),
    ],
)
def test_framing_of_responses(data, method, length, end, kept):
    _, found = answer(data, method)
    assert (found.length, found.end, found.keep_alive) == (length, end, kept)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"SSH-2.0-x\n",
        b"HTTP/1.1 200 OK\r\na: " + b"x" * HEAD_LIMIT,
        b"HTTP/1.1 200 OK\r\na: " + b"x" * HEAD_LIMIT + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    ],
)
def test_responses_are_parsed_as_strictly(data):
    with pytest.raises(UpstreamProtocolError) as caught:
        answer(data)
    assert caught.value.status == 502


def test_how_a_connection_s_end_ends_an_answer():
    codec, _ = answer(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert codec.next_event() == b"abc"
    assert codec.ended()
    codec, _ = answer(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
    assert not codec.ended()
    codec, _ = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    assert codec.next_event() == b"abc"
    assert not codec.ended()


def test_an_https_target_belongs_on_a_secure_connection():
    ask = b"GET https://a.test/x HTTP/1.1\r\n" + HOST + b"\r\n"
    with pytest.raises(WrongScheme):
        ServerCodec().next_event(ask)
    codec = ServerCodec()
    codec.secure = True
    assert codec.next_event(ask).target == b"/x"
    assert ServerCodec().next_event(ask.replace(b"https", b"http")).target == b"/x"
