"""The catalog feed: readers skip catalogs, never names."""

import trio

from discovery.feed import CatalogFeed
from discovery.model import Service, ShardKey
from discovery.update import Remove, Reset, Upsert

EAST = ShardKey("east", "k8s")


async def test_the_first_look_gives_everything_there_is():
    feed = CatalogFeed("east")
    feed.apply(EAST, Reset((Service("a"), Service("b"))))
    change = await feed.reader().wait_changed()
    assert change.touched == {"a", "b"}
    assert change.catalog is feed.catalog.value


async def test_a_slow_reader_gets_the_latest_catalog_and_every_name_touched():
    feed = CatalogFeed("east")
    reader, other = feed.reader(), feed.reader()
    await reader.wait_changed()
    assert feed.apply(EAST, Upsert(Service("a"))) == {"a"}
    feed.apply(EAST, Upsert(Service("b")))
    assert (await other.wait_changed()).touched == {"a", "b"}
    feed.apply(EAST, Remove("a"))
    change = await reader.wait_changed()
    assert change.touched == {"a", "b"}
    assert list(change.catalog.services) == ["b"]
    assert feed.drop(EAST) == {"b"}


async def test_a_cancelled_wait_loses_nothing():
    feed = CatalogFeed("east")
    reader = feed.reader()
    await reader.wait_changed()
    with trio.CancelScope() as scope:
        scope.cancel()
        await reader.wait_changed()
    assert scope.cancelled_caught
    feed.apply(EAST, Upsert(Service("a")))
    assert (await reader.wait_changed()).touched == {"a"}
