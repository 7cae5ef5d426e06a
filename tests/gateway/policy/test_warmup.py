"""The factor of a warm-up, as Envoy's slow start computes it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.warmup import factor, step
from gateway.snapshot import Warmup


@pytest.mark.parametrize(
    ("warmup", "age", "expected"),
    [
        (Warmup(10_000), 0.0, 0.1),
        (Warmup(10_000), 0.5, 0.1),
        (Warmup(10_000), 5.0, 0.5),
        (Warmup(10_000), 10.0, 1.0),
        (Warmup(10_000), 99.0, 1.0),
        (Warmup(10_000, 0), 1.0, 0.1),
        (Warmup(10_000, 0), 0.0, 0.0001),  # 1 ms of age at least
        (Warmup(10_000, 0, 2.0), 2.5, 0.5),  # the square root
        (Warmup(10_000, 0, 0.5), 5.0, 0.25),
        (Warmup(10_000, 100), 0.0, 1.0),
    ],
)
def test_factor(warmup, age, expected):
    assert factor(warmup, age) == pytest.approx(expected)


@given(st.integers(1, 100_000), st.integers(0, 100), st.floats(0.1, 10), st.floats(0, 200), st.floats(0, 200))
def test_it_only_grows_and_ends_at_one(duration, least, aggression, one, other):
    warmup = Warmup(duration, least, aggression)
    first, second = factor(warmup, min(one, other)), factor(warmup, max(one, other))
    assert least / 100 <= first <= second <= 1.0
    assert factor(warmup, duration / 1000) == 1.0


def test_steps_are_a_per_cent_and_not_too_many():
    assert step(Warmup(100_000)) == 1.0
    assert step(Warmup(1000)) == 0.1
