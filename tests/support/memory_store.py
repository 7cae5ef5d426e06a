"""A shared store in memory, for tests: the protocol of federation.store, passes `conformance_store.check_store` as the real one does.

`lose()` makes every call raise StoreLost, waits included; `find()` brings it back as it was.
"""

from __future__ import annotations

import trio

from federation.store import ABSENT, Stored, StoreLost


class MemoryStore:
    """writes: how many were made, refused ones not counted."""

    def __init__(self) -> None:
        self.values: dict[str, Stored] = {}
        self.writes = 0
        self.lost = False
        self._index = 0
        self._changed = trio.Event()

    async def get(self, key: str) -> Stored:
        await self._reach()
        return self.values.get(key, ABSENT)

    async def put_if(self, key: str, value: bytes, index: int) -> bool:
        await self._reach()
        if self.values.get(key, ABSENT).index != index:
            return False
        self._index += 1
        self.writes += 1
        self.values[key] = Stored(value, self._index)
        self._wake()
        return True

    async def wait_changed(self, key: str, index: int) -> Stored:
        while True:
            await self._reach()
            found = self.values.get(key, ABSENT)
            if found.index != index:
                return found
            await self._changed.wait()

    def lose(self) -> None:
        self.lost = True
        self._wake()

    def find(self) -> None:
        self.lost = False

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.lost:
            raise StoreLost("the store is gone; bring it back")

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()
