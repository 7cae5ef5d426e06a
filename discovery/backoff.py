"""How long to wait before trying again: exponential, capped, with jitter. Pure: the randomness is an argument.

Half of the delay is fixed and half is random: never so short that a struggling registry is hammered, and spread enough
that a thousand gateways which lost the same registry do not come back in one instant.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Random = Callable[[], float]  # uniform in [0, 1), such as random.Random(seed).random


class BackoffPolicy(msgspec.Struct, frozen=True):
    """Seconds: the first delay is at most `base`, each next at most `factor` times the last, none above `cap`."""

    base: float = 0.25  # a restart of a local process or a rolled pod answers again within a second
    cap: float = 30.0  # FIELD trap 18: a registry that recovers is seen again within 30 s
    factor: float = 2.0


DEFAULT = BackoffPolicy()


def delay(attempt: int, policy: BackoffPolicy, rng: Random) -> float:
    """Seconds to wait after failure number `attempt` (1 is the first): uniform between half and all of the capped delay."""
    exponent = min(attempt - 1, 64)  # 2**64 is far above any cap; beyond 1023 a float overflows
    longest = min(policy.cap, policy.base * policy.factor**exponent)
    return longest * (0.5 + 0.5 * rng())


class Backoff:
    """Counts failures in a row. `failed()` gives the delay before the next try, `succeeded()` begins anew."""

    def __init__(self, policy: BackoffPolicy, rng: Random) -> None:
        self._policy = policy
        self._rng = rng
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def failed(self) -> float:
        self._failures += 1
        return delay(self._failures, self._policy, self._rng)

    def succeeded(self) -> None:
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Backoff failures={self._failures} {self._policy}>"
