"""Following a source: its shard in the catalog, its status, backoff, and each loss policy."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from discovery.backoff import BackoffPolicy
from discovery.feed import PIECE, CatalogFeed
from discovery.loss import LossPolicy, OnLoss
from discovery.model import Endpoint, Health, Service, ShardKey
from discovery.source import Follower
from discovery.update import Remove, Reset, Upsert

KEY = ShardKey("east", "scripted")
A = Service("a", endpoints=(Endpoint("10.0.0.1", cluster="east"), Endpoint("10.0.0.2", cluster="east", health=Health.UNHEALTHY)))


class Scripted:
    """A source that plays one list of updates a watch; an exception in it is raised, the end of a list is waited at."""

    name, cluster = "scripted", "east"

    def __init__(self, *watches):
        self.watches = list(watches)
        self.began = []

    @trio.as_safe_channel
    async def watch(self):
        self.began.append(trio.current_time())
        for step in self.watches.pop(0) if self.watches else [OSError("refused")]:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, int):
                await trio.sleep(step)
            elif step is None:
                return
            else:
                yield step
        await trio.sleep_forever()


def follow(nursery, *watches, **options):
    source, feed = Scripted(*watches), CatalogFeed("east")
    options = {"clock": trio.current_time, "rng": lambda: 1.0, "backoff": BackoffPolicy(base=1, cap=4)} | options
    follower = Follower(source, feed, **options)
    nursery.start_soon(follower.run)
    return source, feed, follower


async def test_updates_become_its_shard_and_its_status(nursery, autojump_clock):
    began = trio.current_time()
    _, feed, follower = follow(nursery, [Reset((A,)), 5, Upsert(Service("b")), 5, Remove("a")])
    assert (follower.status.value.shard, follower.status.value.connected) == ("none", False)
    await trio.sleep(7)
    assert set(feed.catalog.value.shards[KEY]) == {"a", "b"}
    status = follower.status.value
    assert (status.connected, status.error, status.services, status.lost, status.shard) == (True, "", 2, None, "live")
    assert status.updated - began == pytest.approx(5)
    await trio.sleep(4)
    assert set(feed.catalog.value.services) == {"b"}


async def test_a_lost_source_is_tried_again_with_backoff_and_its_shard_is_kept(nursery, autojump_clock):
    source, feed, follower = follow(nursery, [Reset((A,)), OSError("gone")])
    await trio.sleep(20)
    began = source.began[0]
    assert [time - began for time in source.began] == pytest.approx([0, 1, 3, 7, 11, 15, 19])
    status = follower.status.value
    assert (status.connected, status.error, status.failures, status.shard) == (False, "OSError: refused", 7, "kept")
    assert status.lost == pytest.approx(began)
    assert feed.catalog.value.services["a"] == A


async def test_a_reset_replaces_the_kept_shard_and_ends_the_loss(nursery, autojump_clock):
    source, feed, follower = follow(
        nursery, [Reset((A,)), OSError("gone")], [Reset((Service("b"),)), OSError("gone")], [2, Reset(())]
    )
    await trio.sleep(1.5)
    assert set(feed.catalog.value.services) == {"b"}
    await trio.sleep(1)
    assert source.began[2] - source.began[1] == pytest.approx(1)  # the backoff began anew
    await trio.sleep(5)
    assert not feed.catalog.value.services
    assert follower.status.value.connected


async def test_a_source_that_ends_or_does_not_begin_with_a_reset_is_lost(nursery, autojump_clock):
    _, feed, follower = follow(nursery, [Reset((A,)), None], [Upsert(Service("b"))], [])
    await trio.sleep(0.5)
    assert "ended its updates" in follower.status.value.error
    await trio.sleep(1)
    assert "began with Upsert, not Reset" in follower.status.value.error
    assert set(feed.catalog.value.services) == {"a"}


async def test_an_expired_lease_drops_the_shard_until_the_next_reset(nursery, autojump_clock):
    watches = [[Reset((A,)), 100, OSError("gone")], *[[OSError("still")]] * 3, [Reset((A,))]]
    _, feed, follower = follow(nursery, *watches, loss=LossPolicy(OnLoss.EXPIRE, after=6))
    await trio.sleep(105)
    assert set(feed.catalog.value.services) == {"a"}
    await trio.sleep(1.5)
    assert KEY not in feed.catalog.value.shards
    assert (follower.status.value.shard, follower.status.value.services) == ("expired", 0)
    await trio.sleep(10)
    assert set(feed.catalog.value.services) == {"a"}
    assert follower.status.value.shard == "live"
    await trio.sleep(100)
    assert set(feed.catalog.value.services) == {"a"}


async def test_a_degraded_shard_keeps_its_endpoints_at_lower_rank(nursery, autojump_clock):
    _, feed, follower = follow(nursery, [Reset((A,)), OSError("gone")], loss=LossPolicy(OnLoss.DEGRADE))
    await trio.sleep(0.5)
    assert [endpoint.health for endpoint in feed.catalog.value.services["a"].endpoints] == [Health.DEGRADED, Health.UNHEALTHY]
    assert follower.status.value.shard == "degraded"


async def test_a_source_never_reached_has_no_shard_to_lose(nursery, autojump_clock):
    _, feed, follower = follow(nursery, loss=LossPolicy(OnLoss.EXPIRE, after=1))
    await trio.sleep(10)
    assert not feed.catalog.value.shards
    assert follower.status.value.shard == "none"


async def test_cancellation_leaves_the_shard(autojump_clock):
    async with trio.open_nursery() as nursery:
        _, feed, _ = follow(nursery, [Reset((A,))], loss=LossPolicy(OnLoss.EXPIRE, after=1))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert set(feed.catalog.value.services) == {"a"}


async def test_what_comes_and_goes_often_is_degraded_for_a_while_and_then_as_its_registry_has_it(nursery, autojump_clock):
    calm = Service("b", endpoints=(Endpoint("10.0.0.9", cluster="east"),))
    gone = Service("b")
    flaps = [each for _ in range(3) for each in (Upsert(gone), 1, Upsert(calm), 1)]
    _, feed, follower = follow(nursery, [Reset((calm,)), 1, *flaps])
    await trio.sleep(7)
    assert feed.catalog.value.services["b"].endpoints[0].health is Health.DEGRADED
    assert follower.status.value.damped == 1
    await trio.sleep(5)
    assert feed.catalog.value.services["b"] == calm
    assert follower.status.value.damped == 0


async def test_a_reset_that_empties_most_is_doubted_for_thirty_seconds(nursery, autojump_clock):
    many = tuple(
        Service(f"s{number}", endpoints=tuple(Endpoint(f"10.0.{number}.{x}", cluster="east") for x in range(4)))
        for number in range(5)
    )
    _, feed, follower = follow(nursery, [Reset(many), 1, OSError("lost")], [Reset(many[:1]), 5, Remove("s4")])
    await trio.sleep(3)
    assert len(feed.catalog.value.services) == 5
    assert feed.catalog.value.services["s3"].endpoints[0].health is Health.DEGRADED
    assert "4 of 20 endpoints" in follower.status.value.remark
    await trio.sleep(5)
    assert "s4" not in feed.catalog.value.services
    await trio.sleep(28)
    assert set(feed.catalog.value.services) == {"s0"}
    assert follower.status.value.remark == ""


async def largest_change(feed):
    """Names that a reader sees change at once, at most, until nothing does."""
    reader, most = feed.reader(), 0
    await reader.wait_changed()
    with trio.move_on_after(60):
        while True:
            most = max(most, len((await reader.wait_changed()).touched))
    return most


@pytest.mark.parametrize(("loss", "word"), [(OnLoss.EXPIRE, "expired"), (OnLoss.DEGRADE, "degraded")])
async def test_a_lease_that_ends_takes_the_loop_for_a_piece_at_a_time(nursery, autojump_clock, loss, word):
    services = tuple(Service(f"s{number}", endpoints=(Endpoint("10.0.0.1"),)) for number in range(6 * PIECE))
    _, feed, follower = follow(nursery, [Reset(services), 1, OSError("gone")], loss=LossPolicy(loss, after=1))
    await trio.sleep(1.5)
    assert 0 < await largest_change(feed) <= 2 * PIECE  # a reader may have its turn after two of them
    assert follower.status.value.shard == word


async def test_what_is_doubted_is_believed_a_piece_at_a_time(nursery, autojump_clock):
    services = tuple(Service(f"s{number}", endpoints=(Endpoint("10.0.0.1"),)) for number in range(6 * PIECE))
    _, feed, _ = follow(nursery, [Reset(services), 1, OSError("gone")], [Reset(services[:1])])
    await trio.sleep(10)
    assert len(feed.catalog.value.services) == 6 * PIECE
    assert 0 < await largest_change(feed) <= 2 * PIECE
    assert len(feed.catalog.value.services) == 1
