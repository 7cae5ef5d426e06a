"""The checker against Snapshots that change, on a clock that jumps; the check itself is a table of who answers."""

import itertools

import pytest
import trio

from discovery.model import Health
from discovery.watch import Watchable
from federation.health import HealthChecker
from federation.probe import ProbeFailed
from gateway.snapshot import Backend, EndpointSet, HealthCheck, LbEndpoint, Node, Snapshot

HTTP = HealthCheck("http", "/healthz")


def backend(name, *addresses, check=HTTP, host="reviews", **options):
    endpoints = tuple(LbEndpoint(f"{address}:80", address, 80, cluster="east", **options) for address in addresses)
    return [Backend(name, host, 80, health_check=check), EndpointSet(name, endpoints)]


def snapshot(*parts):
    return Snapshot.of([Node("gw", "east"), *(part for group in parts for part in group)])


class World:
    """sick: addresses that fail, and how. asked: (time, address)."""

    def __init__(self, *parts):
        self.sick, self.asked, self.busy, self.most = {}, [], 0, 0
        self.snapshots = Watchable(snapshot(*parts))
        self.checker = HealthChecker(rng=lambda: 0.5, check=self.check)

    async def check(self, target, tls):
        self.asked.append((trio.current_time(), target.address))
        self.busy += 1
        self.most = max(self.most, self.busy)
        await trio.sleep(0.01)
        self.busy -= 1
        if target.address in self.sick:
            raise ProbeFailed(self.sick[target.address])

    async def results(self, condition):
        seen = -1
        while True:
            seen, results = await self.checker.results.newer_than(seen)
            if condition(results):
                return results


@pytest.fixture
def begin(nursery):
    async def start(*parts, **sick):
        world = World(*parts)
        world.sick = {key.replace("_", "."): value for key, value in sick.items()}
        await nursery.start(world.checker.run, world.snapshots)
        return world

    return start


async def test_the_first_failure_counts_at_once_and_two_passes_heal(autojump_clock, begin):
    world = await begin(backend("b", "a1", "a2"), a1="status 503")
    results = await world.results(lambda r: r)
    assert set(results) == {"b"}
    assert set(results["b"]) == {"a1:80"}
    assert (results["b"]["a1:80"].health, results["b"]["a1:80"].healthy, results["b"]["a1:80"].reason) == (
        Health.UNHEALTHY,
        0,
        "status 503",
    )
    assert len(world.asked) == 2
    world.sick.clear()
    healed = trio.current_time()
    assert await world.results(lambda r: not r) == {}
    assert 1.0 <= trio.current_time() - healed <= 2.1


async def test_what_passed_takes_two_failures(autojump_clock, begin):
    world = await begin(backend("b", "a1"))
    await trio.sleep(5)
    asked, world.sick["a1"] = len(world.asked), "refused"
    await world.results(lambda r: r)
    assert len(world.asked) - asked == 2


async def test_one_check_for_backends_that_share_it(autojump_clock, begin):
    world = await begin(backend("b", "a1"), backend("b-v1", "a1"), a1="refused")
    results = await world.results(lambda r: r)
    assert results["b"] == results["b-v1"]
    assert len(world.asked) == 1


async def test_different_checks_are_different(autojump_clock, begin):
    other = HealthCheck("tcp", unhealthy_threshold=3)
    world = await begin(backend("b", "a1"), backend("c", "a1", check=other))
    await trio.sleep(0.9)
    assert len(world.asked) == 2


async def test_who_is_not_checked(autojump_clock, begin):
    peer = backend("peers", "p1", peer="west")
    elsewhere = [Backend("else", "h", 80, health_check=HTTP), EndpointSet("else", (LbEndpoint("e:80", "e", 80, cluster="west"),))]
    world = await begin(peer, elsewhere, backend("unchecked", "u1", check=None), backend("b", "a1"))
    await trio.sleep(10)
    assert {address for _, address in world.asked} == {"a1"}


async def test_interval_and_no_step_with_slow_answers(autojump_clock, begin):
    world = await begin(backend("b", "a1", check=HealthCheck("tcp", interval_ms=2000)))
    await trio.sleep(21)
    times = [when for when, _ in world.asked]
    assert [round(b - a, 3) for a, b in itertools.pairwise(times)] == [2.0] * (len(times) - 1)
    assert len(times) == 11


async def test_a_snapshot_that_changes_something_else_leaves_checks_as_they_are(autojump_clock, begin):
    world = await begin(backend("b", "a1"), a1="refused")
    results = await world.results(lambda r: r)
    before = len(world.asked)
    for number in range(50):
        world.snapshots.set(world.snapshots.value.changed(backend("other", f"o{number}", check=None)))
        await trio.sleep(0.1)
    assert world.checker.results.value is results
    assert len(world.asked) - before == 5


async def test_what_leaves_the_snapshot_leaves_the_results_and_is_not_asked(autojump_clock, begin):
    world = await begin(backend("b", "a1", "a2"), a1="refused", a2="refused")
    await world.results(lambda r: len(r.get("b", ())) == 2)
    world.snapshots.set(snapshot(backend("b", "a2")))
    assert set((await world.results(lambda r: len(r["b"]) == 1))["b"]) == {"a2:80"}
    world.asked.clear()
    await trio.sleep(5)
    assert {address for _, address in world.asked} == {"a2"}
    world.snapshots.set(snapshot())
    assert await world.results(lambda r: not r) == {}


async def test_a_new_backend_takes_over_the_standing_of_a_check_that_runs(autojump_clock, begin):
    world = await begin(backend("b", "a1"), a1="refused")
    await world.results(lambda r: r)
    world.snapshots.set(snapshot(backend("b", "a1"), backend("c", "a1")))
    await trio.testing.wait_all_tasks_blocked()
    assert set(world.checker.results.value) == {"b", "c"}


@pytest.mark.slow
async def test_bounded_at_once(autojump_clock, nursery):
    world = World(backend("b", *(f"a{n}" for n in range(1000))))
    world.checker._limit.total_tokens = 10
    await nursery.start(world.checker.run, world.snapshots)
    await trio.sleep(3)
    assert world.most == 10
    assert len({address for _, address in world.asked}) == 1000


async def test_standings_tell_who_was_not_checked_yet(autojump_clock, begin):
    world = await begin(backend("b", "a1", "a2"), a1="refused")
    assert {healthy for _, healthy, _ in world.checker.standings()} == {None}
    await trio.sleep(1)
    assert {target.address: (healthy, reason) for target, healthy, reason in world.checker.standings()} == {
        "a1": (False, "refused"),
        "a2": (True, ""),
    }
    assert repr(world.checker) == "<HealthChecker 2 checks, 1 failing>"
