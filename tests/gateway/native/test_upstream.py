"""upstream: what happens to traffic when endpoints die, stop, come back; over one worker and several. Simulated, with a fake clock."""

import random
from collections import Counter

import pytest
from upstream_traffic import (
    FEDGATE_RETRY,
    World,
    failures,
    fedgate_backend,
    near_and_far,
    share,
    slowest,
)

from discovery.model import Health
from gateway.engine import Ejected, PriorityMoved, Restored
from gateway.native.shared import Shared
from gateway.native.upstream import Upstreams
from gateway.policy.balance import Count, loads
from gateway.snapshot import Backend, EndpointSet, LbEndpoint, Limits, Node, Outlier, RetryPolicy, Silence, Snapshot
from gateway.verdicts import AddressState, Verdict, Verdicts

POOLS = [{}, {"near": 1, "far": 1}, {"near": 6, "far": 2}]


def ejected(world: World) -> list[tuple[str, str]]:
    return [(report.endpoint, report.reason) for report in world.reports if isinstance(report, Ejected)]


# --------------------------------------------------------------------------------------------- the region goes away


@pytest.mark.parametrize("rate", [200, 50, 10])
@pytest.mark.parametrize("pool", POOLS)
def test_near_killed_no_request_fails_and_all_go_far(pool, rate):
    world = World(fedgate_backend(), near_and_far(**pool))
    assert share(world.run(3, rate=rate)) == {"near": 1.0}
    world.put("killed", "near")
    after = world.run(8, rate=rate)
    assert failures(after) == []
    assert slowest(after) < 0.05
    assert share(after) == {"far": 1.0}


@pytest.mark.parametrize("mode", ["stopped", "blackhole"])
@pytest.mark.parametrize("rate", [200, 50])
@pytest.mark.parametrize("pool", POOLS)
def test_near_silent_no_request_fails_or_takes_over_one_and_a_half_seconds(pool, rate, mode):
    world = World(fedgate_backend(), near_and_far(**pool))
    world.run(3, rate=rate)
    world.put(mode, "near")
    after = world.run(12, rate=rate)  # long enough for the endpoints to be tried again, once and twice
    world.run(2)
    assert failures(after) == []
    assert slowest(after) < 1.5
    assert share(after) == {"far": 1.0}
    late = [exchange for exchange in after if exchange.began > world.now - 10 and exchange.took > 0.1]
    assert len(late) <= 3 * len([name for name in world.servers if name.startswith("near")])


def test_requests_in_flight_when_near_is_killed_are_repeated_if_that_is_safe():
    world = World(fedgate_backend(), near_and_far())
    for server in world.servers.values():
        server.latency = 0.05
    during = world.run(1, rate=200, posts=0.5)
    running = [exchange for exchange in during if exchange.result is None]
    world.put("killed", "near")
    world.run(1)
    assert {exchange.method for exchange in running} == {"GET", "POST"}
    assert all((exchange.result == 200) == (exchange.method == "GET") for exchange in running)


def test_posts_keep_waiting_on_a_stopped_endpoint_and_are_answered_when_it_goes_on():
    world = World(fedgate_backend(), near_and_far())
    world.run(3, rate=200)
    world.put("stopped", "near")
    after = world.run(2, rate=200, posts=0.2)
    waiting = [exchange for exchange in after if exchange.result is None]
    assert waiting
    assert {exchange.method for exchange in waiting} == {"POST"}
    assert all(exchange.began < after[0].began + 0.6 for exchange in waiting)  # none was sent there later
    world.put("up", "near")
    world.run(1)
    assert failures(waiting) == []
    # Their answers showed that it lives: it is back without waiting for its ejection to end.
    assert not any(host.out for host in world.workers[0].states["b"].hosts.values())


