"""Slow start: a new endpoint's share grows with its age (Envoy slow_start, Istio warmup).

The factor is max(minimum, (age / duration) ** (1 / aggression)): aggression 1 grows evenly, more quickly at first above, and more slowly
below. Pure: `now` is an argument.
"""

from __future__ import annotations

from gateway.snapshot import Balance, Warmup

WARMED = frozenset({Balance.ROUND_ROBIN, Balance.LEAST_REQUEST, Balance.PEAK_EWMA})
"""The policies it applies to: the first two as in Envoy and Istio, and what is our own."""

STEPS = 100
"""A warm-up moves in per cents: finer steps would compute the table anew without anybody noticing."""

LEAST_STEP = 0.1
"""Seconds: the shortest time between two steps, so that a short warm-up does not cost a table a tick."""


def factor(warmup: Warmup, age: float) -> float:
    """Share of its weight that an endpoint has after `age` seconds; 1.0 from the end on. Envoy counts an age under 1 ms as 1 ms."""
    duration = warmup.duration_ms / 1000
    if age >= duration:
        return 1.0
    grown = max(age, 0.001) / duration
    if warmup.aggression != 1.0:
        grown = grown ** (1.0 / warmup.aggression)
    return min(1.0, max(grown, warmup.minimum_percent / 100))


def step(warmup: Warmup) -> float:
    """Seconds until the next look at an endpoint that is warming up."""
    return max(LEAST_STEP, warmup.duration_ms / 1000 / STEPS)
