"""HPACK: the examples of RFC 7541 Appendix C, the `hpack` library as the other side, and what may not be."""

import pytest
from hpack import Decoder as TheirDecoder
from hpack import Encoder as TheirEncoder
from hpack.hpack import HeaderTuple, NeverIndexedHeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from gateway.native.codec import hpack, hpack_fields, hpack_lines
from gateway.native.codec.hpack import CompressionFault, Decoder

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"www.example.com")]
C3_3 = [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/index.html"), (b":authority", b"www.example.com")]
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"


def answer(status, date, *more):
    return [(b":status", status), (b"cache-control", b"private"), (b"date", date), (b"location", b"https://www.example.com"), *more]


D21, D22 = b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"
ANSWERS = [
    answer(b"302", D21),
    [(b":status", b"307"), *answer(b"", D21)[1:]],
    answer(b"200", D22, (b"content-encoding", b"gzip"), (b"set-cookie", COOKIE)),
]
# (blocks of one connection, their fields, entries in the table after the last, size of the table after each, size allowed)
APPENDIX_C = {
    "C.2.1": (["400a637573746f6d2d6b65790d637573746f6d2d686561646572"], [[(b"custom-key", b"custom-header")]], [55], 4096),
    "C.2.2": (["040c2f73616d706c652f70617468"], [[(b":path", b"/sample/path")]], [0], 4096),
    "C.2.3": (["100870617373776f726406736563726574"], [[(b"password", b"secret")]], [0], 4096),
    "C.2.4": (["82"], [[(b":method", b"GET")]], [0], 4096),
    "C.3": (
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [GET, [*GET, (b"cache-control", b"no-cache")], [*C3_3, (b"custom-key", b"custom-value")]],
        [57, 110, 164],
        4096,
    ),
    "C.4": (
        ["828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf", "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"],
        [GET, [*GET, (b"cache-control", b"no-cache")], [*C3_3, (b"custom-key", b"custom-value")]],
        [57, 110, 164],
        4096,
    ),
    "C.5": (
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e65"
            "78616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157"
            "454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31",
        ],
        ANSWERS,
        [222, 222, 215],
        256,
    ),
    "C.6": (
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab27"
            "0fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        ANSWERS,
        [222, 222, 215],
        256,
    ),
}


def pairs(decoded):
    """All fields of a decoded block, sorted: lines and pseudo-header fields come out apart."""
    lines, notable = decoded
    pseudo = [entry[1] for entry in notable if entry[0] >= hpack_fields.METHOD]
    return sorted(tuple(line[1:].split(b": ", 1)) for line in pseudo), sorted(tuple(line.split(b": ", 1)) for line in lines)


def meant(fields):
    return (
        sorted((name[1:], value) for name, value in fields if name[:1] == b":"),
        sorted((name, value) for name, value in fields if name[:1] != b":"),
    )


@pytest.mark.parametrize("name", APPENDIX_C)
def test_examples_of_the_rfc(name):
    blocks, fields, sizes, allowed = APPENDIX_C[name]
    decoder = Decoder(allowed)
    for block, expected, size in zip(blocks, fields, sizes, strict=True):
        assert pairs(decoder.decode(bytes.fromhex(block))) == meant(expected)
        assert decoder._size == size


def test_the_table_after_c5_holds_the_newest():
    blocks, _, _, allowed = APPENDIX_C["C.5"]
    decoder = Decoder(allowed)
    for block in blocks:
        decoder.decode(bytes.fromhex(block))
    assert [entry[1] for entry in decoder._entries[62:]][::-1] == [
        b"date: " + D22,
        b"content-encoding: gzip",
        b"set-cookie: " + COOKIE,
    ]


names = st.sampled_from([b"accept", b"x-a", b"cookie", b"user-agent", b"authorization", b"x-request-id", b"n" * 130, b"etag"])
values = st.text(alphabet=[chr(c) for c in range(0x21, 0x7F)], max_size=60).map(str.encode) | st.integers(100, 5000).map(
    lambda n: b"v" * n
)
fields = st.lists(st.tuples(names, values, st.booleans()), max_size=12)


@given(
    blocks=st.lists(st.tuples(fields, st.none() | st.integers(0, 4096)), min_size=1, max_size=6),
    huffman=st.booleans(),
)
def test_what_the_library_coded(blocks, huffman):
    encoder, decoder = TheirEncoder(), Decoder()
    for block, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        coded = encoder.encode(
            [NeverIndexedHeaderTuple(name, value) if secret else HeaderTuple(name, value) for name, value, secret in block], huffman
        )
        assert pairs(decoder.decode(coded)) == meant([(name, value) for name, value, _ in block])
        assert decoder._size == encoder.header_table._current_size
        assert len(decoder._entries) - 62 == len(encoder.header_table.dynamic_entries)


