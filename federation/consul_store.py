"""The shared store in Consul's KV: see `federation.store`. One per gateway; its connection is opened with the first call.

Consul's check-and-set is exactly the contract's: a key's ModifyIndex, 0 for "not there". Reads are consistent, so that no gateway computes
from what another has already replaced.
"""

from __future__ import annotations

from types import TracebackType

import msgspec
import trio

from discovery.clients.consul import ConsulClient, ConsulConnection, Failed
from federation.store import Stored, StoreLost

# Every key that is waited for holds a connection: 64 (vips.MOST_SEGMENTS), and a few to read and write; an agent allows a client 200.
CONNECTIONS = 72


class ConsulStore:
    """SharedStore under `prefix`. Use it as a context, or call `close`."""

    def __init__(self, connection: ConsulConnection, prefix: str) -> None:
        self._client = ConsulClient(connection, stale=False, connections=CONNECTIONS)
        self._prefix = prefix.strip("/")

    async def __aenter__(self) -> ConsulStore:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        await self.__aexit__(None, None, None)

    async def get(self, key: str) -> Stored:
        stored, _ = await self._read(key, 0)
        return stored

    async def put_if(self, key: str, value: bytes, index: int) -> bool:
        try:
            return await self._client.put(self._path(key), value, index=index)
        except Failed as error:
            raise StoreLost(f"{self._path(key)} cannot be written: {error}") from None

    async def wait_changed(self, key: str, index: int) -> Stored:
        stored, seen = await self._read(key, 0)
        while stored.index == index:
            before = trio.current_time()
            stored, seen = await self._read(key, seen)
            if trio.current_time() - before < 0.05:  # a neighbour key made Consul answer: 20 questions a second are enough
                await trio.sleep(0.05)
        return stored

    async def _read(self, key: str, seen: int) -> tuple[Stored, int]:
        try:
            answer = await self._client.key(self._path(key), seen)
        except Failed as error:
            raise StoreLost(f"{self._path(key)} cannot be read: {error}") from None
        if not answer.data:
            return Stored(), answer.index
        try:
            found = msgspec.convert(answer.data, _Pair)
        except msgspec.ValidationError as error:
            raise StoreLost(f"{self._path(key)}: not what Consul answers ({error}); check the address") from None
        return Stored(found.Value or b"", found.ModifyIndex), answer.index

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def __repr__(self) -> str:
        return f"<ConsulStore {self._client.to.address} {self._prefix}>"


class _Pair(msgspec.Struct):
    ModifyIndex: int
    Value: bytes | None = None
