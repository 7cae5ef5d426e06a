"""May this attempt be followed by another one, where, and after how long: Envoy's conditions (FIELD j1, j2) and going elsewhere.

Theory of operation. Two permissions, asked in this order once an attempt has failed:

Conditions are Envoy's by name. `retriable-headers` is one that never applies by itself: the headers it looks for could only be named by a
request's `x-envoy-retriable-header-names`, an order to a proxy that is taken from requests at the edge, and Istio has no field for them.
`http3-post-connect-failure` never applies either: no endpoint is spoken to in HTTP/3.

1. *Elsewhere*, under `immediate` (defaults: fedgate; DESIGN section 6). What was never sent, and what is safe to repeat (GET, HEAD,
   OPTIONS) and got no answer for another reason than its own time running out, goes to an endpoint it has not tried, at once. The
   route's `attempts` do not bound this: two are used up by a region of two dead endpoints before their ejection. What bounds it is
   the number of endpoints in service that are untried, ELSEWHERE, and the request's deadline.
2. *The route's policy*: its conditions, at most `attempts` of them, after a back-off of uniform [0, (2^N - 1) * base) (Envoy's
   router), none if another endpoint is there and `immediate`. Conditions are followed to the letter, for a POST too.

Neither without a policy (attempts: 0 in a VirtualService compiles to none), once a byte was sent to the client, or when the
request's bytes are no longer held.

Pure: no clock; randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gateway.policy.circuit import may_retry
from gateway.policy.failure import Failure
from gateway.snapshot import RetryBudget, RetryPolicy

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""What is repeated without being asked: RFC 9110 section 9.2.1, without TRACE, which no gateway should pass on."""

# Since two failures in a priority send a request to the next one (native/backend.py), 8 cover four dead priorities, which is all
# that FIELD's localities can make (0..3) when nothing else was written. More is a storm: each may cost a connect timeout.
ELSEWHERE = 8

# Envoy's retry priority "previous_priorities" as Istio sets it: looked at anew after every second attempt (retry.go, FIELD b18).
UPDATE_FREQUENCY = 2

_CONNECTS = frozenset({Failure.CONNECT, Failure.CONNECT_TIMEOUT})
_GATEWAY = frozenset({502, 503, 504})
RATELIMITED = "envoy-ratelimited"
_GRPC = {1: "cancelled", 4: "deadline-exceeded", 8: "resource-exhausted", 13: "internal", 14: "unavailable"}


class Outcome(NamedTuple):
    """How an attempt ended: without an answer (failure), or with one that may not be the last word (status, and grpc-status when
    it came in the head). unsent: the gateway that answered says that it reached no endpoint, so nothing was done."""

    failure: Failure | None = None
    status: int = 0
    grpc: int | None = None
    ratelimited: bool = False  # x-envoy-ratelimited is on it
    unsent: bool = False


class Request(NamedTuple):
    """What decides about the request itself. retries: attempts after the first so far, by the route's policy; elsewhere: those by
    the first permission. held: all of its bytes that were sent can be sent again. begun: the client has had a byte of an answer."""

    method: str
    retries: int = 0
    elsewhere: int = 0
    held: bool = True
    begun: bool = False

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs, 1 the first: what `x-envoy-attempt-count` says to the endpoint."""
        return 1 + self.retries + self.elsewhere


class Decision(msgspec.Struct, frozen=True):
    """retry: make another attempt after `wait` seconds. elsewhere: it has to be an endpoint not tried yet, and counts as such; else
    it counts against `attempts`. reason: why, for the log."""

    retry: bool
    reason: str
    elsewhere: bool = False
    wait: float = 0.0


def decide(
    policy: RetryPolicy | None, request: Request, outcome: Outcome, *, untried: int, random: Callable[[], float]
) -> Decision:
    """Whether to try again. untried: endpoints in service that the request has not tried (BackendState.untried).

    For an eviction (Waiter.evict) pass Failure.SILENCE, or Failure.CONNECT when it had no connection yet; a Decision without
    `retry` then means: keep waiting."""
    if policy is None:
        return Decision(False, "no retry policy")
    if request.begun:
        return Decision(False, "answer has begun")
    if not request.held:
        return Decision(False, "request bytes are gone")
    why = _elsewhere(policy, request, outcome)
    if why and untried > 0 and request.elsewhere < ELSEWHERE:
        return Decision(True, why, elsewhere=True)
    condition = retriable(policy, outcome)
    if not condition:
        return Decision(False, "no condition applies")
    if request.retries >= policy.attempts:
        return Decision(False, "attempts used up")
    if policy.immediate and untried > 0:
        return Decision(True, condition)
    return Decision(True, condition, wait=back_off(policy, request.retries + 1, random))


def _elsewhere(policy: RetryPolicy, request: Request, outcome: Outcome) -> str:
    if not policy.immediate:
        return ""
    if outcome.unsent or (outcome.failure is not None and outcome.failure.never_sent):
        return "never sent"
    if outcome.failure is not None and outcome.failure is not Failure.TIMEOUT and request.method in SAFE:
        return "safe to repeat"
    return ""


def retriable(policy: RetryPolicy, outcome: Outcome) -> str:
    """The first of the policy's conditions that the outcome meets; "" when none does. An answer with `x-envoy-ratelimited` is repeated
    only for the condition of that name: a limiter that refused once is not to be asked harder."""
    if outcome.ratelimited:
        return RATELIMITED if RATELIMITED in policy.conditions else ""
    for condition in policy.conditions:
        if _meets(condition, outcome, policy):
            return condition
    return ""


def _meets(condition: str, outcome: Outcome, policy: RetryPolicy) -> bool:
    failure, status = outcome.failure, outcome.status
    match condition:
        case "5xx":
            # Envoy: "responds with any 5xx, or does not respond at all"; includes connect-failure and refused-stream.
            return failure is not None or status >= 500
        case "gateway-error":
            return failure is not None or status in _GATEWAY
        case "reset":
            return failure is not None
        case "reset-before-request":
            return failure is not None and failure.never_sent
        case "connect-failure":
            return failure in _CONNECTS
        case "refused-stream":
            return failure is Failure.REFUSED_STREAM
        case "retriable-4xx":
            return status == 409
        case "retriable-status-codes":
            return status in policy.statuses
        case _ if condition.isdigit():
            return status == int(condition)
        case _:
            return outcome.grpc is not None and _GRPC.get(outcome.grpc) == condition


def back_off(policy: RetryPolicy, number: int, random: Callable[[], float]) -> float:
    """Seconds before retry `number` (1 is the first): uniform in [0, (2^N - 1) * base), at most max_ms."""
    longest = ((1 << min(number, 30)) - 1) * policy.base_ms
    return random() * min(longest, policy.max_ms) / 1000


def excluded_priorities(tried: Sequence[int]) -> frozenset[int]:
    """Under previous_priorities: which priorities the next attempt keeps away from, given those of the attempts so far, in order. They are
    looked at after every second attempt, so one failure alone moves nothing."""
    return frozenset(tried[: len(tried) - len(tried) % UPDATE_FREQUENCY])


def within_budget(budget: RetryBudget | None, active: int, retrying: int) -> bool:
    """`circuit.may_retry` without a limit."""
    return may_retry(0, budget, active, retrying)
