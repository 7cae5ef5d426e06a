"""What happens when workloads fail, dawdle or are too many: retries, timeouts, faults, CORS, mirrors, splits, limits.

Backends' scripts (`replies`) are by attempt: the first answer is to the first attempt, whoever gets it.
"""

from __future__ import annotations

from differing import NOBODY, Row
from recorder import Reply
from rows_routing import LENGTHLESS
from running import to

OK = Reply(200, body=b"ok")
ANYWHERE = ("saw.at",)  # of services with several endpoints: which one is chance


def retrying(path, on=None, *, attempts=2, host="fresh.shop", **more):
    """A rule with a retry policy; on None: Istio's default conditions."""
    retries = (
        {"attempts": attempts} | ({"retryOn": on} if on else {}) | {key: more.pop(key) for key in list(more) if key in RETRY_FIELDS}
    )
    return {"match": [{"uri": {"exact": path}}], "retries": retries, "route": [to(host)], **more}


RETRY_FIELDS = ("perTryTimeout", "retryIgnorePreviousHosts", "retryRemoteLocalities", "backoff")


def under(path, host="one.shop", **more):
    return {"match": [{"uri": {"prefix": path}}], "route": [to(host)], **more}


ALL = {"percentage": {"value": 100}}
NONE = {"percentage": {"value": 0}}
CORS = {
    "allowOrigins": [{"exact": "https://a.example"}, {"prefix": "https://b."}, {"regex": "https://[a-z]+\\.c\\.example"}],
    "allowMethods": ["GET", "POST"],
    "allowHeaders": ["x-one", "x-two"],
    "exposeHeaders": ["x-three", "x-four"],
    "maxAge": "86400s",
    "allowCredentials": True,
}