def test_nothing_hangs_on_a_silent_endpoint_that_may_not_be_ejected():
    outlier = Outlier(consecutive_gateway_errors=3, interval_ms=1000, base_ejection_ms=5000, max_ejection_percent=10)
    world = World(fedgate_backend(outlier=outlier), near_and_far())
    world.run(3, rate=100)
    world.put("stopped", "near")
    after = world.run(5, rate=100)
    world.run(2, rate=100)
    assert ejected(world) == []
    assert failures(after) == []
    assert slowest(after) < 1.5


def test_one_stopped_endpoint_of_many_is_found_out_though_least_request_avoids_it():
    world = World(fedgate_backend(), near_and_far(near=12))
    world.run(3, rate=100)
    world.put("stopped", "near3")
    after = world.run(6, rate=100)
    world.run(2)
    assert failures(after) == []
    assert slowest(after) < 2.0
    assert ejected(world) == [("near3", "silence")]


def test_a_slow_request_among_quick_ones_ejects_nobody():
    world = World(fedgate_backend(), near_and_far())
    world.run(5, rate=10)
    world.servers["near0"].latency = world.servers["near1"].latency = 2.0
    slow = world.run(0.35, rate=10)  # three long ones, about two on one of them
    world.servers["near0"].latency = world.servers["near1"].latency = 0.002
    after = world.run(5, rate=10)
    assert failures(slow) == failures(after) == []
    assert max(exchange.took for exchange in slow) > 0.9
    assert ejected(world) == []


def test_a_backend_that_always_needs_two_seconds_is_left_alone():
    world = World(fedgate_backend(), near_and_far())
    for server in world.servers.values():
        server.latency = 1.3  # times 0.5 to 1.5
    served = world.run(20, rate=20)
    world.run(3)
    assert failures(served) == []
    assert ejected(world) == []


def test_everything_stopped_fails_fast_and_comes_back_by_itself():
    world = World(fedgate_backend(), near_and_far())
    world.run(2, rate=100)
    world.put("stopped", "near", "far")
    world.run(2, rate=100)
    refused = world.run(1, rate=100)
    assert {exchange.why for exchange in refused} == {"no healthy upstream"}
    assert slowest(refused) < 0.01
    world.put("up", "near", "far")
    world.run(8, rate=100)
    assert failures(world.run(2, rate=100)) == []


def test_errors_of_one_endpoint_eject_it():
    world = World(fedgate_backend(), near_and_far())
    world.run(1, rate=100)
    world.servers["near0"].status = 500
    world.run(2, rate=100)
    assert ejected(world) == [("near0", "consecutive-5xx")]
    # One of two left has 70 per cent of availability.
    assert share(world.run(3, rate=500))["near"] == pytest.approx(0.70, abs=0.04)


# -------------------------------------------------------------------------------------------- and the region is back


def test_near_comes_back_after_hold_down_along_the_ramp():
    world = World(fedgate_backend(), near_and_far())  # hold-down 3 s, ramp 4 s
    world.run(2, rate=200)
    world.put("killed", "near")
    world.run(3, rate=200)
    world.put("up", "near")
    # The endpoints were ejected for 5 s 3 s ago: back at the latest at 3 s (sweep) from here, proven by one request each.
    shares = [share(world.run(1, rate=200)).get("near", 0.0) for _ in range(12)]
    assert max(shares[:5]) < 0.02
    first = next(index for index, value in enumerate(shares) if value > 0.05)
    assert 5 <= first <= 6
    ramp = shares[first : first + 4]
    assert ramp == pytest.approx([0.125, 0.375, 0.625, 0.875], abs=0.2)
    assert shares[-1] == 1.0
    assert failures(world.exchanges) == []


def test_near_that_stays_dead_gets_one_request_per_endpoint_and_time():
    world = World(fedgate_backend(), near_and_far())
    world.run(2, rate=200)
    world.put("killed", "near")
    world.run(1, rate=200)
    state = world.workers[0].states["b"]
    before = Counter({name: host.requests for name, host in state.hosts.items()})
    after = world.run(40, rate=200)
    # 5, 10, 15 s …: three times in 40 s, each endpoint one request.
    asked = Counter({name: host.requests for name, host in state.hosts.items()})
    assert 2 <= asked["near0"] - before["near0"] <= 4
    assert 2 <= asked["near1"] - before["near1"] <= 4
    assert failures(after) == []


