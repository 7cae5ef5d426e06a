"""TaskSet: start, restart on a changed spec, stop, restart of what failed, and what a cancellation leaves (nothing)."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from discovery.backoff import BackoffPolicy
from discovery.supervise import TaskSet, TaskState, describe
from discovery.watch import Watchable


class Workshop:
    """A task body that writes down what happens to it."""

    def __init__(self):
        self.events = []
        self.cleanup = 0.0

    async def start(self, key, spec):
        self.events.append(("start", key, spec))
        try:
            if isinstance(spec, Exception):
                raise spec
            if spec == "finish":
                return
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.cleanup)
            self.events.append(("stop", key, spec))

    def report(self, key, error):
        self.events.append(("failed", key, describe(error)))

    def taken(self):
        events, self.events = self.events, []
        return events


@pytest.fixture
def workshop():
    return Workshop()


def task_set(workshop, **options):
    return TaskSet(workshop.start, rng=lambda: 1.0, report=workshop.report, policy=BackoffPolicy(base=1, cap=8), **options)


async def test_what_is_wanted_runs_and_what_is_not_wanted_stops(workshop, nursery, autojump_clock):
    desired = Watchable({"a": 1, "b": 1})
    tasks = task_set(workshop)
    await nursery.start(tasks.run, desired)
    await wait_all_tasks_blocked()
    assert sorted(workshop.taken()) == [("start", "a", 1), ("start", "b", 1)]
    desired.set({"b": 1, "c": 1})
    await wait_all_tasks_blocked()
    assert sorted(workshop.taken()) == [("start", "c", 1), ("stop", "a", 1)]
    assert tasks.states() == {"b": TaskState(running=True), "c": TaskState(running=True)}


async def test_a_changed_spec_restarts_after_the_old_task_has_cleaned_up(workshop, nursery, autojump_clock):
    workshop.cleanup = 5
    desired = Watchable({"a": 1})
    await nursery.start(task_set(workshop).run, desired)
    await wait_all_tasks_blocked()
    desired.set({"a": 2})
    await trio.sleep(4)
    assert workshop.taken() == [("start", "a", 1)]
    desired.set({})
    await wait_all_tasks_blocked()
    desired.set({"a": 3})
    await trio.sleep(10)
    # 2 was withdrawn before it could begin; 3 waited for 1 all the same
    assert workshop.taken() == [("stop", "a", 1), ("start", "a", 3)]


async def test_an_equal_spec_leaves_the_task_alone(workshop, nursery, autojump_clock):
    desired = Watchable({"a": [1, 2]})
    await nursery.start(task_set(workshop).run, desired)
    await wait_all_tasks_blocked()
    workshop.taken()
    desired.set({"a": [1, 2]})
    await wait_all_tasks_blocked()
    assert workshop.taken() == []


async def test_what_fails_is_reported_and_started_again_with_backoff(workshop, nursery, autojump_clock):
    tasks = task_set(workshop)
    await nursery.start(tasks.run, Watchable({"a": ValueError("no"), "b": 1}))
    await trio.sleep(0.5)
    assert tasks.states()["a"] == TaskState(running=False, failures=1, error="ValueError: no")
    assert tasks.states()["b"].running
    await trio.sleep(10)  # tries at 0, 1, 3, 7, and next at 15
    assert [event for event in workshop.taken() if event[0] == "failed"] == [("failed", "a", "ValueError: no")] * 4


async def test_a_task_that_ran_long_begins_with_a_short_delay_again(nursery, autojump_clock):
    starts = []

    async def body(key, spec):
        starts.append(trio.current_time())
        await trio.sleep(0 if len(starts) < 3 else 8)
        raise ValueError

    began = trio.current_time()
    tasks = TaskSet(body, rng=lambda: 1.0, report=lambda key, error: None, policy=BackoffPolicy(base=1, cap=8))
    await nursery.start(tasks.run, Watchable({"a": 1}))
    await trio.sleep(12.5)
    assert [start - began for start in starts] == pytest.approx([0, 1, 3, 12])


async def test_a_task_that_returns_has_finished_until_its_spec_changes(workshop, nursery, autojump_clock):
    desired = Watchable({"a": "finish"})
    tasks = task_set(workshop)
    await nursery.start(tasks.run, desired)
    await trio.sleep(100)
    assert workshop.taken() == [("start", "a", "finish"), ("stop", "a", "finish")]
    assert tasks.states() == {"a": TaskState(running=False)}
    desired.set({"a": 2})
    await wait_all_tasks_blocked()
    assert workshop.taken() == [("start", "a", 2)]


async def test_cancellation_stops_every_task_and_waits_for_its_cleanup(workshop, autojump_clock):
    workshop.cleanup = 5
    async with trio.open_nursery() as nursery:
        await nursery.start(task_set(workshop).run, Watchable({"a": 1, "b": ValueError("x")}))
        await trio.sleep(5.5)  # b has failed and waits for its next try
        workshop.taken()
        nursery.cancel_scope.cancel()
    assert workshop.taken() == [("stop", "a", 1)]


async def test_a_failing_cleanup_of_a_stopped_task_is_reported(workshop, nursery, autojump_clock):
    async def body(key, spec):
        try:
            await trio.sleep_forever()
        finally:
            raise OSError("socket gone")

    desired = Watchable({"a": 1})
    await nursery.start(TaskSet(body, rng=lambda: 1.0, report=workshop.report).run, desired)
    await wait_all_tasks_blocked()
    desired.set({})
    await trio.sleep(100)
    assert workshop.taken() == [("failed", "a", "OSError: socket gone")]


def test_describe_names_the_first_leaf_of_a_group():
    assert describe(ExceptionGroup("many", [ValueError("one"), OSError("two")])) == "ValueError: one"
    assert describe(KeyError()) == "KeyError"
