"""circuit: the limit itself is not admitted once more."""

import pytest

from gateway.policy.circuit import admits, may_connect, may_retry
from gateway.snapshot import RetryBudget


@pytest.mark.parametrize(
    ("limit", "in_flight", "expected"),
    [(0, 0, True), (0, 10**6, True), (1, 0, True), (1, 1, False), (10, 9, True), (10, 11, False)],
)
def test_admits_while_fewer_than_the_limit_are_in_flight(limit, in_flight, expected):
    assert admits(limit, in_flight) is expected


@pytest.mark.parametrize(
    ("limit", "opened", "own", "expected"),
    [(0, 9, 9, True), (2, 1, 1, True), (2, 2, 1, False), (2, 2, 0, True), (2, 5, 0, True)],
)
def test_an_endpoint_without_a_connection_may_always_have_its_first(limit, opened, own, expected):
    assert may_connect(limit, opened, own) is expected


@pytest.mark.parametrize(
    ("limit", "budget", "active", "retrying", "expected"),
    [
        (0, None, 1, 10**6, True),
        (3, None, 1, 2, True),
        (3, None, 1, 3, False),
        (1, RetryBudget(20, 3), 1, 2, True),  # a budget takes the limit's place
        (1, RetryBudget(20, 3), 1, 3, False),
        (0, RetryBudget(20, 3), 50, 9, True),
        (0, RetryBudget(20, 3), 50, 10, False),
    ],
)
def test_retries_by_limit_or_by_budget(limit, budget, active, retrying, expected):
    assert may_retry(limit, budget, active, retrying) is expected
