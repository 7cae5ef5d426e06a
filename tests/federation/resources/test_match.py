"""Matches of a VirtualService: what may be asked of a request."""

import pytest
from written import assert_one_error, errors, spec, warnings

from federation.resources.match import claim_path


def with_match(match: str) -> str:
    return f"hosts: [a]\nhttp: [{{match: [{{{match}}}], route: [{{destination: {{host: a}}}}]}}]"


@pytest.mark.parametrize(
    ("match", "path", "part"),
    [
        ("uri: {exact: /a, prefix: /b}", "uri", "exact and prefix are both written"),
        ("uri: {regex: '(?!x)'}", "uri.regex", "RE2 refuses the regex: invalid perl operator"),
        (r"headers: {x: {regex: '(a)\1'}}", "headers.x.regex", "RE2 refuses"),
        ("uri: {regex: ''}", "uri.regex", "empty"),
        ("uri: {suffix: a}", "uri.suffix", "unknown field `suffix`"),
        ("method: {prefix: ''}", "method.prefix", "empty"),
        ("headers: {x: {prefix: ''}}", "headers.x.prefix", "empty"),
        ("queryParams: {x: {prefix: ''}}", "queryParams.x.prefix", "empty"),
        ("headers: {'a b': {exact: x}}", "headers.a b", "no header name"),
        ("headers: {':status': {exact: '200'}}", "headers.:status", "no header name"),
        ("headers: {'@request.auth.claims': {exact: x}}", "headers[@]", "names no claim"),
        ("headers: {'@request.auth.claims[a': {exact: x}}", "headers[@]", "names no claim"),
        ("headers: {'@request.auth.principal': {exact: x}}", "headers[@]", "names no claim"),
        ("headers: {'@request.auth.claims.a': {exact: x}}", "", "known at Gateways only"),
        ("sourceLabels: {'a b': x}", "sourceLabels.a b", "no label key"),
        ("sourceNamespace: a_b", "sourceNamespace", "no namespace"),
        ("headers: {x: null}", "headers.x", "must be a mapping, not null"),
        ("withoutHeaders: {x: {regex: '**'}}", "withoutHeaders.x.regex", "RE2 refuses"),
        ("port: 70000", "port", "1..65535"),
        ("gateways: [a/b/c]", "gateways[0]", "names no Gateway"),
    ],
)
def test_mistakes_of_a_match(match, path, part):
    from discovery.document import path_of

    if "[@]" in path:
        path = path_of(("headers", match.split("'")[1])) + path.partition("[@]")[2]
    assert_one_error("VirtualService", with_match(match), f"spec.http[0].match[0].{path}".rstrip("."), part)


@pytest.mark.parametrize(
    ("match", "part"),
    [
        ("'@request.auth.claims.': {exact: x}", "names no claim"),
        ("'@request.auth.claims.a..b': {exact: x}", "a name in the claim's path is empty"),
        ("'@request.auth.claims[a][]': {exact: x}", "a name in the claim's path is empty"),
        ("'@request.auth.claims.a': {prefix: ''}", "empty"),
    ],
)
def test_mistakes_in_claims(match, part):
    (message,) = errors("VirtualService", with_match(f"headers: {{{match}}}") + "\ngateways: [g]").values()
    assert part in message


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("@request.auth.claims.sub", ("sub",)),
        ("@request.auth.claims.a.b", ("a", "b")),
        ("@Request.Auth.Claims[a.b][c]", ("a.b", "c")),
        ("@request.auth.claims[a]", ("a",)),
        ("@request.auth.claims", ()),
        ("@request.auth.claims-a", ()),
        ("request.auth.claims.a", ()),
        ("@request.auth.claims[]", ()),
    ],
)
def test_the_path_of_a_claim(key, path):
    assert claim_path(key) == path


def test_claims_pseudo_headers_and_a_prefix_of_statistics_may_be_written_at_a_gateway():
    said = spec(
        "VirtualService",
        """
        hosts: [a]
        gateways: [g]
        http:
        - match:
          - headers: {'@request.auth.claims.sub': {exact: x}, ':path': {regex: '/a.*'}, ':authority': {}}
            withoutHeaders: {'@request.auth.claims[groups]': {exact: x}, ':method': {exact: GET}}
            statPrefix: a
          route: [{destination: {host: a}}]
        """,
    )
    assert said.http[0].match[0].asks_for_claims
    assert said.http[0].match[0].stat_prefix == "a"


def test_an_empty_uri_prefix_matches_everything_as_in_istio():
    assert warnings("VirtualService", with_match("uri: {prefix: ''}")) == {}


def test_what_speaks_of_sidecars_is_named_and_accepted():
    found = warnings("VirtualService", with_match("sourceLabels: {app: x}, sourceNamespace: shop"))
    assert set(found) == {"spec.http[0].match[0].sourceLabels", "spec.http[0].match[0].sourceNamespace"}
    assert all("own Node" in message and "at Gateways it is ignored" in message for message in found.values())


def test_ignore_case_of_a_regex_is_warned_about():
    assert (
        "(?i)"
        in warnings("VirtualService", with_match("uri: {regex: /a}, ignoreUriCase: true"))["spec.http[0].match[0].ignoreUriCase"]
    )