@given(block=st.binary(max_size=60), more=st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused_as_the_library_does(block, more):
    mine, theirs = Decoder(), TheirDecoder()
    for data in (block, more):
        try:
            found = mine.decode(data)
        except CompressionFault:
            found = None
        try:
            expected = theirs.decode(data, raw=True)
        except Exception:
            expected = None
        if found is None and expected is not None:
            assert _is_stricter(data)
            return
        assert (found is None) == (expected is None)
        if expected is None:
            return
        pseudo = [entry for entry in found[1] if entry[0] >= hpack_fields.METHOD]
        assert len(found[0]) + len(pseudo) == len(expected)


def _is_stricter(data):
    """Where ours refuses and the library does not: integers padded with zeros beyond 28 bits."""
    return b"\x80\x80\x80" in data


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # the dynamic table is empty
        b"\xff\x80\x80\x80\x80\x01",  # an index that is too long
        b"\xff\x00\x80",
        b"\x82\x20",  # a change of size after a field
        b"\x3f\xe2\x1f",  # to 4097
        b"\x3f",
        b"\x40",
        b"\x40\x01a",
        b"\x40\x01a\x05abc",
        b"\x40\x85abc",
        b"\x0f\x2f\x01a",  # a name that is not in the table
        b"\x40\x01a\x81\x00",  # bad padding
        b"\x40\x01a\xff\xff\xff\xff\xff\x0f",
    ],
)
def test_what_is_no_block(block):
    with pytest.raises(CompressionFault):
        Decoder().decode(block)


def test_sizes_that_are_allowed():
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b")
    assert decoder._size == 34
    decoder.decode(b"\x20\x3f\xe1\x1f\x82")  # to 0, then to 4096
    assert decoder._size == 0
    assert decoder._capacity == 4096


def test_an_entry_larger_than_the_table_empties_it():
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b")
    lines, _ = decoder.decode(b"\x40\x01c" + b"\x7f\x81\x20" + b"x" * 4224)
    assert lines == [b"c: " + b"x" * 4224]
    assert len(decoder._entries) == 62
    assert decoder._size == 0


# ----------------------------------------------------------------------------------------------------------------- entries


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"X-Upper", b"a"), (b"a b", b"c"), (b"", b"c"), (b"a:b", b"c"), (b"a\0", b"c"), (b"\xe9", b"c"), (b"a\r\nb", b"c"),
        (b"a", b" b"), (b"a", b"b "), (b"a", b"\tb"), (b"a", b"b\r\nc: d"), (b"a", b"b\nc"), (b"a", b"b\0c"), (b"a", b"b\rc"),
        (b"a", b"\x7f"),
        (b"connection", b"close"), (b"keep-alive", b"1"), (b"proxy-connection", b"x"), (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"), (b"te", b"gzip"), (b"te", b"trailers, gzip"), (b"te", b""),
        (b"content-length", b"1, 1"), (b"content-length", b"-1"), (b"content-length", b""), (b"content-length", b"+1"),
        (b"host", b"a b"), (b"host", b""), (b"host", b"u@a"),
        (b":method", b""), (b":method", b"G T"), (b":scheme", b"ftp"), (b":scheme", b""), (b":path", b""), (b":path", b"a"),
        (b":path", b"/a b"), (b":path", b"/#a"), (b":path", b"/\x80"), (b":path", b"/a\0"), (b":path", b"http://a/"),
        (b":authority", b""), (b":authority", b"u@a"), (b":authority", b"a/b"), (b":status", b"20"), (b":status", b"2000"),
        (b":status", b"abc"), (b":status", b"101"), (b":status", b"099"), (b":protocol", b""), (b":protocol", b"a b"), (b":other", b"a"),
        (b":", b"a"), (b":Method", b"GET"),
    ],
)  # fmt: skip
def test_fields_that_no_message_may_hold(name, value):
    entry = hpack_fields.entry(name, value)
    assert entry[0] == hpack_fields.BAD
    assert entry[3].startswith("http")
    assert len(entry[1]) == len(name) + len(value) + 2  # it counts in the table all the same


