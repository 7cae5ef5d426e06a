"""spread: counting workloads and groups, and where the load then goes."""

import random
from collections import Counter

import pytest
from upstream_traffic import fedgate_backend, near_and_far

from discovery.model import Health, Locality
from gateway.native.host import Host
from gateway.native.spread import Spread, gather, natural, spread
from gateway.policy.balance import Count
from gateway.snapshot import Balance, LbEndpoint
from gateway.verdicts import Verdict

UNHEALTHY = Verdict(Health.UNHEALTHY, 0, 1)


def hosts_of(*endpoints: LbEndpoint) -> list[Host]:
    return [Host("b", endpoint, 0.0) for endpoint in endpoints]


def shares(table: Spread, picks: int = 8000, seed: int = 3) -> dict[str, float]:
    rng, seen = random.Random(seed), Counter()
    for _ in range(picks):
        point = rng.random() * 100
        seen[next(choose for bound, choose in table.entries if point < bound)().id] += 1
    return {name: count / picks for name, count in sorted(seen.items())}


def table_of(hosts: list[Host], granted=None, evacuated=None, **changes: object) -> Spread:
    backend = fedgate_backend(balance=Balance.RANDOM, **changes)
    return spread(backend, gather(hosts, evacuated or {}), granted, random.Random(9).random)


def group(name: str, number: int, priority: int = 0, weight: int = 1) -> LbEndpoint:
    return LbEndpoint(
        f"{name}/{number}", f"10.9.{len(name)}.{number}", 15443, cluster=name, priority=priority, weight=weight, group=name
    )


def test_each_workload_counts_one():
    hosts = hosts_of(*near_and_far(3, 2))
    hosts[0].ejected = hosts[3].down = True
    assert [priority.count for priority in gather(hosts, {})] == [Count(3, 2), Count(2, 1)]


def test_a_group_counts_its_workloads_once_however_many_addresses():
    hosts = hosts_of(group("west", 1), group("west", 2), group("west", 3))
    for host in hosts:
        host.verdict = Verdict(Health.HEALTHY, 30, 50)
    assert gather(hosts, {})[0].count == Count(50, 30)
    hosts[0].ejected = hosts[1].ejected = True
    assert gather(hosts, {})[0].count == Count(50, 30)
    hosts[2].down = True
    assert gather(hosts, {})[0].count == Count(50, 0)


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (None, Count(1, 1)),
        (Verdict(Health.HEALTHY, 0, 9), Count(9, 0)),
        (Verdict(Health.HEALTHY, 0, 0), Count(0, 0)),
        (Verdict(Health.HEALTHY, 7, 5), Count(5, 5)),  # a peer that says nonsense
        (Verdict(Health.UNHEALTHY, 5, 9), Count(9, 0)),
        (Verdict(Health.DEGRADED, 5, 9), Count(9, 0, 5)),
        (Verdict(Health.DRAINING, 5, 9), Count(9, 0)),
    ],
)
def test_counts_of_a_group(verdict, expected):
    hosts = hosts_of(group("west", 1))
    hosts[0].verdict = verdict
    assert gather(hosts, {})[0].count == expected


def test_a_groups_weight_is_that_of_its_healthy_workloads_spread_over_its_usable_addresses():
    hosts = hosts_of(*(group("west", number, weight=4) for number in (1, 2, 3)), group("east", 1, weight=6))
    for host in hosts[:3]:
        host.verdict = Verdict(Health.HEALTHY, 6, 12)
    hosts[3].verdict = Verdict(Health.HEALTHY, 6, 6)
    hosts[1].down = True
    assert shares(table_of(hosts)) == {"east/1": pytest.approx(0.5, abs=0.02)} | {
        name: pytest.approx(0.25, abs=0.02) for name in ("west/1", "west/3")
    }


def test_weights_within_a_priority():
    hosts = hosts_of(
        *(LbEndpoint(name, "10.0.0.1", port, weight=weight) for name, port, weight in (("a", 1, 3), ("b", 2, 1), ("c", 3, 0)))
    )
    assert shares(table_of(hosts)) == {"a": pytest.approx(0.75, abs=0.02), "b": pytest.approx(0.25, abs=0.02)}
    assert gather(hosts, {})[0].count == Count(2, 2)  # nobody misses the one of weight 0
    assert set(shares(table_of(hosts[1:], panic_percent=50))) == {"b"}


def test_degraded_endpoints_take_what_healthy_ones_leave():
    hosts = hosts_of(*near_and_far(4, 0))
    hosts[0].verdict = hosts[1].verdict = Verdict(Health.DEGRADED)
    hosts[2].verdict = UNHEALTHY
    found = shares(table_of(hosts))
    # One of four healthy is 35 per cent, two of four degraded 70: of 100 the healthy one has 35.
    assert found["near3"] == pytest.approx(0.35, abs=0.02)
    assert found["near0"] + found["near1"] == pytest.approx(0.65, abs=0.02)
    assert natural(gather(hosts, {})[0], 140) == 100


def test_in_panic_all_endpoints_of_the_priority_are_used():
    hosts = hosts_of(*near_and_far(4, 0))
    for host in hosts[:3]:
        host.ejected = True
    assert set(shares(table_of(hosts, panic_percent=50))) == {"near0", "near1", "near2", "near3"}
    assert set(shares(table_of(hosts))) == {"near3"}


def test_half_open_ones_count_only_when_they_are_asked_for():
    hosts = hosts_of(*near_and_far(2, 0))
    for host in hosts:
        host.half_open = True
    assert gather(hosts, {})[0].count == Count(2, 0)
    assert gather(hosts, {}, half_open=True)[0].count == Count(2, 2)
    assert table_of(hosts).entries == []


def test_an_evacuated_cluster_keeps_its_per_mille():
    hosts = hosts_of(*near_and_far())
    table = table_of(hosts, evacuated={"near": 200})
    assert table.loads == (20, 80)
    assert table_of(hosts, granted=(50, 100), evacuated={"near": 200}).loads == (10, 90)


def test_within_one_priority_evacuation_is_by_weight():
    hosts = hosts_of(LbEndpoint("a", "10.0.0.1", 1, cluster="x"), LbEndpoint("b", "10.0.0.2", 1, cluster="y"))
    assert shares(table_of(hosts, evacuated={"x": 250}))["a"] == pytest.approx(0.2, abs=0.02)
    assert set(shares(table_of(hosts, evacuated={"x": 0}))) == {"b"}
    assert set(shares(table_of(hosts, evacuated={"x": 0, "y": 0}))) == {"a", "b"}


def test_a_priority_is_named_by_its_first_locality_and_cluster():
    near, far = near_and_far(1, 1)
    assert [priority.name for priority in gather(hosts_of(near, far), {})] == ["near|near", "far|far"]
    beside = LbEndpoint("x", "10.0.0.9", 1, cluster="a", locality=Locality("abroad"))
    assert gather(hosts_of(near, beside), {})[0].name == "abroad|a"


def test_nobody_at_all():
    assert gather([], {}) == []
    assert table_of([]).loads == ()
