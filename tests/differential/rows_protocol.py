"""How messages of HTTP/1.0 and 1.1 are framed on either side: bodies, trailers, 1xx, upgrades; and workloads that answer badly."""

from __future__ import annotations

from differing import Row, words
from recorder import Reply
from rows_routing import DRAINED
from running import to

SITES = {
    "upgrades": (None, [{"route": [to("fresh.shop")]}]),
}

BODY = b"0123456789" * 30_000


def answers(name, reply, **more):
    """A row about how an answer is framed."""
    return Row(name, **{"replies": (reply,), "probe": True, "site": "echo"} | more)


def worst(name, raw, status=502, **more):
    """A row of a workload that does not speak HTTP; only the status is compared."""
    return Row(name, "upgrades", replies=(Reply(raw=raw, close=True),), status=status, only=("status",), **more)


def one(head, body=b""):
    return head.replace(b"\n", b"\r\n") + b"\r\n" + body


H1 = b"GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\n"

TRAILERS = "Envoy drops the trailers of HTTP/1 unless enable_trailers, which istiod does not set; fedgate passes them"
VERSION = {"version": "RFC 9110 section 2.5: a server says its own version; Envoy repeats the client's"}
UNDEFINED = {"saw.expect": "nobody has defined another expectation; fedgate takes it away, Envoy passes it"}
EXPECTS = {"interim": "RFC 9110 section 10.1.1: no 100 without a body to wait for, nor to HTTP/1.0"}
STRICT = {"status": "an answer that two parsers could read differently is 502; Envoy mends it"}

CLOSES = {"answer.connection": "Envoy closes what has asked for a tunnel and has not got one"}
IGNORES = "RFC 9110 section 7.8: an upgrade that is not known may be passed over"
PASSED = words(
    "answer.content-length saws saw.connection saw.upgrade "
    "saw.at saw.body saw.framing saw.host saw.line saw.x-forwarded-for saw.x-forwarded-proto saw.x-request-id"
)