@pytest.mark.parametrize(
    ("name", "value", "role", "meaning"),
    [
        (b"a", b"", hpack_fields.PLAIN, None),
        (b"a", b"b  c\td", hpack_fields.PLAIN, None),
        (b"a", b"\xe9", hpack_fields.PLAIN, None),
        (b"cookie", b"a=b", hpack_fields.COOKIE, b"a=b"),
        (b"content-length", b"5", hpack_fields.SPECIAL, (4, b"content-length", b"5", 5)),
        (b":path", b"/a?b", hpack_fields.PATH, (b"/a?b", b"/a", False)),
        (b":path", b"/a%2e", hpack_fields.PATH, (b"/a%2e", b"/a%2e", True)),
        (b":path", b"*", hpack_fields.PATH, (b"*", b"*", False)),
        (b":authority", b"A:80", hpack_fields.AUTHORITY, (b"A:80", b"host: A:80", (2, b"host", b"A:80", (b"a", b"80")))),
        (b":status", b"299", hpack_fields.STATUS, 299),
        (b":protocol", b"websocket", hpack_fields.PROTOCOL, b"websocket"),
    ],
)
def test_fields_and_their_roles(name, value, role, meaning):
    assert hpack_fields.entry(name, value) == (role, b"%b: %b" % (name, value), name, meaning)


def test_a_trailers_te_is_special():
    assert hpack_fields.entry(b"te", b"Trailers")[0] == hpack_fields.SPECIAL


# ------------------------------------------------------------------------------------------------------------------ memory


def test_literals_are_remembered_but_not_secrets_nor_long_nor_bad_ones():
    memo = hpack._Literals()
    for name, value in [(b"authorization", b"x"), (b"cookie", b"x"), (b"x-request-id", b"x"), (b"a", b"b" * 300), (b"A", b"b")]:
        memo[hpack_lines.literal(name, value)]
    assert len(memo) == 0
    found = memo[hpack_lines.literal(b"a", b"b")]
    assert memo.get(hpack_lines.literal(b"a", b"b")) == found


def test_ever_new_literals_push_out_old_ones_but_not_those_in_use():
    memo = hpack._Literals()
    used = hpack_lines.literal(b":path", b"/used")
    for number in range(40_000):
        if number % 1000 == 0:
            assert number == 0 or used in memo or used in memo._old
            memo[used]
        memo[hpack_lines.literal(b":path", b"/%d" % number)]
    assert len(memo) <= hpack._GENERATION
    assert len(memo._old) <= hpack._GENERATION


def test_what_is_never_to_be_indexed_is_remembered_by_its_connection_only():
    decoder = Decoder()
    block = hpack_lines.literal(b"authorization", b"Bearer x")
    assert block[0] & 0xF0 == 0x10
    for _ in range(2):
        assert decoder.decode(block)[0] == [b"authorization: Bearer x"]
    assert list(decoder._own) == [block]
    assert block not in hpack._literals
    for number in range(100):
        decoder.decode(hpack_lines.literal(b"cookie", b"%d" % number))
    assert len(decoder._own) <= 8
    decoder.decode(hpack_lines.literal(b"cookie", b"x" * 5000))
    assert sum(map(len, decoder._own)) < 8 * 4096


# ---------------------------------------------------------------------------------------------------------------- encoding

lines = st.lists(st.tuples(names, values), max_size=10)


@given(lines, st.integers(200, 599))
def test_the_library_reads_what_we_code(lines, status):
    block = hpack_lines.response(status, [b"%b:  %b " % (name.title(), value) for name, value in lines])
    assert TheirDecoder(max_header_list_size=1 << 20).decode(block, raw=True) == [(b":status", b"%d" % status), *lines]


@given(st.integers(0, 1 << 27), st.integers(1, 8))
def test_integers(value, bits):
    coded = hpack_lines.integer(value, bits, 0)
    mask = (1 << bits) - 1
    assert (coded[0] if coded[0] < mask else hpack._integer(coded, 1, mask)[0]) == value


def test_lines_that_http2_must_not_carry_are_dropped():
    dropped = [b"Connection: close", b"Keep-Alive: 1", b"Proxy-Connection: x", b"Transfer-Encoding: chunked", b"Upgrade: h2c"]
    assert hpack_lines.fields([*dropped, b"HTTP2-Settings: x", b"Host: a", b"TE: gzip"]) == b""
    assert TheirDecoder().decode(hpack_lines.fields([b"TE: Trailers"]), raw=True) == [(b"te", b"Trailers")]


