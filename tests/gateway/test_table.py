"""Which route a request gets, and what the route makes of it."""

import re

import pytest

from gateway.native.codec.h1 import ServerCodec
from gateway.snapshot import (
    DirectResponse,
    Forward,
    HeaderOperations,
    MatchKind,
    NamedMatch,
    Redirect,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    StringMatch,
    VirtualHost,
)
from gateway.table import CompiledHost, CompiledRoute, RouteTable, Tables

EXACT, PREFIX, REGEX, PRESENT = MatchKind.EXACT, MatchKind.PREFIX, MatchKind.REGEX, MatchKind.PRESENT


def request(target="/", *headers, host="a.test", method="GET"):
    lines = "".join(f"{header}\r\n" for header in headers)
    return ServerCodec().next_event(f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n".encode())


def table(*hosts):
    return RouteTable(CompiledHost(VirtualHost("t", f"h{n}", domains, routes)) for n, (domains, routes) in enumerate(hosts))


def route(name, match=RouteMatch(), action=None, **more):  # noqa: B008  frozen
    return Route(name, match, action or Forward((Split("b"),)), **more)


def matched(routes, head, *, scheme=b"http", port=80):
    found = table((("*",), routes)).match(head, scheme, port)
    return found.name.decode() if found is not None else None


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("a.test", "exact"),
        ("A.TEST:8080", "exact"),
        ("b.test", "short"),
        ("x.b.test", "short"),
        ("y.c.b.test", "long"),
        ("c.b.test", "short"),
        ("test", "any"),
        ("other", "any"),
        ("[::1]:80", "any"),
    ],
)
def test_the_most_specific_virtual_host_wins(host, expected):
    found = table(
        (("*",), (route("any"),)),
        (("*.test",), (route("short"),)),
        (("*.c.b.test",), (route("long"),)),
        (("a.test",), (route("exact"),)),
    ).match(request(host=host), b"http", 80)
    assert found.name.decode() == expected


def test_a_wildcard_is_not_the_bare_domain_and_hosts_do_not_fall_through():
    found = table((("*.example.com",), (route("wild"),)))
    assert found.match(request(host="example.com"), b"http", 80) is None
    only = route("only", RouteMatch(path=StringMatch(EXACT, "/x")))
    both = table((("a.test",), (only,)), (("*",), (route("any"),)))
    assert both.match(request("/y"), b"http", 80) is None


@pytest.mark.parametrize(
    ("match", "target", "hit"),
    [
        (StringMatch(PREFIX, "/foo"), "/foobar?x", True),
        (StringMatch(PREFIX, "/foo"), "/Foo", False),
        (StringMatch(PREFIX, "/foo", ignore_case=True), "/FOObar", True),
        (StringMatch(EXACT, "/foo"), "/foo?q=/foo", True),
        (StringMatch(EXACT, "/foo"), "/foo/", False),
        (StringMatch(EXACT, "/foo", ignore_case=True), "/FOO", True),
        (StringMatch(REGEX, "/v[12]/.*"), "/v1/x", True),
        (StringMatch(REGEX, "/v[12]"), "/v1/x", False),
        (StringMatch(REGEX, "/V1", ignore_case=True), "/v1", True),
        (StringMatch(PRESENT), "/", True),
    ],
)
def test_paths(match, target, hit):
    assert (matched((route("r", RouteMatch(path=match)),), request(target)) == "r") is hit


