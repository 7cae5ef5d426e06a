"""gRPC: calls and their status, trailers only, deadlines, answers of the gateway's own."""

from __future__ import annotations

from differing import Row
from recorder import Reply
from rows_headers import HOP
from rows_http2 import SAYS, SIZED
from rows_protocol import TRAILERS, VERSION
from running import to

SITES = {
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
}

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


def over_http1(name, path="/none/Method", *replies, **more):
    """A call that a proxy before the gateway has brought to HTTP/1. That Envoy closes what it has not read all of is not compared."""
    more = {"headers": (*GRPC, ("te", "trailers")), "body": MESSAGE, "method": "POST", "replies": replies} | more
    more["ignore"] = ("answer.grpc-message", "answer.connection", *more.get("ignore", ()))
    return Row(f"gRPC over HTTP/1: {name}", "grpc", path, **more)


TIMEOUT = {"saw.grpc-timeout": "Envoy tells the workload the route's timeout; fedgate leaves deadlines to clients"}
LATE = {"answer.grpc-status": "a time that ran out is DEADLINE_EXCEEDED; Envoy makes UNAVAILABLE of its own 504"}
OWN = ("answer.grpc-message",)

ROWS = [
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
        differs=LATE | TIMEOUT,
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
    over_http1("no route"),
    over_http1("content-type with a codec", headers=(("content-type", "application/grpc+proto"),)),
    over_http1("HTTP/1.0", version="1.0", differs=VERSION),
    over_http1("the connection is to close", headers=(*GRPC, ("connection", "close"))),
    over_http1("no endpoints", "/nobody/Method"),
    over_http1("refused", "/refused/Method"),
    over_http1("a direct response", "/direct/Method"),
    over_http1("a redirect", "/moved/Method"),
    over_http1("a timeout", "/timeout/Method", Reply(delay=0.6), took=(0.19, 3.5), differs=LATE | TIMEOUT),
    over_http1(
        "a deadline of its own",
        "/pkg.Service/Method",
        Reply(delay=0.6),
        headers=(*GRPC, ("te", "trailers"), ("grpc-timeout", "200m")),
        took=(0.19, 3.5),
        differs=LATE,
    ),
    over_http1("a workload that resets", "/pkg.Service/Method", Reply(cut="request")),
    over_http1(
        "a workload that speaks something else",
        "/one/Method",
        Reply(raw=b"220 no web server\r\n\r\n", close=True),
        differs=HOP | {"answer.grpc-status": "502 is INTERNAL, as a codec's errors are; Envoy's 502 is UNAVAILABLE"},
    ),
    over_http1(
        "trailers only UNAVAILABLE is retried",
        "/pkg.Service/Method",
        failing("14"),
        FINE,
        served=("a", "a"),
        differs=dict.fromkeys(("trailer.grpc-status", "trailer.grpc-message"), TRAILERS),
    ),
    over_http1("to a workload of HTTP/1", "/one/Method", Reply(headers=GRPC, body=MESSAGE), differs=HOP),
    over_http1("trailers only of a workload of HTTP/1", "/one/Method", Reply(headers=(*GRPC, ("Grpc-Status", "5"))), differs=HOP),
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
