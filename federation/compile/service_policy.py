"""What a ServicePolicy says that no DestinationRule could: rate limits."""

from __future__ import annotations

from federation.resources import fedgate
from federation.resources.rate_limit import parse_by
from gateway.snapshot import RateLimit


def rate_limits(policy: fedgate.ServicePolicy | None) -> tuple[RateLimit, ...]:
    """For Backend.rate_limits: every subset and port of the service has buckets of its own."""
    if policy is None:
        return ()
    return tuple(
        RateLimit(
            tokens=each.requests,
            per_ms=int(each.per),
            burst=each.burst or each.requests,
            by=tuple(found for text in each.by if (found := parse_by(text)) is not None),
            match=tuple(sorted((name.lower(), value) for name, value in each.match.items())),
            name=each.name,
        )
        for each in policy.rate_limits
    )
