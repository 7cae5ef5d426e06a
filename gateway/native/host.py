"""One endpoint of one backend as one worker knows it: what is in flight, what it answered, whether it is in service.

Hosts outlive Snapshots: as long as the endpoint's id stays, the same object stays, with its pool and its history. Plain attributes,
changed inline by the one thread of the worker. `pool` belongs to native/pool.py, everything else to native/backend.py.
"""

from __future__ import annotations

from typing import Any, Protocol

from gateway.native.shared import ejection_key
from gateway.policy import ewma
from gateway.policy.outlier import Tally
from gateway.policy.silence import Latencies
from gateway.snapshot import LbEndpoint
from gateway.verdicts import Verdict


class Waiter(Protocol):
    """What waits for an endpoint's answer: an exchange. Hashed by identity."""

    def evict(self, host: Host) -> None:
        """The endpoint was found silent or gone. Go elsewhere if that is safe (nothing answered yet, and never sent or safe to
        repeat) and `pick_again` has somewhere; otherwise do nothing and keep waiting: it may still answer. Called once per
        eviction, from `Upstreams.tick`, between turns; must not block or raise."""
        ...


class Host:
    """An endpoint at work.

    active: requests given to it and not finished. waiting: those of them not yet answered → when they were given to it, oldest
    first. times: how often in a row it was ejected. half_open: back, but it has yet to answer once.
    """

    __slots__ = (
        "active",
        "asked",
        "down",
        "ejected",
        "ejected_until",
        "endpoint",
        "ewma",
        "ewma_at",
        "failures",
        "folded",
        "foreign",
        "foreign_until",
        "half_open",
        "half_open_since",
        "id",
        "key",
        "last_answer",
        "latencies",
        "opened",
        "own",
        "own_since",
        "pool",
        "priority",
        "reason",
        "requests",
        "shared_key",
        "since",
        "tally",
        "times",
        "verdict",
        "waiting",
    )

    def __init__(self, backend: str, endpoint: LbEndpoint, now: float) -> None:
        self.endpoint = endpoint
        self.id = endpoint.id
        self.key = endpoint.key
        self.priority = endpoint.priority
        self.shared_key = ejection_key(backend, endpoint.id)
        self.active = 0
        self.waiting: dict[Waiter, float] = {}
        self.pool: Any = None  # native/pool.py's
        self.opened = 0  # connections, those under way too (native/breakers.py)
        self.requests = 0
        self.folded = 0  # of `requests`, counted under an earlier priority or locality
        self.failures = 0  # attempts without an answer, and answers 5xx
        self.last_answer = now
        self.since = now  # when it was first seen, or came back by a check: its warm-up begins
        self.ewma = 0.0  # seconds; as of ewma_at (policy/ewma.py). 0 = nothing observed yet
        self.ewma_at = now
        self.latencies = Latencies(now)
        self.tally = Tally()
        self.verdict: Verdict | None = None
        self.down = False  # its address: a peer's gateway that is gone
        self.own = False  # ejected by this worker
        self.own_since = 0.0
        self.foreign = False  # ejected by another worker
        self.foreign_until = 0.0
        self.ejected = False  # own or foreign
        self.ejected_until = 0.0
        self.reason = ""
        self.times = 0
        self.half_open = False
        self.half_open_since = 0.0
        self.asked = 0  # more requests that it is to be sent on purpose (policy/silence.py)

    def observe(self, latency: float, now: float) -> None:
        """An answer's head came `latency` seconds after the request was given to it. Only Balance.PEAK_EWMA reads what this
        keeps, so it need not be called for others. About 0.5 µs."""
        self.ewma = ewma.observed(self.ewma, now - self.ewma_at, latency)
        self.ewma_at = now

    @property
    def out(self) -> bool:
        """Gets no traffic, whatever the balance (panic apart)."""
        return self.ejected or self.down or self.half_open or not (self.verdict is None or self.verdict.health.usable)

    @property
    def state(self) -> str:
        """For people: healthy, degraded, unhealthy, draining, ejected, half-open, down."""
        if self.down:
            return "down"
        if self.ejected:
            return "ejected"
        if self.half_open:
            return "half-open"
        if self.verdict is None or self.verdict.health.value == "unknown":
            return "healthy"
        return self.verdict.health.value

    def __repr__(self) -> str:
        why = f" by {self.reason}" if self.ejected or self.half_open else ""
        return f"<Host {self.id} p{self.priority} {self.state}{why} active={self.active} waiting={len(self.waiting)}>"
