"""The connections of a registry's client, replaced when what they were made of was: certificates that are rotated, mostly.

Theory of operation. A set of connections is an httpx2 client. New requests take the set that was made with what holds now; those under way (a
blocking query, a watch: minutes) end on the one they began with, which is closed with its last request. The client of a registry must
outlive its tasks: a request whose connections are closed under it ends in a network's error, not in its cancellation.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpcore2  # noqa: F401  (httpx2 loads it with the first client: a third of a second in one turn of the loop)
import httpx2
import trio

_CLOSED_WITHIN = 1.0  # seconds: closing writes TLS's goodbye, no more


class _Counted:
    __slots__ = ("client", "key", "users")

    def __init__(self, key: object, client: httpx2.AsyncClient) -> None:
        self.key, self.client, self.users = key, client, 0


class Connections:
    """`aclose` it when the last request has ended."""

    def __init__(self) -> None:
        self._current: _Counted | None = None

    @asynccontextmanager
    async def of(self, key: object, make: Callable[[], httpx2.AsyncClient]) -> AsyncIterator[httpx2.AsyncClient]:
        """The client of an equal key, made if it is another than the last one's. Raises what `make` raises, and then the last one stays."""
        retired, current = None, self._current
        if current is None or current.key != key:
            retired, current = current, _Counted(key, make())
            self._current = current
        current.users += 1
        try:
            if retired is not None and not retired.users:
                await _close(retired.client)
            yield current.client
        finally:
            current.users -= 1
            if not current.users and current is not self._current:
                await _close(current.client)

    async def aclose(self) -> None:
        """Close them; a later request makes new ones."""
        current, self._current = self._current, None
        if current is not None:
            if current.users:  # our own mistake, which tests turn into an error
                warnings.warn(
                    f"{current.users} requests are under way on connections that are closed", ResourceWarning, stacklevel=2
                )
            await _close(current.client)

    def __repr__(self) -> str:
        return f"<Connections {f'requests={self._current.users}' if self._current else 'none'}>"


async def _close(client: httpx2.AsyncClient) -> None:
    with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSED_WITHIN):
        await client.aclose()