@pytest.mark.parametrize(
    ("match", "head", "hit"),
    [
        (RouteMatch(method=StringMatch(EXACT, "POST")), request(method="POST"), True),
        (RouteMatch(method=StringMatch(EXACT, "POST")), request(), False),
        (RouteMatch(authority=StringMatch(PREFIX, "a.")), request(), True),
        (RouteMatch(scheme=StringMatch(EXACT, "https")), request(), False),
        (RouteMatch(port=80), request(), True),
        (RouteMatch(port=81), request(), False),
        (RouteMatch(headers=(NamedMatch("end-user", StringMatch(EXACT, "john")),)), request("/", "End-User: john"), True),
        (RouteMatch(headers=(NamedMatch("end-user", StringMatch(EXACT, "john")),)), request("/", "End-User: mary"), False),
        (RouteMatch(headers=(NamedMatch("end-user", StringMatch(EXACT, "john")),)), request(), False),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(PRESENT)),)), request("/", "x:"), True),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(PRESENT), inverted=True),)), request("/", "x:"), False),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(EXACT, "1"), inverted=True),)), request(), True),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(EXACT, "2")),)), request("/", "x: 1", "x: 2"), True),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(EXACT, "1,2")),)), request("/", "x: 1", "x: 2"), False),
        (RouteMatch(headers=(NamedMatch("x", StringMatch(EXACT, "2"), inverted=True),)), request("/", "x: 1", "x: 2"), False),
        (RouteMatch(query=(NamedMatch("q", StringMatch(EXACT, "a%20b")),)), request("/?p=1&q=a%20b"), True),
        (RouteMatch(query=(NamedMatch("q", StringMatch(EXACT, "a b")),)), request("/?p=1&q=a%20b"), False),
        (RouteMatch(query=(NamedMatch("q", StringMatch(EXACT, "1")),)), request("/?p=1"), False),
        (RouteMatch(query=(NamedMatch("q", StringMatch(PRESENT)),)), request("/?q"), True),
        (RouteMatch(query=(NamedMatch("q", StringMatch(EXACT, "1"), inverted=True),)), request("/?q=2"), True),
    ],
)
def test_conditions(match, head, hit):
    assert (matched((route("r", match),), head) == "r") is hit


def test_the_first_route_wins():
    routes = (route("a", RouteMatch(path=StringMatch(PREFIX, "/a"))), route("b"), route("c"))
    assert [matched(routes, request(target)) for target in ("/a", "/x")] == ["a", "b"]


def test_an_expression_that_is_not_re2_is_refused_by_name():
    part = VirtualHost("t", "h", ("*",), (route("r", RouteMatch(path=StringMatch(REGEX, "a(?=b)"))),))
    with pytest.raises(ValueError, match=re.escape("host/t/h.routes[0]: regex 'a(?=b)' is not RE2")):
        CompiledHost(part)


@pytest.mark.parametrize(
    ("match", "rewrite", "target", "expected"),
    [
        (StringMatch(PREFIX, "/old"), "/new", "/old/x?q=1", "/new/x?q=1"),
        (StringMatch(PREFIX, "/old/"), "/", "/old/x", "/x"),
        (StringMatch(PREFIX, "/old"), "", "/old", "/"),
        (StringMatch(EXACT, "/old"), "/new", "/old?q", "/new?q"),
        (StringMatch(REGEX, "/.*"), "/new", "/old/x?q", "/new?q"),
        (None, None, "/a?b", "/a?b"),
    ],
)
def test_rewrites(match, rewrite, target, expected):
    compiled = CompiledRoute(route("r", RouteMatch(path=match), Forward((Split("b"),), rewrite_prefix=rewrite)))
    assert compiled.action.target(target.encode()).decode() == expected


@pytest.mark.parametrize(
    ("redirect", "scheme", "expected"),
    [
        (Redirect(scheme="https"), b"http", "https://a.test:8080/x?q=1"),
        (Redirect(uri="/y"), b"http", "http://a.test:8080/y?q=1"),
        (Redirect(uri="/y?z"), b"http", "http://a.test:8080/y?z"),
        (Redirect(authority="b.test"), b"http", "http://b.test/x?q=1"),
        (Redirect(port=81), b"http", "http://a.test:81/x?q=1"),
        (Redirect(port=443, scheme="https"), b"http", "https://a.test/x?q=1"),
        (Redirect(derive_port="FROM_REQUEST_PORT"), b"http", "http://a.test:8080/x?q=1"),
        (Redirect(derive_port="FROM_PROTOCOL_DEFAULT"), b"http", "http://a.test/x?q=1"),
        (Redirect(prefix_rewrite="/y"), b"http", "http://a.test:8080/y?q=1"),
    ],
)
def test_redirects(redirect, scheme, expected):
    compiled = CompiledRoute(route("r", RouteMatch(path=StringMatch(PREFIX, "/x")), redirect))
    head = request("/x?q=1", host="a.test:8080")
    assert compiled.action.location(head, scheme, 8080).decode() == expected