def test_a_backend_of_posts_alone_gets_its_endpoints_back_too():
    world = World(fedgate_backend(), near_and_far())
    world.run(2, rate=100, posts=1.0)
    world.put("killed", "near")
    world.run(2, rate=100, posts=1.0)
    world.put("up", "near")
    world.run(25, rate=100, posts=1.0)
    assert share(world.run(2, rate=100, posts=1.0)) == {"near": 1.0}


def test_reports_say_what_happened():
    world = World(fedgate_backend(), near_and_far())
    world.run(2, rate=200)
    world.put("killed", "near")
    world.run(1, rate=200)
    assert {name for name, _ in ejected(world)} == {"near0", "near1"}
    moved = [report for report in world.reports if isinstance(report, PriorityMoved)]
    assert (moved[0].before, moved[-1].after) == ((100, 0), (0, 100))
    world.put("up", "near")
    world.run(15, rate=200)
    assert {report.endpoint for report in world.reports if isinstance(report, Restored)} == {"near0", "near1"}
    moved = [report for report in world.reports if isinstance(report, PriorityMoved)]
    assert moved[-1].after == (100, 0)
    assert len(moved) <= 6  # a ramp is told when it begins and when it ends, not step by step


# ------------------------------------------------------------------------------------------- shares and arithmetic


@pytest.mark.parametrize("near_healthy", [4, 3, 2, 1, 0])
def test_shares_by_priority_equal_the_arithmetic(near_healthy):
    world = World(fedgate_backend(failback=None), near_and_far(near=4, far=3))
    sick = {f"near{index}": Verdict(Health.UNHEALTHY, 0, 1) for index in range(near_healthy, 4)}
    world.workers[0].assess(Verdicts(endpoints={"b": sick}))
    expected = loads([Count(4, near_healthy), Count(3, 3)]).total
    served = world.run(20, rate=500)
    assert share(served).get("near", 0.0) == pytest.approx(expected[0] / 100, abs=0.02)
    within = Counter(exchange.host.id for exchange in served if exchange.host.endpoint.cluster == "near")
    assert all(count / 10_000 == pytest.approx(expected[0] / 100 / near_healthy, abs=0.02) for count in within.values())
    statistics = world.workers[0].backend_statistics()[0]
    assert statistics.loads == expected
    assert sum(count for *_, count in statistics.traffic) == 10_000


def peer_world(verdicts: dict[str, Verdict]) -> World:
    endpoints = (
        LbEndpoint("w0", "10.0.0.1", 80, cluster="own"),
        LbEndpoint("west/w/1", "10.9.0.1", 15443, cluster="west", priority=1, weight=25, peer="west", group="west/w"),
        LbEndpoint("west/w/2", "10.9.0.2", 15443, cluster="west", priority=1, weight=25, peer="west", group="west/w"),
        LbEndpoint("north/n/1", "10.8.0.1", 15443, cluster="north", priority=1, weight=10, peer="north", group="north/n"),
    )
    world = World(fedgate_backend(failback=None), endpoints)
    world.workers[0].assess(Verdicts(endpoints={"b": verdicts}))
    return world


def test_a_peers_gateways_stand_for_the_workloads_behind_them():
    world = peer_world(
        {
            "w0": Verdict(Health.UNHEALTHY, 0, 1),
            "west/w": Verdict(Health.HEALTHY, 30, 50),
            "north/n": Verdict(Health.HEALTHY, 10, 10),
        }
    )
    served = world.run(10, rate=800)
    assert share(served) == {"west": pytest.approx(0.75, abs=0.02), "north": pytest.approx(0.25, abs=0.02)}
    gateways = Counter(exchange.host.id for exchange in served)
    assert gateways["west/w/1"] == pytest.approx(gateways["west/w/2"], rel=0.1)


