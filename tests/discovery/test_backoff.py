"""Backoff: the delays' bounds, growth and cap, as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.backoff import Backoff, BackoffPolicy, delay

POLICY = BackoffPolicy(base=1, cap=10, factor=2)


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (10_000, 10)])
def test_the_longest_delay_doubles_up_to_the_cap(attempt, longest):
    assert delay(attempt, POLICY, lambda: 1.0) == longest
    assert delay(attempt, POLICY, lambda: 0.0) == longest / 2


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_half_and_all(attempt, random):
    longest = delay(attempt, POLICY, lambda: 1.0)
    assert longest / 2 <= delay(attempt, POLICY, lambda: random) <= longest


def test_success_begins_anew():
    backoff = Backoff(POLICY, lambda: 1.0)
    assert [backoff.failed(), backoff.failed(), backoff.failures] == [1, 2, 2]
    backoff.succeeded()
    assert [backoff.failures, backoff.failed()] == [0, 1]
    assert "failures=1" in repr(backoff)
