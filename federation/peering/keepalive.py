"""Is the other side there: pings, round-trip times, and how many went unanswered.

Pure. A ping every 250 ms or four round trips, whichever is longer; when three in a row have gone unanswered, the other side is lost.
Anything received says as much as a pong. The round-trip time is the fastest of the recent ones: what a busy machine adds is not
the path's, and one slow start must not delay for a minute how soon a loss is seen. A tick counts one ping at most, however late it
comes: a process that was stopped for a minute itself has no evidence against anybody.
"""

from __future__ import annotations

from collections import deque

INTERVAL = 0.25  # seconds; DESIGN section 6
ROUND_TRIPS = 4  # of the interval, at least, so that a far or slow path is not pinged faster than it answers
MISSED = 3
RECENT = (
    8  # round trips remembered, 2 s of them at least; BBR's minimum filter does the same over 10 s, to follow a change of the path
)


class Keepalive:
    """`due()` when the next tick is wanted; `tick` returns the ping to send, or None when the other side is lost."""

    def __init__(self, now: float, rtt: float | None = None) -> None:
        """rtt: seconds, when it is known already, from the handshake."""
        self._recent: deque[float] = deque([] if rtt is None else [rtt], RECENT)
        self.missed = 0
        self._next = now
        self._number = 0
        self._sent: dict[bytes, float] = {}

    @property
    def rtt(self) -> float | None:
        """Seconds; None before the first."""
        return min(self._recent, default=None)

    @property
    def interval(self) -> float:
        return max(INTERVAL, ROUND_TRIPS * (self.rtt or 0.0))

    def due(self) -> float:
        return self._next

    def heard(self) -> None:
        """Something came from the other side."""
        self.missed = 0

    def pong(self, payload: bytes, now: float) -> None:
        """An answer. Those to pings we did not send are passed over."""
        sent = self._sent.pop(payload, None)
        if sent is None:
            return
        self.missed = 0
        self._recent.append(max(0.0, now - sent))

    def tick(self, now: float) -> bytes | None:
        """At or after `due`: the payload (8 bytes) of a ping to send now; None when MISSED pings are unanswered."""
        if self.missed >= MISSED:
            return None
        self.missed += 1
        self._number += 1
        payload = self._number.to_bytes(8, "big")
        self._sent[payload] = now
        while len(self._sent) > MISSED:
            del self._sent[next(iter(self._sent))]
        self._next = now + self.interval
        return payload