def test_a_peer_that_loses_its_endpoints_loses_its_share_by_the_same_arithmetic():
    world = peer_world({"west/w": Verdict(Health.HEALTHY, 1, 3), "north/n": Verdict(Health.HEALTHY, 0, 10)})
    world.workers[0].tick(world.now)
    assert world.workers[0].backend_statistics()[0].loads == (100, 0)
    world.workers[0].assess(
        Verdicts(endpoints={"b": {"w0": Verdict(Health.UNHEALTHY, 0, 1), "west/w": Verdict(Health.HEALTHY, 3, 3)}})
    )
    assert set(share(world.run(1, rate=200))) == {"west", "north"}


def test_an_exchange_that_has_ended_meanwhile_is_not_told():
    upstreams, _ = upstreams_of(*near_and_far())
    state, staying, ended = upstreams.states["b"], Bystander(), Bystander()
    host = state.hosts["near0"]
    for waiter in (staying, ended):
        state.started(host, waiter, 1.0)
    state.fitness.eject(host, "silence", 2.0)
    state.finished(host, ended)
    upstreams.tick(2.0)
    assert (staying.evictions, ended.evictions) == (1, 0)


def test_only_where_something_goes_on_is_ticked():
    upstreams, _ = upstreams_of(*near_and_far())
    state = upstreams.states["b"]
    for tick in range(20):
        upstreams.tick(tick / 20)
    assert not state.awake
    waiter = Bystander()
    state.started(state.hosts["near0"], waiter, 2.0)
    upstreams.tick(2.0)
    assert state.awake
    state.finished(state.hosts["near0"], waiter)
    upstreams.tick(3.0)
    assert not state.awake


def test_many_backends_that_change_at_once_are_computed_a_few_a_tick_or_when_asked():
    backends = [fedgate_backend(name=f"b{number}") for number in range(300)]
    sets = [EndpointSet(backend.name, near_and_far()) for backend in backends]
    upstreams = Upstreams(random=random.Random(1).random)
    upstreams.apply(Snapshot.of([Node("n", "near"), *backends, *sets]), 0.0)
    upstreams.tick(0.0)
    waiting = [state for state in upstreams.states.values() if state.fitness.changed]
    assert 200 < len(waiting) < 300
    assert waiting[0].pick(0.0) is not None
    assert not waiting[0].fitness.changed
    for tick in range(20):
        upstreams.tick(tick / 20)
    assert not any(state.fitness.changed or state.awake for state in upstreams.states.values())


def test_what_equals_what_was_stays_as_it_is():
    upstreams, snapshot = upstreams_of(*near_and_far())
    upstreams.states["b"].pick(0.0)
    fresh = Snapshot.of([Node("n", "near"), fedgate_backend(), EndpointSet("b", near_and_far())])
    assert fresh.parts["backend/b"] is not snapshot.parts["backend/b"]
    assert upstreams.apply(fresh, 1.0) == []
    assert not upstreams.states["b"].fitness.changed


def test_the_ejections_of_a_backend_that_is_gone_end_for_all(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=100)), near_and_far(), workers=2, shared=memory)
    state = world.workers[0].states["b"]
    state.fitness.eject(state.hosts["near0"], "consecutive-5xx", world.now)
    world.workers[1].sync(world.now)
    world.workers[0].apply(world.snapshot.changed([], ["backend/b", "endpoints/b"]), world.now)
    world.workers[1].sync(world.now)
    assert not world.workers[1].states["b"].hosts["near0"].ejected


def test_what_another_worker_has_ejected_is_out_for_hosts_that_come_later(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=100)), near_and_far(), workers=2, shared=memory)
    state, late = world.workers[0].states["b"], world.workers[1]
    late.apply(world.snapshot.changed([], ["backend/b", "endpoints/b"]), world.now)
    state.fitness.eject(state.hosts["near0"], "consecutive-5xx", world.now)
    late.sync(world.now)
    late.apply(world.snapshot, world.now)
    assert late.states["b"].hosts["near0"].ejected


