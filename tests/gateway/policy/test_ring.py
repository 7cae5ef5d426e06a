"""The ring: shares, stability, slices. That it is Envoy's ring is tested against the real one, in tests/live."""

from bisect import bisect_left
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.hashing import normalized, xxh64
from gateway.policy.ring import Ring


def made(keys, weights=None, size=1024):
    ring = Ring(keys, normalized(weights or [1.0] * len(keys)), size)
    assert ring.build(10**9)
    return ring


def names(count):
    return [f"10.0.{index // 250}.{index % 250}:8080" for index in range(count)]


def sample(count=4000):
    return [xxh64(f"key-{number}".encode()) for number in range(count)]


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(1, 200), st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_a_key_belongs_to_the_first_point_at_or_after_it(hosts, size, keys):
    keys_of = names(hosts)
    ring = made(keys_of, size=size)
    each = -(-size // hosts)
    points = sorted((xxh64(f"{key}_{number}".encode()), index) for index, key in enumerate(keys_of) for number in range(each))
    assert ring.count == len(points)
    for key in keys:
        at = bisect_left(points, (key, -1)) % len(points)
        assert ring.choose(key) == points[at][1]
        for attempt in range(3):
            assert ring.choose(key, attempt) == points[(at + attempt) % len(points)][1]


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [1.0, 2.0, 7.0]])
def test_shares_come_out_as_weighted(weights):
    ring = made(names(3), weights, 10_000)
    seen = Counter(ring.choose(key) for key in sample(10_000))
    for index, weight in enumerate(weights):
        assert seen[index] / 10_000 == pytest.approx(weight / sum(weights), abs=0.03)


def test_only_the_keys_of_an_endpoint_that_left_move():
    everyone = names(5)
    before, after = made(everyone, size=1000), made(everyone[:-1], size=800)  # 200 points each, both times
    for key in sample():
        if before.choose(key) != 4:
            assert before.choose(key) == after.choose(key)


def test_the_lightest_has_a_whole_number_of_points():
    assert made(names(3), size=10).count == 12
    assert made(names(2), [1.0, 3.0], 10).count == 12  # 3 and 9
    assert made(names(5), size=1).count == 5  # at least one each


def test_a_big_ring_is_made_in_slices_and_is_the_same_ring():
    ring = Ring(names(3), normalized([1.0, 2.0, 3.0]), 6000)
    slices = 0
    while not ring.build(200):
        slices += 1
        assert not ring.ready
    assert slices >= 30
    points = sorted(
        (xxh64(f"{key}_{number}".encode()), index) for index, key in enumerate(names(3)) for number in range(1000 * (index + 1))
    )
    for key in [*sample(500), 0, 2**64 - 1, points[0][0], points[-1][0], points[-1][0] + 1]:
        assert ring.choose(key) == points[bisect_left(points, (key, -1)) % len(points)][1]
        assert ring.choose(key, 1500) == points[(bisect_left(points, (key, -1)) + 1500) % len(points)][1]
