"""The current catalog, and for each reader the hostnames touched since it last looked.

Sources write through `apply` and `drop`; a reader that compiles slower than updates come skips catalogs but misses no name,
for what was touched adds up while it is busy. Trio only, one event loop.
"""

from __future__ import annotations

from discovery.catalog import Catalog, Change
from discovery.model import ShardKey
from discovery.update import Update
from discovery.watch import Watchable


class CatalogFeed:
    """The one place where the catalog of a control process is replaced. `catalog` is for readers who need no names."""

    def __init__(self, own: str) -> None:
        self.catalog = Watchable(Catalog(own))
        self._readers: list[CatalogReader] = []

    def apply(self, key: ShardKey, update: Update) -> frozenset[str]:
        """Let the source `key` say `update`; the hostnames it touched. Never blocks."""
        return self._publish(self.catalog.value.apply(key, update))

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
