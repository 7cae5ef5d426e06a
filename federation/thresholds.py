"""When results of checks become a verdict. Pure.

As Envoy's health checker counts: the first result counts at once, so a dead endpoint gets no traffic for want of a second failure; after that
it takes as many results in a row, against what is held, as the threshold says.
"""

from __future__ import annotations

import msgspec


class Standing(msgspec.Struct, frozen=True):
    """healthy: None before the first result. against: results in a row that contradict it."""

    healthy: bool | None = None
    against: int = 0


UNKNOWN = Standing()


def after(standing: Standing, passed: bool, *, unhealthy_threshold: int, healthy_threshold: int) -> Standing:
    """The standing after one more result. Thresholds under 1 count as 1."""
    if standing.healthy is None or standing.healthy is passed:
        return Standing(passed)
    against = standing.against + 1
    if against >= (healthy_threshold if passed else unhealthy_threshold):
        return Standing(passed)
    return Standing(standing.healthy, against)
