"""The current catalog, and for each reader the hostnames touched since it last looked.

Sources write through `apply` and `drop`; a reader that compiles slower than updates come skips catalogs but misses no name,
for what was touched adds up while it is busy. Trio only, one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import trio

from discovery.catalog import Catalog, Change
from discovery.model import Service, ShardKey
from discovery.update import Reset, Update
from discovery.watch import Watchable

Through = Callable[[Service | None, Service | None], Service | None]
"""(what the shard has, what its source says now) → what is written; None = no such service. Asked for every service that differs."""

T = TypeVar("T")

# What is long is written a few names at a time, about 100 µs each where ten clusters have the same service, until a turn is over: a quarter
# of the 20 ms that control allows itself between keepalives, since the collector and a busy machine take their share of it too; and at
# most so many names, so that readers that skip catalogs have something to compile meanwhile.
SLICE = 0.005
PIECE = 50
_FEW = 10  # a catalog of its own each time, 30 µs


class CatalogFeed:
    """The one place where the catalog of a control process is replaced. `catalog` is for readers who need no names."""

    def __init__(self, own: str, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.catalog = Watchable(Catalog(own))
        self._readers: list[CatalogReader] = []
        self._unfinished: set[ShardKey] = set()  # whose last Reset was not written to its end
        self._writing: set[ShardKey] = set()
        self._finished = trio.Event()

    def apply(self, key: ShardKey, update: Update, through: Through | None = None) -> frozenset[str]:
        """Let the source `key` say `update`; the hostnames it touched. Never blocks."""
        return self.write(key, self.catalog.value.differing(key, update), through)

    def write(self, key: ShardKey, said: Mapping[str, Service | None], through: Through | None = None) -> frozenset[str]:
        """As Catalog.write. Never blocks."""
        if through is not None:
            shard = self.catalog.value.shards.get(key, {})
            passed = {name: through(shard.get(name), service) for name, service in said.items()}
            said = {name: service for name, service in passed.items() if shard.get(name) != service}
        return self._publish(self.catalog.value.write(key, said))

    async def apply_slowly(self, key: ShardKey, update: Update, through: Through | None = None) -> frozenset[str]:
        """As `apply`, but a long Reset is written in pieces with other tasks running in between, each piece a catalog of its
        own. Cancelled, it leaves the pieces written so far; the next Reset mends that."""
        if not isinstance(update, Reset):
            return self.apply(key, update, through)
        self._unfinished.add(key)
        self._writing.add(key)
        try:
            touched = await self._write_slowly(key, update, through)
        finally:
            self._written(key)
        self._unfinished.discard(key)
        return touched

    async def _write_slowly(self, key: ShardKey, update: Reset, through: Through | None) -> frozenset[str]:
        known, touched = set[str](), set[str]()

        def there(some: Sequence[Service]) -> None:
            known.update(service.hostname.lower() for service in some)
            touched.update(self.write(key, self.catalog.value.differing_in(key, some), through))

        await self._in_turns(update.services, there)
        gone = [name for name in self.catalog.value.shards.get(key, ()) if name not in known]
        if gone:
            await self._in_turns(gone, lambda some: touched.update(self.write(key, dict.fromkeys(some), through)))
        return frozenset(touched)

    async def change_slowly(self, key: ShardKey, make: Callable[[Service], Service | None]) -> None:
        """Put what `make` makes of it in place of every service of the shard, in pieces like `apply_slowly`. Cancelled, it leaves the
        pieces changed so far."""

        def change(names: Sequence[str]) -> None:
            shard = self.catalog.value.shards.get(key, {})
            there = {name: shard[name] for name in names if name in shard}
            made = {name: make(service) for name, service in there.items()}
            self.write(key, {name: service for name, service in made.items() if service != there[name]})

        if names := list(self.catalog.value.shards.get(key, ())):
            await self._in_turns(names, change)

    async def drop_slowly(self, key: ShardKey) -> None:
        """As `drop`, in pieces like `apply_slowly`. Cancelled, it leaves what is not yet gone, to be dropped again."""
        self._writing.add(key)
        try:
            if names := list(self.catalog.value.shards.get(key, ())):
                await self._in_turns(names, lambda some: self.write(key, dict.fromkeys(some)))
            self.drop(key)
        finally:
            self._written(key)

    async def _in_turns(self, items: Sequence[T], write: Callable[[Sequence[T]], object]) -> None:
        """`write` them all, a few at a time; nothing is written once, too. Others have a turn whenever one is over."""
        until, left = self._clock() + SLICE, PIECE
        for start in range(0, max(1, len(items)), _FEW):
            write(items[start : start + _FEW])
            left -= _FEW
            if not left or self._clock() >= until:
                await trio.lowlevel.checkpoint()
                until, left = self._clock() + SLICE, PIECE
        await trio.lowlevel.checkpoint()

    def _written(self, key: ShardKey) -> None:
        self._writing.discard(key)
        if not self._writing:
            finished, self._finished = self._finished, trio.Event()
            finished.set()

    async def wait_finished(self) -> None:
        """Wait until nothing long is being written."""
        while self._writing:
            await self._finished.wait()

    def whole(self, key: ShardKey) -> bool:
        """Whether the source has said everything once; not so while its Reset is being written."""
        return key in self.catalog.value.shards and key not in self._unfinished

    def drop(self, key: ShardKey) -> frozenset[str]:
        """Take a source's shard away, all at once: 10 µs a service and more. Never blocks."""
        return self._publish(self.catalog.value.drop(key))

    def reader(self) -> CatalogReader:
        """A reader whose first `wait_changed` returns at once with everything there is. Readers are kept for the feed's life."""
        reader = CatalogReader(self.catalog)
        self._readers.append(reader)
        return reader

    def _publish(self, change: Change) -> frozenset[str]:
        for reader in self._readers:
            reader._touched |= change.touched
        self.catalog.set(change.catalog)
        return change.touched


class CatalogReader:
    """Made by `CatalogFeed.reader`."""

    def __init__(self, catalog: Watchable[Catalog]) -> None:
        self._catalog = catalog
        self._seen = -1
        self._touched: set[str] = set(catalog.value.services)

    async def wait_changed(self) -> Change:
        """Wait for a catalog newer than the last one returned; with it, every hostname touched since. A cancelled wait loses
        nothing: the next one returns the same names."""
        self._seen, catalog = await self._catalog.newer_than(self._seen)
        touched, self._touched = frozenset(self._touched), set()
        return Change(catalog, touched)
