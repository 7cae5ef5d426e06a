"""Peak EWMA: how an average moves, and who is chosen."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.ewma import DECAY, cost, observed, peak_ewma


class Thing:
    def __init__(self, name="", ewma=0.0, at=0.0, active=0):
        self.name, self.ewma, self.ewma_at, self.active = name, ewma, at, active

    def observe(self, latency, now):
        self.ewma, self.ewma_at = observed(self.ewma, now - self.ewma_at, latency), now


def test_a_peak_counts_at_once_and_is_forgotten_slowly():
    assert observed(0.010, 1.0, 0.5) == 0.5
    assert observed(0.5, 0.0, 0.010) == 0.5
    assert observed(0.5, DECAY, 0.0) == pytest.approx(0.5 / math.e)
    assert observed(0.5, 1000.0, 0.010) == pytest.approx(0.010)
    assert observed(0.5, -1.0, 0.010) == 0.5  # a clock that stood still


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 100)), min_size=1, max_size=20))
def test_the_average_stays_between_the_least_and_the_most(observations):
    average = 0.0
    for latency, elapsed in observations:
        average = observed(average, elapsed, latency)
        assert min([0.0, *(each for each, _ in observations)]) <= average <= max(each for each, _ in observations)


def test_cost_is_latency_times_what_would_be_in_flight():
    assert cost(Thing(ewma=0.1, active=3), 0.0) == pytest.approx(0.4)
    assert cost(Thing(ewma=0.1, active=3), DECAY) == pytest.approx(0.4 / math.e)
    assert cost(Thing(ewma=0.1, active=3), 0.0, weight=3.0) == pytest.approx(0.2)
    assert cost(Thing(), 0.0) == 0.0  # never asked: try it
    assert cost(Thing(active=1), 0.0) > cost(Thing(ewma=100.0, active=1000), 0.0)  # asked, never answered: after all others


def test_the_quick_one_gets_the_most_and_the_slow_one_is_still_asked():
    quick, slow = Thing("quick", 0.010), Thing("slow", 0.100)
    choose = peak_ewma([quick, slow], [1.0, 1.0], random.Random(3).random)
    seen = Counter(choose().name for _ in range(4000))
    assert seen["slow"] / 4000 == pytest.approx(0.25, abs=0.03)  # drawn twice
    quick.active = 20
    assert choose().name in ("quick", "slow")
    seen = Counter(choose().name for _ in range(4000))
    assert seen["quick"] / 4000 == pytest.approx(0.25, abs=0.03)  # 21 × 10 ms is more than 100 ms


def test_an_old_average_has_decayed_when_it_is_compared():
    stale, fresh = Thing("stale", 1.0, at=0.0), Thing("fresh", 0.5, at=DECAY)
    choose = peak_ewma([stale, fresh], [1.0, 1.0], random.Random(3).random)
    seen = Counter(choose().name for _ in range(1000))
    assert seen["stale"] > seen["fresh"]  # 1 s, ten seconds ago, is 0.37 s now


def test_a_slow_endpoint_loses_most_of_its_traffic_and_gets_it_back():
    rng, now = random.Random(5), 0.0
    things = [Thing(str(index)) for index in range(3)]
    choose = peak_ewma(things, [1.0] * 3, rng.random)

    def run(latencies, requests):
        nonlocal now
        seen = Counter()
        for _ in range(requests):
            now += 0.01
            chosen = choose()
            seen[chosen.name] += 1
            chosen.observe(latencies[chosen.name] * rng.uniform(0.5, 1.5), now)
        return {name: seen[name] / requests for name in ("0", "1", "2")}

    even = run({"0": 0.01, "1": 0.01, "2": 0.01}, 3000)
    assert all(share > 0.2 for share in even.values())
    assert run({"0": 0.5, "1": 0.01, "2": 0.01}, 3000)["0"] < 0.13
    run({"0": 0.01, "1": 0.01, "2": 0.01}, 6000)
    assert run({"0": 0.01, "1": 0.01, "2": 0.01}, 3000)["0"] > 0.2