ROWS = [
    # answers of HTTP/1
    answers("an answer with a length", Reply(body=b"hello")),
    answers("an answer without a body", Reply(body=b"")),
    answers("an answer in chunks", Reply(body=b"hello chunks", chunked=True)),
    answers("an empty answer in chunks", Reply(body=b"", chunked=True)),
    answers("an answer that ends with its connection", Reply(body=b"hello", lengthless=True)),
    answers("an answer that closes", Reply(body=b"hello", close=True)),
    answers("a large answer", Reply(body=BODY)),
    answers("a large answer in chunks", Reply(body=BODY, chunked=True)),
    answers(
        "an answer with trailers", Reply(body=b"x", chunked=True, trailers=(("x-sum", "1"),)), differs={"trailer.x-sum": TRAILERS}
    ),
    answers("HEAD", Reply(body=b"hello"), method="HEAD"),
    answers("HEAD answered in chunks", Reply(body=b"hello", chunked=True), method="HEAD"),
    answers(
        "HEAD answered without a length",
        Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n"),
        method="HEAD",
        probe=False,
        differs={"answer.transfer-encoding": "a HEAD's answer may say no length (RFC 9110 section 8.6)"},
    ),
    answers("204", Reply(204), status=204),
    answers("304", Reply(304, headers=(("etag", '"x"'),)), status=304),
    answers("304 with a length", Reply(304, headers=(("content-length", "5"),)), status=304),
    answers("205", Reply(205, body=b""), status=205),
    answers("an answer with a reason", Reply(raw=b"HTTP/1.1 200 Fine indeed\r\ncontent-length: 2\r\n\r\nok")),
    answers("an answer without a reason", Reply(raw=b"HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok")),
    answers("an answer of a status nobody knows", Reply(299, body=b"x"), status=299),
    answers("an answer of 599", Reply(599, body=b"x"), status=599),
    answers("an answer of HTTP/1.0", Reply(raw=b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")),
    answers("an answer of HTTP/1.0 that ends with its connection", Reply(raw=b"HTTP/1.0 200 OK\r\n\r\nok", close=True)),
    answers("102 before an answer", Reply(interim=(b"HTTP/1.1 102 Processing\r\n\r\n",), body=b"x")),
    answers("103 before an answer", Reply(interim=(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",), body=b"x")),
    answers(
        "100 that nobody asked for",
        Reply(interim=(b"HTTP/1.1 100 Continue\r\n\r\n",), body=b"x"),
    ),
    answers("several answers, one after the other", Reply(body=b"x"), times=4),
    answers("a POST and more", Reply(body=b"x"), method="POST", body=b"hello", times=3),
    answers("an answer before the body", Reply(body=b"early", early=True, close=True), method="POST", body=BODY[:1000], status=200),
    # requests of HTTP/1
    answers("a body with a length", Reply(), method="POST", body=b"hello"),
    answers("a body of no length", Reply(), raw=b"POST /x HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n"),
    answers("a body in chunks", Reply(), method="POST", body=b"hello", chunked=True),
    answers("an empty body in chunks", Reply(), method="POST", body=b"", chunked=True),
    answers("a large body", Reply(), method="PUT", body=BODY),
    answers("a large body in chunks", Reply(), method="PUT", body=BODY, chunked=True),
    answers(
        "a body in two pieces",
        Reply(),
        raw=b"POST /x HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ),
    answers(
        "a body with trailers",
        Reply(),
        method="POST",
        body=b"hello",
        chunked=True,
        trailers=(("x-sum", "1"),),
        differs={"saw.trailer.x-sum": TRAILERS},
    ),
    answers("a body of a GET", Reply(), body=b"hello"),
    answers("a body of a DELETE", Reply(), method="DELETE", body=b"hello"),
    answers("pipelined", Reply(), raw=H1 + H1 + H1, methods=("GET",) * 3, status=(200,) * 3),
    answers("pipelined after a POST", Reply(), raw=POST + b"\r\nhello" + H1, methods=("POST", "GET"), status=(200,) * 2),
    answers("pipelined, the first closes", Reply(), raw=b"GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n" + H1),
    answers(
        "pipelined, the second is bad",
        Reply(),
        raw=H1 + b"GET / HTTP/1.1\r\nx y: z\r\n\r\n",
        methods=("GET",) * 2,
        status=(200, 400),
        ignore=("body", "answer.content-length", "answer.content-type"),
    ),
    answers("expect: 100-continue", Reply(), raw=(POST + b"expect: 100-continue\r\n\r\n", b"hello")),
    answers("expect: 100-continue, not waited for", Reply(), raw=POST + b"expect: 100-continue\r\n\r\nhello"),
    answers(
        "expect: 100-continue, refused",
        Reply(417, body=b"no", early=True, close=True),
        raw=POST + b"expect: 100-continue\r\n\r\n",
        status=417,
    ),
    answers("expect: 100-continue in capitals", Reply(), raw=(POST + b"Expect: 100-Continue\r\n\r\n", b"hello")),
    answers("expect of something else", Reply(), raw=POST + b"expect: 200-ok\r\n\r\nhello", differs=UNDEFINED),
    answers(
        "expect: 100-continue without a body",
        Reply(),
        raw=b"GET /x HTTP/1.1\r\nhost: {host}\r\nexpect: 100-continue\r\n\r\n",
    ),
    answers(
        "expect: 100-continue in HTTP/1.0",
        Reply(),
        raw=b"POST /x HTTP/1.0\r\nhost: {host}\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello",
        differs={**EXPECTS, **VERSION, "saw.expect": "as for interim"},
    ),
    answers(
        "half closed after the request",
        Reply(delay=0.05),
        raw=H1,
        half_close=True,
        probe=False,
        status=(),
        only=("answers", "status"),
    ),
    answers(
        "half closed after a POST",
        Reply(delay=0.05),
        raw=POST + b"\r\nhello",
        half_close=True,
        probe=False,
        status=(),
        only=("answers", "status"),
    ),
    answers("HTTP/1.0", Reply(), version="1.0", differs=VERSION),
    answers("HTTP/1.0 kept alive", Reply(), version="1.0", headers=(("Connection", "keep-alive"),), differs=VERSION),
    answers(
        "HTTP/1.0 without Host",
        Reply(),
        raw=b"GET /x HTTP/1.0\r\n\r\n",
        status=400,
        only=("status", "closed"),
        differs={"status": "HTTP/1.0 need not say Host; here no route takes it then"},
    ),
    answers("HTTP/1.0 and an answer in chunks", Reply(body=b"hello", chunked=True), version="1.0", differs=VERSION),
    answers(
        "HTTP/1.0 kept alive and an answer in chunks",
        Reply(body=b"hello", chunked=True),
        version="1.0",
        headers=(("Connection", "keep-alive"),),
        differs=VERSION,
    ),
    answers(
        "HTTP/1.0 and an answer that ends with its connection",
        Reply(body=b"hello", lengthless=True),
        version="1.0",
        differs=VERSION,
    ),
    answers("HTTP/1.0 and a POST", Reply(), version="1.0", method="POST", body=b"hello", differs=VERSION),
    answers("HTTP/1.0 and our own error", Reply(), site="few", path="/none", version="1.0", status=404, differs=VERSION),
    answers("close and our own error", Reply(), site="few", path="/none", headers=(("Connection", "close"),), status=404),
    answers("our own error", Reply(), site="few", path="/none", status=404),
    answers(
        "our own error to a POST", Reply(), site="few", path="/none", method="POST", body=b"hello", status=404, differs=DRAINED
    ),
    answers("TRACE", Reply(), method="TRACE"),
    # upgrades
    Row(
        "websocket",
        "upgrades",
        headers=(("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "x"), ("Sec-WebSocket-Version", "13")),
        replies=(Reply(101, headers=(("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", "y"))),),
        tunnel=b"hello tunnel",
        status=101,
    ),
    Row(
        "websocket in capitals",
        "upgrades",
        headers=(("Connection", "keep-alive, UPGRADE"), ("Upgrade", "WebSocket")),
        replies=(Reply(101, headers=(("connection", "upgrade"), ("upgrade", "WebSocket"))),),
        tunnel=b"hello tunnel",
        status=101,
        differs=dict.fromkeys(("answer.connection", "saw.connection"), "fedgate writes it itself"),
    ),
    Row(
        "websocket refused by the workload",
        "upgrades",
        headers=(("Connection", "Upgrade"), ("Upgrade", "websocket")),
        replies=(Reply(403, body=b"no"),),
        status=403,
        differs=CLOSES,
    ),
    Row(
        "an upgrade to something else",
        "upgrades",
        headers=(("Connection", "Upgrade"), ("Upgrade", "irc")),
        status=403,
        differs={**CLOSES, "status": IGNORES, "body": IGNORES, **dict.fromkeys(PASSED, IGNORES)},
    ),
    Row(
        "an upgrade to h2c",
        "upgrades",
        headers=(("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABk")),
    ),
    Row("Upgrade without Connection", "upgrades", headers=(("Upgrade", "websocket"),)),
    Row(
        "websocket without a route",
        "few",
        "/none",
        headers=(("Connection", "Upgrade"), ("Upgrade", "websocket")),
        status=404,
        differs=CLOSES,
    ),
    Row(
        "CONNECT",
        "upgrades",
        raw=b"CONNECT {host}:80 HTTP/1.1\r\nhost: {host}:80\r\n\r\n",
        methods=("CONNECT",),
        status=404,
        differs=CLOSES,
    ),
    # workloads that answer badly
    worst("no HTTP", b"220 no web server here\r\n\r\n"),
    worst("an answer of two lengths", one(b"HTTP/1.1 200 OK\ncontent-length: 1\ncontent-length: 2\n", b"ab")),
    worst("an answer of length and chunks", one(b"HTTP/1.1 200 OK\ncontent-length: 1\ntransfer-encoding: chunked\n", b"0\r\n\r\n")),
    worst("an answer of a length with a sign", one(b"HTTP/1.1 200 OK\ncontent-length: +1\n", b"a")),
    worst("an answer with LF only", b"HTTP/1.1 200 OK\ncontent-length: 1\n\na", 200, differs=STRICT),
    worst(
        "an answer with a folded header", one(b"HTTP/1.1 200 OK\nx: a\n b\ncontent-length: 1\n", b"a"), status=200, differs=STRICT
    ),
    worst("an answer with a space before a colon", one(b"HTTP/1.1 200 OK\nx : a\ncontent-length: 1\n", b"a")),
    worst("an answer with NUL in a header", one(b"HTTP/1.1 200 OK\nx: a\0b\ncontent-length: 1\n", b"a")),
    worst("an answer with a header of no name", one(b"HTTP/1.1 200 OK\n: a\ncontent-length: 1\n", b"a")),
    worst("an answer of status 99", one(b"HTTP/1.1 099 Low\ncontent-length: 1\n", b"a")),
    worst("an answer of status 1000", one(b"HTTP/1.1 1000 High\ncontent-length: 1\n", b"a"), status=1000, differs=STRICT),
    worst("an answer of status xyz", one(b"HTTP/1.1 xyz High\ncontent-length: 1\n", b"a")),
    worst("an answer of HTTP/3", one(b"HTTP/3.0 200 OK\ncontent-length: 1\n", b"a"), status=200, differs=STRICT),
    worst("an answer of gzip, chunked", one(b"HTTP/1.1 200 OK\ntransfer-encoding: gzip, chunked\n", b"0\r\n\r\n")),
    worst(
        "an answer over the limit of heads",
        one(b"HTTP/1.1 200 OK\nx: " + b"y" * 70_000 + b"\ncontent-length: 1\n", b"a"),
        status=200,
        differs=STRICT,
    ),
    worst(
        "an answer of many headers",
        one(b"HTTP/1.1 200 OK\n" + b"".join(b"x%d: y\n" % n for n in range(120)) + b"content-length: 1\n", b"a"),
    ),
    worst(
        "101 that nobody asked for",
        one(b"HTTP/1.1 101 Switching Protocols\nupgrade: websocket\nconnection: upgrade\n"),
        status=101,
        differs=STRICT,
    ),
    worst(
        "half a head", b"HTTP/1.1 200 OK\r\nx: y\r\n", differs={"status": "the connection ended: 503, as for any other end of it"}
    ),
    worst("204 with a body", one(b"HTTP/1.1 204 None\ncontent-length: 5\n", b"hello")),
    Row("an answer cut in its body", "upgrades", replies=(Reply(cut="body", body=b"x" * 50),), status=200),
    Row(
        "an answer in chunks that ends too soon",
        "upgrades",
        replies=(Reply(raw=one(b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n", b"5\r\nhel"), close=True),),
    ),
    *(
        Row(
            f"an answer with {what}",
            "upgrades",
            replies=(Reply(raw=one(b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n", body), close=True),),
            only=("status", "broken"),
            protocol=protocol,
            differs={
                "status": "head and chunk came in one read, so nothing was sent on yet: 502; Envoy has begun a 200",
                "broken": "Envoy breaks off what it has begun",
            },
        )
        for protocol in ("h1", "h2")
        for what, body in ((f"a bad chunk, {protocol}", b"zz\r\n"), (f"a bad second chunk, {protocol}", b"2\r\nok\r\nzz\r\n"))
    ),
    Row(
        "an answer with more than it says", "upgrades", replies=(Reply(raw=one(b"HTTP/1.1 200 OK\ncontent-length: 2\n", b"abcd")),)
    ),
]
