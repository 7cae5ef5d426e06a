"""The addresses of Consul instances that are registered with a DNS name instead of an address (external services usually are).

The system's resolver is asked, in threads, once a minute at most, as it tells no TTL; a name that cannot be resolved keeps its last
addresses, one that does not exist loses them.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
import trio

EVERY = 60.0  # seconds: Istio's dnsRefreshRate, for where no TTL is at hand
WITHIN = 5.0  # seconds for one name
AT_ONCE = 8  # names: each takes a thread

_NONE = {socket.EAI_NONAME, socket.EAI_NODATA}
_log = structlog.get_logger("consul")

Lookup = Callable[[str], Awaitable[Iterable[str]]]


async def system_lookup(name: str) -> Iterable[str]:
    """Raises OSError (gaierror, or a timeout)."""
    with trio.move_on_after(WITHIN):
        found: list[Any] = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return {str(entry[4][0]) for entry in found}
    raise TimeoutError(f"no answer within {WITHIN:g} s")


class Addresses:
    """`known` by name; `run` it. changed: called when a name has others; must not block nor raise."""

    def __init__(self, changed: Callable[[str], None], *, lookup: Lookup = system_lookup) -> None:
        self.known: dict[str, tuple[str, ...]] = {}
        self._changed = changed
        self._lookup = lookup
        self._wanted: frozenset[str] = frozenset()
        self._awake = trio.Event()
        self._limit = trio.CapacityLimiter(AT_ONCE)

    @property
    def asked(self) -> bool:
        """Each wanted name has been asked for once, whatever came of it."""
        return self.known.keys() >= self._wanted

    def want(self, names: Iterable[str]) -> None:
        self._wanted = frozenset(names)
        self.known = {name: found for name, found in self.known.items() if name in self._wanted}
        if not self.asked:
            self._awake.set()

    async def run(self) -> None:
        while True:
            self._awake = trio.Event()
            new = self._wanted - self.known.keys()
            async with trio.open_nursery() as nursery:
                for name in sorted(new or self._wanted):
                    nursery.start_soon(self._ask, name)
            if self.asked:
                with trio.move_on_after(EVERY if self._wanted else float("inf")):
                    await self._awake.wait()

    async def _ask(self, name: str) -> None:
        before = self.known.get(name)
        try:
            async with self._limit:
                found = tuple(sorted(set(await self._lookup(name))))
        except OSError as error:
            _log.warning("consul.name_not_resolved", name=name, error=str(error))
            gone = isinstance(error, socket.gaierror) and error.errno in _NONE
            found = () if gone else before or ()
        if name in self._wanted:
            self.known[name] = found
            if found != before:
                self._changed(name)

    def __repr__(self) -> str:
        return f"<Addresses {len(self.known)} of {len(self._wanted)}>"
