"""What is fuzzed: one function a parser, from bytes to nothing, which fails when a promise is broken; and good inputs to begin with.

The promises: only declared errors; the same answer wherever the bytes are cut; no byte of one message in another; whatever a second
parser takes as well (llhttp, the hpack library) it takes in the same way; no buffer beyond the limits. Both runners use these
functions: hypothesis (test_fuzz_properties.py) cuts and mutates, atheris (fuzz_worker.py) is led by the branches that an input takes.
"""

from __future__ import annotations

import ssl

import fuzz_dns
import hpack
import hpack.exceptions
import hpack.huffman_table
import httptools

from gateway.errors import BadRequest, GatewayError
from gateway.native.codec import hello, huffman, proxy_protocol
from gateway.native.codec.events import END, RequestHead, ResponseHead, Trailers
from gateway.native.codec.h1 import HEAD_LIMIT, ClientCodec, ServerCodec
from gateway.native.codec.hpack import CompressionFault, Decoder
from gateway.native.codec.http2 import PREFACE, Http2Codec
from gateway.native.codec.http2_events import ConnectionFault, LocalFault
from gateway.native.codec.http2_limits import DEFAULT
from gateway.native.paths import needs_normalising, normalised

# What a codec may hold that gives nothing out: a head that is not complete, and a read's worth.
HELD = HEAD_LIMIT + 64 * 1024


def pieces(data):
    """The bytes cut in a way that they themselves decide, so that a finding can be run again."""
    at, out = 0, []
    while at < len(data):
        size = data[at] % 23 + 1
        out.append(data[at : at + size])
        at += size
    return out


# -------------------------------------------------------------------------------------------------------------- HTTP/1


def read(codec, parts):
    """(messages, the error's kind or "", whether the last message is whole). A message: start, lines, body, trailers."""
    messages, whole = [], True
    try:
        for part in parts:
            event = codec.next_event(part)
            while event is not None:
                if isinstance(event, RequestHead | ResponseHead):
                    start = (event.method, event.target) if isinstance(event, RequestHead) else (event.status,)
                    messages.append([start, list(event.lines), event.body, []])
                    whole = event.end
                elif isinstance(event, Trailers):
                    messages[-1][3] += event.lines
                elif event is END:
                    whole = True
                else:
                    messages[-1][2] += event
                event = codec.next_event()
            assert len(codec.buffer) <= HELD
    except GatewayError as error:
        return messages, error.detail, whole
    return messages, "", whole


def check_cuts(new, data):
    """The same wherever it is cut; returns it."""
    at_once = read(new(), [data])
    for parts in (pieces(data), [data[at : at + 1] for at in range(len(data))] if len(data) < 400 else []):
        if not parts:
            continue
        found = read(new(), parts)
        # An error may be told sooner, in another word, but not in place of a message, and never not at all.
        assert bool(found[1]) == bool(at_once[1]), (found, at_once)
        complete = len(at_once[0]) - (not at_once[2])
        assert found[0][:complete] == at_once[0][:complete], (found, at_once)
        if not at_once[1]:
            assert found == at_once, (found, at_once)
    return at_once


class Second:
    """What llhttp makes of the same bytes."""

    def __init__(self):
        self.messages = []
        self.complete = 0

    def on_message_begin(self):
        self.messages.append([b"", b""])

    def on_url(self, url):
        self.messages[-1][0] += url

    def on_body(self, body):
        self.messages[-1][1] += body

    def on_message_complete(self):
        self.complete += 1


def agree(kind, data, messages, error, whole):
    """Pairs of messages, (ours, llhttp's), that are whole in both; fails when one of the two has seen an end that the other, who goes
    along, has not."""
    seen, refused = Second(), False
    try:
        kind(seen).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        refused = True
    ours = messages if whole else messages[:-1]
    theirs = seen.messages[: seen.complete]
    assert error or len(ours) >= len(theirs), (ours, theirs)
    assert error or refused or len(ours) == len(theirs), (ours, theirs)
    return zip(ours, theirs, strict=False)


NEXT = b"PUT /next HTTP/1.1\r\nhost: next.test\r\ncontent-length: 4\r\n\r\nNEXT"


def requests(data):
    """Requests of a client."""
    messages, error, whole = check_cuts(ServerCodec, data)
    for ours, theirs in agree(httptools.HttpRequestParser, data, messages, error, whole):
        assert ours[2] == theirs[1], (ours, theirs)
        if theirs[0].startswith(b"/"):
            assert ours[0][1] == theirs[0], (ours, theirs)
    codec = ServerCodec()
    read(codec, [data])
    if (
        not error and whole and not codec.buffer
    ):  # it ends exactly here: what follows is a request of its own, whole and nothing else
        after, fault, _ = read(ServerCodec(), [data + NEXT])
        assert not fault, fault
        assert after[:-1] == messages
        assert after[-1] == [(b"PUT", b"/next"), [b"host: next.test", b"content-length: 4"], b"NEXT", []]


