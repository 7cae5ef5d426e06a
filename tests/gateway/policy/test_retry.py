"""retry: conditions as Envoy has them (FIELD j1, j2), going elsewhere under defaults fedgate, back-off and budget."""

import random

import msgspec
import pytest

from gateway.policy.failure import Failure
from gateway.policy.retry import ELSEWHERE, Outcome, Request, back_off, decide, excluded_priorities, retriable, within_budget
from gateway.snapshot import RetryBudget, RetryPolicy

ISTIO = RetryPolicy()
FEDGATE = RetryPolicy(immediate=True)


def ask(policy, request, outcome, untried=1):
    return decide(policy, request, outcome, untried=untried, random=lambda: 0.5)


FAILURES = {
    "5xx": set(Failure),
    "gateway-error": set(Failure),
    "reset": set(Failure),
    "reset-before-request": {Failure.RESET_UNSENT, Failure.REFUSED_STREAM, Failure.CONNECT, Failure.CONNECT_TIMEOUT},
    "retriable-headers": set(),
    "http3-post-connect-failure": set(),
    "connect-failure": {Failure.CONNECT, Failure.CONNECT_TIMEOUT},
    "refused-stream": {Failure.REFUSED_STREAM},
    "retriable-4xx": set(),
    "unavailable": set(),
    "503": set(),
}


@pytest.mark.parametrize("condition", FAILURES)
def test_which_failures_meet_a_condition(condition):
    policy = RetryPolicy(conditions=(condition,))
    assert {failure for failure in Failure if retriable(policy, Outcome(failure))} == FAILURES[condition]


@pytest.mark.parametrize(
    ("conditions", "outcome", "expected"),
    [
        (("5xx",), Outcome(status=500), "5xx"),
        (("5xx",), Outcome(status=499), ""),
        (("gateway-error",), Outcome(status=500), ""),
        (("gateway-error",), Outcome(status=504), "gateway-error"),
        (("retriable-4xx",), Outcome(status=409), "retriable-4xx"),
        (("retriable-4xx",), Outcome(status=404), ""),
        (("retriable-status-codes",), Outcome(status=418), "retriable-status-codes"),
        (("retriable-status-codes",), Outcome(status=419), ""),
        (("503",), Outcome(status=503), "503"),
        (("503",), Outcome(status=502), ""),
        (("envoy-ratelimited",), Outcome(status=429, ratelimited=True), "envoy-ratelimited"),
        (("envoy-ratelimited",), Outcome(status=429), ""),
        (("5xx", "503"), Outcome(status=503, ratelimited=True), ""),  # a limiter is not asked again by accident
        (("5xx", "envoy-ratelimited"), Outcome(status=503, ratelimited=True), "envoy-ratelimited"),
        (("unavailable", "cancelled"), Outcome(status=200, grpc=1), "cancelled"),
        (("unavailable",), Outcome(status=200, grpc=14), "unavailable"),
        (("deadline-exceeded",), Outcome(status=200, grpc=4), "deadline-exceeded"),
        (("resource-exhausted",), Outcome(status=200, grpc=8), "resource-exhausted"),
        (("internal",), Outcome(status=200, grpc=13), "internal"),
        (("unavailable",), Outcome(status=503), ""),
        (("no-such-condition",), Outcome(status=503), ""),
        ((), Outcome(Failure.CONNECT), ""),
    ],
)
def test_which_answers_meet_a_condition(conditions, outcome, expected):
    assert retriable(RetryPolicy(conditions=conditions, statuses=(418,)), outcome) == expected


def test_istio_retries_twice_with_back_off_whatever_the_method():
    for retries in (0, 1):
        decision = ask(ISTIO, Request("POST", retries), Outcome(Failure.CONNECT))
        assert (decision.retry, decision.elsewhere, decision.reason) == (True, False, "connect-failure")
        assert decision.wait > 0
    assert ask(ISTIO, Request("GET", 2), Outcome(Failure.CONNECT)).reason == "attempts used up"
    assert ask(ISTIO, Request("GET"), Outcome(Failure.RESET)).reason == "no condition applies"


@pytest.mark.parametrize("policy", [ISTIO, FEDGATE])
def test_never_without_policy_bytes_or_after_the_answer_began(policy):
    assert ask(None, Request("GET"), Outcome(Failure.CONNECT)).reason == "no retry policy"
    assert ask(policy, Request("GET", begun=True), Outcome(Failure.CONNECT)).reason == "answer has begun"
    assert ask(policy, Request("GET", held=False), Outcome(Failure.CONNECT)).reason == "request bytes are gone"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("failure", list(Failure))
