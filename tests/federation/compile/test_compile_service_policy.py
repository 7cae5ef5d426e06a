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
