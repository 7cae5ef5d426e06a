"""Tables of hosts: at once where small, in slices where not, shared where equal."""

from collections import Counter

import pytest

from gateway.policy.hashing import xxh64
from gateway.policy.keyed import Keyed, rendezvous, seed_of, table_of
from gateway.snapshot import Balance

NAMED = [(f"10.1.0.{index}:80", 0.25) for index in range(4)]
HOSTS = ["a", "b", "c", "d"]


@pytest.fixture(autouse=True)
def forgotten():
    table_of.cache_clear()


def test_istios_default_ring_is_there_at_once():
    keyed = Keyed(Balance.RING_HASH, 1024, HOSTS, NAMED)
    assert keyed.ready
    assert {keyed.choose(xxh64(bytes([number]))) for number in range(200)} == set(HOSTS)


def test_a_maglev_table_is_made_by_those_who_ask_and_answers_meanwhile():
    keyed = Keyed(Balance.MAGLEV, 65_537, HOSTS, NAMED)
    assert not keyed.ready
    twin = Keyed(Balance.MAGLEV, 65_537, HOSTS[::-1], NAMED[::-1])
    key = xxh64(b"k")
    first = keyed.choose(key)
    assert first == twin.choose(key)  # another worker says the same meanwhile
    asked = 0
    while not keyed.ready:
        keyed.choose(key)
        asked += 1
    assert 10 < asked < 2000
    while not twin.build(1000):
        pass
    assert all(keyed.choose(xxh64(bytes([number]))) == twin.choose(xxh64(bytes([number]))) for number in range(200))


def test_equal_tables_are_one():
    assert table_of(Balance.RING_HASH, 64, tuple(NAMED)) is table_of(Balance.RING_HASH, 64, tuple(NAMED))
    assert table_of(Balance.RING_HASH, 64, tuple(NAMED)) is not table_of(Balance.RING_HASH, 65, tuple(NAMED))


def test_rendezvous_moves_only_what_has_to_and_weighs():
    seeds = [seed_of(name) for name, _ in NAMED]
    keys = [xxh64(number.to_bytes(4, "big")) for number in range(6000)]
    weights = [1.0, 1.0, 2.0, 4.0]
    everyone = [rendezvous(key, seeds, weights) for key in keys]
    seen = Counter(everyone)
    for index, weight in enumerate(weights):
        assert seen[index] / 6000 == pytest.approx(weight / 8, abs=0.02)
    assert Counter(rendezvous(key, seeds, [1.0] * 4) for key in keys)[0] / 6000 == pytest.approx(0.25, abs=0.02)
    fewer = [rendezvous(key, seeds[:3], weights[:3]) for key in keys]
    assert all(one == other for one, other in zip(everyone, fewer, strict=True) if one != 3)
