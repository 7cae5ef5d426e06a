"""The catalog feed: readers skip catalogs, never names."""

import pytest
import trio
import trio.testing

from discovery.feed import PIECE, SLICE, CatalogFeed
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


async def test_a_long_reset_is_written_in_pieces_with_others_running_in_between():
    feed = CatalogFeed("east")
    services = tuple(Service(f"s{number}") for number in range(250))
    sizes = []

    async def watch():
        seen = -1
        while True:
            seen, catalog = await feed.catalog.newer_than(seen)
            sizes.append(len(catalog.services))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.testing.wait_all_tasks_blocked()
        assert len(await feed.apply_slowly(EAST, Reset(services))) == 250
        await trio.testing.wait_all_tasks_blocked()
        assert {100, 200} & set(sizes)  # a waiting reader wakes within a round or two of the scheduler
        assert sizes[-1] == 250
        assert await feed.apply_slowly(EAST, Reset(services)) == frozenset()
        assert await feed.apply_slowly(EAST, Reset(services[:1])) == {service.hostname for service in services[1:]}
        nursery.cancel_scope.cancel()
    assert list(feed.catalog.value.services) == ["s0"]


async def test_a_shard_is_whole_when_its_first_reset_is_written_and_others_can_wait_for_that(autojump_clock):
    feed = CatalogFeed("east")
    services = tuple(Service(f"s{number}") for number in range(250))
    sizes = []

    async def wait():
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert not feed.whole(EAST)
        await feed.wait_finished()
        sizes.append(len(feed.catalog.value.services))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.apply_slowly, EAST, Reset(services))
        nursery.start_soon(wait)
    assert sizes == [250]
    assert feed.whole(EAST)


async def test_a_reset_that_was_cancelled_keeps_nobody_waiting(autojump_clock):
    feed = CatalogFeed("east")
    with trio.CancelScope() as scope:
        scope.cancel()
        await feed.apply_slowly(EAST, Reset((Service("a"), Service("b"))))
    assert not feed.whole(EAST)
    with trio.fail_after(1):
        await feed.wait_finished()


async def test_what_is_written_goes_through_a_filter_that_sees_old_and_new():
    feed = CatalogFeed("east")
    seen = []

    def through(old, new):
        seen.append((old and old.hostname, new and new.hostname))
        return old if new is None else new

    await feed.apply_slowly(EAST, Reset((Service("a"), Service("b"))), through)
    assert await feed.apply_slowly(EAST, Reset((Service("a"),)), through) == frozenset()
    assert sorted(feed.catalog.value.services) == ["a", "b"]
    assert seen == [(None, "a"), (None, "b"), ("b", None)]


class Slow:
    """A clock by which every look takes `step` seconds."""

    def __init__(self, step: float) -> None:
        self.now, self._step = 0.0, step

    def __call__(self) -> float:
        self.now += self._step
        return self.now


class Turns(trio.abc.Instrument):
    """How many services each turn of any task wrote or took away."""

    def __init__(self, feed: CatalogFeed) -> None:
        self._feed, self._before = feed, len(feed.catalog.value.services)
        self.sizes: list[int] = []

    def before_task_step(self, task):
        self._before = len(self._feed.catalog.value.services)

    def after_task_step(self, task):
        self.sizes.append(abs(len(self._feed.catalog.value.services) - self._before))


@pytest.mark.parametrize(("step", "most"), [(0.0, PIECE), (SLICE, 10), (SLICE * 0.6, 20)])
async def test_a_turn_ends_when_its_time_is_over_or_many_names_are_written(step, most):
    feed = CatalogFeed("east", clock=Slow(step))
    services = tuple(Service(f"s{number}") for number in range(200))
    largest = []
    ways = (
        lambda: feed.apply_slowly(EAST, Reset(services)),
        lambda: feed.apply_slowly(EAST, Reset(())),
        lambda: feed.apply_slowly(EAST, Reset(services)),
        lambda: feed.change_slowly(EAST, lambda service: None),
        lambda: feed.apply_slowly(EAST, Reset(services)),
        lambda: feed.drop_slowly(EAST),
    )
    for way in ways:
        turns = Turns(feed)
        trio.lowlevel.add_instrument(turns)
        await way()
        trio.lowlevel.remove_instrument(turns)
        largest.append(max(turns.sizes))
    assert largest == [most] * len(ways)
    assert EAST not in feed.catalog.value.shards


async def test_a_shard_that_is_dropped_slowly_is_written_until_it_is_gone(autojump_clock):
    feed = CatalogFeed("east")
    feed.apply(EAST, Reset(tuple(Service(f"s{number}") for number in range(250))))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.drop_slowly, EAST)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        assert EAST in feed.catalog.value.shards
        await feed.wait_finished()
        assert EAST not in feed.catalog.value.shards
    await feed.drop_slowly(EAST)  # and nothing is dropped, too
    with trio.CancelScope() as scope:
        scope.cancel()
        await feed.apply_slowly(EAST, Reset((Service("a"), Service("b"))))
    with trio.fail_after(1):
        await feed.wait_finished()
