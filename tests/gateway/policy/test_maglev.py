"""Maglev: shares, disruption, slices. That it is Envoy's table is tested against the real one, in tests/live."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.hashing import normalized, xxh64
from gateway.policy.maglev import Maglev


def made(keys, weights=None, size=1021):
    table = Maglev(keys, normalized(weights or [1.0] * len(keys)), size)
    while not table.build(500):
        pass
    return table


def names(count):
    return [f"10.0.0.{index}:8080" for index in range(count)]


@settings(max_examples=30)
@given(st.integers(1, 30), st.sampled_from([31, 127, 1021]))
def test_every_endpoint_has_its_share_of_entries_within_one(hosts, size):
    table = made(names(hosts), size=size)
    seen = Counter(table.choose(entry) for entry in range(size))
    assert sum(seen.values()) == size
    assert max(seen.values()) - min(seen[index] for index in range(hosts)) <= 1


def test_shares_come_out_as_weighted():
    table = made(names(3), [1.0, 2.0, 7.0], 65_537)
    seen = Counter(table.choose(entry) for entry in range(65_537))
    for index, weight in enumerate((1, 2, 7)):
        assert seen[index] / 65_537 == pytest.approx(weight / 10, abs=0.01)


def test_little_moves_when_an_endpoint_leaves():
    before, after = made(names(10), size=65_537), made(names(9), size=65_537)
    stayed = [entry for entry in range(65_537) if before.choose(entry) != 9]
    moved = sum(before.choose(entry) != after.choose(entry) for entry in stayed)
    assert moved / 65_537 < 0.05  # the paper: a few per cent beyond what has to


def test_the_order_of_endpoints_does_not_matter():
    keys = names(7)
    one, other = made(keys), made(keys[::-1])
    assert [keys[one.choose(entry)] for entry in range(1021)] == [keys[::-1][other.choose(entry)] for entry in range(1021)]


def test_slices_end_in_the_same_table():
    whole, sliced = made(names(5)), Maglev(names(5), normalized([1.0] * 5), 1021)
    slices = 0
    while not sliced.build(7):
        slices += 1
    assert slices > 100
    assert [whole.choose(entry) for entry in range(1021)] == [sliced.choose(entry) for entry in range(1021)]


def test_another_attempt_is_another_entry():
    table = made(names(5), size=65_537)
    key = xxh64(b"k")
    assert table.choose(key, 0) == table.choose(key)
    assert table.choose(key, 1) == table.choose(key ^ (2**64 - 1))
    assert len({table.choose(key, attempt) for attempt in range(30)}) > 2
