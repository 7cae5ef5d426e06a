"""What a round replaced, let go of a little at a time.

Theory of operation. Whoever holds the last reference to an object frees it, and everything below it, at once: 10,000 services with 100,000
endpoints and the parts made of them take 80 ms, a turn in which no link is heard. So a round that replaces much gives it here. It is kept
until those who work with the last Snapshot (workers' pipes, the state directory) have moved on, then freed in slices.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

import trio

from federation.compile.whole import Compiled
from federation.making import sliced

MANY = 500  # hostnames: 4 ms to free; fewer are left to whoever is last
KEPT = 5.0  # seconds; a worker is sent a whole large Snapshot in less, and one that is slower costs one long turn
_AT_ONCE = 50  # objects in one step: half a millisecond where each is a service with ten endpoints


class Retiring:
    """`run` it, and give it what was replaced."""

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._some = trio.Event()

    async def keep(self, previous: Compiled | None, hostnames: Iterable[str] | None) -> None:
        """What `previous` had of these hostnames (None: all) is about to be let go of."""
        if previous is None:
            return
        names = list(previous.hosts if hostnames is None else hostnames)
        if len(names) >= MANY:
            await sliced(self._collecting(previous, names))
            self._some.set()

    def _collecting(self, previous: Compiled, names: list[str]) -> Generator[None, None, None]:
        services = previous.setting.inputs.services
        for name in names:
            plans = previous.dependents.get(name, frozenset())
            self._kept += (previous.hosts.get(name), services.get(name), *(previous.rendered.get(key) for key in plans))
            yield

    async def run(self) -> None:
        """Until cancelled, which frees the rest at once."""
        while True:
            await self._some.wait()
            self._some = trio.Event()
            await trio.sleep(KEPT)
            await sliced(self._freeing())

    def _freeing(self) -> Generator[None, None, None]:
        kept, self._kept = self._kept, []
        while kept:
            del kept[-_AT_ONCE:]
            yield

    def __repr__(self) -> str:
        return f"<Retiring {len(self._kept)}>"