def test_evacuation_takes_its_share_of_what_a_cluster_had():
    world = World(fedgate_backend(failback=None), near_and_far())
    world.workers[0].assess(Verdicts(evacuated={"near": 300}))
    assert share(world.run(10, rate=400))["near"] == pytest.approx(0.30, abs=0.03)
    world.workers[0].assess(Verdicts(evacuated={"near": 0}))
    assert share(world.run(1, rate=400)) == {"far": 1.0}
    world.workers[0].assess(Verdicts(evacuated={"near": 0, "far": 0}))  # nobody else can carry it
    assert failures(world.run(1, rate=400)) == []


# ------------------------------------------------------------------------------------------------- defaults: istio


ISTIO_RETRY = RetryPolicy()


def istio_backend(**changes: object) -> Backend:
    settings = {"outlier": Outlier(), "silence": None, "failback": None, "panic_last_resort": False, "connect_timeout_ms": 10_000}
    return fedgate_backend(**(settings | changes))


def test_istios_defaults_eject_nobody_of_four_and_so_never_fail_over():
    world = World(istio_backend(), near_and_far(), retry=ISTIO_RETRY)
    world.run(1, rate=100)
    world.put("killed", "near")
    after = world.run(5, rate=100)
    world.run(1)
    assert ejected(world) == []
    assert len(failures(after)) == len(after)


def test_istio_with_100_per_cent_fails_over_and_back_at_the_sweep_without_caution():
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=100)), near_and_far(), retry=ISTIO_RETRY)
    world.run(1, rate=100)
    world.put("killed", "near")
    after = world.run(10, rate=100)
    assert {name for name, _ in ejected(world)} == {"near0", "near1"}
    assert 0 < len(failures(after)) < 20
    world.put("up", "near")
    shares = [share(world.run(1, rate=100)).get("near", 0.0) for _ in range(40)]
    back = shares.index(1.0)
    assert 18 <= back <= 32  # 30 s after the ejection, then the next sweep of 10 s
    assert all(value == 0.0 for value in shares[: back - 1])


def test_all_ejected_and_threshold_50_sends_to_everybody():
    outlier = Outlier(max_ejection_percent=100)
    world = World(istio_backend(outlier=outlier, panic_percent=50), near_and_far(), retry=None)
    for server in world.servers.values():
        server.status = 500
    served = world.run(5, rate=100)
    assert {exchange.result for exchange in served} == {500}
    assert world.workers[0].backend_statistics()[0].panic


# -------------------------------------------------------------------------------------------------- several workers


@pytest.fixture
def memory():
    shared = Shared.create(2)
    yield shared
    shared.close()


@pytest.mark.parametrize("mode", ["killed", "stopped"])
def test_workers_share_what_they_know(memory, mode):
    world = World(fedgate_backend(), near_and_far(), workers=2, shared=memory)
    world.run(3, rate=100)
    world.put(mode, "near")
    after = world.run(14, rate=100)
    world.run(2)
    assert failures(after) == []
    assert slowest(after) < 1.5
    assert share(after) == {"far": 1.0}
    world.put("up", "near")
    world.run(30, rate=100)
    assert share(world.run(2, rate=100)) == {"near": 1.0}
    assert failures(world.exchanges) == []


def test_what_one_worker_ejects_is_out_in_the_other_at_once_and_comes_back_there_too(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=100)), near_and_far(), workers=2, shared=memory)
    one, two = world.workers
    world.run(2)
    assert not two.states["b"].awake
    state = one.states["b"]
    state.fitness.eject(state.hosts["near0"], "consecutive-5xx", world.now)
    two.sync(world.now)
    assert two.states["b"].hosts["near0"].ejected
    assert two.states["b"].awake
    picked = {two.states["b"].pick(world.now).id for _ in range(200)}
    assert "near0" not in picked
    world.run(45)
    assert not two.states["b"].hosts["near0"].ejected
    assert not state.hosts["near0"].ejected


