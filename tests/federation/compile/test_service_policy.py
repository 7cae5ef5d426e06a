"""service_policy: rate limits as the Snapshot has them."""

from written import spec

from federation.compile.service_policy import rate_limits
from gateway.snapshot import RateLimit


def test_a_written_limit_becomes_a_bucket():
    text = "{requests: 5, per: 1m, by: [source, 'header:X-Key'], match: {X-Plan: free, a: ''}, name: n}, {requests: 7, burst: 9}"
    policy = spec("ServicePolicy", f"hosts: [a.example]\nrateLimits: [{text}]")
    assert rate_limits(policy) == (
        RateLimit(5, 60_000, 5, (("source", ""), ("header", "x-key")), (("a", ""), ("x-plan", "free")), "n"),
        RateLimit(7, 1000, 9),
    )


def test_no_policy_limits_nothing():
    assert rate_limits(None) == ()
    assert rate_limits(spec("ServicePolicy", "hosts: [a.example]\nfailback: {}")) == ()


def test_what_is_of_clients_is_not_asked_of_the_gateway_that_carries_them():
    text = "{requests: 1}, {requests: 2, by: [source]}, {requests: 3, by: [path, identity]}, {requests: 4, by: ['header:a']}"
    policy = spec("ServicePolicy", f"hosts: [a.example]\nrateLimits: [{text}]")
    assert [each.tokens for each in rate_limits(policy, inbound=True)] == [1, 4]
    assert [each.tokens for each in rate_limits(policy)] == [1, 2, 3, 4]
