"""Command operators in header values: what each one says, in requests, answers, errors and answers of the gateway's own."""

from __future__ import annotations

from differing import Row
from recorder import Reply
from rows_headers import TERSE, operating, request, response
from rows_proxies import said
from rows_resilience import SHADOW
from running import to


def both(value, header="x-said"):
    return request(set={header: value}) | response(set={header: value})


def direct(path, value):
    return {
        "name": "named",
        "match": [{"uri": {"prefix": path}}],
        "headers": response(add={"x-said": value}),
        "directResponse": {"status": 418},
    }


SAID = {
    "req": "%REQ(x-a)%",
    "req-capitals": "%REQ(X-A)%",
    "req-other": "%REQ(x-none?X-B)%",
    "req-first": "%REQ(x-a?x-b)%",
    "req-none": "%REQ(x-none)%",
    "req-neither": "%REQ(x-none?x-nothing)%",
    "req-within": "a%REQ(x-none)%b",
    "req-length": "%REQ(x-a):2%",
    "req-no-length": "%REQ(x-a):0%",
    "req-long-length": "%REQ(x-a):2000%",
    "req-twice": "%REQ(x-twice)%",
    "req-empty": "%REQ(x-empty?x-b)%",
    "req-method": "%REQ(:method)%",
    "req-path": "%REQ(:path)%",
    "req-authority": "%REQ(:authority)%",
    "req-host": "%REQ(host)%",
    "req-scheme": "%REQ(:scheme)%",
    "req-agent": "%REQ(user-agent)%",
    "req-proto": "%REQ(x-forwarded-proto)%",
    "req-original": "%REQ(x-envoy-original-path?:path)%",
    "resp": "%RESP(x-up)%",
    "resp-status": "%RESP(:status)%",
    "resp-other": "%RESP(x-none?x-up)%",
    "resp-length": "%RESP(x-up):3%",
    "protocol": "%PROTOCOL%",
    "parentheses": "%PROTOCOL()%",
    "tls": "%DOWNSTREAM_TLS_VERSION%",
    "uri": "%DOWNSTREAM_PEER_URI_SAN%",
    "dns": "%DOWNSTREAM_PEER_DNS_SAN%",
    "subject": "%DOWNSTREAM_PEER_SUBJECT%",
    "hash": "%DOWNSTREAM_PEER_FINGERPRINT_256%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "code": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "route": "%ROUTE_NAME%",
    "hostname": "%HOSTNAME%",
    "port": "%DOWNSTREAM_LOCAL_PORT%",
    "percent": "100%% of %REQ(x-a)%%%",
    "escaped": "%%REQ(x-a)%%",
    "several": "%REQ(x-a)%/%PROTOCOL%-%REQ(x-b)% %REQ(x-none)%",
    "plain": "plain",
}
STARTED = ("start", "%START_TIME%"), ("start-format", "%START_TIME(%Y-%m-%dT%H)%")
OWN = {
    "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "local-bare": "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "remote-port": "%DOWNSTREAM_REMOTE_PORT%",
    "upstream": "%UPSTREAM_HOST%",
    "stream": "%STREAM_ID%",
}

SITES = {
    "operators": (
        None,
        [
            *({"name": "named"} | operating(f"/{name}/", both(value)) for name, value in SAID.items()),
            *(operating(f"/{name}/", both(value)) for name, value in (*STARTED, *OWN.items())),
            operating("/bare/", both("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")),
            operating("/keeps/", request(set={"x-a": "%REQ(x-none)%"}) | response(set={"x-up": "%RESP(x-none)%"})),
            operating("/replaces/", request(set={"x-a": "was %REQ(x-a)%"}) | response(set={"x-up": "was %RESP(x-up)%"})),
            operating("/adds/", request(add={"x-a": "%REQ(x-a)%+"}) | response(add={"x-up": "%RESP(x-up)%+"})),
            operating("/removed/", request(set={"x-said": "%REQ(x-a)%"}, remove=["x-a"])),
            operating("/removed-down/", response(set={"x-said": "%RESP(x-up)%"}, remove=["x-up"])),
            operating("/swaps/", request(set={"x-a": "%REQ(x-b)%", "x-b": "%REQ(x-a)%"})),
            operating(
                "/recalls/", request(set={"x-a": "ours"}, add={"x-new": "new"}) | response(set={"x-said": "%REQ(x-a)%%REQ(x-new)%"})
            ),
            operating("/forgets/", request(remove=["x-a"]) | response(set={"x-said": "<%REQ(x-a)%>"})),
            operating("/ends/", both(" %REQ(x-a)% %REQ(x-none)%")),
            operating("/nothing/", both("%REQ(x-none)% ")),
            operating("/to-two/", both("%REQ(x-a)% by %PROTOCOL%"), host="two-h.shop"),
            operating("/copied/", request(set={"x-said": "%REQ(:authority)% %REQ(x-a)%"})) | {"mirror": {"host": "two.shop"}},
            operating("/mixed/", request(set={"x-said": "%REQ(x-a)%", "x-plain": "p"}, add={"x-said": "s", "x-b": "%REQ(x-b)%"})),
            operating("/levels/", request(set={"x-said": "%REQ(x-a)%"}), request(set={"x-a": "destination"})),
            {
                "match": [{"uri": {"prefix": "/split/"}}],
                "headers": request(set={"x-said": "%REQ(x-level)%"}) | response(add={"x-said": "%RESP(x-level)%"}),
                "route": [
                    to("one.shop", weight=100)
                    | {"headers": request(set={"x-level": "split %REQ(x-a)%"}) | response(set={"x-level": "split %REQ(x-a)%"})},
                    to("two.shop", weight=0),
                ],
            },
            operating("/rewritten/", both("%REQ(:path)% %REQ(x-envoy-original-path?:path)%")) | {"rewrite": {"uri": "/there/"}},
            operating("/moved/", both("%REQ(:authority)% %REQ(host)%")) | {"rewrite": {"authority": "there.test"}},
            operating(
                "/unknown/",
                response(set={"x-said": "%RESPONSE_CODE% %RESP(:status)% %RESPONSE_FLAGS% %REQ(x-a)%"}),
                host="nobody.shop",
            ),
            operating(
                "/refused/",
                response(set={"x-said": "%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_CLUSTER%"}),
                host="refused.shop",
            )
            | {"retries": {"attempts": 0}},
            operating("/refused-again/", response(set={"x-said": "%RESPONSE_FLAGS%"}), host="refused.shop"),
            *(direct(f"/direct-{name}/", value) for name, value in SAID.items()),
        ],
    ),
}

