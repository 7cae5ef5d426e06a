"""The current catalog, and for each reader the hostnames touched since it last looked.

Sources write through `apply` and `drop`; a reader that compiles slower than updates come skips catalogs but misses no name,
for what was touched adds up while it is busy. Trio only, one event loop.
"""

from __future__ import annotations

import trio

from discovery.catalog import Catalog, Change
from discovery.model import ShardKey
from discovery.update import Update
from discovery.watch import Watchable

# Names merged in one go: about 100 µs each where ten clusters have the same service, so half of the 20 ms slice that
# control allows itself between keepalives.
_PIECE = 100


class CatalogFeed:
    """The one place where the catalog of a control process is replaced. `catalog` is for readers who need no names."""

    def __init__(self, own: str) -> None:
        self.catalog = Watchable(Catalog(own))
        self._readers: list[CatalogReader] = []

    def apply(self, key: ShardKey, update: Update) -> frozenset[str]:
        """Let the source `key` say `update`; the hostnames it touched. Never blocks."""
        return self._publish(self.catalog.value.apply(key, update))

    async def apply_slowly(self, key: ShardKey, update: Update) -> frozenset[str]:
        """As `apply`, but a long Reset is written in pieces with other tasks running in between, each piece a catalog of its
        own. Cancelled, it leaves the pieces written so far; the next Reset mends that."""
        said = list(self.catalog.value.differing(key, update).items())
        touched = self._publish(self.catalog.value.write(key, dict(said[:_PIECE])))
        for start in range(_PIECE, len(said), _PIECE):
            await trio.lowlevel.checkpoint()
            touched |= self._publish(self.catalog.value.write(key, dict(said[start : start + _PIECE])))
        return touched

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
