"""What the gateways of one cluster agree through: keys with values, written by check-and-set and waited on.

Theory of operation. Every key has an index that grows with each write; 0 stands for "there is no such key". A writer reads, computes and
writes with the index it read: if somebody was faster it is told so (False), reads again and computes again. Nobody locks anything, and
nobody needs to know who else there is. `federation.consul_store` keeps it in Consul's KV.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Stored(msgspec.Struct, frozen=True):
    """A key's value and its index; of a key that is not there, b"" and 0."""

    value: bytes = b""
    index: int = 0


ABSENT = Stored()


class StoreLost(Exception):
    """The store cannot be reached or refuses: what was tried, why it failed, what to do. What was agreed before still holds."""


class SharedStore(Protocol):
    """Keys are paths without a leading slash (`vips/east`); values are 512 KiB at most (Consul's own limit)."""

    async def get(self, key: str) -> Stored:
        """The value as all gateways see it (never a stale one). Raises StoreLost."""
        ...

    async def put_if(self, key: str, value: bytes, index: int) -> bool:
        """Write if the key still has that index, 0 being "if it is not there". False: somebody was faster. Raises StoreLost; then, as after
        a cancellation, it may have been written or not: `get` tells."""
        ...

    async def wait_changed(self, key: str, index: int) -> Stored:
        """Wait until the key's index is another than `index`; returns the value of then. Raises StoreLost. A cancelled wait leaves
        nothing behind."""
        ...
