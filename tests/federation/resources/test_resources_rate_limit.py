"""rateLimits of a ServicePolicy: what is read, what is refused."""

import pytest
from written import assert_one_error, spec

from federation.resources.rate_limit import parse_by

HOSTS = "hosts: [a.example]\n"


def limits(text):
    return spec("ServicePolicy", f"{HOSTS}rateLimits: [{text}]").rate_limits


def test_a_limit_and_its_defaults():
    (limit,) = limits("{requests: 100}")
    assert (limit.requests, limit.per, limit.burst, limit.by, limit.match) == (100, 1000, None, (), {})
    (limit,) = limits("{requests: 5, per: 1m, burst: 9, by: [source, 'header:X-Key'], match: {x-plan: free}, name: free}")
    assert (limit.per, limit.burst, limit.by, limit.name) == (60_000, 9, ("source", "header:X-Key"), "free")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source", ("source", "")),
        ("header:X-Key", ("header", "x-key")),
        ("claim:Tenant.Id", ("claim", "Tenant.Id")),
        ("identity", ("identity", "")),
        ("header", None),
        ("header:", None),
        ("source:x", None),
        ("address", None),
    ],
)
def test_what_requests_are_told_apart_by(text, expected):
    assert parse_by(text) == expected


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("{requests: 0}", "requests", "1..1000000000"),
        ("{per: 1s}", "requests", "is required"),
        ("{requests: 1, per: 0s}", "per", "at least 1ms"),
        ("{requests: 1, burst: 0}", "burst", "1..1000000000"),
        ("{requests: 1, by: [adress]}", "by[0]", "write one of source, path"),
        ("{requests: 1, by: ['header:a b']}", "by[0]", "no header name"),
        ("{requests: 1, by: [source, source]}", "by[1]", "written twice"),
        ("{requests: 1, by: ['header:A', 'header:a']}", "by[1]", "written twice"),
        ("{requests: 1, match: {'a b': c}}", "match.a b", "no header name"),
        ("{requests: 1, unit: s}", "unit", ""),
    ],
)
def test_mistakes_of_a_limit(text, path, part):
    assert_one_error("ServicePolicy", f"{HOSTS}rateLimits: [{text}]", f"spec.rateLimits[0].{path}", part)
