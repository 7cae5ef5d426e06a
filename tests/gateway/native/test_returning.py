"""returning: a worker that starts in the middle of a hold-down knows of it from the others."""

import os

import pytest

from gateway.native.returning import Returning
from gateway.native.shared import Shared, counter_key
from gateway.snapshot import Failback

POLICY = Failback(hold_down_ms=10_000, ramp_ms=10_000)


@pytest.fixture
def workers():
    memory = Shared.create(2)
    yield memory, [Shared.attach(memory.fd, worker) for worker in (0, 1)]
    memory.close()
    os.close(memory.fd)


def lost_and_back(ramp):
    assert ramp.grant(100.0, [("near", 100), ("far", 100)]) == (100, 100)
    assert ramp.grant(110.0, [("near", 0), ("far", 100)]) == (0, 100)
    assert ramp.grant(120.0, [("near", 100), ("far", 100)]) == (0, 100)


def test_a_successor_goes_on_where_the_others_are(workers):
    _, (one, two) = workers
    old = Returning(POLICY, "b", one)
    lost_and_back(old)
    new = Returning(POLICY, "b", two)
    for now, near in ((125.0, 0), (132.0, 20), (135.0, 50), (141.0, 100)):
        assert old.grant(now, [("near", 100), ("far", 100)]) == (near, 100)
        assert new.grant(now, [("near", 100), ("far", 100)]) == (near, 100)
    # It is over, and so nobody says it any more.
    assert two.counter(counter_key("b", "failback near")).largest() == 0
    assert one.counter(counter_key("b", "failback near")).largest() == 0


def test_without_others_a_start_is_a_start(workers):
    memory, (one, two) = workers
    lost_and_back(Returning(POLICY, "b", one))
    assert Returning(POLICY, "another", two).grant(125.0, [("near", 100)]) == (100,)
    assert Returning(POLICY, "b", None).grant(125.0, [("near", 100)]) == (100,)
    memory.clear(0)
    assert Returning(POLICY, "b", two).grant(125.0, [("near", 100)]) == (100,)


def test_a_backend_that_is_gone_holds_nothing_back(workers):
    _, (one, two) = workers
    ramp = Returning(POLICY, "b", one)
    lost_and_back(ramp)
    ramp.close()
    assert Returning(POLICY, "b", two).grant(125.0, [("near", 100)]) == (100,)


def test_a_successor_that_starts_while_a_priority_is_lost_holds_it_back_too(workers):
    _, (one, two) = workers
    old = Returning(POLICY, "b", one)
    assert old.grant(100.0, [("near", 100), ("far", 100)]) == (100, 100)
    assert old.grant(110.0, [("near", 0), ("far", 100)]) == (0, 100)
    new = Returning(POLICY, "b", two)
    assert new.grant(111.0, [("near", 0), ("far", 100)]) == (0, 100)
    assert new.grant(120.0, [("near", 100), ("far", 100)]) == (0, 100)
    assert new.grant(135.0, [("near", 100), ("far", 100)]) == (50, 100)
