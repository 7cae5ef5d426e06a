"""Ring hash, point for point Envoy's (ketama), so that the same key leads to the same endpoint there and here.

Theory of operation. Each endpoint has points on a circle of 64 bits: xxHash64 of `ADDRESS:PORT_0`, `ADDRESS:PORT_1` …, as many as its
weight asks for; a key belongs to the first point at or after it. The number of points is scaled so that the lightest endpoint has a whole
number of them. Points lie in buckets by their highest bits, each sorted by itself, so that a big ring can be made in slices
(`build`) and no step sorts it all; with Istio's 1024 there is one bucket.

Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

import functools
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from gateway.policy.hashing import xxh64

MOST_POINTS = 8 * 1024 * 1024
"""Envoy's maximum_ring_size, by default and at most."""

_BUCKET = 1024
"""Points a bucket has on average in a big ring: sorting one takes about 0.2 ms."""


@functools.lru_cache(maxsize=16384)  # 3 MB; a ring that loses an endpoint is made again in a tenth of the time
def _point(key: str, number: int) -> int:
    return xxh64(f"{key}_{number}".encode())


class Ring:
    """keys: `ADDRESS:PORT` by index. shares: each over 0, 1.0 together at most. size: the least number of points.

    Not usable before `build` returned True."""

    def __init__(self, keys: Sequence[str], shares: Sequence[float], size: int) -> None:
        self.count = 0
        self.ready = False
        least = min(shares)
        scale = min(math.ceil(least * size) / least, float(MOST_POINTS))
        bits = max(0, (int(scale) // _BUCKET).bit_length() - 1)
        self._shift = 64 - bits
        self._hosts = len(keys)
        self._buckets: list[list[int]] = [[] for _ in range(1 << bits)]
        self._points: list[list[int]] = []
        self._owners: list[list[int]] = []
        self._work = self._building(keys, [scale * share for share in shares])

    def build(self, steps: int) -> bool:
        """Make up to `steps` points, 3 to 4 µs each; True when the ring is whole."""
        if not self.ready:
            for _, _ in zip(range(steps), self._work, strict=False):
                pass
        return self.ready

    def _building(self, keys: Sequence[str], wanted: Sequence[float]) -> Iterator[None]:
        made, target = 0, 0.0
        shift, buckets, hosts = self._shift, self._buckets, self._hosts
        for index, (key, points) in enumerate(zip(keys, wanted, strict=True)):
            target += points
            number = 0
            while made < target:
                point = _point(key, number)
                buckets[point >> shift].append(point * hosts + index)
                number += 1
                made += 1
                yield
        for index, bucket in enumerate(buckets):
            buckets[index] = []  # freed one by one: all at once would be one long step
            bucket.sort()
            self._points.append([each // hosts for each in bucket])
            self._owners.append([each % hosts for each in bucket])
            for _ in bucket[::16]:  # sorting costs about a sixteenth of hashing
                yield
        self.count = made
        self.ready = True

    def choose(self, key: int, attempt: int = 0) -> int:
        """The index of the endpoint for a key. attempt: how many further points along, for a retry that wants another one."""
        bucket = key >> self._shift
        at = bisect_left(self._points[bucket], key) + attempt % self.count
        while at >= len(self._points[bucket]):
            at -= len(self._points[bucket])
            bucket = bucket + 1 if bucket + 1 < len(self._points) else 0
        return self._owners[bucket][at]
