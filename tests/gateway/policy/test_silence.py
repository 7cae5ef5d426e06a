"""silence: after how long, on what evidence, and the recent p99 it rests on."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import silence
from gateway.policy.silence import Latencies
from gateway.snapshot import Silence

POLICY = Silence()


@pytest.mark.parametrize(
    ("p99", "expected"),
    [(0.002, 0.5), (0.05, 0.5), (0.051, 0.51), (0.3, 3.0), (0.0, 2.0)],
    ids=["floor", "edge", "over", "slow", "new"],
)
def test_limit_is_the_floor_or_ten_times_the_p99(p99, expected):
    assert silence.limit(POLICY, p99) == pytest.approx(expected)


def test_silent_when_the_oldest_waited_for_the_limit_and_the_deciding_one_for_half():
    assert silence.silent(now=10.5, oldest=10.0, deciding=10.25, after=0.5)
    assert not silence.silent(now=10.5, oldest=10.0, deciding=10.26, after=0.5)
    assert not silence.silent(now=10.49, oldest=10.0, deciding=10.0, after=0.5)


def test_doubted_at_half_the_limit():
    assert silence.doubted(now=10.25, oldest=10.0, after=0.5)
    assert not silence.doubted(now=10.24, oldest=10.0, after=0.5)


@given(st.lists(st.floats(1e-6, 200.0), min_size=1, max_size=50), st.sampled_from([50.0, 90.0, 99.0, 100.0]))
def test_percentiles_are_within_a_bucket_of_the_truth(seconds, percent):
    latencies = Latencies()
    for value in seconds:
        latencies.record(value)
    ordered = sorted(seconds)
    truth = ordered[max(0, -(-len(ordered) * percent // 100).__int__() - 1)]
    assert latencies.percentile(percent) == pytest.approx(truth, rel=0.2, abs=1.5e-6)


def test_p99_of_many_is_close():
    latencies, rng = Latencies(), random.Random(5)
    for _ in range(10_000):
        latencies.record(rng.uniform(0.001, 0.101))
    assert latencies.percentile(50) == pytest.approx(0.051, rel=0.15)
    assert latencies.percentile(99) == pytest.approx(0.100, rel=0.15)


def test_nothing_answered_has_no_percentile_and_what_is_too_long_is_counted_as_the_longest():
    latencies = Latencies()
    assert latencies.percentile(99) == 0.0
    latencies.record(9_999.0)
    assert latencies.percentile(99) > 200
    latencies.record(0.0)
    latencies.record(-1.0)  # a clock cannot go back, but a mistake must not be an exception here
    assert latencies.percentile(50) == 0.0


def test_recent_means_the_last_two_windows():
    latencies = Latencies(now=0.0)
    for _ in range(500):
        latencies.record(3.0)
    latencies.roll(5.0)
    latencies.roll(10.0)
    for _ in range(500):
        latencies.record(0.001)
    assert latencies.percentile(99) > 2.0  # the slow ones are the older window
    latencies.roll(20.0)
    assert latencies.percentile(99) < 0.002
    assert latencies.total == 500


def test_a_window_with_few_answers_is_kept_however_old():
    latencies = Latencies(now=0.0)
    latencies.record(3.0)
    for second in range(1000):
        latencies.roll(float(second))
    assert latencies.percentile(99) == pytest.approx(3.0, rel=0.15)
    assert repr(latencies).startswith("<Latencies 1 answers")


def test_the_slow_start_of_an_endpoint_does_not_lengthen_its_silence():
    latencies = Latencies()
    latencies.record(2.0)
    assert latencies.usual == pytest.approx(2.0, rel=0.2)  # nothing better is known
    for _ in range(9):
        latencies.record(0.010)
    assert latencies.usual == pytest.approx(0.010, rel=0.2)
    assert latencies.percentile(99) > 1.5
    for _ in range(90):
        latencies.record(1.0)
    assert latencies.usual == latencies.percentile(99)
    assert Latencies().usual == 0.0
