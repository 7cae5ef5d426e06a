"""Figures of the demo, from samples that a person can count."""

from __future__ import annotations

import pytest

from appliance.demo.load import Sample, percentile
from appliance.demo.measure import moved_ms, phase, share

RATE = 20.0


def samples(*clusters: str, begin_s: float = 0.0, took_ms: float = 5.0) -> list[Sample]:
    """One sample a cluster name; "" failed."""
    return [
        Sample(begin_s + i / RATE, took_ms, 200 if who else 503, served_by=f"{who}/svc-v1" if who else "", error="" if who else "x")
        for i, who in enumerate(clusters)
    ]


def test_share_counts_what_was_answered() -> None:
    assert share(samples("a", "a", "b", "")) == {"a": 0.6667, "b": 0.3333}
    assert share([]) == {}


def test_traffic_has_moved_when_the_first_window_without_the_old_share_begins() -> None:
    run = samples(*["a"] * 40, *["b"] * 80)
    # The first window of 40 that is b within 10 points may hold four of a (4/40): it starts at sample 36.
    assert moved_ms(run, {"b": 1.0}, event_s=0.0) == pytest.approx(36 / RATE * 1000)


def test_a_failure_afterwards_starts_the_count_anew() -> None:
    run = samples(*["b"] * 50, "", *["b"] * 50)
    assert moved_ms(run, {"b": 1.0}, event_s=0.0) == pytest.approx(51 / RATE * 1000)


def test_traffic_that_never_settles_has_no_time() -> None:
    assert moved_ms(samples(*["a"] * 100), {"b": 1.0}, event_s=0.0) is None


def test_nothing_moved_at_the_event_is_zero() -> None:
    assert moved_ms(samples(*["a"] * 60, begin_s=3.0), {"a": 1.0}, event_s=3.0) == 0.0


def test_a_phase_counts_what_ended_in_it() -> None:
    before, during = samples("a", "a", begin_s=0.0), samples("", *["b"] * 99, begin_s=1.0)
    figures = phase("region-down", before + during, begin_s=1.0, end_s=6.1)
    assert (figures.requests, figures.failed) == (100, 1)
    assert figures.last_failed_ms == pytest.approx(5.0)
    assert figures.share == {"b": 1.0}
    assert figures.p50_ms == 5.0


def test_a_phase_without_failures_says_none() -> None:
    assert phase("steady", samples(*["a"] * 50), begin_s=0.0, end_s=10.0).last_failed_ms is None


def test_percentile_is_nearest_rank() -> None:
    assert percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.99) == 1.0
    assert percentile([], 0.5) == 0.0
