"""What is no HTTP, or HTTP that two parsers could read differently: refused, closed, and nothing of it reaches a workload.

Compared are the status, whether the connection still serves (`probe`), and what the workload saw; not the words of a refusal.
Where fedgate is stricter than Envoy, or Envoy mends what fedgate refuses, the row says so (DESIGN section 7).
"""

from __future__ import annotations

from differing import Row

SITES = {}

HEAD = b"POST /x HTTP/1.1\r\nhost: {host}\r\n"
GET = b"GET /x HTTP/1.1\r\nhost: {host}\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: {host}\r\n\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def bad(name, raw, status=400, reason="", but="status closed saws", **more):
    """A row of raw bytes. status: Envoy's. reason: why fedgate does otherwise, in the fields that `but` names."""
    return Row(
        name,
        site="echo",
        raw=raw,
        status=status,
        probe=True,
        only=("status", "closed", "saws"),
        differs=dict.fromkeys(but.split(), reason) if reason else {},
        **more,
    )


STRICT = "DESIGN section 7: what two parsers could read differently is refused with 400; Envoy mends it and sends it on"
CODING = "DESIGN section 7 says 400 to every coding but chunked; Envoy 501"
SERVES = "RFC 9110 section 9.1: methods are extensible, so a gateway passes them on; Envoy knows a list"

