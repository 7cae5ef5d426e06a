"""Failback of one backend in one worker, and what the others know of it.

Theory of operation. Every worker computes the ramp for itself (policy/failback.py). What it holds back it says in shared memory, by backend
and priority: since when, or LOST for what is gone. Only a worker that sees a priority for the first time reads what others say: one that
was just started, in the middle of a hold-down perhaps.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.native.shared import Shared, counter_key
from gateway.native.tables import Counter
from gateway.policy.failback import Ramp
from gateway.snapshot import Failback


class Returning(Ramp):
    """A Ramp whose hold-downs outlive the worker, as long as another one runs."""

    def __init__(self, policy: Failback, backend: str, shared: Shared | None) -> None:
        super().__init__(policy)
        self._backend = backend
        self._shared = shared
        self._said: dict[str, Counter] = {}

    def grant(self, now: float, natural: Iterable[tuple[str, int]]) -> tuple[int, ...]:
        """`observe`, with the others' knowledge, and told to them."""
        granted = self.observe(now, natural, self._held if self._shared is not None else None)
        holding = self.holding()
        for name in [name for name in self._said if name not in holding]:
            self._said.pop(name).forget()
        for name, since in holding.items():
            if name not in self._said and self._shared is not None:
                self._said[name] = self._counter(self._shared, name)
            if name in self._said:
                self._said[name].put(max(1, int(since * 1e9)))
        return granted

    def _held(self, name: str) -> float:
        return self._counter(self._shared, name).largest() / 1e9 if self._shared is not None else 0.0

    def _counter(self, shared: Shared, name: str) -> Counter:
        return shared.counter(counter_key(self._backend, f"failback {name}"))

    def close(self) -> None:
        """The backend is gone."""
        for counter in self._said.values():
            counter.forget()
        self._said.clear()
