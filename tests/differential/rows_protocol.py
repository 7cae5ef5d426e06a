"""How messages are framed on either side: HTTP/1.0, 1.1 and 2, gRPC, interim answers, upgrades; and workloads that answer badly."""

from __future__ import annotations

from differing import Row, words
from recorder import Reply
from rows_headers import HOP, TERSE
from rows_resilience import SHADOW
from rows_routing import DRAINED
from running import to

SITES = {
    "two-h": (None, [{"route": [to("two-h.shop")]}]),
    "two-retried": (None, [{"route": [to("two-h.shop")], "retries": {"attempts": 2, "retryOn": "5xx,reset", "backoff": "0.001s"}}]),
    "grpc": (
        None,
        [
            {"match": [{"uri": {"prefix": "/timeout"}}], "timeout": "0.2s", "route": [to("grpc.shop")]},
            {"match": [{"uri": {"prefix": "/refused"}}], "route": [to("refused.shop")]},
            {"match": [{"uri": {"prefix": "/nobody"}}], "route": [to("nobody.shop")]},
            {"match": [{"uri": {"prefix": "/direct"}}], "directResponse": {"status": 403, "body": {"string": "no"}}},
            {"match": [{"uri": {"prefix": "/moved"}}], "redirect": {"uri": "/new"}},
            {"match": [{"uri": {"prefix": "/one"}}], "route": [to("one.shop")]},
            {"match": [{"uri": {"prefix": "/pkg."}}], "route": [to("grpc.shop")]},
        ],
    ),
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

ONES = [
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
    Row(
        "an answer with a bad chunk",
        "upgrades",
        replies=(Reply(raw=one(b"HTTP/1.1 200 OK\ntransfer-encoding: chunked\n", b"zz\r\n"), close=True),),
        only=("status",),
        differs={"status": "head and chunk came in one read, and nothing of it is sent on"},
    ),
    Row(
        "an answer with more than it says", "upgrades", replies=(Reply(raw=one(b"HTTP/1.1 200 OK\ncontent-length: 2\n", b"abcd")),)
    ),
]

# ------------------------------------------------------------------------------------------------------------------- HTTP/2


SIZED = ("saw.content-length", "saw.framing", "saw.transfer-encoding")
"""Of requests that say no length: fedgate tells it when the body's end came along with the head, Envoy never does."""

LENGTHLESS_HEAD = {"answer.transfer-encoding": "Envoy tells a HEAD chunks where the answer says no length; fedgate nothing"}
HINTED = Reply(interim=(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",), body=b"x")
SAYS = {"answer.content-length": "fedgate says that there is no body; over HTTP/2 Envoy leaves that to END_STREAM"}


def two(name, *replies, site="echo", **more):
    more = {"replies": replies, "protocol": "h2", "probe": True} | more
    more["ignore"] = (*SIZED, *more.get("ignore", ()))
    return Row(name, site, **more)


TWOS = [
    *(
        row
        for site in ("echo", "two-h")
        for row in (
            two(f"h2 to {site}: GET", site=site),
            two(f"h2 to {site}: over TLS", site=site, over="https"),
            two(f"h2 to {site}: HEAD", Reply(body=b"hello"), site=site, method="HEAD"),
            two(f"h2 to {site}: POST", site=site, method="POST", body=b"hello"),
            two(f"h2 to {site}: a large body", site=site, method="POST", body=BODY),
            two(f"h2 to {site}: a large answer", Reply(body=BODY), site=site),
            two(f"h2 to {site}: 204", Reply(204), site=site, status=204),
            two(f"h2 to {site}: 304", Reply(304, headers=(("etag", "x"),)), site=site, status=304),
            two(f"h2 to {site}: an empty answer", Reply(body=b""), site=site),
            two(f"h2 to {site}: several", site=site, times=5, ignore=("saw.at",)),
            two(f"h2 to {site}: headers twice", site=site, headers=(("x-a", "1"), ("x-a", "2"))),
            two(f"h2 to {site}: cookies", site=site, headers=(("cookie", "a=1"), ("cookie", "b=2"))),
            two(f"h2 to {site}: te: trailers", site=site, headers=(("te", "trailers"),), differs=HOP),
            two(f"h2 to {site}: set-cookies", Reply(headers=(("set-cookie", "a=1"), ("set-cookie", "b=2"))), site=site),
            two(f"h2 to {site}: a length", site=site, method="POST", body=b"hello", headers=(("content-length", "5"),)),
            two(f"h2 to {site}: expect", site=site, method="POST", body=b"hello", headers=(("expect", "100-continue"),)),
        )
    ),
    two("h2 to h2: request trailers", site="two-h", method="POST", body=b"hello", trailers=(("x-sum", "1"),)),
    two("h2 to h2: answer's trailers", Reply(body=b"x", chunked=True, trailers=(("x-sum", "1"),)), site="two-h"),
    two(
        "h2 to h1: request trailers",
        method="POST",
        body=b"hello",
        trailers=(("x-sum", "1"),),
        differs={"saw.trailer.x-sum": TRAILERS},
    ),
    two(
        "h2 to h1: answer's trailers",
        Reply(body=b"x", chunked=True, trailers=(("x-sum", "1"),)),
        differs={"trailer.x-sum": TRAILERS},
    ),
    two("h2 to h1: a workload that resets", Reply(cut="request"), site="upgrades", status=503, probe=False, differs=TERSE),
    two(
        "h2 to h2: a workload that resets",
        Reply(cut="request"),
        site="two-h",
        status=503,
        probe=False,
        differs=TERSE,
    ),
    two("h2 to h1: a workload that resets in its answer", Reply(cut="body", body=b"x" * 20), site="upgrades", probe=False),
    two(
        "h2 to h2: a workload that resets in its answer",
        Reply(cut="body", body=b"x" * 20),
        site="two-h",
        probe=False,
        ignore=("body",),
    ),
    two(
        "h2 to h2: a workload that refuses the stream, always",
        Reply(cut="request", code=7),
        site="two-h",
        status=503,
        probe=False,
        differs=TERSE,
    ),
    two("h2 to h1: 103 before an answer", HINTED),
    two("h2 to h2: 103 before an answer", HINTED, site="two-h"),
    two("h2 to h1: 100 that nobody asked for", Reply(interim=(b"HTTP/1.1 100 Continue\r\n\r\n",), body=b"x")),
    two(
        "h2 to h2: a body answered before it has come",
        Reply(413, body=b"no", early=True),
        site="two-h",
        method="POST",
        body=BODY,
        ignore=("saw.body",),
        status=413,
        probe=False,
    ),
    two("h2 to h2: HEAD with a length", Reply(headers=(("content-length", "5"),)), site="two-h", method="HEAD"),
    two("h2 to h2: 304 with a length", Reply(304, headers=(("content-length", "5"),)), site="two-h", status=304),
    two("h2 to h2: metadata of bytes", site="two-h", headers=(("x-key-bin", "AAEC"), ("x-high", "Gr\xfc\xdfe"))),
    two("h2: a header of nothing", headers=(("x-empty", ""),)),
    two("h2: a client's x-envoy headers", headers=(("x-envoy-retry-on", "5xx"), ("x-envoy-internal", "true"))),
    two("h2: a client's x-forwarded-for", headers=(("x-forwarded-for", "198.51.100.1"),)),
    two(
        "h2: header operations",
        Reply(headers=(("x-gone", "1"),)),
        site="operations",
        path="/all",
        headers=(("x-gone", "1"), ("x-set", "x")),
    ),
    two("h2: response operations", Reply(headers=(("x-gone", "1"), ("x-set", "1"))), site="operations", path="/down-all"),
    two("h2: Host set by the route", site="host-set", path="/route"),
    two("h2: a regex rewrite", site="by-regex", path="/xxx/one/one?one"),
    two("h2: a refused workload", site="retries", path="/refused", status=503, probe=False, differs=TERSE),
    two(
        "h2: a body that is retried",
        Reply(500),
        Reply(200, body=b"ok"),
        site="retries",
        path="/5xx",
        method="POST",
        body=b"again",
        probe=False,
    ),
    two("h2: a delay", site="faults", path="/delay", took=(0.19, 3.5)),
    two("h2: a request with an origin", site="cors", headers=(("origin", "https://a.example"),)),
    two("h2: httpsRedirect", over="moved", status=301, probe=False, differs=SAYS),
    two("h2: an answer in chunks", Reply(body=b"chunks", chunked=True)),
    two("h2: an answer that ends with its connection", Reply(body=b"close", lengthless=True)),
    two("h2: an answer with connection: close", Reply(body=b"x", close=True)),
    two(
        "h2: an answer with hop-by-hop headers",
        Reply(headers=(("keep-alive", "timeout=5"), ("proxy-connection", "x"), ("upgrade", "h2c"))),
    ),
    two("h2: an answer's names in capitals", Reply(headers=(("X-Capitals", "Yes"),))),
    two("h2: no route", site="few", path="/none", status=404, differs=SAYS),
    two("h2: a redirect", site="redirect", path="/uri?x", status=301, differs=SAYS),
    two("h2: a direct response", site="direct", path="/teapot", status=418),
    two("h2: a rewrite", site="rewrite", path="/api/x?y"),
    two("h2: authority with a port", host="echo.test:8080"),
    two("h2: authority and Host", headers=(("host", "echo.test"),)),
    two("h2: x-forwarded-proto over TLS", over="https", headers=(("x-forwarded-proto", "http"),)),
    two("h2: over mutual TLS", over="mtls"),
    two("h2: many headers", headers=tuple((f"x-{n}", "y" * 100) for n in range(60))),
    two("h2: a timeout", Reply(delay=0.6), site="timeouts", path="/short", status=504, took=(0.19, 3.5)),
    two("h2: a retry", Reply(503), Reply(200, body=b"ok"), site="retries", path="/5xx", probe=False, served=("a", "a")),
    two(
        "h2: a retry of a refused stream",
        Reply(cut="request", code=7),
        Reply(200, body=b"ok"),
        site="two-h",
        probe=False,
        served=("a", "a"),
    ),
    two(
        "h2: a retry of a reset",
        Reply(cut="request", code=2),
        Reply(200, body=b"ok"),
        site="two-retried",
        probe=False,
        served=("a", "a"),
    ),
    two("h2: a retry of 503", Reply(503), Reply(200, body=b"ok"), site="two-retried", probe=False, served=("a", "a")),
    two(
        "h2: a preflight",
        site="cors",
        method="OPTIONS",
        headers=(("origin", "https://a.example"), ("access-control-request-method", "GET")),
        differs=SAYS,
    ),
    two("h2: a fault", site="faults", path="/abort", status=418),
    two("h2: a mirror", site="mirrored", path="/one", seen=2, probe=False, differs=SHADOW),
    two("h2: no such host", host="unknown.example", status=404, differs=SAYS),
    two("h2: path with dots", path="/a/../b"),
    # HTTP/1 to a workload of HTTP/2
    answers(
        "to h2: a body with trailers",
        Reply(),
        site="two-h",
        method="POST",
        body=b"hello",
        chunked=True,
        trailers=(("x-sum", "1"),),
        differs={"saw.trailer.x-sum": TRAILERS},
    ),
    answers(
        "to h2: an answer with trailers",
        Reply(body=b"x", chunked=True, trailers=(("x-sum", "1"),)),
        site="two-h",
        differs={"trailer.x-sum": TRAILERS},
    ),
    answers("to h2: 103 before an answer", HINTED, site="two-h"),
    answers("to h2: GET", Reply(), site="two-h"),
    answers("to h2: POST in chunks", Reply(), site="two-h", method="POST", body=b"hello", chunked=True),
    answers("to h2: a large body", Reply(), site="two-h", method="PUT", body=BODY),
    answers("to h2: a large answer", Reply(body=BODY), site="two-h"),
    answers(
        "to h2: an answer without a length",
        Reply(body=b"x", chunked=True),
        site="two-h",
        ignore=("framing", "answer.content-length", "answer.transfer-encoding"),
    ),
    answers("to h2: HEAD", Reply(body=b"x"), site="two-h", method="HEAD", differs=LENGTHLESS_HEAD),
    answers("to h2: 204", Reply(204), site="two-h", status=204),
    answers("to h2: several cookies", Reply(), site="two-h", headers=(("Cookie", "a=1"), ("Cookie", "b=2"))),
    answers(
        "to h2: hop-by-hop headers",
        Reply(),
        site="two-h",
        headers=(("Keep-Alive", "1"), ("TE", "gzip"), ("Connection", "x-hop"), ("X-Hop", "1")),
    ),
    answers("to h2: HTTP/1.0", Reply(), site="two-h", version="1.0", differs=VERSION),
    answers("to h2: expect", Reply(), site="two-h", raw=(POST + b"expect: 100-continue\r\n\r\n", b"hello")),
]

# --------------------------------------------------------------------------------------------------------------------- gRPC

MESSAGE = b"\0\0\0\0\5hello"
GRPC = (("content-type", "application/grpc"),)
FINE = Reply(headers=GRPC, body=MESSAGE, chunked=True, trailers=(("grpc-status", "0"), ("grpc-message", "")))


def failing(status, text=""):
    """An answer of trailers only."""
    return Reply(headers=(*GRPC, ("grpc-status", status), ("grpc-message", text)), body=b"", chunked=True)


def call(name, *replies, path="/pkg.Service/Method", **more):
    more = {
        "replies": replies or (FINE,),
        "protocol": "grpc",
        "body": MESSAGE,
        "site": "grpc",
        "probe": False,
    } | more
    more["ignore"] = (*SIZED, *more.get("ignore", ()))
    return Row(name, path=path, **more)


PLAIN = dict.fromkeys(
    ("status", "answer.content-type", "answer.grpc-status"), "gRPC is HTTP/2; what comes over HTTP/1 is answered as HTTP"
)
LATE = {"answer.grpc-status": "a time that ran out is DEADLINE_EXCEEDED; Envoy makes UNAVAILABLE of its own 504"}
OWN = ("answer.grpc-message",)

CALLS = [
    call("gRPC: unary"),
    call("gRPC: over TLS", over="https"),
    call(
        "gRPC: an error with a message",
        Reply(headers=GRPC, body=MESSAGE, chunked=True, trailers=(("grpc-status", "5"), ("grpc-message", "gone"))),
    ),
    call("gRPC: trailers only", failing("3", "wrong")),
    call("gRPC: trailers only UNAVAILABLE is retried", failing("14"), FINE, served=("a", "a")),
    call("gRPC: trailers only CANCELLED is retried", failing("1"), FINE, served=("a", "a")),
    call("gRPC: trailers only INTERNAL is not retried", failing("13"), FINE, served=("a",)),
    call("gRPC: several messages", body=MESSAGE * 3),
    call("gRPC: no message", body=b""),
    call("gRPC: a large message", body=b"\0\0\4\0\0" + b"x" * 262_144),
    call("gRPC: metadata", headers=(("x-user", "john"), ("x-key-bin", "AAEC"))),
    call("gRPC: request trailers", trailers=(("x-sum", "1"),)),
    call("gRPC: no route", path="/none/Method", ignore=OWN),
    call("gRPC: no endpoints", path="/nobody/Method", ignore=OWN),
    call("gRPC: refused", path="/refused/Method", ignore=OWN),
    call(
        "gRPC: a timeout",
        Reply(delay=0.6),
        path="/timeout/Method",
        took=(0.19, 3.5),
        ignore=OWN,
        differs={**LATE, "saw.grpc-timeout": "Envoy tells the workload the route's timeout; fedgate leaves deadlines to clients"},
    ),
    call(
        "gRPC: a deadline of its own",
        Reply(delay=0.6),
        headers=(("grpc-timeout", "200m"),),
        took=(0.19, 3.5),
        ignore=OWN,
        differs=LATE,
    ),
    call(
        "gRPC: a deadline that is not reached",
        headers=(("grpc-timeout", "5S"),),
        differs={"saw.grpc-timeout": "Envoy writes it in milliseconds; fedgate as it came"},
    ),
    call("gRPC: a deadline of nonsense", headers=(("grpc-timeout", "soon"),)),
    call("gRPC: a workload that resets", Reply(cut="request"), ignore=OWN),
    call(
        "gRPC: a workload that resets in its answer", Reply(headers=GRPC, cut="body", body=MESSAGE, chunked=True), ignore=("body",)
    ),
    call("gRPC: 503 of what speaks no gRPC", Reply(503, body=b"no"), status=503),
    call("gRPC: to a workload of HTTP/1", Reply(headers=GRPC, body=MESSAGE), path="/one/Method", differs=HOP),
    call("gRPC: a direct response", path="/direct/Method", ignore=OWN),
    call("gRPC: a redirect", path="/moved/Method", ignore=OWN),
    call(
        "gRPC: content-type with a codec",
        headers=(("x", "y"),),
        protocol="h2",
        method="POST",
        path="/none/Method",
        status=404,
        differs=SAYS,
    ),
    Row(
        "gRPC: over HTTP/1",
        "grpc",
        "/none/Method",
        method="POST",
        headers=(("content-type", "application/grpc+proto"), ("te", "trailers")),
        body=MESSAGE,
        differs=PLAIN,
        ignore=(*OWN, "answer.connection"),
    ),
    Row(
        "gRPC-Web is no gRPC",
        "grpc",
        "/none/Method",
        method="POST",
        headers=(("content-type", "application/grpc-web"),),
        body=MESSAGE,
        status=404,
        ignore=("answer.connection",),
    ),
]

ROWS = [*ONES, *TWOS, *CALLS]
