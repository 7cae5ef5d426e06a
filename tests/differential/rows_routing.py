"""Which route a request takes: paths, methods, headers, query, authority, order, wildcard hosts, ports in Host."""

from __future__ import annotations

from differing import NOBODY, Row, words
from running import to


def when(subset, **match):
    """A rule: requests that match go to this version."""
    return {"match": [match], "route": [to("app.shop", subset)]}


OTHERWISE = {"route": [to("app.shop", "v3")]}


def uri(kind, value):
    return {"uri": {kind: value}}


SITES = {
    "echo": (None, [{"route": [to("one.shop")]}]),
    "exact": (None, [when("v1", **uri("exact", "/a")), when("v2", **uri("exact", "/A/b")), OTHERWISE]),
    "prefix": (None, [when("v1", **uri("prefix", "/foo")), when("v2", **uri("prefix", "/bar/")), OTHERWISE]),
    "regex": (
        None,
        [
            when("v1", **uri("regex", "/item/[0-9]+")),
            when("v2", **uri("regex", "/(?i:case)/.*")),
            when("v1", **uri("regex", ".+x")),
        ],
    ),
    "caseless": (
        None,
        [
            when("v1", uri={"exact": "/Exact"}, ignoreUriCase=True),
            when("v2", uri={"prefix": "/Prefix"}, ignoreUriCase=True),
            OTHERWISE,
        ],
    ),
    "methods": (
        None,
        [
            when("v1", method={"exact": "POST"}),
            when("v2", method={"regex": "PUT|PATCH"}),
            when("v1", method={"prefix": "OP"}),
            OTHERWISE,
        ],
    ),
    "headers": (
        None,
        [
            when("v1", headers={"x-user": {"exact": "john"}}),
            when("v2", headers={"x-user": {"prefix": "ma"}}),
            when("v1", headers={"x-agent": {"regex": ".*Fire(fox|bird).*"}}),
            when("v2", headers={"x-there": {}}),
            when("v1", headers={"x-one": {"exact": "1"}, "x-two": {"exact": "2"}}),
            OTHERWISE,
        ],
    ),
    "without": (
        None,
        [
            when("v1", uri={"prefix": "/v"}, withoutHeaders={"x-user": {"exact": "john"}}),
            when("v1", uri={"prefix": "/p"}, withoutHeaders={"x-user": {}}),
            when("v1", uri={"prefix": "/r"}, withoutHeaders={"x-user": {"regex": "jo.*"}}),
            when("v1", uri={"prefix": "/b"}, headers={"x-a": {"exact": "1"}}, withoutHeaders={"x-b": {"exact": "1"}}),
            OTHERWISE,
        ],
    ),
    "query": (
        None,
        [
            when("v1", queryParams={"v": {"exact": "1"}}),
            when("v2", queryParams={"v": {"regex": "[2-4]+"}}),
            when("v1", queryParams={"p": {"prefix": "ab"}}),
            when("v2", queryParams={"there": {"regex": ".*"}}),
            when("v1", queryParams={"both": {"exact": "x"}, "too": {"exact": "y"}}),
            OTHERWISE,
        ],
    ),
    "order": (
        None,
        [when("v1", **uri("prefix", "/a")), when("v2", **uri("exact", "/a/b")), when("v2", **uri("prefix", "/")), OTHERWISE],
    ),
    "either": (
        None,
        [
            {"match": [uri("exact", "/one"), {"headers": {"x-two": {"exact": "2"}}}], "route": [to("app.shop", "v1")]},
            OTHERWISE,
        ],
    ),
    "authority": (
        ["authority.test", "other.authority.test"],
        [
            when("v1", authority={"exact": "authority.test"}),
            when("v2", authority={"prefix": "other."}),
            OTHERWISE,
        ],
    ),
    "wild": (["*.wild.test"], [{"route": [to("app.shop", "v1")]}]),
    "deep": (["*.deep.wild.test"], [{"route": [to("app.shop", "v2")]}]),
    "own": (["own.wild.test"], [{"route": [to("app.shop", "v3")]}]),
    "scheme": (None, [when("v1", scheme={"exact": "https"}), when("v2", scheme={"exact": "http"})]),
    "few": (None, [when("v1", **uri("prefix", "/only"))]),
    "nobody": (None, [{"route": [to("nobody.shop")]}]),
    "nowhere": (None, [{"route": [to("missing.shop")]}]),
    "direct": (
        None,
        [
            {"match": [uri("exact", "/teapot")], "directResponse": {"status": 418, "body": {"string": "short and stout"}}},
            {"match": [uri("exact", "/empty")], "directResponse": {"status": 200}},
            {"match": [uri("exact", "/gone")], "directResponse": {"status": 204}},
            {"match": [uri("exact", "/bytes")], "directResponse": {"status": 503, "body": {"bytes": "aGVsbG8="}}},
            {
                "match": [uri("exact", "/typed")],
                "directResponse": {"status": 200, "body": {"string": "{}"}},
                "headers": {"response": {"set": {"content-type": "application/json"}, "add": {"x-more": "1"}}},
            },
        ],
    ),
}


