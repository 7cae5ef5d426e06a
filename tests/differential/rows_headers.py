"""Headers on their way through: operations at both levels, hop-by-hop names, what only a proxy may say, x-forwarded-*, ids, XFCC."""

from __future__ import annotations

from differing import Row, words
from recorder import Reply
from running import to


def operating(path, route=None, destination=None, host="one.shop"):
    """A rule with header operations on the route and on its destination."""
    written = {"match": [{"uri": {"prefix": path}}], "route": [to(host) | ({"headers": destination} if destination else {})]}
    return written | ({"headers": route} if route else {})


def request(**operations):
    return {"request": operations}


def response(**operations):
    return {"response": operations}


SITES = {
    "operations": (
        None,
        [
            operating("/set", request(set={"x-set": "ours", "x-new": "new"})),
            operating("/add", request(add={"x-add": "ours"})),
            operating("/remove", request(remove=["x-gone", "user-agent"])),
            operating("/all", request(set={"x-set": "s"}, add={"x-set": "a"}, remove=["x-gone"])),
            operating("/gone-and-set", request(set={"x-gone": "back"}, remove=["x-gone"])),
            operating("/gone-and-added", request(add={"x-gone": "back"}, remove=["x-gone"])),
            operating("/caps", request(set={"X-Caps": "Ours"}, remove=["X-Gone"])),
            operating("/down-set", response(set={"x-set": "ours", "x-new": "new"})),
            operating("/down-add", response(add={"x-add": "ours"})),
            operating("/down-remove", response(remove=["x-gone", "content-type"])),
            operating("/down-all", response(set={"x-set": "s"}, add={"x-add": "a"}, remove=["x-gone"])),
            operating("/destination", None, request(set={"x-to": "destination"}) | response(set={"x-from": "destination"})),
            operating("/levels-set", request(set={"x-level": "route"}), request(set={"x-level": "destination"})),
            operating("/levels-add", request(add={"x-level": "route"}), request(add={"x-level": "destination"})),
            operating("/levels-gone", request(remove=["x-level"]), request(add={"x-level": "destination"})),
            operating("/levels-down-set", response(set={"x-level": "route"}), response(set={"x-level": "destination"})),
            operating("/levels-down-add", response(add={"x-level": "route"}), response(add={"x-level": "destination"})),
            operating("/forwarded", request(set={"x-forwarded-proto": "https", "x-forwarded-for": "198.51.100.9"})),
            operating("/agent", request(set={"user-agent": "ours"})),
            operating("/id", request(set={"x-request-id": "ours"})),
            operating("/empty", request(set={"x-empty": ""}) | response(set={"x-empty": ""})),
            operating("/error", response(set={"x-level": "route"}), response(add={"x-level": "destination"}), "fresh.shop"),
            {
                "match": [{"uri": {"prefix": "/split"}}],
                "headers": {"request": {"set": {"x-level": "route"}}, "response": {"add": {"x-level": "route"}}},
                "route": [
                    to("one.shop", weight=100)
                    | {"headers": {"request": {"set": {"x-level": "split"}}, "response": {"add": {"x-level": "split"}}}},
                    to("two.shop", weight=0),
                ],
            },
            {
                "match": [{"uri": {"prefix": "/nobody"}}],
                "headers": {"response": {"set": {"x-level": "route"}}},
                "route": [to("nobody.shop")],
            },
        ],
    ),
}

TWO = (("x-set", "one"), ("x-set", "two"))
GONE = (("x-gone", "1"), ("X-Gone", "2"), ("x-kept", "3"))


def answering(*headers, **more):
    return {"replies": (Reply(headers=headers, **more),)}


KEPT_ID = {
    "saw.x-request-id": "Envoy replaces the id that a client outside sends, fedgate keeps it so that a caller can find its request in our log"
}

