"""What routes make of requests: authorities, header operations, rewrites, redirects, mirrors."""

import pytest

from gateway.actions import Operations
from gateway.native.codec.h1 import ServerCodec
from gateway.policy.substitution import Changes
from gateway.snapshot import (
    Cors,
    DirectResponse,
    Fault,
    Forward,
    HeaderOperations,
    MatchKind,
    Mirror,
    Operator,
    Redirect,
    Route,
    RouteMatch,
    Split,
    StringMatch,
    Template,
)
from gateway.table import CompiledRoute

EXACT, PREFIX = MatchKind.EXACT, MatchKind.PREFIX


def compiled(action=None, match=RouteMatch(), **more):  # noqa: B008  frozen
    return CompiledRoute(Route("r", match, action or Forward((Split("b"),)), **more))


def request(target="/x?q=1", host="a.test"):
    return ServerCodec().next_event(f"GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())


def location(redirect, host, *, scheme=b"http", port=8080, match=RouteMatch()):  # noqa: B008  frozen
    return compiled(redirect, match).action.location(request(host=host), scheme, port).decode()


@pytest.mark.parametrize(
    ("redirect", "host", "scheme", "expected"),
    [  # without a port: what the client wrote stays, but for the old scheme's own port
        (Redirect(scheme="https"), "a.test", b"http", "https://a.test/x?q=1"),
        (Redirect(scheme="https"), "a.test:80", b"http", "https://a.test/x?q=1"),
        (Redirect(scheme="https"), "a.test:8080", b"http", "https://a.test:8080/x?q=1"),
        (Redirect(scheme="http"), "a.test:443", b"https", "http://a.test/x?q=1"),
        (Redirect(uri="/y"), "a.test:80", b"http", "http://a.test:80/y?q=1"),
        (Redirect(authority="b.test:81"), "a.test:80", b"http", "http://b.test:81/x?q=1"),
        # with one
        (Redirect(port=8443, scheme="https"), "a.test:8080", b"http", "https://a.test:8443/x?q=1"),
        (Redirect(port=443, scheme="https"), "a.test:8080", b"http", "https://a.test/x?q=1"),
        (Redirect(port=80), "a.test:8080", b"http", "http://a.test/x?q=1"),
        (Redirect(port=80), "a.test", b"https", "https://a.test:80/x?q=1"),
        (Redirect(port=81, authority="b.test"), "a.test", b"http", "http://b.test:81/x?q=1"),
        (Redirect(derive_port="FROM_REQUEST_PORT"), "a.test", b"http", "http://a.test:8080/x?q=1"),
        (Redirect(derive_port="FROM_REQUEST_PORT"), "a.test:30080", b"http", "http://a.test:8080/x?q=1"),
        (Redirect(derive_port="FROM_PROTOCOL_DEFAULT", scheme="https"), "a.test:8080", b"http", "https://a.test/x?q=1"),
        (Redirect(uri="/y", port=81), "[::1]:80", b"http", "http://[::1]:81/y?q=1"),
        (Redirect(scheme="https"), "[::1]:80", b"http", "https://[::1]/x?q=1"),
        (Redirect(scheme="https"), "[::1]", b"http", "https://[::1]/x?q=1"),
    ],
)
def test_ports_of_a_redirect(redirect, host, scheme, expected):
    assert location(redirect, host, scheme=scheme) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (StringMatch(PREFIX, "/x"), "http://a.test/y/?q=1"),
        (None, "http://a.test/y/x?q=1"),  # no uri is the prefix "/"
    ],
)
def test_a_redirected_prefix(path, expected):
    assert location(Redirect(prefix_rewrite="/y/"), "a.test", match=RouteMatch(path=path)) == expected


@pytest.mark.parametrize(
    ("forward", "path", "target", "expected"),
    [
        (Forward((Split("b"),), rewrite_regex=("^/(v1)/(.*)", r"/\2/\1")), None, "/v1/a?x=/v1/b", "/a/v1?x=/v1/b"),
        (Forward((Split("b"),), rewrite_regex=("a", "b")), StringMatch(PREFIX, "/a"), "/a/a?a", "/b/b?a"),
        (Forward((Split("b"),), rewrite_regex=("^/.*", "")), None, "/a?q", "/?q"),
        (Forward((Split("b"),), rewrite_prefix="/new/"), None, "/a?q", "/new/a?q"),
        (Forward((Split("b"),), rewrite_prefix="/new"), StringMatch(PREFIX, "/OLD", ignore_case=True), "/old/a", "/new/a"),
    ],
)
def test_rewritten_targets(forward, path, target, expected):
    action = compiled(forward, RouteMatch(path=path)).action
    assert action.rewrites
    assert not action.only.plain
    assert action.target(target.encode()).decode() == expected


