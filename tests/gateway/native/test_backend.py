"""backend: picks, picks again, and the counts of what was picked."""

import random
from collections import Counter

import pytest
from upstream_traffic import FEDGATE_RETRY, fedgate_backend, near_and_far

from discovery.model import Health
from gateway.native.backend import BackendState
from gateway.native.host import Host
from gateway.native.shared import Shared
from gateway.policy.failure import Failure
from gateway.snapshot import Balance, Failback, HashPolicy, LbEndpoint, Limits, RetryPolicy, Warmup
from gateway.verdicts import Verdict


class Bystander:
    def evict(self, host: Host) -> None:
        raise AssertionError("only Upstreams tells")


def state_of(*endpoints: LbEndpoint, shared: Shared | None = None, **changes: object) -> BackendState:
    state = BackendState(fedgate_backend(), random=random.Random(4).random, shared=shared)
    state.reconcile(fedgate_backend(**changes), endpoints, 0.0)
    return state


def again(state: BackendState, *tried: str, policy: RetryPolicy = FEDGATE_RETRY, elsewhere: bool = False, now: float = 1.0) -> dict:
    hosts = [state.hosts[name] for name in tried]
    picked = (state.pick_again(now, hosts, policy, elsewhere=elsewhere) for _ in range(300))
    return Counter(host and host.id for host in picked)


def ids(*names: str) -> set[str]:
    return set(names)


# --------------------------------------------------------------------------------------------------- another attempt


def test_the_second_attempt_stays_in_the_priority_the_third_goes_to_the_next():
    state = state_of(*near_and_far(4, 2))
    assert set(again(state, "near0")) == ids("near1", "near2", "near3")
    assert set(again(state, "near0", "near1")) == ids("far0", "far1")
    assert set(again(state, "near0", "near1", "far0")) == ids("far1")
    assert set(again(state, "near0", "near1", "far0", "far1")) == ids("near2", "near3")


def test_one_silent_endpoint_is_enough_to_go_to_the_next_priority():
    state = state_of(*near_and_far(4, 2))
    state.fitness.eject(state.hosts["near0"], "silence", 1.0)
    assert set(again(state, "near0")) == ids("far0", "far1")


def test_not_to_one_that_is_doubted_while_there_is_another():
    state = state_of(*near_and_far(2, 1))
    state.started(state.hosts["near1"], Bystander(), 1.0)
    assert set(again(state, "near0", now=1.1)) == ids("near1")
    assert set(again(state, "near0", now=1.3)) == ids("far0")


def test_elsewhere_is_nowhere_when_all_were_tried_else_the_balance_decides():
    state = state_of(*near_and_far(1, 1))
    assert state.untried([state.hosts["near0"]]) == 0  # nothing is known before the first pick
    assert set(again(state, "near0", "far0", elsewhere=True)) == {None}
    assert set(again(state, "near0", "far0")) == ids("near0")
    assert state.untried([state.hosts["near0"]]) == 1


def test_between_priorities_that_share_the_load_by_load_and_not_by_number():
    state = state_of(*near_and_far(4, 1), failback=None)
    for name in ("near2", "near3"):
        state.fitness.eject(state.hosts[name], "consecutive-5xx", 0.5)
    # near: two of four, 70 per cent; far: 30. near0 was tried, near1 stands for all of near.
    found = again(state, "near0")
    assert found["near1"] / 300 == pytest.approx(0.7, abs=0.08)
    assert found["far0"] / 300 == pytest.approx(0.3, abs=0.08)


def test_envoys_way_picks_anew_up_to_host_attempts():
    state = state_of(*near_and_far(2, 2), balance=Balance.RANDOM)
    found = again(state, "near0", policy=RetryPolicy())
    assert found["near1"] > 280  # all six draws fall on near0 with probability 1/64
    assert found["near0"] > 0
    assert again(state, "near0", policy=RetryPolicy(previous_hosts=False))["near0"] > 100
    assert set(again(state, "near0", "near1", policy=RetryPolicy())) == ids("near0", "near1")


def test_envoys_previous_priorities_leaves_the_priority_after_two_attempts():
    state = state_of(*near_and_far(3, 2), failback=None)
    policy = RetryPolicy(previous_priorities=True)
    assert set(again(state, "near0", policy=policy)) <= ids("near0", "near1", "near2")
    assert set(again(state, "near0", "near1", policy=policy)) == ids("far0", "far1")
    # Three: as after two, and not the one that was tried there. Four: all priorities were tried, so all are there again.
    assert set(again(state, "near0", "near1", "far0", policy=policy)) <= ids("far1", "far0")
    assert again(state, "near0", "near1", "far0", policy=policy)["far1"] > 280
    assert again(state, "near0", "near1", "far0", "far1", policy=policy)["near2"] > 240  # five draws do not always find it


