"""Matches of a request: pseudo-headers, withoutHeaders, claims, and CONNECT."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.matching import query_tests, request_tests, string_test
from gateway.snapshot import ClaimMatch, Forward, MatchKind, NamedMatch, Route, RouteMatch, Split, StringMatch, VirtualHost
from gateway.table import CompiledHost, RouteTable

EXACT, PREFIX, REGEX, PRESENT = MatchKind.EXACT, MatchKind.PREFIX, MatchKind.REGEX, MatchKind.PRESENT
IS_X, IS_EMPTY, ANY = StringMatch(EXACT, "x"), StringMatch(EXACT, ""), StringMatch(REGEX, ".*")
THERE = StringMatch(PRESENT)


@dataclass
class Head:
    """A request as HTTP/2 would bring it, with verified claims."""

    method: bytes = b"GET"
    target: bytes = b"/a?q=1"
    host: bytes = b"a.test"
    authority: bytes = b"a.test:8080"
    fields: dict[bytes, list[bytes]] = field(default_factory=dict)
    claims: object = None

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    def values(self, name: bytes) -> list[bytes]:
        return self.fields.get(name, [])


def hits(match, head=None, *, scheme=b"https", port=443):
    return all(test(head or Head(), scheme, port) for test in [*request_tests(match), *query_tests(match)])


@pytest.mark.parametrize(
    ("name", "match", "hit"),
    [
        (":method", StringMatch(EXACT, "GET"), True),
        (":method", StringMatch(EXACT, "get"), False),
        (":path", StringMatch(EXACT, "/a?q=1"), True),  # all of it, unlike uri
        (":path", StringMatch(EXACT, "/a"), False),
        (":scheme", StringMatch(EXACT, "https"), True),
        (":authority", StringMatch(PREFIX, "a.test:"), True),
        ("Host", StringMatch(EXACT, "a.test:8080"), True),  # the authority by its other name, also in HTTP/2
        (":method", THERE, True),
    ],
)
def test_pseudo_headers(name, match, hit):
    assert hits(RouteMatch(headers=(NamedMatch(name, match),))) is hit
    assert hits(RouteMatch(headers=(NamedMatch(name, match, inverted=True),))) is not hit


@pytest.mark.parametrize(
    ("match", "values", "hit"),
    [
        (THERE, None, True),
        (THERE, b"", False),
        (IS_X, None, True),
        (IS_X, b"x", False),
        (IS_X, b"y", True),
        (IS_EMPTY, None, False),  # a missing header counts as an empty one
        (IS_EMPTY, b"", False),
        (ANY, None, False),
        (ANY, b"y", False),
    ],
)
def test_without_headers(match, values, hit):
    head = Head(fields={} if values is None else {b"h": [values]})
    assert hits(RouteMatch(headers=(NamedMatch("h", match, inverted=True),)), head) is hit


CLAIMS = {"sub": "john", "groups": ["dev", "ops"], "age": 7, "deep": {"er": "x", "list": ["y"]}, "": "e"}


@pytest.mark.parametrize(
    ("path", "match", "hit"),
    [
        (("sub",), StringMatch(EXACT, "john"), True),
        (("sub",), StringMatch(PREFIX, "jo"), True),
        (("sub",), StringMatch(REGEX, "jo"), False),
        (("groups",), StringMatch(EXACT, "ops"), True),
        (("groups",), StringMatch(EXACT, "dev,ops"), False),
        (("deep", "er"), StringMatch(EXACT, "x"), True),
        (("deep", "list"), StringMatch(EXACT, "y"), True),
        (("deep",), StringMatch(EXACT, "x"), False),
        (("sub", "er"), StringMatch(EXACT, "x"), False),
        (("age",), StringMatch(EXACT, "7"), False),  # only text is compared
        (("age",), THERE, True),
        (("none",), THERE, False),
    ],
)
def test_claims(path, match, hit):
    assert hits(RouteMatch(claims=(ClaimMatch(path, match),)), Head(claims=CLAIMS)) is hit
    assert hits(RouteMatch(claims=(ClaimMatch(path, match, inverted=True),)), Head(claims=CLAIMS)) is not hit


def test_without_a_verified_token_no_claim_is_had():
    class Plain:
        """A head that knows of no claims at all."""

    for head in (Head(), Plain()):
        assert not hits(RouteMatch(claims=(ClaimMatch(("sub",), ANY),)), head)
        assert hits(RouteMatch(claims=(ClaimMatch(("sub",), ANY, inverted=True),)), head)


def test_an_unverified_header_is_no_claim():
    head = Head(fields={b"@request.auth.claims.sub": [b"john"], b"sub": [b"john"]})
    assert not hits(RouteMatch(claims=(ClaimMatch(("sub",), THERE),)), head)


def test_ports_schemes_and_queries():
    assert hits(RouteMatch(port=443, scheme=StringMatch(EXACT, "https"), query=(NamedMatch("q", StringMatch(EXACT, "1")),)))
    assert not hits(RouteMatch(port=443), port=80)
    assert not hits(RouteMatch(scheme=StringMatch(EXACT, "https")), scheme=b"http")


@given(st.text("ab.*/", max_size=8), st.text("ab.*/AB", max_size=10), st.booleans())
def test_string_matches_mean_what_they_say(value, text, ignore_case):
    def fold(given):
        return given.lower() if ignore_case else given

    assert string_test(StringMatch(EXACT, value, ignore_case))(text.encode()) is (fold(text) == fold(value))
    assert string_test(StringMatch(PREFIX, value, ignore_case))(text.encode()) is fold(text).startswith(fold(value))


# ------------------------------------------------------------------------------------------------------------- CONNECT


CONNECT = StringMatch(EXACT, "CONNECT")


def taken(*matches, head):
    routes = tuple(Route(f"r{n}", match, Forward((Split("b"),))) for n, match in enumerate(matches))
    found = RouteTable([CompiledHost(VirtualHost("t", "h", ("*",), routes))]).match(head, b"https", 443)
    return None if found is None else found.name.decode()


@pytest.mark.parametrize("target", [b"a.test:443", b""])
@pytest.mark.parametrize(
    ("matches", "name"),
    [
        ((RouteMatch(),), None),
        ((RouteMatch(path=StringMatch(PREFIX, "")),), None),
        ((RouteMatch(path=StringMatch(REGEX, ".*")),), None),
        ((RouteMatch(method=StringMatch(PREFIX, "CONN")),), None),
        ((RouteMatch(method=StringMatch(REGEX, ".*")),), None),
        ((RouteMatch(), RouteMatch(method=CONNECT)), "r1"),
        ((RouteMatch(method=CONNECT, path=StringMatch(PREFIX, "/x")),), "r0"),  # it has no path
        ((RouteMatch(method=CONNECT, authority=StringMatch(EXACT, "b.test:443")), RouteMatch(method=CONNECT)), "r1"),
        ((RouteMatch(method=CONNECT, headers=(NamedMatch("h", IS_X),)),), None),
        ((RouteMatch(method=CONNECT, port=80),), None),
    ],
)
def test_connect_is_taken_only_by_routes_that_ask_for_it(matches, name, target):
    head = Head(method=b"CONNECT", target=target, authority=b"a.test:443")
    assert taken(*matches, head=head) == name


def test_routes_for_connect_take_nothing_else():
    assert taken(RouteMatch(method=CONNECT), RouteMatch(), head=Head()) == "r1"


def test_the_star_of_options_is_no_path():
    star = Head(method=b"OPTIONS", target=b"*")
    assert taken(RouteMatch(), RouteMatch(path=StringMatch(PREFIX, "/")), head=star) is None
    assert taken(RouteMatch(), RouteMatch(path=StringMatch(PREFIX, "")), head=star) == "r1"
    assert taken(RouteMatch(), RouteMatch(path=StringMatch(EXACT, "*")), head=star) == "r1"