def test_max_ejection_percent_holds_over_all_workers(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=50)), near_and_far(), workers=2, shared=memory)
    one, two = (upstreams.states["b"] for upstreams in world.workers)
    assert one.fitness.eject(one.hosts["near0"], "consecutive-5xx", world.now)
    assert one.fitness.eject(one.hosts["near1"], "consecutive-5xx", world.now)
    world.workers[1].sync(world.now)
    assert not two.fitness.eject(two.hosts["far0"], "consecutive-5xx", world.now)


def test_of_two_ejections_that_break_it_together_the_higher_worker_withdraws(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=25)), near_and_far(), workers=2, shared=memory)
    one, two = (upstreams.states["b"] for upstreams in world.workers)
    assert two.fitness.eject(two.hosts["far0"], "consecutive-5xx", world.now)
    assert one.fitness.eject(one.hosts["near0"], "consecutive-5xx", world.now)  # neither has seen the other's
    world.run(0.2)
    for state in (one, two):
        assert [name for name, host in state.hosts.items() if host.ejected] == ["near0"]


def test_the_ejections_of_a_worker_that_died_end(memory):
    world = World(istio_backend(outlier=Outlier(max_ejection_percent=100)), near_and_far(), workers=2, shared=memory)
    one, two = (upstreams.states["b"] for upstreams in world.workers)
    one.fitness.eject(one.hosts["near0"], "consecutive-5xx", world.now)
    world.workers[1].sync(world.now)
    memory.clear(0)
    world.workers[1].sync(world.now)
    assert not two.hosts["near0"].ejected


def test_the_circuit_breaker_counts_over_all_workers(memory):
    world = World(fedgate_backend(limits=Limits(requests=3)), near_and_far(), workers=2, shared=memory)
    one, two = (upstreams.states["b"] for upstreams in world.workers)
    given = []
    for state in (one, one, two):
        assert state.admits()
        host, waiter = state.pick(world.now), Bystander()
        state.started(host, waiter, world.now)
        given.append((state, host, waiter))
    assert not one.admits()
    assert not two.admits()
    state, host, waiter = given[0]
    state.finished(host, waiter)
    assert two.admits()


class Bystander:
    """Waits and is told, and does nothing about it."""

    def __init__(self) -> None:
        self.evictions = 0

    def evict(self, host):
        self.evictions += 1


# --------------------------------------------------------------------------------------- snapshots, verdicts, addresses


def upstreams_of(*endpoints: LbEndpoint, **changes: object) -> tuple[Upstreams, Snapshot]:
    backend = fedgate_backend(**changes)
    snapshot = Snapshot.of([Node("n", "near"), backend, EndpointSet("b", endpoints)])
    upstreams = Upstreams(random=random.Random(1).random)
    upstreams.apply(snapshot, 0.0)
    return upstreams, snapshot


def test_hosts_keep_their_state_as_long_as_the_endpoint_stays():
    upstreams, snapshot = upstreams_of(*near_and_far())
    state = upstreams.states["b"]
    host = state.hosts["near0"]
    state.fitness.eject(host, "silence", 1.0)
    fewer = EndpointSet("b", tuple(endpoint for endpoint in near_and_far() if endpoint.id != "near1"))
    removed = upstreams.apply(snapshot.changed([fewer]), 2.0)
    assert [gone.id for gone in removed] == ["near1"]
    assert upstreams.states["b"] is state
    assert state.hosts["near0"] is host
    assert host.ejected
    assert state.pick(2.0).priority == 1


def test_an_endpoint_with_another_address_is_another_host():
    upstreams, snapshot = upstreams_of(LbEndpoint("a", "10.0.0.1", 80))
    old = upstreams.states["b"].hosts["a"]
    removed = upstreams.apply(snapshot.changed([EndpointSet("b", (LbEndpoint("a", "10.0.0.2", 80),))]), 1.0)
    assert removed == [old]
    assert upstreams.states["b"].hosts["a"].key == "10.0.0.2:80"
    assert upstreams.at("10.0.0.1:80") == []
    assert [host.key for _, host in upstreams.at("10.0.0.2:80")] == ["10.0.0.2:80"]