ROWS = [
    # two lengths
    bad("length and chunked", HEAD + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    bad("chunked and length", HEAD + b"transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n" + SMUGGLED),
    bad("two lengths", HEAD + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
    bad("two equal lengths", HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc"),
    bad("a list of lengths", HEAD + b"content-length: 3, 3\r\n\r\nabc"),
    bad("a length with a sign", HEAD + b"content-length: +3\r\n\r\nabc"),
    bad("a negative length", HEAD + b"content-length: -3\r\n\r\nabc"),
    bad("a length in hexadecimal", HEAD + b"content-length: 0x3\r\n\r\nabc"),
    bad("a length of words", HEAD + b"content-length: abc\r\n\r\nabc"),
    bad("an empty length", HEAD + b"content-length:\r\n\r\n"),
    bad("a length beyond 64 bits", HEAD + b"content-length: 99999999999999999999\r\n\r\nabc"),
    bad("a length with a space inside", HEAD + b"content-length: 1 3\r\n\r\nabc"),
    bad(
        "chunked twice", HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 501, CODING, "status"
    ),
    bad("gzip, chunked", HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, CODING, "status"),
    bad("chunked, gzip", HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 501, CODING, "status"),
    bad("identity", HEAD + b"transfer-encoding: identity\r\n\r\n", 501, CODING, "status"),
    bad("xchunked", HEAD + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501, CODING, "status"),
    bad("chunked with a tab before", HEAD + b"transfer-encoding:\tchunked\r\n\r\n0\r\n\r\n", 200),
    bad("chunked with a vertical tab", HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    bad("Chunked in capitals", HEAD + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", 200),
    bad(
        "chunked in HTTP/1.0",
        b"POST / HTTP/1.0\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        200,
        "RFC 9112 section 6.1: faulty framing",
        "status saws",
    ),
    bad("chunked of a GET", GET + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    # chunks
    bad("a chunk size of words", CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk size with a sign", CHUNKED + b"+3\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk size with 0x", CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk size beyond 64 bits", CHUNKED + b"f" * 17 + b"\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk longer than it says", CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n", 200, STRICT),
    bad("a chunk that ends with LF", CHUNKED + b"3\r\nabc\n0\r\n\r\n", 200, STRICT),
    bad("a chunk size that ends with LF", CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    bad("an empty chunk size", CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk size and spaces", CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n", 200),
    bad("a chunk extension", CHUNKED + b"3;a=b\r\nabc\r\n0\r\n\r\n", 200),
    bad("a quoted chunk extension", HEAD + b'transfer-encoding: chunked\r\n\r\n3;a="b;c"\r\nabc\r\n0\r\n\r\n', 200),
    bad("a chunk extension with LF", CHUNKED + b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    bad("a chunk size with leading zeros", CHUNKED + b"0003\r\nabc\r\n0\r\n\r\n", 200),
    bad("a trailer that is no header", CHUNKED + b"0\r\nno header\r\n\r\n"),
    bad("a trailer with a space before the colon", CHUNKED + b"0\r\nx : y\r\n\r\n"),
    # lines
    bad("LF for CR LF", b"GET / HTTP/1.1\nhost: {host}\n\n", 200, STRICT),
    bad("LF at the end of a header", b"GET / HTTP/1.1\r\nhost: {host}\nx: y\r\n\r\n", 200, STRICT),
    bad("CR alone in a header", GET + b"x: a\rb\r\n\r\n", 200, STRICT),
    bad("CR alone before a colon", GET + b"x\r: b\r\n\r\n"),
    bad("a folded header", GET + b"x: a\r\n b\r\n\r\n", 200, STRICT),
    bad("a folded header with a tab", GET + b"x: a\r\n\tb\r\n\r\n", 200, STRICT),
    bad("a folded first header", b"GET / HTTP/1.1\r\n x: a\r\nhost: {host}\r\n\r\n"),
    bad("a space before a colon", GET + b"x : y\r\n\r\n"),
    bad("a tab before a colon", GET + b"x\t: y\r\n\r\n"),
    bad("a space before the colon of a length", HEAD + b"content-length : 3\r\n\r\nabc"),
    bad("a space in a header's name", GET + b"x y: z\r\n\r\n"),
    bad("a header without a colon", GET + b"nothing\r\n\r\n"),
    bad("a header without a name", GET + b": y\r\n\r\n"),
    bad("NUL in a header", GET + b"x: a\0b\r\n\r\n"),
    bad("NUL in a header's name", GET + b"x\0: b\r\n\r\n"),
    bad("a control character in a header", GET + b"x: a\x01b\r\n\r\n"),
    bad("DEL in a header", GET + b"x: a\x7fb\r\n\r\n"),
    bad("high bytes in a header's name", GET + b"\xff: b\r\n\r\n"),
    bad("brackets in a header's name", GET + b"x[]: b\r\n\r\n"),
    bad("a quote in a header's name", GET + b'x": b\r\n\r\n'),
    bad("every letter of a token in a header's name", GET + b"x!#$%&'*+-.^_`|~09: b\r\n\r\n", 200),
    bad("an empty line first", b"\r\n" + GET + b"\r\n", 200),
    bad("two empty lines first", b"\r\n\r\n" + GET + b"\r\n", 200, STRICT),
    bad("LF first", b"\n" + GET + b"\r\n", 200, STRICT),
    bad("CR first", b"\r" + GET + b"\r\n", 200, STRICT),
    bad("a space first", b" " + GET + b"\r\n"),
    # Host
    bad("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    bad("an empty Host", b"GET / HTTP/1.1\r\nhost:\r\n\r\n", 404, STRICT, "status closed"),
    bad("two Hosts", b"GET / HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n\r\n", 404, STRICT, "status closed"),
    bad("two different Hosts", b"GET / HTTP/1.1\r\nhost: {host}\r\nhost: else.example\r\n\r\n", 404, STRICT, "status closed"),
    bad("a Host of two names", b"GET / HTTP/1.1\r\nhost: {host}, else.example\r\n\r\n"),
    bad("a Host with a path", b"GET / HTTP/1.1\r\nhost: {host}/x\r\n\r\n"),
    bad("a Host with a space", b"GET / HTTP/1.1\r\nhost: {host} x\r\n\r\n"),
    bad("a Host with a user", b"GET / HTTP/1.1\r\nhost: user@{host}\r\n\r\n", 404, STRICT, "status closed"),
    bad("a Host with a port of words", b"GET / HTTP/1.1\r\nhost: {host}:http\r\n\r\n", 200, STRICT),
    bad("a Host with an empty port", b"GET / HTTP/1.1\r\nhost: {host}:\r\n\r\n", 200),
    bad("a Host with a port too large", b"GET / HTTP/1.1\r\nhost: {host}:99999\r\n\r\n", 200),
    bad("a Host with a quote", b'GET / HTTP/1.1\r\nhost: "{host}"\r\n\r\n'),
    # the request line
    bad("absolute form", b"GET http://{host}/x?y HTTP/1.1\r\nhost: {host}\r\n\r\n", 200),
    bad("absolute form without a path", b"GET http://{host} HTTP/1.1\r\nhost: {host}\r\n\r\n", 200),
    bad(
        "absolute form with a query only",
        b"GET http://{host}?x HTTP/1.1\r\nhost: {host}\r\n\r\n",
        404,
        "RFC 9110 section 4.2.3: an empty path is a slash",
        "status saws",
    ),
    bad(
        "absolute form of another host", b"GET http://else.example/x HTTP/1.1\r\nhost: {host}\r\n\r\n", 404, STRICT, "status closed"
    ),
    bad("absolute form that Host contradicts", b"GET http://{host}/x HTTP/1.1\r\nhost: else.example\r\n\r\n", 200, STRICT),
    bad("absolute form of https", b"GET https://{host}/x HTTP/1.1\r\nhost: {host}\r\n\r\n", 403),
    bad("absolute form of ftp", b"GET ftp://{host}/x HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("absolute form with a user", b"GET http://user@{host}/x HTTP/1.1\r\nhost: {host}\r\n\r\n", 200, STRICT),
    bad("authority form", b"GET {host}:80 HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad(
        "asterisk of OPTIONS",
        b"OPTIONS * HTTP/1.1\r\nhost: {host}\r\n\r\n",
        404,
    ),
    bad("asterisk of GET", b"GET * HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("no slash", b"GET x HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("a fragment", b"GET /x#y HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("a space in the target", b"GET /x y HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("two spaces before the target", b"GET  /x HTTP/1.1\r\nhost: {host}\r\n\r\n", 200, STRICT),
    bad("two spaces before the version", b"GET /x  HTTP/1.1\r\nhost: {host}\r\n\r\n", 200, STRICT),
    bad("a tab in the request line", b"GET\t/x HTTP/1.1\r\nhost: {host}\r\n\r\n", 200, STRICT),
    bad("a space after the version", b"GET /x HTTP/1.1 \r\nhost: {host}\r\n\r\n", 200, STRICT),
    bad("NUL in the target", b"GET /x\0y HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("a control character in the target", b"GET /x\x01y HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("high bytes in the target", b"GET /\xc3\xa4 HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("a lower-case method", b"get /x HTTP/1.1\r\nhost: {host}\r\n\r\n", 400, SERVES),
    bad("an unknown method", b"FROB /x HTTP/1.1\r\nhost: {host}\r\n\r\n", 400, SERVES),
    bad("a method of signs", b"G@T /x HTTP/1.1\r\nhost: {host}\r\n\r\n"),
    bad("a method and no more", b"GET\r\nhost: {host}\r\n\r\n"),
    bad("HTTP/0.9", b"GET /x\r\n\r\n"),
    bad(
        "HTTP/1.2",
        b"GET /x HTTP/1.2\r\nhost: {host}\r\n\r\n",
        200,
        "Envoy takes it for HTTP/1.0; fedgate speaks 1.0 and 1.1",
        "status saws",
    ),
    bad(
        "HTTP/2.0 in HTTP/1's form",
        b"GET /x HTTP/2.0\r\nhost: {host}\r\n\r\n",
        200,
        "Envoy takes it for HTTP/1.0; fedgate speaks 1.0 and 1.1",
        "status saws",
    ),
    bad("HTTP/11", b"GET /x HTTP/11\r\nhost: {host}\r\n\r\n"),
    bad("http/1.1 in lower case", b"GET /x http/1.1\r\nhost: {host}\r\n\r\n"),
    bad("HTTP/1.10", b"GET /x HTTP/1.10\r\nhost: {host}\r\n\r\n"),
    bad("another protocol", b"HELO mail.example\r\n\r\n"),
    bad("TLS on a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64),
    # sizes
    bad("a head over the limit", GET + b"x: " + b"y" * 70_000 + b"\r\n\r\n", 431),
    bad("many small headers over the limit", GET + b"".join(b"x%d: y\r\n" % n for n in range(120)) + b"\r\n", 431),
    bad("a long target under the limit", b"GET /" + b"a" * 30_000 + b" HTTP/1.1\r\nhost: {host}\r\n\r\n", 200),
    bad("a target over the limit", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: {host}\r\n\r\n", 431),
    bad("a long header's name", GET + b"x" * 1_000 + b": y\r\n\r\n", 200),
]
