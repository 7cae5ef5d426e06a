"""Outlier detection as Envoy does it (FIELD section 0, i9 and i10): who is ejected, for how long, and when not.

Theory of operation. Counting happens inline, at each answer; an endpoint is ejected by the answer that reaches the threshold and
never waits for the sweep. It comes back only at a sweep (every `interval`), once `base * times` has passed, capped by max(300 s,
base); `times` falls by one at each sweep that finds it in service. Any success sets the counters to nothing.

Two kinds of fault: what the endpoint answered (status), and what kept it from answering (local origin: no connection, reset,
timeout). Without `split_local_origin` the second kind counts as the status it would be reported with: 504 for a timeout, 503
otherwise, so it counts as 5xx and as gateway error. With it, it has a counter of its own and an answer of any status resets that.

With `error_codes` (outlierDetectionHttpErrorCodes) the answers of just these statuses are faults, whatever they are, and all others
successes, 5xx too; among them 502, 503 and 504 go on counting as gateway errors. Success rates are not looked at (off in Istio).

Pure: no clock; time is an argument in seconds.
"""

from __future__ import annotations

from gateway.policy.failure import Failure
from gateway.snapshot import Outlier

CONSECUTIVE_5XX = "consecutive-5xx"
GATEWAY_ERRORS = "consecutive-gateway-errors"
LOCAL_ORIGIN = "local-origin"

_GATEWAY = frozenset({502, 503, 504})
_TIMEOUTS = frozenset({Failure.TIMEOUT, Failure.CONNECT_TIMEOUT, Failure.SILENCE})


class Tally:
    """The consecutive faults of one endpoint. `faulty` is True while any counter is not 0, so that the usual case, a success
    after a success, costs one look."""

    __slots__ = ("faulty", "fives", "gateway", "local")

    def __init__(self) -> None:
        self.faulty = False
        self.fives = self.gateway = self.local = 0

    def clear(self) -> None:
        self.faulty = False
        self.fives = self.gateway = self.local = 0

    def __repr__(self) -> str:
        return f"<Tally 5xx {self.fives} gateway {self.gateway} local {self.local}>"


def answered(tally: Tally, status: int, policy: Outlier) -> str:
    """Count an answer's status. Returns the reason to eject ("" = none); the counter that gave it begins anew, so that an
    ejection that was not allowed is asked for again after as many faults."""
    if policy.split_local_origin:
        tally.local = 0
    if not (status in policy.error_codes if policy.error_codes else status >= 500):
        if tally.faulty:
            tally.fives = tally.gateway = 0
            tally.faulty = tally.local > 0
        return ""
    return _fault(tally, status, policy)


def _fault(tally: Tally, status: int, policy: Outlier) -> str:
    """Count a fault that is told as `status`."""
    tally.faulty = True
    reason = ""
    if status in _GATEWAY:
        tally.gateway += 1
        if policy.consecutive_gateway_errors and tally.gateway >= policy.consecutive_gateway_errors:
            tally.gateway, reason = 0, GATEWAY_ERRORS
    else:
        tally.gateway = 0
    tally.fives += 1
    if policy.consecutive_5xx and tally.fives >= policy.consecutive_5xx:
        tally.fives, reason = 0, reason or CONSECUTIVE_5XX
    return reason


def failed(tally: Tally, failure: Failure, policy: Outlier) -> str:
    """Count an attempt without an answer; otherwise as `answered`."""
    if not policy.split_local_origin:
        # Whatever `error_codes` says: they are of answers, and there was none.
        return _fault(tally, 504 if failure in _TIMEOUTS else 503, policy)
    tally.faulty = True
    tally.local += 1
    if policy.consecutive_local_origin and tally.local >= policy.consecutive_local_origin:
        tally.local = 0
        return LOCAL_ORIGIN
    return ""


def may_eject(ejected: int, hosts: int, max_percent: int) -> bool:
    """Whether one more of `hosts` may be out beside `ejected`: 10 % of 3 ejects nobody (Envoy 1.40; trap 10)."""
    return hosts > 0 and 100 * (ejected + 1) <= max_percent * hosts


def allowed(hosts: int, max_percent: int) -> int:
    """How many of `hosts` may be out at once."""
    return max_percent * hosts // 100


def ejection_seconds(policy: Outlier, times: int) -> float:
    """How long the `times`-th ejection in a row lasts at least; the sweep after that ends it."""
    longest = max(policy.max_ejection_ms, policy.base_ejection_ms)
    return min(policy.base_ejection_ms * times, longest) / 1000


def more_times(policy: Outlier, times: int) -> int:
    """The multiplier after one more ejection: it stops growing where the cap makes it pointless, so that it also decays soon."""
    longest = max(policy.max_ejection_ms, policy.base_ejection_ms)
    return times + 1 if policy.base_ejection_ms * times < longest + policy.base_ejection_ms else times


def fewer_times(times: int) -> int:
    """The multiplier after a sweep that found the endpoint in service."""
    return times - 1 if times else 0