def test_a_backend_that_is_gone_gives_its_hosts_back():
    upstreams, snapshot = upstreams_of(*near_and_far())
    removed = upstreams.apply(snapshot.changed([], ["backend/b", "endpoints/b"]), 1.0)
    assert len(removed) == 4
    assert upstreams.states == {}


def test_a_backend_without_endpoints_has_nobody_to_pick():
    upstreams, _ = upstreams_of()
    assert upstreams.states["b"].pick(0.0) is None
    assert upstreams.states["b"].pick_again(0.0, [], FEDGATE_RETRY) is None
    upstreams.tick(1.0)


def test_traffic_is_counted_where_it_went_also_after_the_priorities_changed():
    upstreams, snapshot = upstreams_of(LbEndpoint("a", "10.0.0.1", 80, cluster="c"))
    state = upstreams.states["b"]
    for _ in range(3):
        state.started(state.hosts["a"], Bystander(), 1.0)
    upstreams.apply(snapshot.changed([EndpointSet("b", (LbEndpoint("a", "10.0.0.1", 80, cluster="c", priority=1),))]), 2.0)
    state.started(state.hosts["a"], Bystander(), 3.0)
    assert state.statistics().traffic == ((0, "", "c", 3), (1, "", "c", 1))
    assert upstreams.endpoint_statistics(3.0, lambda host: 7)[0].connections == 7


def test_an_address_is_alone_where_a_backend_with_traffic_has_nobody_else_in_service():
    upstreams, _ = upstreams_of(*near_and_far())
    state = upstreams.states["b"]
    near, *others = state.hosts.values()
    assert not upstreams.alone(near.key)  # others are in service
    for other in others:
        other.down = True
    assert not upstreams.alone(near.key)  # nobody asks for it
    state.used = True
    assert upstreams.alone(near.key)
    others[0].down = False
    assert not upstreams.alone(near.key)
    assert not upstreams.alone("10.0.0.9:1")


def test_a_suspect_address_serves_until_it_does_not_answer_and_a_down_one_is_out_at_once():
    upstreams, _ = upstreams_of(*near_and_far())
    state, key = upstreams.states["b"], "127.0.0.1:80"
    waiter = Bystander()
    state.started(state.hosts["near0"], waiter, 0.0)
    upstreams.assess(Verdicts(addresses={key: AddressState.SUSPECT, "10.0.0.9:1": AddressState.SUSPECT}))
    assert upstreams.take_suspects() == [key]
    assert upstreams.at(key) == [(state, state.hosts["near0"])]
    assert upstreams.at("10.0.0.9:1") == []
    assert upstreams.take_suspects() == []
    assert not state.hosts["near0"].out
    upstreams.confirmed(key, alive=True)
    assert not state.hosts["near0"].out
    upstreams.confirmed(key, alive=False)
    assert state.hosts["near0"].out
    assert [report.reason for report in upstreams.take_reports()] == ["unconfirmed"]
    upstreams.tick(0.1)
    assert waiter.evictions == 1
    upstreams.assess(Verdicts())
    assert not state.hosts["near0"].out
    upstreams.assess(Verdicts(addresses={key: AddressState.DOWN}))
    assert state.hosts["near0"].state == "down"
    assert "near0" not in {state.pick(0.2).id for _ in range(100)}


def test_verdicts_apply_to_backends_that_come_later():
    upstreams = Upstreams(random=random.Random(1).random)
    upstreams.assess(
        Verdicts(endpoints={"b": {"near0": Verdict(Health.UNHEALTHY, 0, 1)}}, addresses={"127.0.0.2:80": AddressState.DOWN})
    )
    upstreams.apply(Snapshot.of([Node("n", "near"), fedgate_backend(), EndpointSet("b", near_and_far())]), 0.0)
    state = upstreams.states["b"]
    assert [state.hosts[name].state for name in ("near0", "near1", "far0")] == ["unhealthy", "down", "healthy"]
    assert state.pick(0.0).priority == 1


