"""Redirects: the whole uri, a prefix, scheme, port, authority, codes, what becomes of the query; httpsRedirect."""

from __future__ import annotations

from differing import Row


def moved(path, redirect, kind="prefix"):
    return {"match": [{"uri": {kind: path}}], "redirect": redirect}


SITES = {
    "redirect": (
        None,
        [
            moved("/uri", {"uri": "/new"}),
            moved("/uriq", {"uri": "/new?y=2"}),
            moved("/authority", {"authority": "new.example"}),
            moved("/with-port", {"authority": "new.example:444"}),
            moved("/prefix/", {"prefixRewrite": "/other/"}),
            moved("/grow", {"prefixRewrite": "/longer/than/that"}),
            moved("/exact", {"uri": "/else", "authority": "new.example"}, "exact"),
            moved("/scheme", {"scheme": "https"}),
            moved("/secure", {"scheme": "https", "uri": "/s", "port": 8443}),
            moved("/port", {"port": 8080}),
            moved("/p80", {"port": 80}),
            moved("/p443", {"scheme": "https", "port": 443}),
            moved("/p443plain", {"port": 443}),
            moved("/derive-default", {"derivePort": "FROM_PROTOCOL_DEFAULT"}),
            moved("/derive-secure", {"scheme": "https", "derivePort": "FROM_PROTOCOL_DEFAULT"}),
            moved("/derive-request", {"derivePort": "FROM_REQUEST_PORT"}),
            moved("/derive-moved", {"derivePort": "FROM_REQUEST_PORT", "authority": "new.example"}),
            *(moved(f"/code{code}", {"uri": "/new", "redirectCode": code}) for code in (302, 303, 307, 308)),
            moved("/all", {"uri": "/u", "authority": "new.example", "scheme": "https", "port": 99, "redirectCode": 307}),
            {
                "match": [{"uri": {"prefix": "/headers"}}],
                "redirect": {"uri": "/h"},
                "headers": {"response": {"set": {"x-why": "moved"}, "add": {"cache-control": "no-store"}}},
            },
            moved("/item/[0-9]+", {"uri": "/regex"}, "regex"),
            moved("/keep", {"redirectCode": 302, "authority": "kept.example"}),
        ],
    ),
}

BODILESS = {
    "answer.content-length": "Envoy tells a HEAD transfer-encoding: chunked of a body that a GET would not have; fedgate says its length",
    "answer.transfer-encoding": "as for content-length",
}
OVERWRITTEN = {
    "answer.location": "Istio's API: the port is overwritten; istiod leaves out a scheme's own port, and Envoy then keeps the request's"
}

ROWS = [
    Row("redirect to a uri", "redirect", "/uri", status=301, probe=True),
    Row("redirect to a uri drops the path below", "redirect", "/uri/below", status=301),
    Row("redirect to a uri and the query", "redirect", "/uri?x=1", status=301),
    Row("redirect to a uri with a query of its own", "redirect", "/uriq?x=1", status=301),
    Row("redirect to an authority", "redirect", "/authority/path?x=1", status=301),
    Row("redirect to an authority of a host with a port", "redirect", "/authority/path", host="redirect.test:81", status=301),
    Row("redirect to an authority with a port", "redirect", "/with-port", status=301),
    Row("redirect of a prefix", "redirect", "/prefix/a/b?x=1", status=301),
    Row("redirect of a prefix, nothing below", "redirect", "/prefix/", status=301),
    Row("redirect of a prefix to a longer one", "redirect", "/grown/x", status=301),
    Row("redirect of an exact path", "redirect", "/exact?x", status=301),
    Row("redirect to https", "redirect", "/scheme/a?b", status=301),
    Row(
        "redirect to https of a host with a port",
        "redirect",
        "/scheme",
        host="redirect.test:8080",
        status=301,
    ),
    Row("redirect to https of a host with the default port", "redirect", "/scheme", host="redirect.test:80", status=301),
    Row("redirect to https and a port", "redirect", "/secure", status=301),
    Row("redirect to a port", "redirect", "/port?x", status=301),
    Row("redirect to a port of a host with a port", "redirect", "/port", host="redirect.test:81", status=301),
    Row("redirect to port 80", "redirect", "/p80", status=301),
    Row("redirect to port 80 of a host with a port", "redirect", "/p80", host="redirect.test:81", status=301, differs=OVERWRITTEN),
    Row("redirect to https and port 443", "redirect", "/p443", status=301),
    Row("redirect to port 443 without TLS", "redirect", "/p443plain", status=301),
    Row("redirect to port 443 over TLS", "redirect", "/p443plain", over="https", status=301),
    Row("redirect to the scheme's port", "redirect", "/derive-default", status=301),
    Row(
        "redirect to the scheme's port of a host with a port",
        "redirect",
        "/derive-default",
        host="redirect.test:81",
        status=301,
        differs=OVERWRITTEN,
    ),
    Row("redirect to https and its port", "redirect", "/derive-secure", host="redirect.test:81", status=301, differs=OVERWRITTEN),
    Row("redirect to the request's port", "redirect", "/derive-request", status=301),
    Row(
        "redirect to the request's port of a host with another", "redirect", "/derive-request", host="redirect.test:81", status=301
    ),
    Row("redirect to an authority at the request's port", "redirect", "/derive-moved", status=301),
    *(Row(f"redirect with {code}", "redirect", f"/code{code}", status=code) for code in (302, 303, 307, 308)),
    Row("redirect with everything", "redirect", "/all?x=1", status=307),
    Row("redirect with headers", "redirect", "/headers", status=301),
    Row("redirect of what a regex matched", "redirect", "/item/17?x", status=301),
    Row("redirect that keeps the path", "redirect", "/keep/a?x", status=302),
    Row("redirect of a HEAD", "redirect", "/uri", method="HEAD", status=301, probe=True, differs=BODILESS),
    Row("redirect of a DELETE", "redirect", "/uri", method="DELETE", status=301),
    Row("redirect over TLS", "redirect", "/uri?x", over="https", status=301),
    Row("redirect over TLS to a prefix", "redirect", "/prefix/x", over="https", status=301),
    Row("redirect of a path with dots", "redirect", "/prefix/../prefix/x", status=301),
    Row("redirect of a prefix with what is escaped", "redirect", "/prefix/%20%2F", status=301),
    Row("httpsRedirect", "echo", "/a?b", over="moved", status=301),
    Row(
        "httpsRedirect of a host with a port",
        "echo",
        "/a",
        host="echo.test:8080",
        over="moved",
        status=301,
    ),
    Row("httpsRedirect of a HEAD", "echo", "/", method="HEAD", over="moved", status=301, probe=True, differs=BODILESS),
    Row("httpsRedirect of a host nobody has", "echo", "/", host="unknown.example", over="moved", status=301),
    Row("httpsRedirect of a wildcard host", "wild", "/", host="x.wild.test", over="moved", status=301),
]