A = (("X-A", "alpha"), ("x-b", "beta"), ("x-twice", "one"), ("x-twice", "two"), ("x-empty", ""), ("User-Agent", "agent"))
LOWER = tuple((name.lower(), value) for name, value in A)  # as HTTP/2 has it
UP = {"headers": A, "replies": (Reply(headers=(("X-Up", "upward"), ("x-up", "second"))),)}
AN_ADDRESS = "each gateway, backend and client connection of this test has an address of its own"
DIFFERENT = {"answer.x-said": AN_ADDRESS, "saw.x-said": AN_ADDRESS}
INSPECTED = dict.fromkeys(DIFFERENT, "this Envoy has no TLS inspector, which Istio's gateways have, and so looks at no name")


def row(name, path=None, **more):
    return Row(f"operators: {name}", "operators", f"/{path or name}/x?q=1", **(UP | more))


def own(name):
    differs = DIFFERENT if name != "upstream" else {"answer.x-said": AN_ADDRESS}
    return row(f"{name} of its own", name, differs=differs)


ORDER = {
    "answer.x-said": "the same flags in the order of Envoy's documentation and of our access log; this Envoy writes the last first"
}

ROWS = [
    *(row(name) for name in SAID),
    *(
        row(f"{name} over HTTP/2", name, protocol="h2", headers=LOWER)
        for name in SAID
        if name.startswith(("req", "resp", "protocol", "code"))
    ),
    *(row(f"{name} over mutual TLS", name, over="mtls") for name in ("tls", "uri", "dns", "subject", "hash", "req-scheme")),
    *(row(f"{name} over TLS", name, over="https") for name in ("tls", "uri")),
    row("sni over TLS", "sni", over="https", differs=INSPECTED),
    *(row(f"{name} answered directly", f"direct-{name}", status=418) for name in SAID),
    *(own(name) for name in OWN),
    row("client's address", "bare", ignore=("answer.x-said",)),
    row("HTTP/1.0", "protocol", version="1.0", ignore=("version",)),
    row("an error of the backend", "resp-status", status=500, replies=(Reply(500),)),
    row("start with a format", "start-format"),
    row("what is empty replaces nothing", "keeps"),
    row("a value from what it replaces", "replaces"),
    row("a value from what it is added to", "adds"),
    row("what is removed is empty", "removed"),
    row("what is removed of an answer is empty", "removed-down"),
    row("all are made before the first is set", "swaps"),
    row("an answer recalls what was set", "recalls"),
    row("an answer has forgotten what was removed", "forgets"),
    row("values with and without", "mixed"),
    row("spaces at the ends", "ends"),
    row("a space alone", "nothing"),
    row("to a backend of HTTP/2", "to-two", replies=(Reply(headers=(("x-up", "upward"),)),)),
    row("a copy", "copied", seen=2, differs=SHADOW),
    row("one destination's level and the route's", "levels"),
    row("several destinations' levels and the route's", "split"),
    row("a path that is rewritten", "rewritten"),
    row("an authority that is rewritten", "moved"),
    row("nobody to answer", "unknown", status=503),
    row("a refused connection", "refused", status=503, differs=TERSE),
    row("a refused connection, retried", "refused-again", status=503, differs=TERSE | ORDER),
]

PROXIED_SITES = {
    "operators-proxied": (
        None,
        [
            operating("/remote/", both("%DOWNSTREAM_REMOTE_ADDRESS%")),
            operating("/bare/", both("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%")),
            operating("/port/", both("%DOWNSTREAM_REMOTE_PORT%")),
        ],
    )
}


def proxied(name, path, headers=(), **more):
    return Row(f"operators, proxied: {name}", "operators-proxied", f"/{path}/", headers=headers, **more)


PROXIED = [
    proxied("one address", "remote", said("198.51.100.7")),
    proxied("two addresses", "remote", said("198.51.100.7, 198.51.100.8")),
    proxied("an IPv6 address", "remote", said("2001:db8::7")),
    proxied("without its port", "bare", said("2001:db8::7")),
    proxied("its port", "port", said("198.51.100.7")),
]