def test_when_nobody_else_is_there_those_that_have_yet_to_answer_take_everything():
    state = state_of(*near_and_far(2, 0))
    for name in ("near0", "near1"):
        state.fitness.eject(state.hosts[name], "silence", 1.0)
    assert state.pick(1.5) is None
    state.tick(7.0)
    assert {state.pick(7.0, repeatable=False).id for _ in range(50)} == ids("near0", "near1")


# ------------------------------------------------------------------------------------------------------- the counts


def test_counts_of_an_attempts_life():
    state = state_of(*near_and_far(1, 0))
    host, one, two, three = state.hosts["near0"], Bystander(), Bystander(), Bystander()
    for waiter in (one, two, three):
        state.started(host, waiter, 1.0)
    assert (host.active, state.active, len(host.waiting), host.requests) == (3, 3, 3, 3)
    state.answered(host, one, 200, 1.2)
    state.failed(host, two, Failure.RESET, 1.3)
    assert (host.active, list(host.waiting), host.failures, host.last_answer) == (3, [three], 1, 1.2)
    for waiter in (one, two, three):  # the third's client went away
        state.finished(host, waiter)
    assert (host.active, state.active, host.waiting) == (0, 0, {})
    assert host.latencies.percentile(50) == pytest.approx(0.2, rel=0.15)
    state.started(host, one, 2.0)
    state.answered(host, one, 503, 2.1)
    found = state.endpoint_statistics(2.2, lambda host: 4)[0]
    assert (found.requests, found.failures, found.active, found.connections) == (4, 2, 1, 4)
    assert found.p50_us > 0
    assert found.ejected_for_ms == 0


def test_statistics_of_one_that_is_out():
    state = state_of(*near_and_far(1, 1))
    state.fitness.eject(state.hosts["near0"], "silence", 1.0)
    found = state.endpoint_statistics(2.0, lambda host: 0)[0]
    assert (found.ejected_for_ms, found.ejected_reason) == (4000, "silence")
    state.pick(2.0)
    assert state.statistics().loads == (0, 100)
    assert "loads=(0, 100)" in repr(state)


def test_the_circuit_breaker_of_one_process():
    state = state_of(*near_and_far(1, 0), limits=Limits(requests=1))
    assert state.admits()
    state.started(state.hosts["near0"], Bystander(), 1.0)
    assert not state.admits()


def test_a_limit_that_comes_and_goes_with_the_configuration_counts_what_is_in_flight():
    shared = Shared.create(1)
    mine = Shared.attach(shared.fd, 0)
    state = state_of(*near_and_far(1, 0), shared=mine)
    host, waiter = state.hosts["near0"], Bystander()
    state.started(host, waiter, 1.0)
    state.reconcile(fedgate_backend(limits=Limits(requests=1)), near_and_far(1, 0), 2.0)
    assert not state.admits()
    state.reconcile(fedgate_backend(), near_and_far(1, 0), 3.0)
    assert state.admits()
    assert mine.total("b") == 0
    state.finished(host, waiter)
    state.reconcile(fedgate_backend(limits=Limits(requests=1)), near_and_far(1, 0), 4.0)
    assert state.admits()
    state.close()
    mine.close()
    shared.close()


# ---------------------------------------------------------------------------------------------------- configuration


def test_failback_that_comes_by_configuration_begins_with_what_is():
    state = state_of(*near_and_far(1, 1), failback=None)
    state.pick(0.0)
    state.reconcile(fedgate_backend(failback=Failback(1000, 1000)), near_and_far(1, 1), 1.0)
    state.tick(1.0)
    assert state.statistics().loads == (100, 0)
    state.reconcile(fedgate_backend(failback=Failback(5000, 1000)), near_and_far(1, 1), 1.0)
    state.fitness.eject(state.hosts["near0"], "consecutive-5xx", 2.0)
    for second in range(2, 11):
        state.tick(float(second))
    assert state.statistics().loads == (0, 100)  # out until 7 s, then held for 5 s
    for second in range(11, 16):
        state.tick(float(second))
    assert state.statistics().loads == (100, 0)


def test_failback_follows_a_region_that_vanishes_from_the_registry_and_returns():
    state = state_of(*near_and_far(1, 1), failback=Failback(10_000, 10_000))
    state.tick(0.0)
    alone = tuple(LbEndpoint("far0", "127.0.1.1", 80, cluster="far", locality=near_and_far()[2].locality) for _ in range(1))
    state.reconcile(state.backend, alone, 1.0)
    state.tick(1.0)
    assert state.pick(1.0).id == "far0"
    state.reconcile(state.backend, near_and_far(1, 1), 2.0)
    state.tick(2.0)
    assert {state.pick(3.0, repeatable=False).id for _ in range(50)} == ids("far0")


