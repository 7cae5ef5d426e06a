"""A choice by key: ring hash or maglev over some endpoints, usable from the first request on.

Theory of operation. A table depends on nothing but names, weights and size, so equal ones are one object (`table_of`), also between
backends, and after an endpoint came back. What is small is made at once. The rest is made in slices, by the requests that need it and by
the tick, so that no turn is held up; until then rendezvous hashing answers, which agrees between workers too, but not with
the table.

Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Sequence
from typing import Generic, TypeVar

from gateway.policy.maglev import Maglev
from gateway.policy.ring import Ring
from gateway.snapshot import Balance

H = TypeVar("H")

AT_ONCE = 1100
"""Steps when a table is asked for: Istio's default ring of 1024 points, in 3 to 4 ms the first time. No turn may last over 5 ms."""

A_REQUEST = 200
"""Steps that a request does which finds the table unfinished: under 1 ms."""

# Odd numbers with well-spread bits: the golden ratio's, and the second constant of splitmix64's finaliser.
_SPREAD, _MIX = 0x9E3779B97F4A7C15, 0x94D049BB133111EB
_MASK = (1 << 64) - 1

_TABLES = 256
"""Tables that are kept: those of the backends that hash, and of the few states that each of them changes between."""


class Keyed(Generic[H]):
    """named: `ADDRESS:PORT` of each host and its share, over 0, 1.0 together at most. size: of the ring, or of the maglev table."""

    __slots__ = ("_hosts", "_seeds", "_table", "_weights")

    def __init__(self, kind: Balance, size: int, hosts: Sequence[H], named: Sequence[tuple[str, float]]) -> None:
        self._hosts = hosts
        self._weights = [weight for _, weight in named]
        self._table = table_of(kind, size, tuple(named))
        self._seeds: list[int] = [] if self._table.build(AT_ONCE) else [seed_of(name) for name, _ in named]

    @property
    def ready(self) -> bool:
        return self._table.ready

    def build(self, steps: int) -> bool:
        """Go on with the table; True when it is whole."""
        return self._table.build(steps)

    def choose(self, key: int, attempt: int = 0) -> H:
        """The endpoint for 64 bits. attempt: 0, or how many that were chosen before did not suit."""
        table = self._table
        if table.ready or table.build(A_REQUEST):
            return self._hosts[table.choose(key, attempt)]
        return self._hosts[rendezvous(key + attempt, self._seeds, self._weights)]


@functools.lru_cache(maxsize=_TABLES)
def table_of(kind: Balance, size: int, named: tuple[tuple[str, float], ...]) -> Ring | Maglev:
    """The table for these names and weights, perhaps unfinished."""
    keys, weights = [name for name, _ in named], [weight for _, weight in named]
    return Maglev(keys, weights, size) if kind is Balance.MAGLEV else Ring(keys, weights, size)


def seed_of(name: str) -> int:
    """Of an endpoint, the same in every process; a tenth of a µs, where xxHash64 takes three."""
    return zlib.crc32(name.encode()) * _SPREAD & _MASK


def rendezvous(key: int, seeds: Sequence[int], weights: Sequence[float]) -> int:
    """The index with the highest score for the key (weighted rendezvous hashing): what leaves moves only its own keys. About 0.4 µs
    for each endpoint, so that a thousand of them do not hold a turn up while a table is made."""
    best, highest = 0, -1.0
    even = min(weights) == max(weights)
    for index, seed in enumerate(seeds):
        mixed = ((key ^ seed) * _SPREAD) & _MASK
        mixed = ((mixed ^ (mixed >> 32)) * _MIX) & _MASK
        mixed ^= mixed >> 29
        score = float(mixed) if even else weights[index] / -math.log((mixed + 1) / (2**64 + 1))
        if score > highest:
            best, highest = index, score
    return best