SITES = {
    "retries": (
        None,
        [
            {"match": [{"uri": {"exact": "/default"}}], "route": [to("fresh.shop")]},
            retrying("/5xx", "5xx"),
            retrying("/gateway-error", "gateway-error"),
            retrying("/reset", "reset"),
            retrying("/reset-before-request", "reset-before-request"),
            retrying("/connect-failure", "connect-failure"),
            retrying("/retriable-4xx", "retriable-4xx"),
            retrying("/refused-stream", "refused-stream"),
            retrying("/codes", "503,429"),
            retrying("/codes-and-names", "gateway-error,404"),
            retrying("/envoy-ratelimited", "envoy-ratelimited"),
            retrying("/off", attempts=0),
            retrying("/once", "5xx", attempts=1),
            retrying("/five", "5xx", attempts=5, backoff="0.001s"),
            retrying("/try", "5xx,reset", perTryTimeout="0.2s"),
            retrying("/try-and-route", "5xx", perTryTimeout="0.3s", timeout="0.45s"),
            retrying("/try-default", perTryTimeout="0.2s"),
            retrying("/refused", host="refused.shop"),
            retrying("/refused-off", host="refused.shop", attempts=0),
            retrying("/half", "connect-failure", attempts=3, host="half.shop"),
            retrying("/pair", "5xx", host="pair.shop"),
            retrying("/pair-default", host="pair.shop"),
            retrying("/grpc-names", "unavailable,cancelled,internal,deadline-exceeded,resource-exhausted", host="grpc.shop"),
        ],
    ),
    "timeouts": (
        None,
        [
            under("/short", timeout="0.2s"),
            under(
                "/retried", timeout="0.3s", retries={"attempts": 5, "retryOn": "5xx", "perTryTimeout": "0.2s"}, host="fresh.shop"
            ),
            under("/none"),
            under("/long", timeout="30s"),
        ],
    ),
    "faults": (
        None,
        [
            under("/abort", fault={"abort": {"httpStatus": 418} | ALL}),
            under("/never", fault={"abort": {"httpStatus": 418} | NONE}),
            under("/unset", fault={"abort": {"httpStatus": 418}}),
            under("/delay", fault={"delay": {"fixedDelay": "0.2s"} | ALL}),
            under("/both", fault={"delay": {"fixedDelay": "0.2s"} | ALL, "abort": {"httpStatus": 503} | ALL}),
            under("/delay-never", fault={"delay": {"fixedDelay": "5s"} | NONE}),
            under("/grpc", fault={"abort": {"grpcStatus": "UNAVAILABLE"} | ALL}),
            under("/headers", fault={"abort": {"httpStatus": 500} | ALL}, headers={"response": {"set": {"x-level": "route"}}}),
            under("/retried", fault={"abort": {"httpStatus": 503} | ALL}, retries={"attempts": 2, "retryOn": "5xx"}),
            under("/timeout", fault={"delay": {"fixedDelay": "0.3s"} | ALL}, timeout="0.1s"),
            under("/timeout-after", fault={"delay": {"fixedDelay": "0.1s"} | ALL}, timeout="0.2s"),
        ],
    ),
    "cors": (None, [{"route": [to("one.shop")], "corsPolicy": CORS}]),
    "cors-ignore": (None, [{"route": [to("one.shop")], "corsPolicy": CORS | {"unmatchedPreflights": "IGNORE"}}]),
    "cors-any": (
        None,
        [{"route": [to("one.shop")], "corsPolicy": {"allowOrigins": [{"regex": ".*"}], "allowMethods": ["GET"]}}],
    ),
    "cors-star": (
        None,
        [
            {
                "route": [to("one.shop")],
                "corsPolicy": {
                    "allowOrigins": [{"exact": "*"}],
                    "allowMethods": ["*"],
                    "allowHeaders": ["*"],
                    "allowCredentials": False,
                },
            }
        ],
    ),
    "cors-direct": (None, [{"directResponse": {"status": 200, "body": {"string": "direct"}}, "corsPolicy": CORS}]),
    "cors-redirect": (None, [{"redirect": {"uri": "/new"}, "corsPolicy": CORS}]),
    "cors-fault": (None, [under("/", corsPolicy=CORS, fault={"abort": {"httpStatus": 503} | ALL})]),
    "mirrored": (
        None,
        [
            under("/one", mirror={"host": "two.shop"}),
            under("/off", mirror={"host": "two.shop"}, mirrorPercentage={"value": 0}),
            under("/full", mirror={"host": "two.shop"}, mirrorPercentage={"value": 100}),
            under(
                "/several",
                mirrors=[{"destination": {"host": "two.shop"}}, {"destination": {"host": "app.shop", "subset": "v1"}}],
            ),
            under("/rewritten", mirror={"host": "two.shop"}, rewrite={"uri": "/new", "authority": "inside.example"}),
            under("/dead", mirror={"host": "refused.shop"}),
            under("/headers", mirror={"host": "two.shop"}, headers={"request": {"set": {"x-level": "route"}}}),
        ],
    ),
    "splits": (
        None,
        [
            {"match": [{"uri": {"prefix": "/one"}}], "route": [to("app.shop", "v1", 100), to("app.shop", "v2", 0)]},
            {"match": [{"uri": {"prefix": "/zero"}}], "route": [to("app.shop", "v1", 0), to("app.shop", "v2", 5)]},
            {"match": [{"uri": {"prefix": "/alone"}}], "route": [to("app.shop", "v3")]},
            {"match": [{"uri": {"prefix": "/nobody"}}], "route": [to("app.shop", "missing")]},
            {"match": [{"uri": {"prefix": "/even"}}], "route": [to("app.shop", "v1", 50), to("app.shop", "v2", 50)]},
            {
                "match": [{"uri": {"prefix": "/three"}}],
                "route": [to("app.shop", "v1", 1), to("app.shop", "v2", 3), to("app.shop", "v3", 6)],
            },
        ],
    ),
}

TERSE = dict.fromkeys(
    ("body", "answer.content-length"), "Envoy tells the client what the transport to the workload said; fedgate tells its own log"
)
PLAIN = {"status": "to HTTP an abort with a gRPC status is an error too: 503, where Envoy says 200"}
FAULTY = dict.fromkeys(
    ("status", "body", "answer.content-length", "answer.content-type"),
    "Istio's API: with a fault set, timeout and retries of the route are not in force; istiod sets them all the same",
)
SHADOW = dict.fromkeys(
    ("saw.x-envoy-internal", "saw.x-forwarded-for"),
    "Envoy's copy passes as a request of its own; fedgate's says what the original says",
)
RESET = Reply(cut="request")
HALF = Reply(cut="body", body=b"x" * 100)
LATE = Reply(delay=0.6, body=b"late")


def origin(value, *more):
    return (("Origin", value), *more)


ASK = ("Access-Control-Request-Method", "GET")


def preflight(name, site, value, **more):
    return Row(name, site, method="OPTIONS", headers=origin(value, ASK, *more.pop("headers", ())), **more)


def fails(status, **more):
    """Replies of a workload that answers this and then 200."""
    return (Reply(status, **more), OK)


