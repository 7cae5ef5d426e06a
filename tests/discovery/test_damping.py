"""Damping: what leaves is never delayed, what returns too often is used after others, for a growing and bounded time."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from discovery import damping
from discovery.damping import CALM, FREE, HOLD, LONGEST, Damper
from discovery.model import Endpoint, Health, Service

A, B = Endpoint("10.0.0.1", (("http", 80),), health=Health.HEALTHY), Endpoint("10.0.0.2", (("http", 80),))
BOTH, ONLY_B = Service("s", endpoints=(A, B)), Service("s", endpoints=(B,))


def flap(damper, now, times=1, pause=1.0):
    """A goes and comes, so often; returns what is believed at the end."""
    believed = BOTH
    for _ in range(times):
        assert damper.damped(believed, ONLY_B, now) is ONLY_B, "leaving is not delayed"
        now += pause
        believed = damper.damped(ONLY_B, BOTH, now)
    return believed


def health(service):
    return {endpoint.address: endpoint.health for endpoint in service.endpoints}


def test_what_returns_once_or_twice_is_taken_back_at_once():
    assert flap(Damper(), 0.0, FREE) is BOTH


def test_what_returns_more_often_is_degraded_for_a_time_that_doubles():
    damper = Damper()
    believed = flap(damper, 0.0, FREE + 1)
    assert health(believed) == {"10.0.0.1": Health.DEGRADED, "10.0.0.2": Health.UNKNOWN}
    assert damper.due() == FREE + 1 + HOLD
    assert damper.damped(believed, ONLY_B, 4.0) is ONLY_B
    damper.damped(ONLY_B, BOTH, 5.0)
    assert damper.due() == 5.0 + 2 * HOLD


def test_the_time_has_a_bound():
    damper = Damper()
    flap(damper, 0.0, 40, pause=0.1)
    assert damper.due() is not None
    assert damper.due() <= 4.0 + LONGEST + 0.1


def test_it_comes_back_as_its_registry_has_it_when_the_time_is_up():
    damper = Damper()
    believed = flap(damper, 0.0, FREE + 1)
    due = damper.due()
    assert damper.released(due - 0.1) == frozenset()
    assert damper.released(due) == {"s"}
    assert damper.restored("s", believed, due) == BOTH
    assert damper.due() is None


def test_calm_forgives():
    damper = Damper()
    flap(damper, 0.0, FREE)
    assert flap(damper, 2 * CALM + FREE, 1) is BOTH


def test_another_change_while_it_is_held_does_not_lift_it():
    damper = Damper()
    believed = flap(damper, 0.0, FREE + 1)
    more = msgspec.structs.replace(BOTH, labels=(("a", "b"),))
    assert health(damper.damped(believed, more, 4.0))["10.0.0.1"] is Health.DEGRADED


def test_unhealthy_counts_as_gone_and_the_registrys_own_degraded_stands():
    damper = Damper()
    sick = msgspec.structs.replace(BOTH, endpoints=(msgspec.structs.replace(A, health=Health.UNHEALTHY), B))
    for _ in range(FREE + 1):
        assert damper.damped(BOTH, sick, 0.0) is sick
        believed = damper.damped(sick, BOTH, 0.0)
    assert health(believed)["10.0.0.1"] is Health.DEGRADED
    own = msgspec.structs.replace(BOTH, endpoints=(msgspec.structs.replace(A, health=Health.DEGRADED), B))
    assert damper.damped(believed, own, 1.0) is own
    assert damper.due() is None


def test_a_service_that_went_while_it_was_held_leaves_nothing_due():
    damper = Damper()
    flap(damper, 0.0, FREE + 1)
    due = damper.due()
    assert damper.restored("s", None, due) is None
    assert damper.due() is None


@given(st.lists(st.tuples(st.sampled_from([BOTH, ONLY_B, None]), st.floats(0, 100)), max_size=30))
def test_no_endpoint_is_lost_or_made_up_and_degraded_is_all_that_damping_does(history):
    damper, believed, now = Damper(), None, 0.0
    for said, pause in history:
        now += pause
        for name in damper.released(now):
            believed = damper.restored(name, believed, now)
        believed = damper.damped(believed, said, now)
        assert (believed is None) == (said is None)
        if said is not None:
            assert [endpoint.address for endpoint in believed.endpoints] == [endpoint.address for endpoint in said.endpoints]
            pairs = zip(believed.endpoints, said.endpoints, strict=True)
            assert all(one == other or one.health is Health.DEGRADED for one, other in pairs)


def test_a_registry_that_loses_thousands_at_once_costs_what_it_loses_and_is_forgotten(monkeypatch):
    """Not its square: the loop would stand still for as long."""
    damper, looks, look = Damper(), Counter(), damping._Flaps.at

    def counted(flaps, now):
        looks["at"] += 1
        return look(flaps, now)

    monkeypatch.setattr(damping._Flaps, "at", counted)
    many = tuple(Endpoint(f"10.0.{number >> 8}.{number & 255}", (("http", 80),)) for number in range(6_000))
    damper.damped(Service("s", endpoints=many), Service("s"), 0.0)
    assert 0 < looks["at"] < 2 * 6_000
    assert len(damper._known) == 6_000
    for number in range(12_000):
        damper.damped(Service(f"t{number}", endpoints=(A,)), None, 10 * CALM)
    assert len(damper._known) <= 12_000
