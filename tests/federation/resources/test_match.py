"""Matches of a VirtualService: what may be asked of a request."""

import pytest
from written import assert_one_error, warnings


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
        ("headers: {':method': {exact: GET}}", "headers.:method", "match `method` instead"),
        ("headers: {'@request.auth.claims.sub': {exact: x}}", "headers[@request.auth.claims.sub]", "not supported yet"),
        ("headers: {x: null}", "headers.x", "must be a mapping, not null"),
        ("withoutHeaders: {x: {regex: '**'}}", "withoutHeaders.x.regex", "RE2 refuses"),
        ("port: 70000", "port", "1..65535"),
        ("gateways: [a/b/c]", "gateways[0]", "names no Gateway"),
        ("statPrefix: x", "statPrefix", "`statPrefix` is not supported yet"),
    ],
)
def test_mistakes_of_a_match(match, path, part):
    from discovery.document import path_of

    if "[@" in path:
        path = path_of(("headers", "@request.auth.claims.sub"))
    assert_one_error("VirtualService", with_match(match), f"spec.http[0].match[0].{path}", part)


def test_an_empty_uri_prefix_matches_everything_as_in_istio():
    assert warnings("VirtualService", with_match("uri: {prefix: ''}")) == {}


def test_what_speaks_of_sidecars_is_named_and_accepted():
    found = warnings("VirtualService", with_match("sourceLabels: {app: x}, sourceNamespace: shop"))
    assert set(found) == {"spec.http[0].match[0].sourceLabels", "spec.http[0].match[0].sourceNamespace"}
    assert all("cannot apply to a gateway" in message for message in found.values())


def test_ignore_case_of_a_regex_is_warned_about():
    assert (
        "(?i)"
        in warnings("VirtualService", with_match("uri: {regex: /a}, ignoreUriCase: true"))["spec.http[0].match[0].ignoreUriCase"]
    )
