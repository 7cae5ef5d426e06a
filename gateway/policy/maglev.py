"""Maglev hashing (Eisenbud and others, NSDI 2016, listing 1), entry for entry Envoy's table.

Theory of operation. Each endpoint has its own order of preference over a table of prime length: it begins at an offset and goes on in
steps of a skip, both by hash of `ADDRESS:PORT`. In rounds each endpoint, sorted by that name, takes its next free entry; lighter ones
sit rounds out. A key belongs to entry `key % length`. A table of 65537 takes about 60 ms of Python, so it is made
in slices (`build`).

Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterator, Sequence

from gateway.policy.hashing import xxh64

_FREE = 0xFFFFFFFF


@functools.lru_cache(maxsize=16384)  # 3 MB; a table that loses an endpoint needs no hash again
def _hashes(key: str) -> tuple[int, int]:
    return xxh64(key.encode()), xxh64(key.encode(), 1)


class Maglev:
    """keys: `ADDRESS:PORT` by index. shares: each over 0, 1.0 together at most. size: a prime, 3 or more.

    Not usable before `build` returned True."""

    def __init__(self, keys: Sequence[str], shares: Sequence[float], size: int) -> None:
        self.ready = False
        self.size = size
        self._table = array("I", [_FREE]) * size
        self._work = self._building(keys, shares)

    def build(self, steps: int) -> bool:
        """Fill up to `steps` entries, about 1 µs each; True when the table is whole."""
        if not self.ready:
            for _, _ in zip(range(steps), self._work, strict=False):
                pass
        return self.ready

    def _building(self, keys: Sequence[str], shares: Sequence[float]) -> Iterator[None]:
        table, size = self._table, self.size
        order = sorted(range(len(keys)), key=lambda index: keys[index].encode())
        places, skips = [], []
        for index in order:
            place, skip = _hashes(keys[index])
            places.append(place % size)
            skips.append(skip % (size - 1) + 1)
            yield
        due = [0.0] * len(order)
        heaviest = max(shares)
        filled = rounds = 0
        while filled < size:
            rounds += 1
            for rank, index in enumerate(order):
                if rounds * shares[index] < due[rank]:
                    continue
                due[rank] += heaviest
                place, skip = places[rank], skips[rank]
                probes = 0
                while table[place] != _FREE:
                    place += skip
                    if place >= size:
                        place -= size
                    probes += 1
                    if not probes & 31:
                        yield  # near the end an entry takes long to find
                table[place] = index
                places[rank] = (place + skip) % size
                filled += 1
                yield
                if filled == size:
                    break
        self.ready = True

    def choose(self, key: int, attempt: int = 0) -> int:
        """The index of the endpoint for a key. attempt: changes the key, for a retry that wants another one."""
        if attempt:
            key ^= (1 << 64) - attempt
        return self._table[key % self.size]
