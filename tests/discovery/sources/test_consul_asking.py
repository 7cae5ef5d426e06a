"""Many services over few connections."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from scripted_consul import CHECKS, HEALTH, Scripted, ScriptedConsul, entry

from discovery.clients.consul import ConsulClient, ConsulConnection
from discovery.clients.consul_checks import Check
from discovery.sources import consul_asking as module
from discovery.sources.consul_asking import Asking, Pace, differing


class Told:
    """What was taken and what failed, and a wait for it."""

    def __init__(self):
        self.taken, self.failed = [], []
        self._more = trio.Event()

    def take(self, key, answer):
        self.taken.append((key, len(answer.data)))
        self._tell()

    def fail(self, key, error):
        self.failed.append((key, error))
        self._tell()

    def _tell(self):
        more, self._more = self._more, trio.Event()
        more.set()

    async def wait(self, condition):
        with trio.fail_after(5):
            while not condition(self):
                await self._more.wait()


@pytest.fixture
async def consul(nursery):
    made = ScriptedConsul()
    await nursery.start(made.serve)
    for name in ("a", "b", "c"):
        made.instances(name, entry(f"{name}-1", "10.0.0.1", 80, name=name, node=f"n-{name}"))
    return made


async def begun(consul, nursery, most):
    told = Told()
    client = ConsulClient(ConsulConnection(consul.address))
    asking = Asking(client, most=most, take=told.take, failed=told.fail)

    async def run():
        async with client:
            await asking.run()

    nursery.start_soon(run)
    return asking, told


async def test_those_with_a_query_are_told_at_once_and_forgotten_ones_no_more(consul, nursery):
    asking, told = await begun(consul, nursery, 2)
    asking.want([("", "a"), ("", "b")])
    await told.wait(lambda told: len(told.taken) == 2)
    await consul.wait_asked(lambda asked: asked.path == HEALTH + "a" and asked.index)
    consul.instances("a", entry("1", "10.0.0.1", 80), entry("2", "10.0.0.2", 80))
    await told.wait(lambda told: (("", "a"), 2) in told.taken)
    asking.forget(("", "a"))
    asking.want([("", "c")])  # takes the place
    await told.wait(lambda told: (("", "c"), 1) in told.taken)
    await consul.wait_asked(lambda asked: asked.path == HEALTH + "c" and asked.index)
    assert not [asked for asked in consul.requests if asked.path == CHECKS]
    nursery.cancel_scope.cancel()


async def test_a_sweep_reads_each_once(consul, nursery):
    asking, told = await begun(consul, nursery, 0)
    asking.want([("", "a"), ("", "b"), ("", "c")])
    await told.wait(lambda told: len(told.taken) == 3)
    asking.sweep()
    await told.wait(lambda told: len(told.taken) == 6)
    assert sorted(key[1] for key, _ in told.taken[3:]) == ["a", "b", "c"]
    nursery.cancel_scope.cancel()


async def test_a_nodes_check_is_one_of_all_services_there(consul, nursery):
    asking, told = await begun(consul, nursery, 0)
    asking.want([("", "a"), ("", "b")])
    await told.wait(lambda told: len(told.taken) == 2)
    await consul.wait_asked(lambda asked: asked.path == CHECKS and asked.index)
    serf = {"Node": "n-b", "CheckID": "serfHealth", "Status": "critical", "ServiceName": ""}
    consul.say(CHECKS, [*consul.answers[CHECKS][1], serf])
    await told.wait(lambda told: len(told.taken) == 3)
    assert told.taken[2][0] == ("", "b")
    nursery.cancel_scope.cancel()


async def test_a_swept_service_that_changed_takes_the_place_of_the_quietest(consul, nursery):
    asking, told = await begun(consul, nursery, 2)
    asking.want([("", "a"), ("", "b"), ("", "c")])
    await told.wait(lambda told: len(told.taken) == 3)
    await consul.wait_asked(lambda asked: asked.path == HEALTH + "a" and asked.index)
    consul.instances("a", entry("a-1", "10.0.0.1", 80, name="a"), entry("a-2", "10.0.0.2", 80, name="a"))  # so b is the quietest
    await told.wait(lambda told: (("", "a"), 2) in told.taken)
    consul.instances("c", entry("c-1", "10.0.0.1", 80, name="c"), entry("c-2", "10.0.0.2", 80, name="c"))
    asking.sweep()
    await consul.wait_asked(lambda asked: asked.path == HEALTH + "c" and asked.index)
    consul.instances("c", entry("c-1", "10.0.0.1", 80, name="c"))
    await told.wait(lambda told: (("", "c"), 1) in told.taken[-3:])
    consul.say(HEALTH + "b", [])
    asking.sweep()  # b is swept now
    await told.wait(lambda told: (("", "b"), 0) in told.taken)
    assert not [asked for asked in consul.requests if asked.path == HEALTH + "b" and asked.index > 12]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_swept_service_that_fails_is_read_again(consul, nursery, monkeypatch):
    monkeypatch.setattr(module, "FAILED_FOR", 0.05)
    consul.scripted[HEALTH + "a"] = [Scripted("no", status=500), Scripted(status=-1)]
    asking, told = await begun(consul, nursery, 0)
    asking.want([("", "a")])
    await told.wait(lambda told: told.taken)
    assert len(told.failed) == 2
    nursery.cancel_scope.cancel()


async def test_what_peers_export_is_read_again_now_and_then_as_no_check_tells(consul, nursery, monkeypatch):
    monkeypatch.setattr(module, "UNTOLD_EVERY", 0.05)
    asking, told = await begun(consul, nursery, 0)
    consul.instances("p", entry("1", "10.0.0.1", 80), peer="two")
    asking.want([("two", "p"), ("", "a")])
    await told.wait(lambda told: len(told.taken) >= 5)
    assert [key for key, _ in told.taken].count(("", "a")) == 1
    nursery.cancel_scope.cancel()


async def differs(before, now):
    return await differing(set(before), now)


MADE = st.lists(
    st.builds(Check, st.sampled_from("ab"), st.sampled_from("123"), st.sampled_from(["passing", "critical"])), max_size=8
)


@given(MADE, MADE, st.integers(1, 3))
def test_checks_differ_where_they_came_went_or_changed(before, now, at_once):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COMPARED", at_once)
        assert trio.run(differs, before, now) == (set(before) ^ set(now), set(now))


async def test_pace_lets_a_burst_through_and_then_so_many_a_second(autojump_clock):
    pace = Pace(burst=3, rate=10)
    for _ in range(3):
        await pace.wait()
    assert trio.current_time() == 0
    for _ in range(10):
        await pace.wait()
    assert trio.current_time() == pytest.approx(1.0)
    await trio.sleep(100)
    began = trio.current_time()
    for _ in range(4):
        await pace.wait()
    assert trio.current_time() - began == pytest.approx(0.1)
