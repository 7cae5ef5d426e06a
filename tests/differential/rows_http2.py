"""HTTP/2 from clients and to workloads, and from one version to the other."""

from __future__ import annotations

from differing import Row
from recorder import Reply
from rows_headers import HOP, TERSE
from rows_protocol import BODY, POST, TRAILERS, VERSION, answers
from rows_resilience import SHADOW
from running import to

SITES = {
    "two-h": (None, [{"route": [to("two-h.shop")]}]),
    "two-retried": (None, [{"route": [to("two-h.shop")], "retries": {"attempts": 2, "retryOn": "5xx,reset", "backoff": "0.001s"}}]),
}

SIZED = ("saw.content-length", "saw.framing", "saw.transfer-encoding")
"""Of requests that say no length: fedgate tells it when the body's end came along with the head, Envoy never does."""

LENGTHLESS_HEAD = {"answer.transfer-encoding": "Envoy tells a HEAD chunks where the answer says no length; fedgate nothing"}
HINTED = Reply(interim=(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",), body=b"x")
SAYS = {"answer.content-length": "fedgate says that there is no body; over HTTP/2 Envoy leaves that to END_STREAM"}


def two(name, *replies, site="echo", **more):
    more = {"replies": replies, "protocol": "h2", "probe": True} | more
    more["ignore"] = (*SIZED, *more.get("ignore", ()))
    return Row(name, site, **more)


ROWS = [
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