def responses(data):
    """Answers of a workload, to GETs."""

    def new():
        codec = ClientCodec()
        codec.expect = b"GET"
        return codec

    for ours, theirs in agree(httptools.HttpResponseParser, data, *check_cuts(new, data)):
        if ours[0][0] >= 200:
            assert ours[2] == theirs[1], (ours, theirs)


GET = b"GET /a?b=c HTTP/1.1\r\nhost: a.test\r\nx: y\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nhost: a.test\r\ncontent-length: 5\r\n\r\nhello"
CHUNKS = (
    b"POST /a HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
)
REQUESTS = (
    GET,
    POST,
    CHUNKS,
    GET + POST + CHUNKS + GET,
    b"GET http://a.test/x HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n",
    b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nhost: a.test\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
    b"GET / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    b"GET / HTTP/1.1\nhost: a.test\n\n",
    b"GET / HTTP/1.1\r\nhost : a.test\r\nx: a\r\n b\r\n\r\n",
)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
RESPONSES = (
    OK,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n" + OK,
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 204 No Content\r\n\r\n" + OK,
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n" + OK,
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
)

# ------------------------------------------------------------------------------------------------------ TLS, PROXY, paths


def hellos(data):
    """A client hello: an answer but NeedMore never changes as more bytes come, and it does not wait beyond its limit."""
    answer = hello.read_hello(data)
    if isinstance(answer, hello.NeedMore):
        assert len(data) < hello.MAX_HELLO + 5 * hello.MAX_RECORDS
    for size in {len(data) // 2, len(data) - 1} if data else ():
        before = hello.read_hello(data[:size])
        assert isinstance(before, hello.NeedMore) or before == answer
    assert isinstance(answer, hello.NeedMore) or hello.read_hello(data + data) == answer
    if isinstance(answer, hello.Hello) and answer.server_name:
        assert answer.server_name == answer.server_name.lower()
        assert set(answer.server_name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.")


def proxy_headers(data):
    """A PROXY header: as for a hello; what is taken off is there, and what was read can be written and read again."""
    answer = proxy_protocol.read_header(data)
    if isinstance(answer, proxy_protocol.NeedMore):
        assert len(data) < proxy_protocol.MAX_V2
        return
    for size in range(len(data)):
        before = proxy_protocol.read_header(data[:size])
        assert isinstance(before, proxy_protocol.NeedMore) or before == answer, size
    assert proxy_protocol.read_header(data + b"x") == answer
    if isinstance(answer, proxy_protocol.Proxied):
        assert 0 < answer.size <= min(len(data), proxy_protocol.MAX_V2)
        if answer.source is not None and answer.destination is not None:
            for version in ("V1", "V2"):
                again = proxy_protocol.read_header(proxy_protocol.header(version, answer.source, answer.destination))
                assert isinstance(again, proxy_protocol.Proxied)
                assert (again.source, again.destination) == (answer.source, answer.destination)


def paths(data):
    """Targets as the codec lets them through, put into normal form."""
    target = b"/" + bytes(byte for byte in data if 0x21 <= byte < 0x7F and byte != 0x23)
    if not needs_normalising(target):
        return
    try:
        path, mark, query = normalised(target).partition(b"?")
    except BadRequest:
        return
    assert (mark, query) == target.partition(b"?")[1:]
    assert path.startswith(b"/")
    assert b"\\" not in path
    assert not {b".", b".."} & set(path.split(b"/"))
    assert not needs_normalising(path) or normalised(path) == path, "what a workload normalises once more means something else"


V2 = proxy_protocol.SIGNATURE + b"\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x00\x50\x01\xbb"
PROXIES = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n",
    b"PROXY TCP6 ::1 2001:db8::1 443 80\r\nGET /",
    b"PROXY UNKNOWN ffff\r\n",
    V2,
    proxy_protocol.SIGNATURE + b"\x21\x21\0\x24" + bytes(36),
    proxy_protocol.SIGNATURE + b"\x20\0\0\0",
    proxy_protocol.SIGNATURE + b"\x21\x31\0\xd8" + bytes(216),
)
PATHS = (b"a/../b/./c", b"%2e%2e/%61", b"..\\..", b"a%2fb%5c", b"%00", b'"<>^`{|}', b"x?a/../b", b"//..//.", b"%2%65")


def records(name):
    """A client hello of Python's own, as bytes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


HELLOS = (records("a.test"), records("x" * 60 + ".example"), records(None), b"\x16\x03\x01\0\0", b"\x80\x2e\x01")

# -------------------------------------------------------------------------------------------------------------- HTTP/2

MOST_SAID = 2 * DEFAULT.answers * 17 + 4 * 1024 * 1024
"""Bytes that a codec may have pending here: twice the answers that it may owe, and the answers that this harness gives."""


def frames(data, *, server=True):
    """Frames of a peer, after its preface; requests are answered, bodies taken."""
    codec = Http2Codec(server=server)
    if not server:
        for _ in range(5):
            codec.send_request(b"GET / HTTP/1.1\r\nhost: a.test", scheme=b"http", end=True)
    for part in [PREFACE + data] if server and len(data) % 2 else [PREFACE, *pieces(data)] if server else pieces(data):
        try:
            events = codec.receive(part)
        except ConnectionFault as fault:
            events = fault.events
        for sid, event in events:
            answer(codec, sid, event)
        assert codec.open <= DEFAULT.streams + 5
        assert len(codec._buffer) <= 16_384 + 9 + len(PREFACE)
    assert len(codec.pending()) <= MOST_SAID
    assert codec.pending() == b""


def answer(codec, sid, event):
    try:
        if isinstance(event, RequestHead):
            codec.send_head(sid, 200, [b"a: b"], end=False)
            codec.send_data(sid, event.body or b"body", end=True)
        elif isinstance(event, bytes):
            codec.consumed(sid, len(event))
    except LocalFault:
        pass  # the stream is over on our side already


def answers(data):
    """Frames of a server."""
    frames(data, server=False)


def blocks(data):
    """A header block: what both take, both take alike."""
    ours, theirs = Decoder(), hpack.Decoder(max_header_list_size=2**20)
    for block in data.split(b"\xaa\xaa\xaa"):
        try:
            lines, _ = ours.decode(block)
        except CompressionFault:
            return
        try:
            fields = theirs.decode(block, raw=True)
        except hpack.exceptions.HPACKError:
            return
        theirs_as_lines = [name + b": " + value for name, value in fields]
        assert list(filter(is_regular, lines)) == list(filter(is_regular, theirs_as_lines)), (lines, fields)


def is_regular(line):
    """Not a pseudo field, which our decoder hands out in another way; a name that is empty is no pseudo field."""
    return not line.startswith(b":") or line.startswith(b": ")


def strings(data):
    """Huffman coded strings."""
    try:
        ours = huffman.decode(data)
    except huffman.HuffmanFault:
        ours = None
    try:
        theirs = hpack.huffman_table.decode_huffman(data)
    except hpack.exceptions.HPACKDecodingError:
        theirs = None
    assert ours == theirs, (ours, theirs)


def _frame(kind, flags, number, payload):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + number.to_bytes(4, "big") + payload


_BLOCK = hpack.Encoder().encode([(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/"), ("x", "y")])
_HEAD = _frame(1, 5, 1, _BLOCK)
_OPEN = _frame(1, 4, 1, _BLOCK)
FRAMES = (
    _frame(4, 0, 0, b"") + _HEAD + _frame(4, 1, 0, b""),
    _frame(4, 0, 0, b"\0\4\0\0\xff\xff") + _OPEN + _frame(0, 0, 1, b"hello") + _frame(0, 1, 1, b""),
    _frame(4, 0, 0, b"") + _frame(1, 1, 1, _BLOCK[:4]) + _frame(9, 4, 1, _BLOCK[4:]),
    _frame(4, 0, 0, b"") + _HEAD + _frame(3, 0, 1, b"\0\0\0\x08") + _frame(6, 0, 0, b"12345678") + _frame(7, 0, 0, bytes(8)),
    _frame(4, 0, 0, b"") + _frame(8, 0, 0, b"\0\0\1\0") + _OPEN + _frame(8, 0, 1, b"\0\0\1\0") + _frame(2, 0, 1, bytes(5)),
    _frame(4, 0, 0, b"") + _frame(1, 0x2D, 1, b"\2\0\0\0\0\x10" + _BLOCK + b"\0\0"),
)
_STATUS = hpack.Encoder().encode([(":status", "200"), ("x", "y")])
ANSWERS = (
    _frame(4, 0, 0, b"") + _frame(1, 4, 1, _STATUS) + _frame(0, 1, 1, b"hello") + _frame(1, 5, 3, _STATUS),
    _frame(4, 0, 0, b"") + _frame(1, 4, 1, _STATUS) + _frame(1, 5, 1, hpack.Encoder().encode([("grpc-status", "0")])),
    _frame(4, 0, 0, b"") + _frame(7, 0, 0, b"\0\0\0\1\0\0\0\0") + _frame(3, 0, 3, b"\0\0\0\7"),
)
BLOCKS = (
    _BLOCK,
    _STATUS,
    b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
    b"\x20\x3f\xe1\x1f" + _BLOCK,
    _BLOCK * 3,
)
STRINGS = (b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", b"", b"\xff\xff")

TARGETS = {
    "requests": (requests, REQUESTS),
    "responses": (responses, RESPONSES),
    "hellos": (hellos, HELLOS),
    "proxy_headers": (proxy_headers, PROXIES),
    "paths": (paths, PATHS),
    "frames": (frames, FRAMES),
    "answers": (answers, ANSWERS),
    "blocks": (blocks, BLOCKS),
    "strings": (strings, STRINGS),
    "dns_questions": (fuzz_dns.questions, fuzz_dns.QUERIES),
    "dns_answers": (fuzz_dns.answers, fuzz_dns.ANSWERS),
}
"""name → (what is called with bytes, good inputs)."""
