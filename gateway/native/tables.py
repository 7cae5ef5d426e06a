"""Tables in a worker's slot of shared memory: counters of limits, marks of token buckets.

Theory of operation. A table is a hash table of as many places as a power of two, open to linear probing; an entry is a key (`shared`'s
64-bit names) and one or two values. Its worker alone writes it, the others read it and remember where they found a key. A place that is
given back keeps a mark, so that what lies behind it is still found.
"""

from __future__ import annotations

from collections.abc import Sequence

# Only what is limited has a counter, up to four a backend: at a load of 3/4, 3,000 backends with every limit there is, 12,000 with one. A
# key is at most 32 places behind its own, so that a look-up's cost is bounded (at that load a run that long has probability under 1 in
# 10,000); a counter that finds no place there is kept by its process alone, and its limit is then per worker, as in Envoy.
COUNTERS = 16384
_PROBES = 32
_MASK = COUNTERS - 1
EMPTY, _FORGOTTEN = 0, 1  # keys that no name has
# Token buckets that a worker has let something through of, one for each combination of values that a rate limit tells apart. All of them
# are 400 KB of shared memory a worker, and 8 MB of its own. Envoy keeps 20 of such by default (max_dynamic_descriptors). The one that was
# longest not asked for gives way (Shared.mark), and begins full when it comes again: what anything bounded has to do with ever new values.
BUCKETS = COUNTERS
MOST_BUCKETS = BUCKETS * 3 // 4  # in use: see above


class Counter:
    """What one backend has in flight over all workers. `add` changes this worker's share, `total` reads everybody's."""

    __slots__ = ("_at", "_key", "_local", "_others", "_own", "_words")

    def __init__(self, words: memoryview[int], own: int, others: Sequence[int], key: int) -> None:
        """own, others: where the tables begin. `own` beyond the memory: a process without a slot, which can only read."""
        self._words = words
        self._key = key
        self._own = own
        self._at = _find(words, own, key) if own < len(words) else -1  # where this worker's value is, once it has one
        self._local = 0  # its share when the table has no place for it
        self._others = [[table, table] for table in others]  # table, and where the key was last found in it

    def add(self, delta: int) -> None:
        """Change this worker's share; it never falls under 0. About 0.2 µs."""
        words, at = self._words, self._at
        if at < 0 and (at := self._insert()) < 0:
            self._local = max(0, self._local + delta)
            return
        value = words[at + 1] + delta
        words[at + 1] = value if value > 0 else 0

    def total(self) -> int:
        """Everybody's shares, exact to within what others change at this moment. About 0.2 µs and as much per other worker."""
        words, key = self._words, self._key
        value = words[self._at + 1] if self._at >= 0 else self._local
        for place in self._others:
            at = place[1]
            if words[at] != key:
                at = _find(words, place[0], key)
                if at < 0:
                    continue
                place[1] = at
            value += words[at + 1]
        return value

    def put(self, value: int) -> None:
        """Make this worker's share that value."""
        self.add(value - (self._words[self._at + 1] if self._at >= 0 else self._local))

    def largest(self) -> int:
        """The largest share of the others."""
        found = (_find(self._words, table, self._key) for table, _ in self._others)
        return max((self._words[at + 1] for at in found if at >= 0), default=0)

    def forget(self) -> None:
        """Give the place back, when the backend is gone; this worker's share ends with it. The handle may be used again."""
        if self._at >= 0:
            self._words[self._at + 1] = 0
            self._words[self._at] = _FORGOTTEN
            self._at = -1
        self._local = 0

    def _insert(self) -> int:
        if self._local:
            return -1  # what was begun alone ends alone: the share is in one place only
        self._at = _insert(self._words, self._own, self._key)
        return self._at

    def __repr__(self) -> str:
        return f"<Counter {self._key:016x} total {self.total()}{' of this worker alone' if self._local else ''}>"


class Mark:
    """What each worker let through of one token bucket (policy/ratelimit.py)."""

    __slots__ = ("_at", "_key", "_local", "_others", "_own", "_words")

    def __init__(self, words: memoryview[int], own: int, others: Sequence[int], key: int) -> None:
        """As a Counter's."""
        self._words = words
        self._key = key
        self._own = own
        self._at = -1
        self._local = (0, 0)  # when the table has no place for it
        self._others = [[table, table] for table in others]

    @property
    def own(self) -> tuple[int, int]:
        return (self._words[self._at + 2], self._words[self._at + 1]) if self._at >= 0 else self._local

    def others(self) -> list[tuple[int, int]]:
        """(epoch, count) of every other worker that has one. About 0.3 µs for each."""
        words, key = self._words, self._key
        found = []
        for place in self._others:
            at = place[1]
            if words[at] != key:
                at = _find(words, place[0], key, 3)
                if at < 0:
                    continue
                place[1] = at
            found.append((words[at + 2], words[at + 1]))
        return found

    def write(self, epoch: int, count: int) -> None:
        """Take over this worker's mark."""
        words = self._words
        if self._at < 0:
            self._at = _insert(words, self._own, self._key, 3)
            if self._at < 0:
                self._local = (epoch, count)
                return
        words[self._at + 1] = count
        words[self._at + 2] = epoch

    def forget(self) -> None:
        """Give the place back; what this worker let through counts no more."""
        if self._at >= 0:
            self._words[self._at] = _FORGOTTEN
            self._at = -1
        self._local = (0, 0)

    def __repr__(self) -> str:
        return f"<Mark {self._key:016x} own {self.own} others {self.others()}>"


def _find(words: memoryview[int], table: int, key: int, width: int = 2) -> int:
    """Where the key is in a table whose entries are `width` words, or -1. All tables have as many places (a power of two)."""
    index = key & _MASK
    for _ in range(_PROBES):
        at = table + width * index
        found = words[at]
        if found == key:
            return at
        if found == EMPTY:
            return -1
        index = (index + 1) & _MASK
    return -1


def _insert(words: memoryview[int], table: int, key: int, width: int = 2) -> int:
    """A place for the key with all else 0, or -1 when there is none."""
    at = _find(words, table, key, width)
    if at >= 0:
        return at
    index = key & _MASK
    for _ in range(_PROBES):
        at = table + width * index
        if words[at] in (EMPTY, _FORGOTTEN):
            for place in range(at + 1, at + width):
                words[place] = 0
            words[at] = key
            return at
        index = (index + 1) & _MASK
    return -1
