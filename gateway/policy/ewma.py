"""Peak-sensitive moving average of latency: the choice for endpoints whose speed differs or changes (Finagle's and Linkerd's PeakEwma).

Theory of operation. An endpoint costs its average latency times (requests in flight + 1); of two drawn at random the cheaper one is
taken. A latency above the average becomes the average at once (the peak), one below it pulls it down with the time constant DECAY:
so one slow answer is enough to be avoided, and trust returns slowly. Between answers an average decays as if 0 had been observed.
Two averages are compared as of the later of their stamps: from there on both decay by the same factor, which cancels
out of the comparison, so no clock is needed to pick.

Pure: no clock; randomness is an argument.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Protocol, TypeVar

DECAY = 10.0
"""Seconds, as Finagle and Linkerd: an average of nothing but zeros falls to a third in that time."""

PENALTY = 1e9
"""The cost, in seconds, of an endpoint that was asked and has never answered: behind every one that has. One that was never asked
costs nothing, so each is tried once."""


class Timed(Protocol):
    """What can be picked by latency."""

    active: int
    ewma: float
    ewma_at: float


T = TypeVar("T", bound=Timed)


def observed(average: float, elapsed: float, latency: float) -> float:
    """The average (seconds) after one more latency, `elapsed` seconds after the last one."""
    if latency >= average:
        return latency
    kept = math.exp(-max(0.0, elapsed) / DECAY)
    return latency + (average - latency) * kept


def cost(host: Timed, at: float, weight: float = 1.0) -> float:
    """What one more request costs there, by the average as of `at`, not before its stamp. weight: 1 = as much as others; what is in
    flight is counted for it, the latency is not, so that idle endpoints get the shares that they are drawn with."""
    if host.ewma <= 0.0:
        return PENALTY + host.active / weight if host.active else 0.0
    return host.ewma * math.exp((host.ewma_at - at) / DECAY) * (host.active / weight + 1.0)


def peak_ewma(hosts: Sequence[T], weights: Sequence[float], random: Callable[[], float]) -> Callable[[], T]:
    """Two drawn in proportion to weight, the cheaper one taken. `random`: uniform in [0, 1). About 1.2 µs a call."""
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(hosts) - 1
    relative = [weight * len(hosts) / total for weight in weights]

    def pick() -> T:
        one = bisect_right(bounds, random() * total, 0, last)
        other = bisect_right(bounds, random() * total, 0, last)
        first, second = hosts[one], hosts[other]
        at = first.ewma_at if first.ewma_at > second.ewma_at else second.ewma_at
        return second if cost(second, at, relative[other]) < cost(first, at, relative[one]) else first

    return pick