def test_splits_share_by_weight_and_nothing_goes_to_weight_0():
    forward = Forward((Split("a", 90), Split("b", 0), Split("c", 10)))
    action = CompiledRoute(route("r", action=forward)).action
    chosen = [action.choose(lambda n=n: n / 1000).backend for n in range(1000)]
    assert {name: chosen.count(name) for name in set(chosen)} == {"a": 900, "c": 100}


def test_header_operations_of_the_destination_come_before_those_of_the_route():
    split = Split("b", request_headers=HeaderOperations(set=(("X-A", "1"), ("host", "h.test")), remove=("x-b",)))
    compiled = CompiledRoute(route("r", action=Forward((split,)), request_headers=HeaderOperations(add=(("x-c", "2"),))))
    operations = compiled.action.only.request
    assert operations.authority == b"h.test"
    assert operations.steps == [(frozenset((b"x-a", b"x-b")), (b"x-a: 1",)), (frozenset(), (b"x-c: 2",))]


def test_tables_change_at_once_at_the_end_and_keep_what_is_unchanged():
    tables = Tables()
    first = Snapshot.of([VirtualHost("t", "a", ("a",), (route("a"),)), VirtualHost("u", "b", ("b",), (route("b"),))])
    for _ in tables.build(first):
        assert not tables.tables
    kept = tables.tables["u"]
    second = first.changed([VirtualHost("t", "c", ("c",), (route("c"),))], ["host/t/a"])
    for _ in tables.build(second):
        pass
    assert tables.tables["u"] is kept
    assert tables.tables["t"].match(request(host="a"), b"http", 80) is None
    assert tables.tables["t"].match(request(host="c"), b"http", 80).name == b"c"
    for _ in tables.build(first.changed([], ["host/u/b"])):
        pass
    assert set(tables.tables) == {"t"}
    broken = first.changed([VirtualHost("t", "a", ("a",), (route("r", RouteMatch(path=StringMatch(REGEX, "("))),))])
    before = tables.tables
    with pytest.raises(ValueError, match="RE2"):
        list(tables.build(broken))
    assert tables.tables is before


def test_a_direct_response():
    action = CompiledRoute(route("r", action=DirectResponse(418, b"tea"))).action
    assert (action.status, action.body) == (418, b"tea")


def test_a_request_is_for_the_host_that_has_the_address_it_came_to():
    found = table((("a.test", "10.0.0.1:80"), [route("a")]), (("b.test",), [route("b")]), (("*",), [route("rest")]))

    def name(address, **of):
        return found.match_at(address, request(**of), b"http", 80).name

    assert name(b"10.0.0.1:80", host="b.test") == b"a"
    assert name(b"10.0.0.1:80", host="gone.test") == b"a"
    assert name(b"10.0.0.2:80", host="b.test") == b"b"
    assert name(b"10.0.0.2:80", host="gone.test") == b"rest"
    matching = [
        route("x", RouteMatch(path=StringMatch(PREFIX, "/x"))),
        route("c", RouteMatch(method=StringMatch(EXACT, "CONNECT"))),
    ]
    found = table((("a.test", "10.0.0.1:80"), matching))
    assert name(b"10.0.0.1:80", target="/x/y") == b"x"
    assert found.match_at(b"10.0.0.1:80", request("/y"), b"http", 80) is None
    assert name(b"10.0.0.1:80", target="b.test:443", host="b.test:443", method="CONNECT") == b"c"