def test_nothing_is_rewritten_unasked():
    action = compiled().action
    assert not action.rewrites
    assert action.only.plain
    assert action.target(b"/a?b") == b"/a?b"


def test_a_rewrite_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="names group"):
        compiled(Forward((Split("b"),), rewrite_regex=("a", r"\1")))


@pytest.mark.parametrize(
    ("destination", "route", "rewrite", "expected"),
    [
        ({"set": (("host", "d"),)}, {}, "", b"d"),
        ({"set": (("host", "d"),)}, {"set": ((":authority", "r"),)}, "", b"r"),
        ({"set": (("host", "d"),)}, {}, "w", b"w"),
        ({"add": (("host", "d"),)}, {}, "", b"d"),
        ({"add": (("host", "d"),), "set": (("host", "s"),)}, {}, "", b"s"),
        ({}, {}, "", b""),
    ],
)
def test_who_says_the_authority(destination, route, rewrite, expected):
    split = Split("b", request_headers=HeaderOperations(**destination))
    made = compiled(Forward((split,), rewrite_authority=rewrite), request_headers=HeaderOperations(**route)).action.only
    assert made.request.authority == expected
    assert made.request.steps == []
    assert made.plain is (expected == b"")


def test_an_empty_value_does_nothing():
    operations = Operations(HeaderOperations(set=(("x", ""),), add=(("y", ""),)))
    assert not operations
    assert operations.steps == []


def test_set_is_done_before_add():
    operations = Operations(HeaderOperations(set=(("x", "1"),), add=(("x", "2"),), remove=("y",)))
    assert operations.steps == [(frozenset((b"x", b"y")), (b"x: 1", b"x: 2"))]


def test_levels_with_operators_are_made_for_each_request():
    value = Template((Operator("REQ", "x-b"),))
    operations = Operations(
        HeaderOperations(set=(("x", value), ("host", "h")), remove=("y", "host")), HeaderOperations(add=(("z", "1"),))
    )
    assert operations.authority == b"h"
    assert operations.recalls
    (gone, changes), plain = operations.steps
    assert gone == {b"y"}
    assert isinstance(changes, Changes)
    assert plain == (frozenset(), (b"z: 1",))
    assert not Operations(HeaderOperations(set=(("x", Template((Operator("HOSTNAME"),))),))).recalls


@pytest.mark.parametrize(("name", "recalled"), [("REQ", True), ("RESP", False)])
def test_a_request_that_its_answer_tells_of_is_remembered(name, recalled):
    response = HeaderOperations(set=(("x", Template((Operator(name, "x-b"),))),))
    only = compiled(Forward((Split("b", response_headers=response),))).action.only
    assert only.recalled is recalled
    assert only.plain is not recalled


def test_mirrors_and_filters_belong_to_routes_that_send_on():
    extra = {"fault": Fault(abort_status=500, abort_share=1), "cors": Cors(methods=("GET",)), "stat_prefix": "s"}
    sent = compiled(Forward((Split("b"),), mirrors=(Mirror("m"), Mirror("half", 500_000), Mirror("off", 0))), **extra)
    assert sent.action.mirrors == (("m", 1_000_000), ("half", 500_000))
    assert sent.fault is not None
    assert sent.cors is not None
    assert sent.stat_prefix == b"s"
    for action in (Redirect(uri="/y"), DirectResponse(200)):
        other = compiled(action, **extra)
        assert other.fault is None
        assert other.cors is None
    assert compiled().cors is None


def test_header_operations_leave_alone_where_a_body_ends():
    """Else what a client sends as a body would be read as the next request."""
    names = ("Content-Length", "transfer-encoding", "x-a")
    length = Template((Operator("REQ", "x-length"),))
    found = Operations(
        HeaderOperations(remove=names),
        HeaderOperations(set=tuple((name, "3") for name in names)),
        HeaderOperations(add=(("content-length", length), ("x-b", length))),
    )
    (removed, nothing), (replaced, set_), (gone, changes) = found.steps
    assert (removed, nothing, replaced, set_, gone) == ({b"x-a"}, (), {b"x-a"}, (b"x-a: 3",), set())
    assert changes.applied([b"content-length: 5"], Lengths()) == [b"content-length: 5", b"x-b: 3"]


class Lengths:
    def requested(self, name):
        return b"3"
