"""Silence is a failure too: which endpoint is judged dead because it answers nothing, and after how long.

Theory of operation. A stopped or blackholed endpoint sends no error. What tells it from a slow one is that *nothing* comes back
from it, on no request, for much longer than its answers take. Only requests given to it after its last answer are evidence (a long
poll that waits while others are answered says nothing). An endpoint is silent when

    the oldest of those requests has waited for `limit` = max(floor, multiple * its own recent p99), and
    there are at least `waiting` of them, the last of which has waited for limit/2.

The second line's end keeps one slow request and two that were just sent from looking like death. An endpoint that gets fewer
requests than `waiting` (many endpoints, few requests, and least-request steers away from what does not answer) would never be
judged, and what waits on it would hang for ever. So an endpoint is *asked before it is judged*: once its oldest request has waited
limit/2 without any answer, it is `doubted`, and the balancer sends it the next repeatable requests until `waiting` of them wait
there. A live endpoint answers them and is doubted no more; a dead one is found out.

An endpoint that comes back after silence is half-open (native/backend.py): until it has answered once, one request at a time waits
on it, and `waiting` is 1.

`Latencies` keeps the recent p99: log-scale buckets, four to a doubling, in two windows of which the older is dropped. Recording is
one increment; reading walks the buckets, and is done only for an endpoint whose oldest request has waited for the floor.

Pure: no clock; seconds are floats from one monotonic clock.
"""

from __future__ import annotations

from gateway.snapshot import Silence

_OCTAVES = 28  # 2^28 µs = 268 s; what takes longer is counted as that
_BUCKETS = (_OCTAVES + 1) * 4
# A window is dropped only when the next one can stand for itself: a p99 of fewer samples is their maximum, and no more.
_WINDOW_SAMPLES = 100
_WINDOW_SECONDS = 10.0
# Nothing was ever answered, so its p99 is not known. The floor alone would condemn a backend whose every answer takes a second
# before its first answer could come; four floors (2 s) is over what people wait for a page.
_UNKNOWN_FLOORS = 4


class Latencies:
    """Recent time to first byte of one endpoint's answers."""

    __slots__ = ("_began", "_older", "counts")

    def __init__(self, now: float = 0.0) -> None:
        self.counts = [0] * _BUCKETS
        self._older: list[int] | None = None
        self._began = now

    def record(self, seconds: float) -> None:
        """About 0.2 µs."""
        us = int(seconds * 1_000_000)
        if us < 4:
            index = us if us > 0 else 0
        else:
            bits = us.bit_length()
            index = bits * 4 + (us >> (bits - 3)) - 4 if bits <= _OCTAVES else _BUCKETS - 1
        self.counts[index] += 1

    def roll(self, now: float) -> None:
        """Begin a new window if the running one is old and full enough. Call it about once a second; it costs nothing between."""
        if now - self._began < _WINDOW_SECONDS:
            return
        if sum(self.counts) < _WINDOW_SAMPLES:
            return
        self._older, self.counts, self._began = self.counts, [0] * _BUCKETS, now

    @property
    def total(self) -> int:
        """Answers in both windows."""
        return sum(self.counts) + sum(self._older or ())

    @property
    def usual(self) -> float:
        """Seconds that nearly all recent answers took: the p99. Of fewer than a hundred it would be the slowest, and the first answers
        of an endpoint (no connection, nothing cached) would make its silence last ten times as long: there the slowest tenth does
        not count."""
        total = self.total
        return (
            self.percentile(99)
            if total >= _WINDOW_SAMPLES
            else self.percentile((total * 9 // 10) * 100 / total if total > 1 else 100)
        )

    def percentile(self, percent: float) -> float:
        """Seconds under which that share of recent answers came (middle of the bucket: within 13 %); 0.0 without any."""
        counts = self.counts if self._older is None else [a + b for a, b in zip(self.counts, self._older, strict=True)]
        total = sum(counts)
        if not total:
            return 0.0
        rank = total * percent / 100
        seen = 0
        for index, count in enumerate(counts):
            seen += count
            if seen >= rank and count:
                return _middle(index)
        return _middle(_BUCKETS - 1)

    def __repr__(self) -> str:
        return f"<Latencies {self.total} answers, p50 {self.percentile(50) * 1000:.1f} ms, p99 {self.percentile(99) * 1000:.1f} ms>"


def _middle(index: int) -> float:
    bits, quarter = divmod(index, 4)
    if bits < 3:
        return index / 1_000_000
    return ((4 + quarter) + 0.5) * (1 << (bits - 3)) / 1_000_000


def limit(silence: Silence, p99: float) -> float:
    """Seconds without any answer after which an endpoint is silent. p99 in seconds, 0.0 = nothing was ever answered."""
    floor = silence.floor_ms / 1000
    if p99 <= 0.0:
        return floor * _UNKNOWN_FLOORS
    return max(floor, silence.multiple * p99)


def silent(*, now: float, oldest: float, deciding: float, after: float) -> bool:
    """True when an endpoint is to be ejected. Of the requests given to it after its last answer: oldest = when the first was,
    deciding = when the `waiting`-th was (the caller has seen that there are so many). after = `limit`."""
    return now - oldest >= after and now - deciding >= after / 2


def doubted(*, now: float, oldest: float, after: float) -> bool:
    """True when it is time to ask an endpoint that fewer than `waiting` requests wait on."""
    return now - oldest >= after / 2
