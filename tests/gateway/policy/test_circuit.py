"""circuit: the limit itself is not admitted once more."""

import pytest

from gateway.policy.circuit import admits


@pytest.mark.parametrize(
    ("limit", "in_flight", "expected"),
    [(0, 0, True), (0, 10**6, True), (1, 0, True), (1, 1, False), (10, 9, True), (10, 11, False)],
)
def test_admits_while_fewer_than_the_limit_are_in_flight(limit, in_flight, expected):
    assert admits(limit, in_flight) is expected