HOP = {"saw.te": "RFC 9110 section 10.1.4: TE is for the next hop only; over HTTP/1.1 fedgate offers nobody trailers"}
CREDENTIALS = {"saw.proxy-authorization": "RFC 9110 section 11.7.2: they are the proxy's, not the workload's to read"}
NOMINATED_BACK = {"answer.x-hop": "RFC 9110 section 7.6.1: what Connection nominates ends here; Envoy minds that in requests only"}
NOMINATED = dict.fromkeys(
    words(
        "status body answer.connection answer.content-length answer.content-type saws saw.at "
        "saw.body saw.framing saw.host saw.line saw.x-forwarded-for saw.x-forwarded-proto saw.x-request-id"
    ),
    "Envoy refuses; fedgate never takes away Host, framing or what it adds itself, whoever nominates it",
)
NOMINATED_HOST = {name: reason for name, reason in NOMINATED.items() if name != "answer.content-type"}
NOMINATED_LENGTH = dict.fromkeys(
    ("saw.content-length", "saw.framing", "saw.transfer-encoding"),
    "Envoy forgets the length and sends chunks; fedgate never takes away framing, whoever nominates it",
)
TERSE = dict.fromkeys(
    ("body", "answer.content-length"), "Envoy tells the client what the transport to the workload said; fedgate tells its own log"
)