ROWS = [
    # retries: conditions and failures
    Row("default: no retry of 503", "retries", "/default", replies=fails(503), status=503, seen=1),
    Row("default: no retry of a reset", "retries", "/default", replies=(RESET, OK), status=503, differs=TERSE),
    Row(
        "default: no retry of a POST's reset",
        "retries",
        "/default",
        method="POST",
        body=b"x",
        replies=(RESET, OK),
        status=503,
        differs=TERSE,
    ),
    Row("default: no retry of 500", "retries", "/default", replies=fails(500), status=500),
    *(
        Row(f"5xx: {status}", "retries", "/5xx", replies=fails(status), served=("a", "a"))
        for status in (500, 501, 502, 503, 504, 599)
    ),
    Row("5xx: 429 is none", "retries", "/5xx", replies=fails(429), status=429),
    Row("5xx: a reset is one", "retries", "/5xx", replies=(RESET, OK), served=("a", "a")),
    Row("5xx: of a POST", "retries", "/5xx", method="POST", body=b"body", replies=fails(500), served=("a", "a")),
    Row(
        "5xx: of a chunked POST",
        "retries",
        "/5xx",
        method="POST",
        body=b"body",
        chunked=True,
        replies=fails(500),
        served=("a", "a"),
    ),
    Row(
        "5xx: attempts used up",
        "retries",
        "/5xx",
        replies=(Reply(500, body=b"1"), Reply(501, body=b"2"), Reply(502, body=b"3")),
        status=502,
    ),
    Row("5xx: a reset at the end", "retries", "/5xx", replies=(Reply(500), Reply(500), RESET), status=503, differs=TERSE),
    Row("5xx: an answer cut short is not repeated", "retries", "/5xx", replies=(HALF, OK)),
    Row(
        "5xx: what is no HTTP",
        "retries",
        "/5xx",
        replies=(Reply(raw=b"220 no web server\r\n\r\n", close=True), OK),
        served=("a", "a"),
    ),
    *(
        Row(f"gateway-error: {status}", "retries", "/gateway-error", replies=fails(status), served=("a", "a"))
        for status in (502, 503, 504)
    ),
    *(
        Row(f"gateway-error: {status} is none", "retries", "/gateway-error", replies=fails(status), status=status)
        for status in (500, 501, 505)
    ),
    Row("gateway-error: a reset is one", "retries", "/gateway-error", replies=(RESET, OK), served=("a", "a")),
    Row("reset: before a head", "retries", "/reset", replies=(RESET, OK), served=("a", "a")),
    Row("reset: closed before a head", "retries", "/reset", replies=(Reply(cut="close"), OK), served=("a", "a")),
    Row("reset: of a POST", "retries", "/reset", method="POST", body=b"body", replies=(RESET, OK), served=("a", "a")),
    Row("reset: after a head", "retries", "/reset", replies=(Reply(cut="head", body=b"x" * 10), OK)),
    Row("reset: 503 is none", "retries", "/reset", replies=fails(503), status=503),
    Row("reset-before-request: too late", "retries", "/reset-before-request", replies=(RESET, OK), status=503, differs=TERSE),
    Row("connect-failure: a reset is none", "retries", "/connect-failure", replies=(RESET, OK), status=503, differs=TERSE),
    Row("connect-failure: 503 is none", "retries", "/connect-failure", replies=fails(503), status=503),
    Row("retriable-4xx: 409", "retries", "/retriable-4xx", replies=fails(409), served=("a", "a")),
    Row("retriable-4xx: 404 is none", "retries", "/retriable-4xx", replies=fails(404), status=404),
    Row("codes: one of them", "retries", "/codes", replies=fails(429), served=("a", "a")),
    Row("codes: the other", "retries", "/codes", replies=fails(503), served=("a", "a")),
    Row("codes: another", "retries", "/codes", replies=fails(500), status=500),
    Row("codes: a reset is none", "retries", "/codes", replies=(RESET, OK), status=503, differs=TERSE),
    Row("codes and names: by code", "retries", "/codes-and-names", replies=fails(404), served=("a", "a")),
    Row("codes and names: by name", "retries", "/codes-and-names", replies=fails(502), served=("a", "a")),
    Row(
        "envoy-ratelimited",
        "retries",
        "/envoy-ratelimited",
        replies=fails(429, headers=(("x-envoy-ratelimited", "true"),)),
        served=("a", "a"),
    ),
    Row("envoy-ratelimited: 429 is none", "retries", "/envoy-ratelimited", replies=fails(429), status=429),
    Row(
        "5xx: not what is rate limited",
        "retries",
        "/5xx",
        replies=fails(503, headers=(("x-envoy-ratelimited", "true"),)),
        status=503,
    ),
    Row("attempts 0: 503", "retries", "/off", replies=fails(503), status=503),
    Row("attempts 0: a reset", "retries", "/off", replies=(RESET, OK), status=503, differs=TERSE),
    Row("attempts 1", "retries", "/once", replies=(Reply(500), Reply(500), OK), status=500, served=("a", "a")),
    Row("attempts 5", "retries", "/five", replies=(*[Reply(500)] * 5, OK), served=("a",) * 6),
    Row("attempts 5: all in vain", "retries", "/five", replies=(Reply(500, body=b"no"),), status=500, served=("a",) * 6),
    Row("per try timeout", "retries", "/try", replies=(LATE, OK), served=("a", "a"), took=(0.19, 3.5)),
    Row("per try timeout, every time", "retries", "/try", replies=(LATE,), status=504, served=("a",) * 3, took=(0.55, 3.5)),
    Row("per try timeout and the route's", "retries", "/try-and-route", replies=(LATE,), status=504, took=(0.4, 3.5)),
    Row("per try timeout without a condition for it", "retries", "/try-default", replies=(LATE, OK), status=504, took=(0.19, 3.5)),
    Row("refused", "retries", "/refused", status=503, differs=TERSE),
    Row("refused without retries", "retries", "/refused-off", status=503, differs=TERSE),
    Row("refused by one, taken by the other", "retries", "/half", served=("a",)),
    Row("retry elsewhere", "retries", "/pair", replies=fails(500), ignore=ANYWHERE),
    Row(
        "no retry elsewhere by default",
        "retries",
        "/pair-default",
        replies=fails(500),
        status=500,
        ignore=(*ANYWHERE, "body", "answer.content-length"),
    ),
    Row("gRPC's conditions mean nothing to HTTP", "retries", "/grpc-names", replies=fails(503), status=503),
    *(
        Row(
            f"gRPC's conditions: status {status} in the head",
            "retries",
            "/grpc-names",
            replies=fails(200, headers=(("grpc-status", status), ("content-type", "application/grpc"))),
            served=("a", "a"),
            protocol="grpc",
            body=b"\0\0\0\0\2hi",
            ignore=("saw.content-length",),
        )
        for status in ("1", "4", "8", "13", "14")
    ),
    # timeouts
    Row("a route's timeout", "timeouts", "/short", replies=(LATE,), status=504, took=(0.19, 3.5)),
    Row("a route's timeout that is not reached", "timeouts", "/short", replies=(Reply(delay=0.05, body=b"in time"),)),
    Row("a route's timeout over all tries", "timeouts", "/retried", replies=(LATE,), status=504, took=(0.29, 3.5)),
    Row("no timeout", "timeouts", "/none", replies=(LATE,), took=(0.59, 3.5)),
    Row("a long timeout", "timeouts", "/long", replies=(LATE,), took=(0.59, 3.5)),
    Row(
        "a client cannot shorten it",
        "timeouts",
        "/long",
        headers=(("x-envoy-upstream-rq-timeout-ms", "10"),),
        replies=(Reply(delay=0.1),),
    ),
    Row("a timeout of a POST", "timeouts", "/short", method="POST", body=b"x", replies=(LATE,), status=504, took=(0.19, 3.5)),
    Row("a timeout after the head is the client's to see", "timeouts", "/short", replies=(Reply(cut="body", body=b"x" * 10),)),
    # faults
    Row("abort", "faults", "/abort", status=418),
    Row("abort of a HEAD", "faults", "/abort", method="HEAD", status=418),
    Row("abort of none", "faults", "/never"),
    Row("abort without a percentage", "faults", "/unset"),
    Row("delay", "faults", "/delay", took=(0.19, 3.5)),
    Row("delay and abort", "faults", "/both", status=503, took=(0.19, 3.5)),
    Row("delay of none", "faults", "/delay-never", took=(0.0, 3.5)),
    Row("abort with a gRPC status, of HTTP", "faults", "/grpc", status=200, differs=PLAIN),
    Row("abort with headers", "faults", "/headers", status=500),
    Row("abort is not retried", "faults", "/retried", status=503),
    Row("delay is not in the timeout", "faults", "/timeout", took=(0.29, 3.5)),
    Row(
        "a timeout after a delay",
        "faults",
        "/timeout-after",
        replies=(LATE,),
        status=504,
        took=(0.29, 3.5),
        differs=FAULTY,
    ),
    Row("abort over gRPC", "faults", "/abort", protocol="grpc"),
    Row("abort with a gRPC status over gRPC", "faults", "/grpc", protocol="grpc"),
    # CORS
    preflight("preflight", "cors", "https://a.example"),
    preflight("preflight by prefix", "cors", "https://b.example"),
    preflight("preflight by regex", "cors", "https://www.c.example"),
    preflight("preflight by regex that is full", "cors", "https://www.c.example.evil", differs=LENGTHLESS),
    preflight("preflight of another origin", "cors", "https://d.example", differs=LENGTHLESS),
    preflight("preflight of another origin, ignored", "cors-ignore", "https://d.example"),
    preflight("preflight of a known origin, not ignored", "cors-ignore", "https://a.example"),
    preflight("preflight minds case", "cors", "https://A.example", differs=LENGTHLESS),
    preflight("preflight with headers", "cors", "https://a.example", headers=(("Access-Control-Request-Headers", "x-one"),)),
    preflight("preflight of any origin", "cors-any", "https://x.example"),
    preflight("preflight of a star", "cors-star", "https://x.example"),
    preflight("preflight of a direct response", "cors-direct", "https://a.example"),
    preflight("preflight of a redirect", "cors-redirect", "https://a.example", status=301),
    preflight("preflight before a fault", "cors-fault", "https://a.example", status=503),
    preflight("preflight of a null origin", "cors-any", "null"),
    preflight(
        "preflight for a private network",
        "cors",
        "https://a.example",
        headers=(("Access-Control-Request-Private-Network", "true"),),
    ),
    Row("OPTIONS without an origin", "cors", method="OPTIONS", headers=(ASK,), differs=LENGTHLESS),
    Row(
        "OPTIONS without a method asked for",
        "cors",
        method="OPTIONS",
        headers=origin("https://a.example"),
        differs=LENGTHLESS,
    ),
    Row("OPTIONS with an empty origin", "cors", method="OPTIONS", headers=origin("", ASK), differs=LENGTHLESS),
    Row("request with an origin", "cors", headers=origin("https://a.example")),
    Row("request with another origin", "cors", headers=origin("https://d.example")),
    Row("request with another origin, ignored", "cors-ignore", headers=origin("https://d.example")),
    Row("request without an origin", "cors"),
    Row("request with an origin, any allowed", "cors-any", headers=origin("https://x.example")),
    Row("request with an origin, a star allowed", "cors-star", headers=origin("https://x.example")),
    Row("POST with an origin", "cors", method="POST", body=b"x", headers=origin("https://b.example")),
    Row(
        "an answer's own CORS headers are replaced",
        "cors",
        headers=origin("https://a.example"),
        replies=(Reply(headers=(("access-control-allow-origin", "*"), ("access-control-expose-headers", "x-theirs"))),),
    ),
    Row(
        "an answer's own CORS headers for another origin",
        "cors",
        headers=origin("https://d.example"),
        replies=(Reply(headers=(("access-control-allow-origin", "*"),)),),
    ),
    Row("CORS on a direct response", "cors-direct", headers=origin("https://a.example")),
    Row("CORS on a redirect", "cors-redirect", headers=origin("https://a.example"), status=301),
    Row("CORS on a fault", "cors-fault", headers=origin("https://a.example"), status=503),
    # mirrors
    *(
        Row(f"mirror {method} {path}", "mirrored", path, seen=count, method=method, body=body, differs=SHADOW)
        for path, count, method, body in (
            ("/one", 2, "GET", b""),
            ("/full", 2, "GET", b""),
            ("/several", 3, "GET", b""),
            ("/one", 2, "PUT", b"a body"),
            ("/headers", 2, "GET", b""),
        )
    ),
    Row("mirror of none", "mirrored", "/off", seen=1),
    Row("mirror to a dead service", "mirrored", "/dead", seen=1),
    # splits
    Row("a split with all on one", "splits", "/one", served=("v1",)),
    Row("a split with none on the first", "splits", "/zero", served=("v2",)),
    Row("one destination without a weight", "splits", "/alone", served=("v3",)),
    Row("a subset nobody knows", "splits", "/nobody", status=503, differs=NOBODY),
]
