"""With one trusted proxy before the gateway (numTrustedProxies: 1): who the client is, and what is believed."""

from __future__ import annotations

from differing import Row
from rows_headers import KEPT_ID
from running import to

SITES = {
    "echo": (None, [{"route": [to("one.shop")]}]),
    "ring-source": (None, [{"route": [to("ring-source.shop")]}]),
}


def said(value):
    return (("X-Forwarded-For", value),)


ROWS = [
    Row("proxied: nothing said"),
    Row("proxied: one address", headers=said("198.51.100.7")),
    Row("proxied: two addresses", headers=said("198.51.100.7, 198.51.100.8")),
    Row("proxied: two headers", headers=(*said("198.51.100.7"), *said("198.51.100.8"))),
    Row("proxied: nonsense", headers=said("nobody")),
    Row("proxied: an IPv6 address", headers=said("2001:db8::7")),
    Row("proxied: an inner address", headers=said("10.0.0.7")),
    Row("proxied: https", headers=(*said("198.51.100.7"), ("X-Forwarded-Proto", "https"))),
    Row("proxied: a scheme nobody knows", headers=(*said("198.51.100.7"), ("X-Forwarded-Proto", "gopher"))),
    Row(
        "proxied: https, redirected",
        "echo",
        over="moved",
        headers=(*said("198.51.100.7"), ("X-Forwarded-Proto", "https")),
    ),
    Row(
        "proxied: http, redirected",
        "echo",
        over="moved",
        headers=(*said("198.51.100.7"), ("X-Forwarded-Proto", "http")),
        status=301,
    ),
    Row("proxied: a client's x-envoy-retry-on", headers=(*said("198.51.100.7"), ("x-envoy-retry-on", "5xx"))),
    Row("proxied: a request id", headers=(*said("198.51.100.7"), ("x-request-id", "theirs")), differs=KEPT_ID),
    *(Row(f"proxied: by source {n}", "ring-source", headers=said(f"198.51.100.{n}")) for n in range(20)),
]
