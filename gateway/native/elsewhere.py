"""The endpoint for another attempt; under `immediate`: one that was not tried, wherever it is.

Theory of operation. Preferred are the priorities that carry load, in proportion to it; then the others, nearest first. After all of
them come an endpoint that has long been asked itself without an answer, and a priority of which two endpoints failed this
request: so a dead region of any size costs a request two attempts, and not as many as it has endpoints. Who waited for nothing
once shall not again: one silent endpoint is enough to condemn its priority.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from gateway.native.fitness import MUTE, Fitness
from gateway.native.host import Host
from gateway.native.spread import ByKey, Spread
from gateway.policy.balance import Random, picker
from gateway.policy.retry import ELSEWHERE
from gateway.snapshot import Balance

Entries = list[tuple[float, Callable[[], Host]]]
"""(upper bound of its share in 0..100, function that picks)."""

_CONDEMNED = 2


def draw(entries: Entries, random: Random) -> Host | None:
    """As the shares say."""
    point = random() * 100.0
    for bound, choose in entries:
        if point < bound:
            return choose()
    return entries[-1][1]() if entries else None  # shares may sum up to a little under 100


def pick_untried(spread: Spread, fitness: Fitness, tried: Sequence[Host], now: float, random: Random) -> Host | None:
    """None when every endpoint in service was tried."""
    failures = Counter(host.priority for host in tried)
    failures.update({host.priority: _CONDEMNED for host in tried if host.ejected and host.reason in MUTE})
    loads = spread.loads
    choices: dict[tuple[bool, bool, int], list[Host]] = {}  # (condemned or doubtful, carries no load, priority if so)
    for priority, hosts in enumerate(spread.in_service):
        for host in hosts:
            if host not in tried:
                bad = failures[priority] >= _CONDEMNED or fitness.doubtful(host, now)
                idle = not loads[priority]
                choices.setdefault((bad, idle, priority if idle else 0), []).append(host)
    if not choices:
        return None
    best = min(choices)
    left = choices[best]
    # Among priorities that carry load: in proportion to it, and not to the number of their endpoints.
    per = Counter(host.priority for host in left)
    weights = [1.0 if best[1] else loads[host.priority] / per[host.priority] for host in left]
    return picker(Balance.LEAST_REQUEST, left, weights, random)()


def next_on_ring(hashed: ByKey, key: int, tried: Sequence[Host], fitness: Fitness, now: float) -> Host | None:
    """The next endpoint for a key that was not tried and is not doubted, so that retries of one key stay together; None = nobody near."""
    for attempt in range(1, ELSEWHERE + 1):
        host = hashed(key, attempt)
        if host not in tried and not fitness.doubtful(host, now):
            return host
    return None
