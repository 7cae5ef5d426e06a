"""Which priority gets how much, and which endpoint of it: Envoy's integer arithmetic (FIELD section 0), and the ways to pick.

Theory of operation. A priority's availability is min(100, overprovisioning * healthy // hosts). Load goes down the priorities:
each takes min(what is left, availability * 100 // n) with n = min(100, sum of all availability), healthy endpoints first and then
degraded ones; what rounding leaves goes to the first priority with any. When everything together has less than 100 and a priority
has under panic_percent of its endpoints in service, it panics: traffic goes to all of its endpoints. When all panic, load follows
the number of endpoints.

Pure: no I/O, no clock; randomness is an argument.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol, TypeVar

from gateway.policy.ewma import Timed, peak_ewma
from gateway.snapshot import Balance

Random = Callable[[], float]
"""Uniform in [0, 1)."""


class Count(NamedTuple):
    """Of one priority: how many workloads there are, and how many of them are in service."""

    hosts: int
    healthy: int
    degraded: int = 0


class Loads(NamedTuple):
    """Per cent of the traffic by priority, for its healthy and for its degraded endpoints. They sum to 100 together; with nothing
    in service and no panic the 100 stand at priority 0, where there is nobody (Envoy: 503 UH). panic: use all endpoints of it."""

    healthy: tuple[int, ...]
    degraded: tuple[int, ...]
    panic: tuple[bool, ...]

    @property
    def total(self) -> tuple[int, ...]:
        return tuple(a + b for a, b in zip(self.healthy, self.degraded, strict=True))


def availability(part: int, hosts: int, overprovisioning: int = 140) -> int:
    """Per cent of the whole traffic that a priority could take."""
    return min(100, overprovisioning * part // hosts) if hosts > 0 else 0


def distribute(available: Sequence[int], left: int, total: int) -> tuple[list[int], int, int]:
    """Envoy's distributeLoad: (load by priority, what is left, first priority with any availability or -1)."""
    first = -1
    loads = []
    for index, value in enumerate(available):
        if first < 0 and value > 0:
            first = index
        load = min(left, value * 100 // total)
        left -= load
        loads.append(load)
    return loads, left, first


def loads(
    counts: Sequence[Count],
    *,
    overprovisioning: int = 140,
    panic_percent: int = 0,
    last_resort: bool = False,
    granted: Sequence[int] | None = None,
) -> Loads:
    """The share of each priority.

    last_resort: a priority does not panic while another one is at or above the threshold. granted: availability that failback and
    evacuation leave to each priority (policy/failback.py); it holds as long as the others can carry the rest. Empty without priorities."""
    if not counts:
        return Loads((), (), ())
    healthy = [availability(count.healthy, count.hosts, overprovisioning) for count in counts]
    degraded = [availability(count.degraded, count.hosts, overprovisioning) for count in counts]
    natural = min(100, sum(healthy) + sum(degraded))
    panic = _panic(counts, natural, panic_percent, last_resort)
    if panic_percent > 0 and all(panic):
        return Loads(_by_count(counts), (0,) * len(counts), panic)
    if natural == 0:
        return Loads((100, *(0,) * (len(counts) - 1)), (0,) * len(counts), panic)
    if granted is not None:
        healthy, degraded = _withheld(healthy, degraded, granted)
    total = min(100, sum(healthy) + sum(degraded))
    first_pass, left, first = distribute(healthy, 100, total)
    second_pass, left, first_degraded = distribute(degraded, left, total)
    if left:
        if first >= 0:
            first_pass[first] += left
        else:
            second_pass[first_degraded] += left
    return Loads(tuple(first_pass), tuple(second_pass), panic)


def _withheld(healthy: list[int], degraded: list[int], granted: Sequence[int]) -> tuple[list[int], list[int]]:
    """Availability cut to what is granted; given back in order of priority as far as the rest cannot carry everything."""
    allowed = [min(grant, value) for grant, value in zip(granted, healthy, strict=True)]
    spare = [max(0, grant - value) for grant, value in zip(granted, allowed, strict=True)]
    second = [min(grant, value) for grant, value in zip(spare, degraded, strict=True)]
    missing = min(100, sum(healthy) + sum(degraded)) - min(100, sum(allowed) + sum(second))
    for values, full in ((allowed, healthy), (second, degraded)):
        for index, whole in enumerate(full):
            back = min(missing, whole - values[index])
            values[index] += back
            missing -= back
    return allowed, second


def _panic(counts: Sequence[Count], natural: int, percent: int, last_resort: bool) -> tuple[bool, ...]:
    if natural >= 100 or percent <= 0:
        return (False,) * len(counts)
    under = [_in_service(count) < percent for count in counts]
    if last_resort and not all(under):
        return (False,) * len(counts)
    return tuple(under)


def _in_service(count: Count) -> float:
    return 100.0 * (count.healthy + count.degraded) / count.hosts if count.hosts > 0 else 0.0


def _by_count(counts: Sequence[Count]) -> tuple[int, ...]:
    """Load in total panic: by number of endpoints, the remainder to the first priority that has any."""
    hosts = sum(count.hosts for count in counts)
    if not hosts:
        return (100, *(0,) * (len(counts) - 1))
    shares = [100 * count.hosts // hosts for count in counts]
    first = next(index for index, count in enumerate(counts) if count.hosts)
    shares[first] += 100 - sum(shares)
    return tuple(shares)


# ------------------------------------------------------------------------------------------------------------- picking


class Busy(Timed, Protocol):
    """What can be picked: it knows how many requests it has in flight, and how quickly it answers."""


# The hashing ones: where a request has nothing to hash (Envoy). PASSTHROUGH: where nobody asked for an address.
_AT_RANDOM = frozenset({Balance.RANDOM, Balance.RING_HASH, Balance.MAGLEV, Balance.PASSTHROUGH})

H = TypeVar("H", bound=Busy)


def picker(kind: Balance, hosts: Sequence[H], weights: Sequence[float], random: Random) -> Callable[[], H]:
    """A function that picks one of `hosts`, as the policy says and over time in proportion to `weights` (each over 0). There must
    be at least one. Each call costs 0.2 to 0.5 µs; ROUND_ROBIN keeps its place between calls and starts anywhere."""
    if len(hosts) == 1:
        only = hosts[0]
        return lambda: only
    equal = all(weight == weights[0] for weight in weights)
    if kind in _AT_RANDOM:
        return _random_equal(hosts, random) if equal else _random_weighted(hosts, weights, random)
    if kind is Balance.ROUND_ROBIN:
        return _rotation(hosts, random) if equal else _earliest_deadline(hosts, weights, random)
    if kind is Balance.PEAK_EWMA:
        return peak_ewma(hosts, weights, random)
    return _two_choices(hosts, random) if equal else _two_weighted_choices(hosts, weights, random)


def _random_equal(hosts: Sequence[H], random: Random) -> Callable[[], H]:
    count = len(hosts)
    return lambda: hosts[int(random() * count)]


def _random_weighted(hosts: Sequence[H], weights: Sequence[float], random: Random) -> Callable[[], H]:
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(hosts) - 1
    # `last`: random() * total may round up to the total itself.
    return lambda: hosts[bisect_right(bounds, random() * total, 0, last)]


def _rotation(hosts: Sequence[H], random: Random) -> Callable[[], H]:
    count = len(hosts)
    place = int(random() * count)

    def pick() -> H:
        nonlocal place
        place = place + 1 if place + 1 < count else 0
        return hosts[place]

    return pick


def _earliest_deadline(hosts: Sequence[H], weights: Sequence[float], random: Random) -> Callable[[], H]:
    """Weighted round robin by earliest deadline first, as Envoy: each endpoint is due again 1/weight later. The first deadlines
    are scattered, or the workers would all begin with the heaviest."""
    steps = [1.0 / weight for weight in weights]
    queue = [(random() * step, index) for index, step in enumerate(steps)]
    heapq.heapify(queue)

    def pick() -> H:
        due, index = queue[0]
        heapq.heapreplace(queue, (due + steps[index], index))
        return hosts[index]

    return pick


def _two_choices(hosts: Sequence[H], random: Random) -> Callable[[], H]:
    """Two at random, the same one twice included (as Envoy): so an endpoint that answers nothing still gets a share, 1/n², and
    can be found out."""
    count = len(hosts)

    def pick() -> H:
        one = hosts[int(random() * count)]
        other = hosts[int(random() * count)]
        return other if other.active < one.active else one

    return pick


def _two_weighted_choices(hosts: Sequence[H], weights: Sequence[float], random: Random) -> Callable[[], H]:
    """Two at random in proportion to weight, and of them the one with less in flight for its weight. Equal ones: the first, so
    that idle endpoints get their weight's share exactly (comparing weight/(active+1) instead would give the heavier one more)."""
    bounds = list(accumulate(weights))
    total, last = bounds[-1], len(hosts) - 1

    def pick() -> H:
        one = bisect_right(bounds, random() * total, 0, last)
        other = bisect_right(bounds, random() * total, 0, last)
        return hosts[other] if hosts[other].active * weights[one] < hosts[one].active * weights[other] else hosts[one]

    return pick