def test_a_drained_endpoint_gets_nothing_new():
    upstreams, _ = upstreams_of(*near_and_far())
    upstreams.assess(Verdicts(endpoints={"b": {"near0": Verdict(Health.DRAINING)}}))
    state = upstreams.states["b"]
    assert "near0" not in {state.pick(0.0).id for _ in range(100)}


def test_silence_alone_needs_no_outlier_detection():
    world = World(fedgate_backend(outlier=None, silence=Silence(floor_ms=200)), near_and_far())
    world.run(2, rate=100)
    world.put("stopped", "near")
    after = world.run(3, rate=100)
    assert failures(after) == []
    assert slowest(after) < 0.4


# ----------------------------------------------------------------------------------------------------- applied in slices


def snapshot_of(*names: str) -> Snapshot:
    parts = [Node(name="gw", cluster="east")]
    for name in names:
        backend = fedgate_backend(name=name)
        parts += [backend, EndpointSet(name, near_and_far(1, 0))]
    return Snapshot.of(parts)


def test_a_snapshot_is_prepared_a_backend_a_step_and_what_is_gone_stays_until_the_end():
    upstreams = Upstreams(random=random.Random(1).random)
    first = snapshot_of("a", "b")
    upstreams.apply(first, 0.0)
    then = first.changed(snapshot_of("b", "c", "d").parts.values(), ("backend/a", "endpoints/a"))
    steps = upstreams.prepare(then, 1.0)
    known = []
    for removed in steps:
        assert removed == []
        known.append(set(upstreams.states))
    assert len(known) == 2  # b is as it was
    assert len(known[0]) == 3  # one more in each
    assert "a" in upstreams.states  # old tables still name it
    assert [host.id for host in upstreams.finish(then, 1.0)] == ["near0"]
    assert set(upstreams.states) == {"b", "c", "d"}
    assert upstreams.finish(then, 1.0) == []


def test_a_snapshot_that_was_prepared_in_part_is_made_good_by_the_next():
    upstreams = Upstreams(random=random.Random(1).random)
    next(upstreams.prepare(snapshot_of("a", "b", "c"), 0.0))
    assert len(upstreams.states) == 1
    upstreams.apply(snapshot_of("a", "b", "c", "d"), 1.0)
    assert set(upstreams.states) == {"a", "b", "c", "d"}
    next(upstreams.prepare(snapshot_of("a", "e", "f"), 0.0))
    upstreams.apply(snapshot_of("a"), 1.0)
    assert set(upstreams.states) == {"a"}
    assert not upstreams._touched  # names of what is gone are not kept for ever


def test_of_very_many_backends_only_those_that_were_used_are_counted():
    parts = []
    for number in range(1001):
        name = f"outbound|80||{number}.test"
        parts += [
            Backend(name, f"{number}.test", 80),
            EndpointSet(name, (LbEndpoint(id=f"e{number}", address="10.0.0.1", port=80, cluster="east"),)),
        ]
    upstreams = Upstreams(random=random.Random(1).random)
    snapshot = Snapshot.of([Node("gw", "east"), *parts])
    for _ in upstreams.prepare(snapshot, 0.0):
        pass
    upstreams.finish(snapshot, 0.0)
    upstreams.tick(0.05)
    assert upstreams.backend_statistics() == ()
    state = upstreams.states["outbound|80||7.test"]
    host, waiter = state.pick(1.0), object()
    state.started(host, waiter, 1.0)
    state.finished(host, waiter)
    (told,) = upstreams.backend_statistics()
    assert (told.backend, [count for *_, count in told.traffic]) == ("outbound|80||7.test", [1])
    assert [each.id for each in upstreams.endpoint_statistics(2.0, lambda host: 0)] == ["e7"]
