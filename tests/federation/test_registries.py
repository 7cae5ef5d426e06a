"""The Node's sources: followed, followed anew, and taken out with their shards."""

from __future__ import annotations

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from discovery.feed import CatalogFeed
from discovery.merge import Finding
from discovery.model import Locality, Service, ShardKey
from discovery.update import Reset
from federation.registries import Registries, Registry, registries
from federation.resources.node import Node


def node(*sources: dict[str, object], **spec: object) -> Node:
    return Node.model_validate({"cluster": "east", "sources": list(sources)} | spec)


CONSUL = {"name": "a", "consul": {}}
NOMAD = {"name": "b", "nomad": {}}


class Said:
    """A source that says one service, named after where it asks."""

    cluster = "east"

    def __init__(self, registry: Registry, log: list[str]) -> None:
        self.name, self._written, self._log = registry.written.name, registry.written, log

    @trio.as_safe_channel
    async def watch(self):
        kind = getattr(self._written, self._written.kinds[0])
        self._log.append(f"+{self.name}")
        try:
            yield Reset((Service(f"{self.name}.{kind.address.rpartition(':')[2]}"),))
            await trio.sleep_forever()
        finally:
            self._log.append(f"-{self.name}")


class World:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.feed = CatalogFeed("east")
        self.registries = Registries(self.feed, self.make, "east", rng=lambda: 1.0)

    def make(self, registry: Registry) -> Said:
        if registry.written.name == "broken":
            raise OSError("no such token file")
        return Said(registry, self.log)

    @property
    def services(self) -> set[str]:
        return set(self.feed.catalog.value.services)

    async def want(self, *sources: dict[str, object]) -> None:
        self.registries.want(registries(node(*sources)))
        await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()


@pytest.fixture
async def world(nursery):
    it = World()
    nursery.start_soon(it.registries.run)
    return it


async def test_what_the_node_names_is_followed_and_what_it_names_no_more_goes(world):
    await world.want(CONSUL, NOMAD)
    assert world.services == {"a.8500", "b.4646"}
    assert {status.key.source: status.shard for status in world.registries.statuses()} == {"a": "live", "b": "live"}
    await world.want(NOMAD)
    assert world.services == {"b.4646"}
    assert ShardKey("east", "a") not in world.feed.catalog.value.shards
    assert [each for each in world.log if "a" in each] == ["+a", "-a"]
    assert "-b" not in world.log


async def test_a_change_follows_it_anew_and_its_neighbours_not_at_all(world):
    await world.want(CONSUL, NOMAD)
    await world.want({"name": "a", "consul": {"address": "http://127.0.0.1:9500"}}, NOMAD)
    assert world.services == {"a.9500", "b.4646"}
    assert [each for each in world.log if "a" in each] == ["+a", "-a", "+a"]
    assert "-b" not in world.log


async def test_the_end_of_the_process_leaves_every_shard():
    it = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.registries.run)
        await it.want(CONSUL)
        nursery.cancel_scope.cancel()
    assert it.services == {"a.8500"}


async def test_one_that_cannot_even_be_made_says_so_and_holds_nobody_up(world):
    await world.want({"name": "broken", "consul": {}}, NOMAD)
    assert world.services == {"b.4646"}
    broken, other = world.registries.statuses()
    assert (broken.key.source, broken.connected, broken.error) == ("broken", False, "OSError: no such token file")
    assert other.connected


async def test_findings_are_told_to_the_sources_that_show_them(nursery):
    told = []

    class Showing(Said):
        def report(self, findings):
            told.append((self.name, list(findings)))

    log: list[str] = []
    make = {"a": lambda registry: Showing(registry, log), "b": lambda registry: Said(registry, log)}
    world = World()
    world.registries = Registries(world.feed, lambda registry: make[registry.written.name](registry), "east", rng=lambda: 1.0)
    nursery.start_soon(world.registries.run)
    await world.want(CONSUL, NOMAD)
    finding = Finding("a.x", "ports", "differ", ShardKey("east", "a"), (ShardKey("east", "b"),))
    findings = {"a.x": (finding,)}
    world.registries.report(findings)
    world.registries.report(findings)
    assert told == [("a", []), ("a", [finding])]
    await world.want(NOMAD)
    world.registries.report({})
    assert len(told) == 2


async def test_a_registry_that_is_lost_and_found_is_a_line_each_in_the_log(nursery, autojump_clock):
    class Away(Said):
        """Answers, is lost, is away for three tries, answers again."""

        tries = 0

        @trio.as_safe_channel
        async def watch(self):
            Away.tries += 1
            if Away.tries in (2, 3, 4):
                raise OSError("refused")
            yield Reset((Service("a.x"),))
            await trio.sleep(5 if Away.tries == 1 else 1000)
            raise OSError("gone")

    world = World()
    world.registries = Registries(world.feed, lambda registry: Away(registry, world.log), "east", rng=lambda: 1.0)
    with structlog.testing.capture_logs() as lines:
        nursery.start_soon(world.registries.run)
        world.registries.want(registries(node(CONSUL | {"onLoss": {"degrade": "100ms"}})))
        await trio.sleep(60)
    assert [line["event"] for line in lines] == ["registry.read", "registry.lost", "registry.lease_ended", "registry.read"]
    assert lines[1]["error"] == "OSError: gone"
    assert lines[2]["shard"] == "degraded"
    assert all(line["source"] == "a" for line in lines)


def test_where_this_gateway_stands_is_what_a_source_is_told():
    written = {"name": "a", "consul": {"hostname": "{service}.{namespace}.global"}}
    found = registries(node(written, locality="eu/eu-1", network="net", clusterDomain="corp.local"), "/etc/fedgate")["a"]
    assert (found.here.cluster, found.here.network, found.here.locality) == ("east", "net", Locality("eu", "eu-1"))
    assert found.here.host("web", "shop") == "web.shop.global"
    assert found.folder == "/etc/fedgate"
    assert registries(node(CONSUL))["a"].here.network == "east"


def test_dns_is_the_planes_own_source():
    assert registries(node({"name": "n", "dns": {"services": [{"host": "a.example"}]}}, CONSUL)).keys() == {"a"}
