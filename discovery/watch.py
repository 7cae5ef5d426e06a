"""A slot that holds the latest value, for one writer and many readers: the latest wins, a slow reader skips, nobody lags.

State is handed over by slot, never by queue (STYLE: Watchable). Trio only; one event loop.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Watchable(Generic[T]):
    """`value` is the latest; `set` replaces it and wakes all who wait; `newer_than(seen)` waits for a change of `version`."""

    def __init__(self, value: T) -> None:
        self._value = value
        self._version = 0
        self._changed = trio.Event()

    @property
    def value(self) -> T:
        return self._value

    @property
    def version(self) -> int:
        """Counts `set` calls that changed the value; starts at 0."""
        return self._version

    def set(self, value: T) -> None:
        """Replace the value. Setting the very same object again wakes nobody."""
        if value is self._value:
            return
        self._value = value
        self._version += 1
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    async def newer_than(self, seen: int) -> tuple[int, T]:
        """Wait until `version` exceeds `seen`; returns (version, value). A cancelled wait leaves nothing behind."""
        while self._version <= seen:
            await self._changed.wait()
        return self._version, self._value

    def __repr__(self) -> str:
        return f"<Watchable version={self._version} {type(self._value).__name__}>"
