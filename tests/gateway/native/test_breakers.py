"""breakers: every limit over two workers, exact to within one a worker; what is not limited is not counted in shared memory."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upstream_traffic import fedgate_backend, near_and_far

from gateway.native.backend import BackendState
from gateway.native.shared import Shared, counter_key
from gateway.snapshot import Limits, RetryBudget


class Waiter:
    def evict(self, host):
        raise AssertionError("nobody is evicted here")


class Workers:
    """A backend in each of some workers of one gateway."""

    def __init__(self, number=2, **changes):
        self.memory = Shared.create(number)
        self.views = [Shared.attach(self.memory.fd, worker) for worker in range(number)]
        self.states = []
        for view in self.views:
            state = BackendState(fedgate_backend(), random=random.Random(1).random, shared=view)
            state.reconcile(fedgate_backend(**changes), near_and_far(2, 0), 0.0)
            self.states.append(state)

    def reconcile(self, **changes):
        for state in self.states:
            state.reconcile(fedgate_backend(**changes), near_and_far(2, 0), 0.0)

    def close(self):
        for shared in (*self.views, self.memory):
            shared.close()
        os.close(self.memory.fd)


@pytest.fixture
def workers():
    made = []

    def make(*arguments, **changes):
        made.append(Workers(*arguments, **changes))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_requests_of_all_workers_count(workers):
    one, other = workers(limits=Limits(requests=3)).states
    given_to = []
    for state in (one, other, one):
        assert state.admits()
        waiter = Waiter()
        state.started(state.hosts["near0"], waiter, 1.0)
        given_to.append((state, waiter))
    assert not one.admits()
    assert not other.admits()
    state, waiter = given_to[1]
    state.finished(state.hosts["near0"], waiter)
    assert one.admits()


def test_connections_of_all_workers_count_but_every_endpoint_may_have_one(workers):
    one, other = workers(limits=Limits(connections=2)).states
    near0, near1 = one.hosts["near0"], one.hosts["near1"]
    one.connected(near0)
    assert one.may_connect(near0)
    other.connected(other.hosts["near0"])
    assert not one.may_connect(near0)
    assert one.may_connect(near1)  # it has none, and would starve
    assert not other.may_connect(other.hosts["near0"])
    other.disconnected(other.hosts["near0"])
    assert one.may_connect(near0)


def test_waiting_requests_of_all_workers_count(workers):
    one, other = workers(limits=Limits(pending=2)).states
    one.waiting(1)
    other.waiting(1)
    assert (one.may_wait(), other.may_wait()) == (False, False)
    other.waiting(-1)
    assert one.may_wait()


def test_retries_of_all_workers_count(workers):
    one, other = workers(limits=Limits(retries=2)).states
    one.retry_began()
    other.retry_began()
    assert (one.may_retry(), other.may_retry()) == (False, False)
    assert one.may_retry(again=True)  # a request does not stand in its own way
    one.retry_ended()
    assert other.may_retry()


def test_the_retry_budget_is_of_the_whole_gateway(workers):
    one, other = workers(retry_budget=RetryBudget(percent=20, least=1)).states
    for state in (one, other):
        for _ in range(10):
            state.started(state.hosts["near0"], Waiter(), 1.0)
    for state in (one, one, other, other):
        assert state.may_retry()
        state.retry_began()
    assert (one.may_retry(), other.may_retry()) == (False, False)  # 4 of 20; one worker alone would allow 2 of its 10


def test_what_is_not_limited_has_no_place_in_shared_memory(workers):
    gateway = workers()
    state, view = gateway.states[0], gateway.views[0]
    state.connected(state.hosts["near0"])
    state.waiting(1)
    state.retry_began()
    assert (state.may_connect(state.hosts["near0"]), state.may_wait(), state.may_retry(), state.admits()) == (True,) * 4
    for of in ("", "connections", "pending", "retries"):
        assert view.counter(counter_key("b", of)).total() == 0


def test_limits_that_come_with_a_snapshot_count_what_is_there(workers):
    gateway = workers()
    one, other = gateway.states
    host = one.hosts["near0"]
    one.connected(host)
    one.waiting(1)
    one.retry_began()
    gateway.reconcile(limits=Limits(connections=1, pending=1, retries=1))
    assert (one.may_connect(host), one.may_wait(), one.may_retry()) == (False, False, False)
    assert (other.may_wait(), other.may_retry()) == (False, False)
    gateway.reconcile(limits=Limits(connections=2, pending=2, retries=2))
    assert (one.may_connect(host), one.may_wait(), one.may_retry()) == (True, True, True)
    gateway.reconcile()
    assert (one.may_connect(host), one.may_wait(), one.may_retry()) == (True, True, True)


def test_a_backend_that_is_gone_and_a_worker_that_died_count_no_more(workers):
    gateway = workers(limits=Limits(pending=1, retries=1))
    one, other = gateway.states
    one.waiting(1)
    one.retry_began()
    one.close()
    assert other.may_wait()
    assert other.may_retry()
    other.waiting(1)
    gateway.memory.clear(1)
    assert gateway.views[0].counter(counter_key("b", "pending")).total() == 0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["look", "begin", "end"])), max_size=100), st.integers(1, 4))
def test_two_workers_that_look_before_either_begins_exceed_a_limit_by_one_each_at_most(steps, limit):
    gateway = Workers(limits=Limits(pending=limit))
    try:
        sees, running = [False, False], [0, 0]
        for worker, step in steps:
            state = gateway.states[worker]
            if step == "look":
                sees[worker] = state.may_wait()
            elif step == "begin" and sees[worker]:
                state.waiting(1)
                running[worker] += 1
                sees[worker] = False
            elif step == "end" and running[worker]:
                state.waiting(-1)
                running[worker] -= 1
            assert sum(running) <= limit + 1  # of two, one saw the last place rightly
    finally:
        gateway.close()
