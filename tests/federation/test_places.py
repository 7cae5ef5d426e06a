"""Places of documents: read besides the paths, kept while they cannot be, gone when they are taken out."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from discovery.document import Documents, Origin, Outcome, RawDocument
from discovery.watch import Watchable
from federation.places import Place, Places
from federation.resources.node import Node

HERE = {"consul": {"prefix": "here"}}
THERE = {"kubernetes": {}}


class Scripted:
    """A DocumentSource that reads when told to."""

    shows = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.documents: Watchable[Documents] = Watchable(Documents())
        self.read = trio.Event()
        self.outcomes: Mapping[Origin, Outcome] = {}
        self.reloads = 0

    def say(self, *names: str) -> None:
        found = [RawDocument(Origin(f"{self.name}:{each}"), {"kind": "Gateway", "name": each}) for each in names]
        self.documents.set(Documents(tuple(found)))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.read.wait()
        task_status.started()
        await trio.sleep_forever()

    def reload(self) -> None:
        self.reloads += 1

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        self.outcomes = outcomes


class World:
    def __init__(self) -> None:
        self.file = Scripted("file")
        self.file.read.set()
        self.made: list[Scripted] = []
        self.places = Places([self.file], self.make, rng=lambda: 1.0)

    def make(self, place: Place) -> Scripted:
        self.made.append(Scripted(place.kind))
        return self.made[-1]

    async def want(self, *written: dict[str, object]) -> None:
        node = Node.model_validate({"cluster": "east", "resources": list(written)})
        self.places.want([Place(each, "/etc", "east") for each in node.resources])
        await wait_all_tasks_blocked()

    @property
    def names(self) -> list[str]:
        return [str(each.origin) for found in self.places.documents() for each in found.documents]

    @property
    def errors(self) -> list[str]:
        return [str(each.origin) for found in self.places.documents() for each in found.errors]


@pytest.fixture
async def world(nursery):
    it = World()
    await nursery.start(it.places.run)
    return it


async def test_a_place_counts_as_unreadable_until_it_was_read(world):
    world.file.say("a")
    await world.want(HERE)
    assert (world.names, world.errors, world.places.ready) == (["file:a"], ["consul"], False)
    world.made[0].say("b")
    world.made[0].read.set()
    await wait_all_tasks_blocked()
    assert (world.names, world.errors, world.places.ready) == (["file:a", "consul:b"], [], True)


async def test_every_change_is_told(world):
    await world.want(HERE)
    world.made[0].read.set()
    await wait_all_tasks_blocked()
    for source in (world.file, world.made[0]):
        seen = world.places.changed.version
        source.say("x")
        await wait_all_tasks_blocked()
        assert world.places.changed.version == seen + 1


async def test_a_place_that_is_taken_out_takes_its_documents_along(world):
    await world.want(HERE, THERE)
    for source in world.made:
        source.say("a")
        source.read.set()
    await wait_all_tasks_blocked()
    assert world.names == ["consul:a", "kubernetes:a"]
    seen = world.places.changed.version
    await world.want(HERE)
    assert world.names == ["consul:a"]
    assert world.places.changed.version > seen


async def test_reports_and_reloads_reach_all(world):
    await world.want(HERE)
    world.made[0].read.set()
    await wait_all_tasks_blocked()
    outcomes = {Origin("consul:a"): Outcome(())}
    world.places.report(outcomes)
    world.places.reload()
    assert world.made[0].outcomes is outcomes
    assert world.file.outcomes is outcomes
    assert (world.made[0].reloads, world.file.reloads) == (1, 1)


async def test_whether_anybody_shows_what_is_told(world):
    world.file.shows = False
    assert not world.places.shown
    await world.want(THERE)
    assert world.places.shown


async def test_without_a_maker_only_the_paths_are_read(nursery):
    file = Scripted("file")
    file.read.set()
    places = Places([file], None, rng=lambda: 1.0)
    await nursery.start(places.run)
    places.want([Place(Node.model_validate({"cluster": "east", "resources": [HERE]}).resources[0])])
    assert places.ready
    assert places.documents() == [file.documents.value]
