"""Whether this worker has more to do than it can: how late its loop is, and how much memory it holds.

Theory of operation. A timer of the reactor comes every LOOK seconds; how much later it comes is what an event waits before anybody looks at
it. One pause (a collection, a process that was stopped) is not overload, so the lag is a mean over about a second, in which one reading
counts a quarter at most and never for more than twice the limit. Memory is what the kernel says is resident and not shared, read at
every tenth look.

Over the limit the worker *sheds*: requests are answered 503 with `x-envoy-overloaded: true` at once, flag OM, before anything else is
done for them (Envoy's overload action stop_accepting_requests). It stops when the value is well under the limit again, not at the
first reading below it. Connections stay open: closing them would bring as many handshakes back. New connections over the listener's
limit are closed (native/listener.py).

Per worker and not per gateway: lag and memory are a process's own, and a neighbour that is not late must not refuse.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import structlog

from gateway.native.reactor import NEVER, Reactor
from gateway.snapshot import Overload

log = structlog.get_logger("gateway.overload")

LOOK = 0.025  # as the stamp in shared memory: cheap, and finer than any lag that matters
_MEMORY_LOOKS = 10
# Ten times the lag at which neighbours accept in this worker's place, so they have had their chance. It is a mean of about a second: a
# loop that late does not catch up. With 200 ms a machine that ran our own tests on all cores refused requests that would only have been slow.
LAG_S = 0.5
_WINDOW_S = 1.0  # that the mean is of
_HEAVIEST = 0.25
_PLAUSIBLE = 2.0  # times the limit
# Envoy's advice for an edge proxy: stop accepting requests at 95 to 98 % of the heap that it may have. Python gives memory back late and a
# worker needs some to answer with, so less; and all workers share the machine.
_MEMORY_SHARE = 0.8
_BACK_LAG = 0.5  # of the limit: shedding ends there
_BACK_MEMORY = 0.95
LAG, MEMORY = "lag", "memory"
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_MACHINE = Path("/proc/meminfo")


def memory_allowed(workers: int, cgroup: Path = _CGROUP, machine: Path = _MACHINE) -> int:
    """Bytes that one of so many workers may hold: its share of what this control group, or the machine, has. 0 = not known."""
    allowed = 0
    try:
        for line in machine.read_text().splitlines():
            if line.startswith("MemTotal:"):
                allowed = int(line.split()[1]) * 1024
        limit = cgroup.read_text().strip()
    except (OSError, ValueError, IndexError):
        limit = "max"
    if limit.isdigit():
        allowed = min(allowed or int(limit), int(limit))
    return int(allowed * _MEMORY_SHARE) // max(1, workers)


def resident(statm: Path = Path("/proc/self/statm")) -> int:
    """Bytes that this process holds alone; 0 where nobody says so. About 15 µs."""
    try:
        fields = statm.read_bytes().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


class OverloadMonitor:
    """See the module. shedding: "" or why. shed: how many requests were refused, by reason. lag: smoothed, in seconds."""

    __slots__ = (
        "_lag_limit",
        "_looks",
        "_memory",
        "_memory_limit",
        "_reactor",
        "_workers",
        "armed",
        "deadline",
        "lag",
        "resident",
        "shed",
        "shedding",
    )

    def __init__(self, reactor: Reactor, *, workers: int = 1, memory: Callable[[], int] = resident) -> None:
        """memory: reads the bytes that this process holds."""
        self._reactor = reactor
        self._workers = workers
        self._memory = memory
        self.lag = 0.0
        self.resident = 0
        self.shedding = ""
        self.shed: dict[str, int] = {}
        self._looks = 0
        self.armed = self.deadline = NEVER
        self.configure(Overload())

    def configure(self, overload: Overload) -> None:
        """Take over a Snapshot's limits."""
        self._lag_limit = NEVER if overload.lag_ms < 0 else overload.lag_ms / 1000 or LAG_S
        if overload.memory_mb:
            self._memory_limit = max(0, overload.memory_mb) << 20
        else:
            self._memory_limit = memory_allowed(self._workers)

    def start(self) -> None:
        """Look every LOOK seconds from now on."""
        self.deadline = self._reactor.clock() + LOOK
        self._reactor.arm(self)

    def expired(self) -> None:
        """The reactor's timer."""
        now = self._reactor.clock()
        self.look(now - self.deadline)
        self.deadline = now + LOOK

    def look(self, late: float) -> None:
        """Take in how late the loop was this time, and memory when it is its turn; decide."""
        weight = min(_HEAVIEST, (LOOK + max(0.0, late)) / _WINDOW_S)
        self.lag += weight * (min(max(0.0, late), _PLAUSIBLE * self._lag_limit) - self.lag)
        self._looks += 1
        if self._looks >= _MEMORY_LOOKS:
            self._looks = 0
            self.resident = self._memory()
        reason = self._decide()
        if reason != self.shedding:
            log.warning("overload.changed", shedding=reason, before=self.shedding, lag_ms=int(self.lag * 1000), bytes=self.resident)
            self.shedding = reason

    def _decide(self) -> str:
        now = self.shedding
        if self._memory_limit and self.resident > self._memory_limit * (_BACK_MEMORY if now == MEMORY else 1.0):
            return MEMORY
        return LAG if self.lag > self._lag_limit * (_BACK_LAG if now == LAG else 1.0) else ""

    def count(self) -> None:
        """A request was refused."""
        reason = f"overload-{self.shedding}"
        self.shed[reason] = self.shed.get(reason, 0) + 1

    def __repr__(self) -> str:
        return f"<OverloadMonitor {self.shedding or 'fine'} lag {self.lag * 1000:.0f} ms, {self.resident >> 20} MB>"
