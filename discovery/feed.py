"""The current catalog, and for each reader the hostnames touched since it last looked.

Sources write through `apply` and `drop`; a reader that compiles slower than updates come skips catalogs but misses no name,
for what was touched adds up while it is busy. Trio only, one event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from discovery.catalog import Catalog, Change
from discovery.model import Service, ShardKey
from discovery.update import Reset, Update
from discovery.watch import Watchable

Through = Callable[[Service | None, Service | None], Service | None]
"""(what the shard has, what its source says now) → what is written; None = no such service. Asked for every service that differs."""

# Names merged in one go: about 100 µs each where ten clusters have the same service, so a quarter of the 20 ms slice that control allows
# itself between keepalives: the collector and a busy machine take their share of it too.
PIECE = 50


class CatalogFeed:
    """The one place where the catalog of a control process is replaced. `catalog` is for readers who need no names."""

    def __init__(self, own: str) -> None:
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
            self._writing.discard(key)
            if not self._writing:
                finished, self._finished = self._finished, trio.Event()
                finished.set()
        self._unfinished.discard(key)
        return touched

    async def _write_slowly(self, key: ShardKey, update: Reset, through: Through | None) -> frozenset[str]:
        services, known, touched = update.services, set[str](), frozenset[str]()
        for start in range(0, max(1, len(services)), PIECE):
            piece = services[start : start + PIECE]
            known.update(service.hostname.lower() for service in piece)
            touched |= self.write(key, self.catalog.value.differing_in(key, piece), through)
            await trio.lowlevel.checkpoint()
        gone = [name for name in self.catalog.value.shards.get(key, ()) if name not in known]
        for start in range(0, len(gone), PIECE):
            touched |= self.write(key, dict.fromkeys(gone[start : start + PIECE]), through)
            await trio.lowlevel.checkpoint()
        return touched

    async def change_slowly(self, key: ShardKey, make: Callable[[Service], Service | None]) -> None:
        """Put what `make` makes of it in place of every service of the shard, in pieces like `apply_slowly`. Cancelled, it leaves the
        pieces changed so far."""
        names = list(self.catalog.value.shards.get(key, ()))
        for start in range(0, len(names), PIECE):
            shard = self.catalog.value.shards.get(key, {})
            there = {name: shard[name] for name in names[start : start + PIECE] if name in shard}
            made = {name: make(service) for name, service in there.items()}
            self.write(key, {name: service for name, service in made.items() if service != there[name]})
            await trio.lowlevel.checkpoint()

    async def wait_finished(self) -> None:
        """Wait until no Reset is being written."""
        while self._writing:
            await self._finished.wait()

    def whole(self, key: ShardKey) -> bool:
        """Whether the source has said everything once; not so while its Reset is being written."""
        return key in self.catalog.value.shards and key not in self._unfinished

    def drop(self, key: ShardKey) -> frozenset[str]:
        """Take a source's shard away. Never blocks."""
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