def test_secrets_are_marked_never_indexed_and_not_remembered():
    before = len(hpack_lines._coded.__self__)
    for line in (b"Authorization: x", b"cookie: a=b", b"Set-Cookie: a", b"x-api-key: 1", b"proxy-authorization: y"):
        (field,) = TheirDecoder().decode(hpack_lines.fields([line]), raw=True)
        assert isinstance(field, NeverIndexedHeaderTuple)
    for line in (b"x-request-id: 1", b"traceparent: 2", b"a: " + b"b" * 300):
        hpack_lines.fields([line])
    assert len(hpack_lines._coded.__self__) == before


def test_remembered_lines_are_bounded():
    memo = hpack_lines._Lines()
    for number in range(10_000):
        memo[b"a: %d" % number]
    assert len(memo) <= hpack_lines._GENERATION
    assert len(memo._old) <= hpack_lines._GENERATION


@pytest.mark.parametrize(
    ("block", "arguments", "method", "fields"),
    [
        (
            b"GET /p?q HTTP/1.1\r\nAccept: a\r\nHost:  a.b:80 \r\nCookie: c=d",
            {"scheme": b"https"},
            b"GET",
            [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/p?q"), (b":authority", b"a.b:80"),
             (b"accept", b"a"), (b"cookie", b"c=d")],
        ),
        (
            b"GET /chat HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade",
            {"scheme": b"http", "connect_protocol": b"websocket"},
            b"CONNECT",
            [(b":method", b"CONNECT"), (b":scheme", b"http"), (b":path", b"/chat"), (b":authority", b"a"), (b":protocol", b"websocket")],
        ),
        (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443", {"scheme": b"http"}, b"CONNECT", [(b":method", b"CONNECT"), (b":authority", b"a:443")]),
        (
            b"GET /" + b"p" * 300 + b" HTTP/1.1\r\nhost: a",
            {"scheme": b"http"},
            b"GET",
            [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/" + b"p" * 300), (b":authority", b"a")],
        ),
        (b"PURGE / HTTP/1.1", {"scheme": b"http"}, b"PURGE", [(b":method", b"PURGE"), (b":scheme", b"http"), (b":path", b"/")]),
    ],
)  # fmt: skip
def test_requests(block, arguments, method, fields):
    found = hpack_lines.request(block, **arguments)
    assert found[0] == method
    assert TheirDecoder().decode(found[1], raw=True) == fields


def test_beginnings_of_requests_are_bounded():
    for number in range(1_000):
        hpack_lines.request(b"M%d / HTTP/1.1\r\nhost: a" % number, scheme=b"http")
    assert len(hpack_lines._beginnings) <= 64


def test_a_block_that_is_repeated_means_what_the_table_says_now():
    """Blocks of indexes alone are remembered, until the table changes under them."""
    decoder = Decoder()

    def lines(block):
        return decoder.decode(block)[0]

    added = [b"\x40\x03x-a\x01" + value for value in (b"1", b"2")]
    assert lines(added[0]) == [b"x-a: 1"]
    for _ in range(3):
        assert lines(b"\xbe") == [b"x-a: 1"]
    lines(b"\xbe").append(b"not ours")  # what is given out is the caller's
    assert lines(b"\xbe") == [b"x-a: 1"]
    assert lines(added[1]) == [b"x-a: 2"]
    assert lines(b"\xbe\xbf") == [b"x-a: 2", b"x-a: 1"]
    assert lines(b"\xbe") == [b"x-a: 2"]
    assert lines(b"\x20\x3f\xe1\x1f") == []  # the table is emptied, and made as large as before
    with pytest.raises(CompressionFault):
        lines(b"\xbe")


@pytest.mark.parametrize(
    "lines",
    [
        [b"x-request-id: 1", b"x-envoy-attempt-count: 1"],
        [b"content-type: application/grpc", b"x-request-id: 1", b"te: trailers", b"x-request-id: 2"],
        [b"authorization: secret", b"x-request-id: 1"],
        [b"x-long: " + b"y" * 2000, b"x-request-id: 1"],
        [b"X-Request-Id: 1", b"content-type: application/grpc"],
        [],
    ],
)
def test_a_call_is_coded_like_any_request(lines):
    for path in (b"/a", b"/b", b"/a"):
        block = b"\r\n".join([b"POST %b HTTP/1.1" % path, b"host: a.test", *lines])
        assert hpack_lines.call(block, scheme=b"http") == hpack_lines.request(block, scheme=b"http")


def test_calls_with_secrets_are_not_kept():
    block = b"POST /secret HTTP/1.1\r\nhost: a.test\r\nAuthorization: hush\r\nx-request-id: 1"
    hpack_lines.call(block, scheme=b"http")
    assert not [key for key in hpack_lines._calls if b"hush" in key[0]]
