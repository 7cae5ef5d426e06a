"""Peers as sources of the catalog: what becomes of what they said when they are lost, and who was never heard."""

from __future__ import annotations

import msgspec
import pytest
import structlog
import trio
from gateways import Net, Site
from sessions import service

from discovery.feed import CatalogFeed
from discovery.loss import LossPolicy, OnLoss
from discovery.model import Health, Service, ShardKey
from discovery.update import Reset
from discovery.watch import Watchable
from federation.peering.link import PEER
from federation.peers import Peers

GW = "192.0.2.7"
KEY = ShardKey("west", PEER)


class World:
    """East's peers: west, whose gateway is at GW."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.net, self.east, self.west = Net(nursery), Site("east"), Site("west")
        self.net.sites[GW] = self.west
        self.west.knows(self.east)
        self.west.offers.set((service("a"),))
        self.feed = CatalogFeed("east")
        self.peers = Peers(
            self.feed,
            hello=self.east.hello,
            credential=self.east.credential,
            offers=lambda peer: Watchable(()),
            lookup=self.net.lookup,
            dial=self.net.dial,
            rng=lambda: 0.5,
        )

    def agree(self, loss: LossPolicy | None = None) -> None:
        terms = self.west.terms(f"{GW}:15443")
        self.peers.agree({"west": msgspec.structs.replace(terms, loss=loss) if loss else terms})

    async def until(self, wanted: str) -> None:
        """Until the catalog's shard of west is that: nothing, the health of its endpoint, or its services' names."""
        seen = -1
        with trio.fail_after(100_000):
            while self.shown() != wanted:
                seen, _ = await self.feed.catalog.newer_than(seen)

    def shown(self) -> str:
        shard = self.feed.catalog.value.shards.get(KEY)
        if shard is None:
            return "gone"
        return " ".join(f"{name} {each.endpoints[0].health.value}" for name, each in sorted(shard.items()))


@pytest.fixture
async def world(nursery):
    it = World(nursery)
    nursery.start_soon(it.peers.run)
    return it


HEALTHY, DEGRADED = f"a {Health.HEALTHY.value}", f"a {Health.DEGRADED.value}"


async def test_what_a_lost_peer_said_stands_for_ever_unless_something_is_written(world, autojump_clock):
    world.agree()
    await world.until(HEALTHY)
    await world.net.stop(GW)
    await trio.sleep(600)
    assert world.shown() == HEALTHY
    (status,) = world.peers.sources()
    assert (status.connected, status.shard) == (False, "kept")
    assert "no session with any gateway of peer west" in status.error
    assert world.peers.statuses()[0].imported == 1


@pytest.mark.parametrize(
    ("action", "becomes", "word", "imported"), [(OnLoss.EXPIRE, "gone", "expired", 0), (OnLoss.DEGRADE, DEGRADED, "degraded", 1)]
)
async def test_the_lease_of_a_lost_peer(world, autojump_clock, action, becomes, word, imported):
    world.agree(LossPolicy(action, 60.0))
    await world.until(HEALTHY)
    await world.net.stop(GW)
    lost = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        await world.until(becomes)
        await trio.testing.wait_all_tasks_blocked()
    assert 60 <= trio.current_time() - lost <= 62
    assert [(each["event"], each["shard"]) for each in logs if each["event"] == "peer.lease_ended"] == [("peer.lease_ended", word)]
    assert world.peers.sources()[0].shard == word
    assert world.peers.statuses()[0].imported == imported
    world.net.down.clear()  # it is back, and so is what it says
    await world.until(HEALTHY)
    await trio.testing.wait_all_tasks_blocked()  # the catalog is written first, the status after it
    assert world.peers.statuses()[0].imported == 1


async def test_a_peer_that_comes_back_in_time_loses_nothing(world, autojump_clock):
    world.agree(LossPolicy(OnLoss.EXPIRE, 60.0))
    await world.until(HEALTHY)
    for _ in range(3):
        await world.net.stop(GW)
        await trio.sleep(40)
        assert world.shown() == HEALTHY
        world.net.down.clear()
        await trio.sleep(10)
        assert world.peers.sources()[0].connected


async def test_who_was_never_heard(world, autojump_clock):
    world.net.down.add(GW)
    world.agree()
    assert world.peers.unheard() == ["west"]
    await trio.sleep(60)
    assert world.peers.unheard() == ["west"]
    world.net.down.clear()
    await world.until(HEALTHY)
    await trio.testing.wait_all_tasks_blocked()  # until its picture is written to its end
    assert world.peers.unheard() == []


async def test_who_is_known_from_an_earlier_process_was_heard(world, autojump_clock):
    world.net.down.add(GW)
    world.feed.apply(KEY, Reset((Service("b"),)))
    world.agree()
    assert world.peers.unheard() == []
