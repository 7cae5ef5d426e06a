"""balance: FIELD section 0 as tables, and what must hold for any input."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.balance import Count, availability, loads, picker
from gateway.snapshot import Balance


def per_cent(*healthy: int) -> list[Count]:
    return [Count(100, value) for value in healthy]


# FIELD section 0, rows "Oracle" and the availability row (computed with Envoy's integers).
ORACLE = [
    ((100, 100), (100, 0)),
    ((72, 100), (100, 0)),
    ((71, 100), (99, 1)),
    ((50, 100), (70, 30)),
    ((25, 100), (35, 65)),
    ((0, 100), (0, 100)),
    ((25, 25), (50, 50)),
    ((5, 65), (8, 92)),
    ((25, 25, 100), (35, 35, 30)),
    ((25, 25, 20), (37, 35, 28)),
    ((10, 10, 10), (34, 33, 33)),
]


@pytest.mark.parametrize(("healthy", "expected"), ORACLE)
def test_loads_of_priorities_are_envoys_integers(healthy, expected):
    found = loads(per_cent(*healthy))
    assert found.healthy == expected
    assert found.degraded == (0,) * len(healthy)
    assert not any(found.panic)


@pytest.mark.parametrize(
    ("healthy", "hosts", "expected"), [(2, 3, (93, 7)), (1, 3, (46, 54)), (3, 4, (100, 0)), (5, 7, (100, 0)), (7, 10, (98, 2))]
)
def test_loads_of_small_pools(healthy, hosts, expected):
    assert loads([Count(hosts, healthy), Count(4, 4)]).healthy == expected


def test_degraded_endpoints_take_what_healthy_ones_leave():
    found = loads([Count(100, 10, 20), Count(100, 20, 10), Count(100, 10, 0)])
    assert found.healthy == (16, 28, 14)
    assert found.degraded == (28, 14, 0)
    assert found.total == (44, 42, 14)


def test_only_degraded_endpoints_take_the_rounding_too():
    assert loads([Count(100, 0, 10), Count(100, 0, 10), Count(100, 0, 10)]).degraded == (34, 33, 33)


# ----------------------------------------------------------------------------------------------------------- panic


def test_a_priority_under_the_threshold_panics_only_while_the_whole_is_short():
    assert loads(per_cent(25, 100), panic_percent=50).panic == (False, False)
    assert loads(per_cent(25, 25), panic_percent=50).panic == (True, True)
    assert loads(per_cent(10, 60), panic_percent=50).panic == (True, False)
    # 10 + 60 per cent are 14 + 84 of availability: not 100, and only priority 0 is under 50.
    assert loads(per_cent(10, 60), panic_percent=50).healthy == (15, 85)


def test_degraded_endpoints_count_against_panic():
    assert loads([Count(100, 30, 25)], panic_percent=50).panic == (False,)
    assert loads([Count(100, 30, 15)], panic_percent=50).panic == (True,)


def test_when_all_panic_load_follows_the_number_of_endpoints():
    found = loads([Count(0, 0), Count(3, 0), Count(4, 1)], panic_percent=50)
    assert found.panic == (True, True, True)
    assert found.healthy == (0, 43, 57)  # 42 and 57, the remainder to the first that has any
    assert loads([Count(0, 0), Count(0, 0)], panic_percent=50).healthy == (100, 0)


def test_threshold_0_and_nothing_healthy_leaves_the_load_where_nobody_is():
    found = loads([Count(3, 0), Count(3, 0)])
    assert (found.healthy, found.panic) == ((100, 0), (False, False))


def test_as_last_resort_nothing_panics_while_another_priority_is_healthy():
    short = [Count(10, 1), Count(10, 6)]
    assert loads(short, panic_percent=50).panic == (True, False)
    assert loads(short, panic_percent=50, last_resort=True).panic == (False, False)
    assert loads(per_cent(10, 10), panic_percent=50, last_resort=True).panic == (True, True)


def test_no_priorities_no_loads():
    assert loads([]).total == ()


# --------------------------------------------------------------------------------------------------- what is granted


def test_what_is_not_granted_goes_to_who_carried_it():
    assert loads(per_cent(100, 100), granted=[0, 100]).healthy == (0, 100)
    assert loads(per_cent(100, 100), granted=[30, 100]).healthy == (30, 70)
    assert loads(per_cent(100, 100), granted=[100, 100]).healthy == (100, 0)


def test_hold_down_gives_way_when_the_others_cannot_carry_everything():
    assert loads(per_cent(100, 0), granted=[0, 0]).healthy == (100, 0)
    assert loads(per_cent(100, 25), granted=[0, 35]).healthy == (65, 35)
    assert loads([Count(100, 0, 100), Count(100, 25)], granted=[0, 35]).total == (65, 35)


_numbers = st.integers(0, 12)
# (healthy, degraded, neither) → (hosts, healthy, degraded)
counts = st.lists(st.tuples(_numbers, _numbers, _numbers).map(lambda row: (sum(row), row[0], row[1])), min_size=1, max_size=5)


@given(counts, st.integers(0, 100), st.booleans(), st.data())
def test_loads_sum_to_100_and_go_where_somebody_is(rows, panic, last_resort, data):
    table = [Count(*row) for row in rows]
    granted = data.draw(st.none() | st.lists(st.integers(0, 100), min_size=len(table), max_size=len(table)))
    found = loads(table, panic_percent=panic, last_resort=last_resort, granted=granted)
    assert sum(found.total) == 100
    assert min(found.total) >= 0
    if any(count.healthy + count.degraded for count in table) and not any(found.panic):
        for load, degraded, count in zip(found.healthy, found.degraded, table, strict=True):
            assert load == 0 or count.healthy > 0
            assert degraded == 0 or count.degraded > 0


@given(counts, st.data())
def test_one_more_healthy_endpoint_never_costs_its_priority_load_nor_gives_the_later_ones_more(rows, data):
    table = [Count(row[0], row[1]) for row in rows]
    index = data.draw(st.integers(0, len(table) - 1))
    if table[index].healthy == table[index].hosts:
        return
    better = list(table)
    better[index] = Count(table[index].hosts, table[index].healthy + 1)
    before, after = loads(table).healthy, loads(better).healthy
    if sum(availability(c.healthy, c.hosts) for c in table):
        # Rounding moves at most one per cent a priority to or from the first one.
        assert after[index] >= before[index] - len(table)
        assert sum(after[index + 1 :]) <= sum(before[index + 1 :]) + len(table)


@given(st.lists(st.integers(0, 100), min_size=2, max_size=4), st.integers(0, 100), st.integers(0, 100))
def test_granting_more_never_gives_less(healthy, less, more):
    less, more = sorted((less, more))
    table = per_cent(*healthy)
    full = [100] * (len(healthy) - 1)
    assert loads(table, granted=[less, *full]).total[0] <= loads(table, granted=[more, *full]).total[0]


# ------------------------------------------------------------------------------------------------------------ picking


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name
        self.active = 0
        self.ewma, self.ewma_at = 0.01, 0.0


def shares(kind: Balance, weights: list[float], picks: int = 20_000, seed: int = 7) -> list[float]:
    things = [Thing(str(index)) for index in range(len(weights))]
    choose = picker(kind, things, weights, random.Random(seed).random)
    seen = Counter(choose().name for _ in range(picks))
    return [seen[thing.name] / picks for thing in things]


@pytest.mark.parametrize("kind", list(Balance))
@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0], [5.0, 5.0, 5.0], [1.0, 3.0], [2.0, 1.0, 7.0], [0.5, 25.0]])
def test_shares_come_out_as_weighted(kind, weights):
    for share, weight in zip(shares(kind, weights), weights, strict=True):
        assert share == pytest.approx(weight / sum(weights), abs=0.015)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 1000))
def test_round_robin_is_exact_over_whole_rounds(weights, seed):
    things = [Thing(str(index)) for index in range(len(weights))]
    choose = picker(Balance.ROUND_ROBIN, things, [float(w) for w in weights], random.Random(seed).random)
    seen = Counter(choose().name for _ in range(sum(weights) * 4))
    for thing, weight in zip(things, weights, strict=True):
        assert abs(seen[thing.name] - 4 * weight) <= 2


def test_least_request_avoids_the_busy_one_but_still_asks_it():
    things = [Thing(str(index)) for index in range(4)]
    things[2].active = 50
    choose = picker(Balance.LEAST_REQUEST, things, [1.0] * 4, random.Random(3).random)
    seen = Counter(choose().name for _ in range(16_000))
    assert seen["2"] / 16_000 == pytest.approx(1 / 16, abs=0.01)  # both choices fell on it


def test_least_request_weighs_load_by_weight():
    light, heavy = Thing("light"), Thing("heavy")
    light.active, heavy.active = 2, 5  # 2 of weight 1 is more than 5 of weight 4
    choose = picker(Balance.LEAST_REQUEST, [light, heavy], [1.0, 4.0], random.Random(3).random)
    seen = Counter(choose().name for _ in range(10_000))
    assert seen["light"] / 10_000 == pytest.approx(0.04, abs=0.01)


def test_least_request_keeps_requests_in_flight_in_proportion_to_weight():
    things = [Thing("a"), Thing("b"), Thing("c")]
    weights = [1.0, 2.0, 5.0]
    rng = random.Random(11)
    choose = picker(Balance.LEAST_REQUEST, things, weights, rng.random)
    running: list[Thing] = []
    held = Counter()
    for _ in range(20_000):
        chosen = choose()
        chosen.active += 1
        running.append(chosen)
        if len(running) > 80:
            running.pop(rng.randrange(len(running))).active -= 1
        held.update({thing.name: thing.active for thing in things})
    total = sum(held.values())
    for thing, weight in zip(things, weights, strict=True):
        assert held[thing.name] / total == pytest.approx(weight / 8, abs=0.02)
