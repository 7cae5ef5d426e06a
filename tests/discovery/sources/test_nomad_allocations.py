"""What is asked for besides registrations: how often, how much at once, and what an answer that fails leaves behind."""

import pytest
import trio
import trio.testing
from nomad_server import ScriptedNomad

from discovery.clients.nomad import NomadClient, NomadOptions
from discovery.model import Health
from discovery.nomad import Registration
from discovery.sources import nomad_allocations as module
from discovery.sources.nomad_allocations import Asking


def registration(alloc, *, service="web", node="n1", number=1):
    return Registration(
        id=f"{alloc}-{service}-{number}",
        service_name=service,
        namespace="default",
        address="10.0.0.1",
        port=1000,
        node_id=node,
        alloc_id=alloc,
    )


class World:
    """An Asking, the scripted agent, and what was said to have changed."""

    def __init__(self, nomad, client):
        self.nomad = nomad
        self.allocations, self.nodes, self.said = {}, {}, []
        self.asking = Asking(client, self.allocations, self.nodes, self.changed)
        self._news = trio.Event()

    def changed(self, registrations):
        self.said.append({each.id for each in registrations})
        news, self._news = self._news, trio.Event()
        news.set()

    async def until(self, good, within=5):
        with trio.fail_after(within):
            while not good():
                await self._news.wait()

    def asked(self, path):
        return sum(target.startswith(path) for target in self.nomad.asked)


@pytest.fixture
async def world(nursery):
    nomad = ScriptedNomad()
    for alloc in ("a1", "a2"):
        nomad.register("web", alloc, "10.0.0.1", 1000)
    port = await nursery.start(nomad.serve)
    async with (
        NomadClient(NomadOptions(f"http://127.0.0.1:{port}")) as client,
        trio.open_nursery() as asking,
    ):  # it outlives who asks
        made = World(nomad, client)
        asking.start_soon(made.asking.run)
        await nomad.wait_blocked("/v1/nodes")
        yield made
        asking.cancel_scope.cancel()
    nursery.cancel_scope.cancel()


async def test_what_is_wanted_is_asked_once_and_then_known(world):
    one = registration("a1")
    assert world.asking.idle
    world.asking.want([one], [])
    assert not world.asking.is_known(one)
    await world.until(lambda: world.asking.idle)
    assert world.asking.is_known(one)
    assert world.allocations["a1"].health("web") is Health.HEALTHY
    assert world.nodes["n1"].name == "n1"
    assert (world.asked("/v1/allocation/a1"), world.asked("/v1/node/n1")) == (1, 1)
    assert world.asked("/v1/client") <= 1, "it has no checks: they may be asked for beside it, and never again"


async def test_a_listed_node_is_kept_for_the_next_that_runs_there(world):
    one, two = registration("a1"), registration("a2")
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    world.asking.want([], [one])
    assert "a1" not in world.allocations
    world.asking.want([two], [])
    await world.until(lambda: world.asking.idle)
    assert world.asked("/v1/node/n1") == 1
    assert world.asked("/v1/allocation/a2") == 1


async def test_a_node_that_changed_while_nobody_needed_it_is_read_when_it_is_needed(world):
    one = registration("a1")
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    world.asking.want([], [one])
    world.nomad.nodes["n1"] |= {"ModifyIndex": world.nomad.index + 1, "NodeClass": "big"}
    world.nomad.change()
    with trio.fail_after(5):
        while "n1" in world.nodes:
            await trio.testing.wait_all_tasks_blocked(0.005)
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    assert world.nodes["n1"].node_class == "big"


async def test_what_fails_counts_as_asked_and_is_asked_again(world, monkeypatch):
    monkeypatch.setattr(module, "_RETRY", 0.05)
    world.nomad.refuse["/v1/allocation"] = 500
    one = registration("a1")
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    assert "a1" not in world.allocations
    world.nomad.refuse.clear()
    await world.until(lambda: "a1" in world.allocations)


async def test_a_check_that_has_not_run_is_asked_for_sooner(world, monkeypatch):
    monkeypatch.setattr(module, "PENDING_EVERY", 0.02)
    monkeypatch.setattr(module, "CHECK_EVERY", 30.0)
    world.nomad.check("a1", "web", "pending")
    one = registration("a1")
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    assert world.allocations["a1"].health("web") is Health.UNHEALTHY
    world.nomad.check("a1", "web", "success")
    await world.until(lambda: world.allocations["a1"].health("web") is Health.HEALTHY)
    asked = world.asked("/v1/client")
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert world.asked("/v1/client") == asked, "then it waits for CHECK_EVERY"


async def test_many_allocations_are_asked_less_often(world, monkeypatch):
    monkeypatch.setattr(module, "QUESTIONS_PER_SECOND", 0.5)
    world.nomad.check("a1", "web", "success")
    world.nomad.check("a2", "web", "success")
    world.asking.want([registration("a1"), registration("a2")], [])
    await world.until(lambda: world.asking.idle)
    assert world.asking._interval(1.0) == 4.0


async def test_an_earlier_watch_s_knowledge_is_forgotten_when_nothing_needs_it(world):
    world.allocations["old"] = world.nodes["gone"] = None
    one = registration("a1")
    world.asking.want([one], [])
    await world.until(lambda: world.asking.idle)
    world.asking.forget_unwanted()
    assert (set(world.allocations), set(world.nodes)) == ({"a1"}, {"n1"})
