"""corsPolicy: what may be written."""

import pytest
from written import assert_one_error, spec, warnings

from federation.resources.cors_policy import UnmatchedPreflights


def with_cors(policy: str) -> str:
    return f"hosts: [a]\nhttp: [{{route: [{{destination: {{host: a}}}}], corsPolicy: {{{policy}}}}}]"


@pytest.mark.parametrize(
    ("policy", "path", "part"),
    [
        ("allowOrigins: [{}]", "allowOrigins[0]", "empty"),
        ("allowOrigins: [{exact: ''}]", "allowOrigins[0]", "empty"),
        ("allowOrigins: [{regex: '('}]", "allowOrigins[0].regex", "RE2 refuses"),
        ("allowMethods: [GET, get]", "allowMethods[1]", "`get` is no method"),
        ("allowHeaders: ['a b']", "allowHeaders[0]", "no header name"),
        ("exposeHeaders: ['']", "exposeHeaders[0]", "no header name"),
        ("maxAge: 0s", "maxAge", "at least 1ms"),
        ("maxAge: 1500ms", "maxAge", "whole seconds"),
        ("unmatchedPreflights: DROP", "unmatchedPreflights", "must be one of"),
    ],
)
def test_mistakes(policy, path, part):
    assert_one_error("VirtualService", with_cors(policy), f"spec.http[0].corsPolicy.{path}", part)


def test_a_policy():
    said = spec(
        "VirtualService",
        with_cors(
            "allowOrigins: [{exact: 'https://a'}], allowMethods: [GET, '*'], allowHeaders: ['*', x-a], exposeHeaders: [x-b], "
            "maxAge: 1m, allowCredentials: false, unmatchedPreflights: IGNORE"
        ),
    )
    policy = said.http[0].cors_policy
    assert policy.max_age == 60_000
    assert policy.allow_credentials is False
    assert policy.unmatched_preflights is UnmatchedPreflights.IGNORE


def test_the_old_list_of_origins_is_exact_and_gives_way():
    policy = spec("VirtualService", with_cors("allowOrigin: ['https://a', '*']")).http[0].cors_policy
    assert [origin.exact for origin in policy.origins] == ["https://a", "*"]
    both = spec("VirtualService", with_cors("allowOrigin: [a], allowOrigins: [{prefix: b}]")).http[0].cors_policy
    assert [origin.prefix for origin in both.origins] == ["b"]
    assert "deprecated" in warnings("VirtualService", with_cors("allowOrigin: [a]"))["spec.http[0].corsPolicy.allowOrigin"]
