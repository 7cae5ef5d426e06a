"""A stream whose first bytes were read by somebody else: the client hello, which a worker read to know whom the connection is for."""

from __future__ import annotations

import trio


class ReplayStream(trio.abc.Stream):
    """`first` in front of `rest`. Owns `rest`: closing this closes it."""

    def __init__(self, first: bytes, rest: trio.abc.Stream) -> None:
        self._first = first
        self._rest = rest

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What was read before, then what comes. Cancelled while waiting: nothing is lost."""
        if self._first:
            await trio.lowlevel.checkpoint()
            size = len(self._first) if max_bytes is None else max_bytes
            data, self._first = self._first[:size], self._first[size:]
            return data
        return await self._rest.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._rest.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._rest.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._rest.aclose()