# --------------------------------------------------------------------------------------------------- weak spots of old


def verdicts_of(state: BackendState, **health: Health) -> dict[str, Verdict]:
    return {name: Verdict(health=value) for name, value in health.items()}


def test_what_waits_at_an_endpoint_that_fails_its_checks_is_told_but_not_at_one_that_drains():
    state = state_of(*near_and_far(2, 0))
    one, other = Bystander(), Bystander()
    state.started(state.hosts["near0"], one, 1.0)
    state.started(state.hosts["near1"], other, 1.0)
    state.assess(verdicts_of(state, near0=Health.UNHEALTHY, near1=Health.DRAINING), {})
    assert state.take_evictions() == [(one, state.hosts["near0"])]
    state.assess(verdicts_of(state, near0=Health.UNHEALTHY, near1=Health.DRAINING), {})
    assert state.take_evictions() == []  # told once


def test_a_balance_by_latency_is_told_latencies_and_no_other():
    for balance, expected in ((Balance.PEAK_EWMA, 0.5), (Balance.LEAST_REQUEST, 0.0)):
        state = state_of(*near_and_far(1, 0), balance=balance)
        host, waiter = state.hosts["near0"], Bystander()
        state.started(host, waiter, 1.0)
        state.answered(host, waiter, 200, 1.5)
        assert host.ewma == pytest.approx(expected)


def test_passthrough_goes_where_the_client_meant_to_and_nowhere_else():
    state = state_of(balance=Balance.PASSTHROUGH, silence=None, outlier=None, failback=None)
    host = state.pick(1.0, original="192.0.2.7:8080")
    assert (host.endpoint.address, host.endpoint.port) == ("192.0.2.7", 8080)
    assert state.pick(1.0, original="192.0.2.7:8080") is host
    assert state.pick(1.0, original="") is None
    assert state.pick_again(1.0, [host], RetryPolicy()) is host
    assert state.pick_again(1.0, [host], FEDGATE_RETRY, elsewhere=True) is None
    state.reconcile(fedgate_backend(), near_and_far(1, 0), 2.0)
    assert state.pick(2.0, original="192.0.2.7:8080").id == "near0"


# ------------------------------------------------------------------------------------------------- hashing and warm-up


def test_a_key_goes_to_one_endpoint_and_its_retries_to_the_next_ones_of_that_key():
    state = state_of(*near_and_far(5, 0), balance=Balance.RING_HASH, hash=HashPolicy("header", "x-user"))
    chosen = {key: state.pick(1.0, key=key).id for key in range(0, 1 << 63, 1 << 57)}
    assert len(set(chosen.values())) == 5
    for key, name in chosen.items():
        assert {state.pick(2.0, key=key).id for _ in range(5)} == {name}
        first = state.hosts[name]
        again = {state.pick_again(2.0, [first], FEDGATE_RETRY, key=key).id for _ in range(5)}
        assert len(again) == 1
        assert name not in again
        # Istio's way leaves previous_hosts out with a hash: the same endpoint is asked again.
        assert state.pick_again(2.0, [first], RetryPolicy(previous_hosts=False), key=key) is first
    assert len({state.pick(2.0).id for _ in range(200)}) == 5  # without a key: any


def test_an_endpoint_that_comes_back_by_a_check_warms_up_and_the_backend_keeps_awake_for_it():
    state = state_of(*near_and_far(2, 0), warmup=Warmup(duration_ms=10_000, minimum_percent=1), failback=None)
    state.tick(20.0)  # both are old
    state.assess(verdicts_of(state, near0=Health.UNHEALTHY), {})
    state.tick(30.0)
    state.assess(verdicts_of(state, near0=Health.HEALTHY), {})
    state.tick(40.0)
    picked = Counter(state.pick(40.0).id for _ in range(400))
    assert picked["near0"] < 40
    assert state.awake
    for tenth in range(400, 520):
        state.tick(tenth / 10)
    assert Counter(state.pick(52.0).id for _ in range(400))["near0"] > 150
    assert not state.awake


def test_a_retry_of_a_key_passes_over_the_next_endpoint_that_is_doubted():
    state = state_of(*near_and_far(4, 0), balance=Balance.MAGLEV, hash=HashPolicy("header", "x-user", size=101))
    first = state.pick(1.0, key=7)
    second = state.pick_again(1.0, [first], FEDGATE_RETRY, key=7)
    state.started(second, Bystander(), 1.0)
    third = state.pick_again(1.4, [first], FEDGATE_RETRY, key=7)
    assert third not in (first, second)
    assert state.pick_again(1.4, [first], FEDGATE_RETRY, key=7) is third
