"""The circuit breakers of one backend: connections, requests that wait for one, requests, retries; all workers together.

Theory of operation. What is limited has a Gate, which counts in shared memory; what is not has none, and asking costs a look at an
attribute. The counts of this worker are kept in any case, so that a limit that comes with a new Snapshot begins with what there is.
Each limit is exact to within one request a worker: two workers that look at the same moment both see the last place free.
"""

from __future__ import annotations

from gateway.native.host import Host
from gateway.native.limits import CONNECTIONS, PENDING, RETRIES, Gate
from gateway.native.shared import Shared
from gateway.policy import circuit
from gateway.snapshot import Backend, RetryBudget


class Breakers:
    """See the module. active: attempts in flight. queued: requests that wait for a connection. retrying: requests that have been retried
    and are not over."""

    __slots__ = ("_budget", "_connections", "_pending", "_requests", "_retrying", "active", "queued", "retrying")

    def __init__(self) -> None:
        self.active = self.queued = self.retrying = 0
        self._budget: RetryBudget | None = None
        self._connections: Gate | None = None
        self._pending: Gate | None = None
        self._requests: Gate | None = None
        self._retrying: Gate | None = None

    def admits(self) -> bool:
        """Whether the circuit breaker (limits.requests over all workers) lets another request begin; else Overflow."""
        return self._requests is None or not self._requests.full()

    def may_connect(self, host: Host) -> bool:
        """Whether one more connection to the host may be opened (limits.connections); else wait for one (limits.Line), or Overflow. One
        without any may always have its first."""
        gate = self._connections
        return gate is None or circuit.may_connect(gate.limit, gate.total(), host.opened)

    def connected(self, host: Host) -> None:
        """A connection to the host is being opened: once, before the system call, with `disconnected` when it is no more."""
        host.opened += 1
        if self._connections is not None:
            self._connections.add(1)

    def disconnected(self, host: Host) -> None:
        host.opened -= 1
        if self._connections is not None:
            self._connections.add(-1)

    def may_wait(self) -> bool:
        """Whether one more request may wait for a connection, one that is being opened too (limits.pending); else Overflow."""
        return self._pending is None or not self._pending.full()

    def waiting(self, delta: int) -> None:
        """A request begins (1) or ends (-1) to wait for a connection."""
        self.queued += delta
        if self._pending is not None:
            self._pending.add(delta)

    def may_retry(self, *, again: bool = False) -> bool:
        """Whether the budget, or limits.retries, over all workers, lets another retry run; else the answer stands, flag UO. again: the
        request has been retried before, and so is one of those that are counted."""
        gate = self._retrying
        if gate is None:
            return True
        active = self.active if self._requests is None else self._requests.total()
        return circuit.may_retry(gate.limit, self._budget, active, gate.total() - again)

    def retry_began(self) -> None:
        """A request makes its first retry: from now on it is one that is being retried, to its end."""
        self.retrying += 1
        if self._retrying is not None:
            self._retrying.add(1)

    def retry_ended(self) -> None:
        self.retrying -= 1
        if self._retrying is not None:
            self._retrying.add(-1)

    def limit(self, backend: Backend, shared: Shared | None, opened: int) -> None:
        """Gates for what is limited, none for what is not. opened: connections that this worker has."""
        limits, budget = backend.limits, backend.retry_budget
        self._budget = budget

        def gate(known: Gate | None, of: str, limit: int, own: int, *, counted: bool = False) -> Gate | None:
            if not limit and not counted:
                if known is not None:
                    known.close()
                return None
            found = known or Gate(shared, backend.name, of, own)
            found.limit = limit
            return found

        self._connections = gate(self._connections, CONNECTIONS, limits.connections, opened)
        self._pending = gate(self._pending, PENDING, limits.pending, self.queued)
        self._requests = gate(self._requests, "", limits.requests, self.active, counted=budget is not None)
        self._retrying = gate(self._retrying, RETRIES, limits.retries, self.retrying, counted=budget is not None)

    def unlimit(self) -> None:
        """The backend is gone: its gates count no more."""
        for gate in (self._connections, self._pending, self._requests, self._retrying):
            if gate is not None:
                gate.close()
        self._connections = self._pending = self._requests = self._retrying = None