ROWS = [
    Row("set a header", "operations", "/set"),
    Row("set a header that is there", "operations", "/set", headers=(("X-Set", "theirs"),)),
    Row("set a header that is there twice", "operations", "/set", headers=TWO),
    Row("add a header", "operations", "/add"),
    Row("add to a header", "operations", "/add", headers=(("x-add", "theirs"),)),
    Row("add to a header that is there twice", "operations", "/add", headers=(("x-add", "1"), ("x-add", "2"))),
    Row("remove headers", "operations", "/remove", headers=(*GONE, ("User-Agent", "curl"))),
    Row("remove what is not there", "operations", "/remove"),
    Row("set, add and remove", "operations", "/all", headers=(*TWO, *GONE)),
    Row("remove and set the same", "operations", "/gone-and-set", headers=GONE),
    Row("remove and add the same", "operations", "/gone-and-added", headers=GONE),
    Row("operations' names in capitals", "operations", "/caps", headers=(*GONE, ("x-caps", "theirs"))),
    Row("set a response header", "operations", "/down-set", **answering(("X-Set", "theirs"))),
    Row("set a response header that is there twice", "operations", "/down-set", **answering(*TWO)),
    Row("add to a response header", "operations", "/down-add", **answering(("x-add", "theirs"))),
    Row("remove response headers", "operations", "/down-remove", **answering(*GONE, ("content-type", "text/plain"))),
    Row("set, add and remove response headers", "operations", "/down-all", **answering(*TWO, *GONE)),
    Row("response headers of an error", "operations", "/down-all", status=500, **answering(*GONE, status=500)),
    Row("operations of a destination", "operations", "/destination"),
    Row("set at both levels", "operations", "/levels-set", headers=(("x-level", "theirs"),)),
    Row("add at both levels", "operations", "/levels-add", headers=(("x-level", "theirs"),)),
    Row(
        "remove at one level, add at the other",
        "operations",
        "/levels-gone",
        headers=(("x-level", "theirs"),),
    ),
    Row(
        "set a response header at both levels",
        "operations",
        "/levels-down-set",
        **answering(("x-level", "theirs")),
    ),
    Row(
        "add a response header at both levels",
        "operations",
        "/levels-down-add",
        **answering(("x-level", "theirs")),
    ),
    Row("operations at both levels of a split", "operations", "/split", **answering(("x-level", "theirs"))),
    Row("set what the proxy sets", "operations", "/forwarded"),
    Row("set the user agent", "operations", "/agent", headers=(("User-Agent", "curl"),)),
    Row("set the request id", "operations", "/id"),
    Row("set to nothing", "operations", "/empty"),
    Row(
        "set what is there to nothing",
        "operations",
        "/empty",
        headers=(("x-empty", "1"),),
        **answering(("x-empty", "1")),
    ),
    Row("response headers of our own error", "operations", "/nobody", status=503),
    Row(
        "response headers of a failed connection",
        "operations",
        "/error",
        status=503,
        replies=(Reply(cut="request"),),
        differs=TERSE,
    ),
    # What is only for one hop
    Row("connection: close", headers=(("Connection", "close"),)),
    Row("connection: keep-alive", headers=(("Connection", "keep-alive"), ("Keep-Alive", "timeout=5"))),
    Row("connection nominates", headers=(("Connection", "x-hop"), ("x-hop", "1"), ("x-kept", "2"))),
    Row("connection nominates Host", headers=(("Connection", "host"),), status=400, differs=NOMINATED_HOST),
    Row(
        "connection nominates content-length",
        method="PUT",
        headers=(("Connection", "content-length"),),
        body=b"abc",
        differs=NOMINATED_LENGTH,
    ),
    Row("connection nominates x-forwarded-proto", headers=(("Connection", "x-forwarded-proto"),), status=400, differs=NOMINATED),
    Row("connection nominates x-forwarded-for", headers=(("Connection", "x-forwarded-for"),), status=400, differs=NOMINATED),
    Row("connection nominates cookie", headers=(("Connection", "cookie"), ("Cookie", "a=1"))),
    Row("connection nominates twice", headers=(("Connection", "x-a"), ("Connection", "x-b, close"), ("x-a", "1"), ("x-b", "2"))),
    Row("proxy-connection", headers=(("Proxy-Connection", "keep-alive"),)),
    Row("te: trailers", headers=(("TE", "trailers"),), differs=HOP),
    Row("te: gzip", headers=(("TE", "gzip"),)),
    Row("trailer", headers=(("Trailer", "x-sum"),)),
    Row("proxy-authorization", headers=(("Proxy-Authorization", "Basic YTpi"),), differs=CREDENTIALS),
    Row("keep-alive comes back", **answering(("Keep-Alive", "timeout=5"), ("Connection", "keep-alive"))),
    Row("connection nominates in an answer", **answering(("Connection", "x-hop"), ("x-hop", "1")), differs=NOMINATED_BACK),
    Row("proxy-connection comes back", **answering(("Proxy-Connection", "keep-alive"))),
    Row("upgrade comes back", **answering(("Upgrade", "h2c"))),
    # What only a proxy may say
    Row("x-forwarded-for", headers=(("X-Forwarded-For", "198.51.100.1"),)),
    Row("x-forwarded-for of several", headers=(("X-Forwarded-For", "198.51.100.1, 198.51.100.2"),)),
    Row("x-forwarded-for twice", headers=(("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "198.51.100.2"))),
    Row("x-forwarded-for of nonsense", headers=(("X-Forwarded-For", "not an address"),)),
    Row("x-forwarded-for of nothing", headers=(("X-Forwarded-For", ""),)),
    Row("x-forwarded-proto", headers=(("X-Forwarded-Proto", "https"),)),
    Row("x-forwarded-proto over TLS", over="https"),
    Row("x-forwarded-proto contradicts TLS", headers=(("X-Forwarded-Proto", "http"),), over="https"),
    Row("x-forwarded-host", headers=(("X-Forwarded-Host", "else.example"),)),
    Row("x-forwarded-port", headers=(("X-Forwarded-Port", "443"),)),
    Row("x-real-ip", headers=(("X-Real-IP", "198.51.100.1"),)),
    Row("forwarded", headers=(("Forwarded", "for=198.51.100.1;proto=https"),)),
    Row("x-forwarded-client-cert without TLS", headers=(("X-Forwarded-Client-Cert", "Hash=00;URI=spiffe://evil"),)),
    Row("x-forwarded-client-cert over TLS", headers=(("X-Forwarded-Client-Cert", "Hash=00"),), over="https"),
    Row("x-forwarded-client-cert over mutual TLS", over="mtls"),
    Row("x-forwarded-client-cert is replaced", headers=(("X-Forwarded-Client-Cert", "Hash=00"),), over="mtls"),
    Row("x-request-id of a client", headers=(("X-Request-Id", "mine"),), differs=KEPT_ID),
    Row(
        "x-request-id of a client that is a UUID",
        headers=(("x-request-id", "0b2c7f0e-1f5a-4a44-9d0a-0f0f0f0f0f0f"),),
        differs=KEPT_ID,
    ),
    Row("x-request-id comes back", **answering(("x-request-id", "theirs"))),
    *(
        Row(f"a client's {name}", headers=((name, value),))
        for name, value in (
            ("x-envoy-internal", "true"),
            ("x-envoy-downstream-service-cluster", "a"),
            ("x-envoy-downstream-service-node", "a"),
            ("x-envoy-expected-rq-timeout-ms", "1"),
            ("x-envoy-force-trace", "true"),
            ("x-envoy-ip-tags", "a"),
            ("x-envoy-max-retries", "9"),
            ("x-envoy-retry-on", "5xx"),
            ("x-envoy-retry-grpc-on", "internal"),
            ("x-envoy-retriable-status-codes", "500"),
            ("x-envoy-upstream-alt-stat-name", "a"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
            ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
            ("x-envoy-upstream-rq-timeout-alt-response", "1"),
            ("x-envoy-hedge-on-per-try-timeout", "true"),
            ("x-envoy-original-path", "/x"),
            ("x-envoy-original-host", "x"),
            ("x-envoy-decorator-operation", "x"),
            ("x-envoy-attempt-count", "7"),
            ("x-ot-span-context", "a;b"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b"),
            ("x-b3-traceid", "0af7651916cd43dd8448eb211c80319c"),
            ("b3", "0"),
            ("x-client-trace-id", "a"),
            ("early-data", "1"),
            ("x-under_score", "1"),
            ("under_score", "1"),
            ("Cookie", "a=1; b=2"),
            ("Authorization", "Bearer x"),
            ("Host-Override", "x"),
            ("Content-Encoding", "gzip"),
            ("Range", "bytes=0-3"),
            ("If-None-Match", '"x"'),
            ("Accept-Encoding", "gzip, br"),
            ("Via", "1.1 other"),
            ("Max-Forwards", "3"),
        )
    ),
    *(
        Row(
            f"a client's {name}",
            headers=((name, "x"),),
            differs={f"saw.{name}": "Envoy takes away those that it acts upon; fedgate all of that prefix"},
        )
        for name in ("x-envoy-peer-metadata", "x-envoy-anything-else")
    ),
    Row("several cookies", headers=(("Cookie", "a=1"), ("Cookie", "b=2"))),
    Row("several set-cookies", **answering(("Set-Cookie", "a=1; Path=/"), ("set-cookie", "b=2"))),
    Row("a header three times", headers=(("x-many", "1"), ("x-other", "o"), ("X-Many", "2"), ("x-many", "3"))),
    Row("an answer's header three times", **answering(("x-many", "1"), ("x-other", "o"), ("x-many", "3"))),
    Row("a header of high bytes", headers=(("x-name", "Gr\xfc\xdfe"),)),
    Row("an answer's header of high bytes", **answering(("x-name", "Gr\xfc\xdfe"))),
    Row("an empty header", headers=(("x-empty", ""),)),
    Row("an answer's server and date", **answering(("Server", "nginx"), ("Date", "Sat, 21 Nov 2026 00:00:00 GMT"))),
    Row(
        "an answer's x-envoy headers", **answering(("x-envoy-upstream-healthchecked-cluster", "x"), ("x-envoy-overloaded", "true"))
    ),
    Row("a long header", headers=(("x-long", "y" * 20_000),)),
    Row("an answer's long header", **answering(("x-long", "y" * 20_000))),
    Row("ninety headers", headers=tuple((f"x-{n}", str(n)) for n in range(90))),
]
