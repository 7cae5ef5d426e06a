"""Pings by the clock."""

import pytest

from federation.peering.keepalive import Keepalive


def test_three_unanswered_pings_are_a_loss_after_750_ms():
    alive, times = Keepalive(10.0), []
    while True:
        now = alive.due()
        if alive.tick(now) is None:
            break
        times.append(now)
    assert times == [10.0, 10.25, 10.5]
    assert now == 10.75


def test_anything_heard_starts_the_count_again():
    alive = Keepalive(0.0)
    for _ in range(20):
        assert alive.tick(alive.due()) is not None
        alive.heard()


def test_an_answered_ping_is_no_miss():
    alive, now = Keepalive(0.0), 0.0
    for _ in range(20):
        now = alive.due()
        payload = alive.tick(now)
        assert payload is not None
        alive.pong(payload, now + 0.1)
    assert alive.missed == 0
    assert alive.rtt == pytest.approx(0.1)


def test_a_far_path_is_pinged_every_four_round_trips():
    alive = Keepalive(0.0, rtt=0.2)
    alive.tick(0.0)
    assert alive.due() == pytest.approx(0.8)


def answered(alive, now, took):
    alive.pong(alive.tick(now), now + took)


def test_one_slow_answer_does_not_slow_down_how_soon_a_loss_is_seen():
    alive = Keepalive(0.0, rtt=2.0)
    answered(alive, 0.0, 0.01)
    assert alive.rtt == pytest.approx(0.01)
    answered(alive, 8.0, 0.9)
    assert alive.rtt == pytest.approx(0.01)


def test_a_path_that_became_longer_is_followed():
    alive = Keepalive(0.0, rtt=0.01)
    for number in range(7):
        answered(alive, float(number), 0.3)
    assert alive.rtt == pytest.approx(0.01)
    answered(alive, 7.0, 0.3)
    assert alive.rtt == pytest.approx(0.3)


def test_pongs_nobody_asked_for_are_passed_over():
    alive = Keepalive(0.0)
    payload = alive.tick(0.0)
    alive.pong(b"whatever", 1.0)
    assert (alive.missed, alive.rtt) == (1, None)
    alive.pong(payload, 0.1)
    alive.pong(payload, 5.0)
    assert alive.rtt == pytest.approx(0.1)


def test_a_late_tick_counts_one_miss():
    alive = Keepalive(0.0)
    alive.tick(0.0)
    assert alive.tick(60.0) is not None
    assert alive.missed == 2
