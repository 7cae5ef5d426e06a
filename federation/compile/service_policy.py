"""What a ServicePolicy says that no DestinationRule could: rate limits, who may use the service."""

from __future__ import annotations

from federation.resources import fedgate
from federation.resources.rate_limit import parse_by
from gateway.snapshot import Allowed, RateLimit

_OF_CLIENTS = frozenset({("source", ""), ("identity", "")})


def allowed(policy: fedgate.ServicePolicy | None) -> tuple[Allowed, ...] | None:
    """For Backend.allowed: who may use the service; None = everybody."""
    if policy is None or policy.from_ is None:
        return None
    return tuple(Allowed(each.principals, each.ip_blocks) for each in policy.from_)


def rate_limits(policy: fedgate.ServicePolicy | None, *, inbound: bool = False) -> tuple[RateLimit, ...]:
    """For Backend.rate_limits: every subset and port of the service has buckets of its own. inbound: of a backend that peers' gateways
    reach. To it all clients of a peer have one address and one identity, the gateway's: limits by those are for the gateway that the
    client came to."""
    if policy is None:
        return ()
    limits = tuple(
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
    return tuple(each for each in limits if not _OF_CLIENTS.intersection(each.by)) if inbound else limits