def test_elsewhere_goes_what_was_never_sent_or_is_safe_to_repeat(method, failure):
    policy = msgspec.structs.replace(FEDGATE, conditions=())
    decision = ask(policy, Request(method), Outcome(failure))
    safe = method in ("GET", "HEAD", "OPTIONS") and failure is not Failure.TIMEOUT
    assert decision.retry == decision.elsewhere == (failure.never_sent or safe)
    assert decision.wait == 0


def test_what_the_other_gateway_did_not_send_either_goes_elsewhere():
    assert ask(FEDGATE, Request("POST"), Outcome(status=503, unsent=True)).elsewhere
    assert not ask(FEDGATE, Request("POST"), Outcome(status=503)).retry
    assert not ask(ISTIO, Request("POST"), Outcome(status=503, unsent=True)).retry


def test_going_elsewhere_is_bounded_by_endpoints_and_not_by_attempts():
    used_up = Request("GET", retries=2)
    assert ask(FEDGATE, used_up, Outcome(Failure.CONNECT), untried=1).retry
    assert not ask(FEDGATE, used_up, Outcome(Failure.CONNECT), untried=0).retry
    assert ask(FEDGATE, Request("GET", 2, ELSEWHERE - 1), Outcome(Failure.CONNECT), untried=99).retry
    assert not ask(FEDGATE, Request("GET", 2, ELSEWHERE), Outcome(Failure.CONNECT), untried=99).retry


def test_the_last_endpoint_is_tried_again_by_the_routes_policy_after_a_pause():
    decision = ask(FEDGATE, Request("GET"), Outcome(Failure.CONNECT), untried=0)
    assert (decision.retry, decision.elsewhere) == (True, False)
    assert decision.wait == pytest.approx(0.0125)


def test_a_status_retried_by_policy_needs_no_pause_when_another_endpoint_is_there():
    policy = RetryPolicy(conditions=("5xx",), immediate=True)
    decision = ask(policy, Request("POST"), Outcome(status=500))
    assert (decision.retry, decision.elsewhere, decision.wait) == (True, False, 0)


def test_back_off_is_uniform_below_2_to_the_n_minus_1_bases_and_capped():
    rng = random.Random(1).random
    for number, longest in ((1, 0.025), (2, 0.075), (3, 0.175), (4, 0.25), (60, 0.25)):
        waits = [back_off(ISTIO, number, rng) for _ in range(4000)]
        assert min(waits) < longest / 50
        assert longest * 0.97 < max(waits) < longest if number < 4 else max(waits) <= longest
    assert sum(back_off(ISTIO, 2, rng) for _ in range(4000)) / 4000 == pytest.approx(0.0375, rel=0.05)


@pytest.mark.parametrize(
    ("percent", "active", "retrying", "expected"),
    [(0, 5, 999, True), (20, 100, 19, True), (20, 100, 20, False), (20, 1, 2, True), (20, 1, 3, False)],
)
def test_budget(percent, active, retrying, expected):
    budget = RetryBudget(percent) if percent else None
    assert within_budget(budget, active, retrying) is expected


def test_trap_24_a_refused_stream_is_repeated_for_a_post_too_but_never_once_the_answer_began():
    refused = Outcome(Failure.REFUSED_STREAM)
    assert ask(ISTIO, Request("POST"), refused).reason == "refused-stream"
    there = ask(FEDGATE, Request("POST"), refused)
    assert (there.retry, there.elsewhere, there.wait) == (True, True, 0)
    for policy in (ISTIO, FEDGATE):
        assert not ask(policy, Request("POST", begun=True), refused).retry
        assert not ask(policy, Request("POST", held=False), refused).retry
    # Bytes that may have been taken are another matter: a POST is not done twice.
    assert not ask(ISTIO, Request("POST"), Outcome(Failure.RESET)).retry
    assert not ask(FEDGATE, Request("POST"), Outcome(Failure.RESET)).retry


def test_trap_4_attempts_unset_are_two_with_istios_conditions():
    assert (RetryPolicy().attempts, RetryPolicy().conditions) == (
        2,
        ("connect-failure", "refused-stream", "unavailable", "cancelled"),
    )


@pytest.mark.parametrize(
    ("tried", "expected"),
    [((), ()), ((0,), ()), ((0, 0), (0,)), ((0, 0, 1), (0,)), ((0, 0, 1, 2), (0, 1, 2)), ((2, 1), (1, 2))],
)
def test_previous_priorities_are_looked_at_after_every_second_attempt(tried, expected):
    assert excluded_priorities(tried) == frozenset(expected)


def test_the_number_that_the_endpoint_is_told():
    assert Request("GET").attempt == 1
    assert Request("GET", retries=1, elsewhere=2).attempt == 4