def at(version):
    return {"served": (version,)}


LENGTHLESS = dict.fromkeys(
    ("saw.content-length", "saw.framing"),
    "Envoy gives a request without a body content-length: 0 unless it is a GET, HEAD or DELETE; fedgate sends on what the client said",
)
DRAINED = dict.fromkeys(
    words(
        "answer.connection closed saws saw.at saw.body "
        "saw.framing saw.host saw.line saw.x-forwarded-for saw.x-forwarded-proto saw.x-request-id"
    ),
    "Envoy closes when it answers before it has read a body; fedgate has read this one, and keeps the connection",
)


ROWS = [
    Row("exact", "exact", "/a", **at("v1")),
    Row("exact with a query", "exact", "/a?x=1", **at("v1")),
    Row("exact is no prefix", "exact", "/a/", **at("v3")),
    Row("exact minds case", "exact", "/A", **at("v3")),
    Row("exact of two segments", "exact", "/A/b", **at("v2")),
    Row("exact after dot segments", "exact", "/x/../a", **at("v1")),
    Row("exact with an escaped letter", "exact", "/%61", **at("v1")),
    Row("exact with an escaped dot segment", "exact", "/x/%2e%2E/a", **at("v1")),
    Row("exact with two slashes", "exact", "//a", **at("v3")),
    Row("exact with an escaped slash", "exact", "/A%2fb", **at("v3")),
    Row("exact with a backslash", "exact", "/A\\b", **at("v2")),
    Row("exact with an empty query", "exact", "/a?", **at("v1")),
    Row("dot segments above the root", "exact", "/../../a", **at("v1")),
    Row("a dot at the end", "exact", "/a/.", **at("v3")),
    Row("two dots at the end", "exact", "/a/b/..", **at("v3")),
    Row("a semicolon is part of a path", "exact", "/a;x=1", **at("v3")),
    Row("a query is left as it is", "exact", "/a?x=/../%2e%2E\\", **at("v1")),
    Row("prefix", "prefix", "/foo", **at("v1")),
    Row("prefix is of characters, not of segments", "prefix", "/foobar", **at("v1")),
    Row("prefix below", "prefix", "/foo/x/y?z", **at("v1")),
    Row("prefix with a slash at its end", "prefix", "/bar/x", **at("v2")),
    Row("prefix without its slash", "prefix", "/bar", **at("v3")),
    Row("prefix minds case", "prefix", "/Foo", **at("v3")),
    Row("prefix not in the query", "prefix", "/?/foo", **at("v3")),
    Row("prefix after dot segments", "prefix", "/x/../bar/y", **at("v2")),
    Row("regex", "regex", "/item/17", **at("v1")),
    Row("regex must match all", "regex", "/item/17z", status=404),
    Row("regex must match from the start", "regex", "/an/item/17", status=404),
    Row("regex is without the query", "regex", "/item/17?x", **at("v1")),
    Row("regex with a flag", "regex", "/CaSe/any", **at("v2")),
    Row("regex not the query's end", "regex", "/y?x", status=404),
    Row("regex of the whole path", "regex", "/y/x", **at("v1")),
    Row("caseless exact", "caseless", "/EXACT", **at("v1")),
    Row("caseless exact as written", "caseless", "/Exact", **at("v1")),
    Row("caseless exact is exact", "caseless", "/exact/", **at("v3")),
    Row("caseless prefix", "caseless", "/pREFIXes", **at("v2")),
    Row("method exact", "methods", differs=LENGTHLESS, method="POST", **at("v1")),
    Row("method regex", "methods", differs=LENGTHLESS, method="PATCH", **at("v2")),
    Row("method prefix", "methods", differs=LENGTHLESS, method="OPTIONS", **at("v1")),
    Row("method otherwise", "methods", method="DELETE", **at("v3")),
    Row("method HEAD is not GET", "methods", method="HEAD", **at("v3")),
    Row("method of our own", "methods", differs=LENGTHLESS, method="PURGE", **at("v3")),
    Row("header exact", "headers", headers=(("x-user", "john"),), **at("v1")),
    Row("header name's case", "headers", headers=(("X-User", "john"),), **at("v1")),
    Row("header value's case", "headers", headers=(("x-user", "John"),), **at("v3")),
    Row("header exact is all", "headers", headers=(("x-user", "johnny"),), **at("v3")),
    Row("header prefix", "headers", headers=(("x-user", "mary"),), **at("v2")),
    Row("header regex", "headers", headers=(("x-agent", "Mozilla Firefox 5"),), **at("v1")),
    Row("header regex is full", "headers", headers=(("x-agent", "Fire"),), **at("v3")),
    Row("header presence", "headers", headers=(("x-there", "x"),), **at("v2")),
    Row("header presence of an empty value", "headers", headers=(("x-there", ""),), **at("v2")),
    Row("header both", "headers", headers=(("x-one", "1"), ("x-two", "2")), **at("v1")),
    Row("header one of both", "headers", headers=(("x-one", "1"),), **at("v3")),
    Row("header twice", "headers", headers=(("x-user", "john"), ("x-user", "john")), **at("v1")),
    Row(
        "header twice: one of them is enough",
        "headers",
        headers=(("x-user", "ma"), ("x-user", "john")),
        **at("v1"),
    ),
    Row("header twice in one line", "headers", headers=(("x-user", "john,john"),), **at("v3")),
    Row("header's spaces around", "headers", headers=(("x-user", "  john \t"),), **at("v1")),
    Row("header first rule first", "headers", headers=(("x-there", "1"), ("x-user", "john")), **at("v1")),
    Row("without: missing", "without", "/v", **at("v1")),
    Row("without: another value", "without", "/v", headers=(("x-user", "mary"),), **at("v1")),
    Row("without: the value", "without", "/v", headers=(("x-user", "john"),), **at("v3")),
    Row("without: present", "without", "/p", headers=(("x-user", "any"),), **at("v3")),
    Row("without: not present", "without", "/p", **at("v1")),
    Row("without regex", "without", "/r", headers=(("x-user", "joe"),), **at("v3")),
    Row("without regex: other", "without", "/r", headers=(("x-user", "me"),), **at("v1")),
    Row(
        "without twice: one of them is enough",
        "without",
        "/v",
        headers=(("x-user", "john"), ("x-user", "x")),
        **at("v3"),
    ),
    Row("with and without", "without", "/b", headers=(("x-a", "1"),), **at("v1")),
    Row("with and without: both there", "without", "/b", headers=(("x-a", "1"), ("x-b", "1")), **at("v3")),
    Row("query exact", "query", "/?v=1", **at("v1")),
    Row("query among others", "query", "/?a=b&v=1&c", **at("v1")),
    Row("query exact is all", "query", "/?v=11", **at("v3")),
    Row("query regex", "query", "/?v=234", **at("v2")),
    Row("query regex is full", "query", "/?v=2345", **at("v3")),
    Row("query prefix", "query", "/?p=abc", **at("v1")),
    Row("query twice: the first counts", "query", "/?v=9&v=1", **at("v3")),
    Row("query name's case", "query", "/?V=1", **at("v3")),
    Row("query escaped value", "query", "/?v=%31", **at("v3")),
    Row("query escaped name", "query", "/?%76=1", **at("v3")),
    Row("query without a value", "query", "/?there", **at("v2")),
    Row("query both", "query", "/?both=x&too=y", **at("v1")),
    Row("query one of both", "query", "/?both=x", **at("v3")),
    Row("query in a path is none", "query", "/v=1", **at("v3")),
    Row("query by semicolons is one", "query", "/?x;v=1", **at("v3")),
    Row("order: the first that matches", "order", "/a/b", **at("v1")),
    Row("order: a catch-all ends it", "order", "/z", **at("v2")),
    Row("either: by path", "either", "/one", **at("v1")),
    Row("either: by header", "either", "/two", headers=(("x-two", "2"),), **at("v1")),
    Row("either: neither", "either", "/two", **at("v3")),
    Row("authority exact", "authority", **at("v1")),
    Row("authority prefix", "authority", host="other.authority.test", **at("v2")),
    Row("authority exact with a port", "authority", host="authority.test:81", **at("v3")),
    Row("authority in capitals", "authority", host="Authority.Test", **at("v3")),
    Row("host in capitals", "exact", "/a", host="EXACT.test", **at("v1")),
    Row("host with a port", "exact", "/a", host="exact.test:8080", **at("v1")),
    Row("host with the port 80", "exact", "/a", host="exact.test:80", **at("v1")),
    Row("host with a dot at its end", "exact", "/a", host="exact.test.", status=404),
    Row("host unknown", "exact", "/a", host="unknown.example", status=404),
    Row("host by wildcard", "wild", host="x.wild.test", **at("v1")),
    Row("host by wildcard, deeper", "wild", host="x.y.wild.test", **at("v1")),
    Row("host by the longer wildcard", "wild", host="x.deep.wild.test", **at("v2")),
    Row("host exact before wildcard", "wild", host="own.wild.test", **at("v3")),
    Row("host of the wildcard itself", "wild", host="wild.test", status=404),
    Row("host by wildcard with a port", "wild", host="x.wild.test:99", **at("v1")),
    Row("host by wildcard in capitals", "wild", host="X.WILD.test", **at("v1")),
    Row("scheme of a plain connection", "scheme", **at("v2")),
    Row("scheme over TLS", "scheme", over="https", **at("v1")),
    Row("no route", "few", "/other", status=404),
    Row("a route among none", "few", "/only", **at("v1")),
    Row("no endpoints", "nobody", status=503),
    Row("no such service", "nowhere", status=503, differs=NOBODY),
    Row("direct response", "direct", "/teapot", status=418, probe=True),
    Row("direct response without a body", "direct", "/empty", probe=True),
    Row("direct response 204", "direct", "/gone", status=204, probe=True),
    Row("direct response of bytes", "direct", "/bytes", status=503),
    Row("direct response with headers", "direct", "/typed"),
    Row("direct response to HEAD", "direct", "/teapot", method="HEAD", status=418, probe=True),
    Row(
        "direct response to a POST with a body",
        "direct",
        "/teapot",
        method="POST",
        body=b"hello",
        status=418,
        probe=True,
        differs=DRAINED,
    ),
]
