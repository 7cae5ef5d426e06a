"""spread: counting workloads and groups, and where the load then goes."""

import random
from collections import Counter

import pytest
from upstream_traffic import fedgate_backend, near_and_far

from discovery.model import Health, Locality
from gateway.native.host import Host
from gateway.native.spread import Spread, gather, natural, spread
from gateway.policy.balance import Count
from gateway.policy.hashing import xxh64
from gateway.snapshot import Balance, HashPolicy, LbEndpoint, Warmup
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


def test_nobody_is_chosen_where_the_client_names_the_address():
    backend = fedgate_backend(balance=Balance.PASSTHROUGH)
    table = spread(backend, gather(hosts_of(*near_and_far()), {}), None, random.Random(9).random)
    assert (table.entries, table.hashed) == ([], None)


# --------------------------------------------------------------------------------------------------------- localities


def placed(*counts: tuple[str, int], priority: int = 0) -> list[Host]:
    """Hosts `LOCALITY0`, `LOCALITY1` … by locality."""
    return hosts_of(
        *(
            LbEndpoint(f"{place}{number}", f"10.1.{index}.{number}", 80, locality=Locality(place), priority=priority)
            for index, (place, count) in enumerate(counts)
            for number in range(count)
        )
    )


def by_place(found: dict[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, share in found.items():
        sums[name[0]] = sums.get(name[0], 0.0) + share
    return sums


def test_localities_share_by_weight_whatever_their_size():
    hosts = placed(("a", 1), ("b", 4), ("c", 2))
    found = shares(table_of(hosts, locality_weights=(("a", 80), ("b", 20))))
    assert by_place(found) == {"a": pytest.approx(0.8, abs=0.02), "b": pytest.approx(0.2, abs=0.02)}
    assert found["b0"] == pytest.approx(0.05, abs=0.01)


def test_a_locality_gives_up_what_it_has_lost():
    hosts = placed(("a", 2), ("b", 2))
    hosts[0].ejected = True  # 1 of 2 is 0.7 of its weight
    assert by_place(shares(table_of(hosts, locality_weights=(("a", 50), ("b", 50))))) == {
        "a": pytest.approx(35 / 85, abs=0.02),
        "b": pytest.approx(50 / 85, abs=0.02),
    }
    hosts[1].ejected = True
    assert set(by_place(shares(table_of(hosts, locality_weights=(("a", 50), ("b", 50)))))) == {"b"}


def test_a_locality_without_a_weight_gets_nothing_even_when_the_others_are_dead():
    hosts = placed(("a", 2), ("b", 2))
    hosts[0].ejected = hosts[1].ejected = True
    assert table_of(hosts, locality_weights=(("a", 100),)).entries == []


def test_a_peers_locality_counts_its_workloads():
    near = hosts_of(LbEndpoint("a0", "10.0.0.1", 80, locality=Locality("a")))
    far = hosts_of(LbEndpoint("b0", "10.9.0.1", 80, locality=Locality("b"), weight=10, group="west", peer="west"))
    far[0].verdict = Verdict(Health.HEALTHY, 5, 10)  # half of it: 0.7 of its weight
    assert by_place(shares(table_of(near + far, locality_weights=(("a", 50), ("b", 50))))) == {
        "a": pytest.approx(50 / 85, abs=0.02),
        "b": pytest.approx(35 / 85, abs=0.02),
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"zone_aware": 4, "zone": "a"}, {"a": 0.25, "b": 0.75}),
        ({"zone_aware": 5, "zone": "a"}, {"a": 0.1, "b": 0.9}),  # too few endpoints: by weight alone
        ({"zone_aware": 4, "zone": "x"}, {"a": 0.1, "b": 0.9}),  # nothing in the own zone
        ({"zone_aware": 4, "zone": "a", "zone_percent": 50}, {"a": 0.175, "b": 0.825}),
    ],
)
def test_zone_aware(options, expected):
    hosts = hosts_of(
        LbEndpoint("a0", "10.0.0.1", 80, locality=Locality("a")),
        *(LbEndpoint(f"b{number}", f"10.0.1.{number}", 80, locality=Locality("b"), weight=3) for number in range(3)),
    )
    assert by_place(shares(table_of(hosts, **options))) == {
        name: pytest.approx(share, abs=0.02) for name, share in expected.items()
    }


def test_only_the_first_priority_is_zone_aware():
    hosts = placed(("a", 1)) + placed(("b", 1), ("c", 1), priority=1)
    hosts[0].ejected = True
    assert by_place(shares(table_of(hosts, zone_aware=1, zone="b"))) == {
        "b": pytest.approx(0.5, abs=0.02),
        "c": pytest.approx(0.5, abs=0.02),
    }


# ------------------------------------------------------------------------------------------------------------- hashing


def hashed(hosts: list[Host], kind: Balance = Balance.RING_HASH, **changes: object) -> Spread:
    backend = fedgate_backend(balance=kind, hash=HashPolicy("header", "x", size=1021), **changes)
    table = spread(backend, gather(hosts, {}), None, random.Random(9).random)
    while not table.build():
        pass
    return table


KEYS = [xxh64(number.to_bytes(4, "big")) for number in range(4000)]


@pytest.mark.parametrize("kind", [Balance.RING_HASH, Balance.MAGLEV])
def test_a_key_has_one_endpoint_and_keeps_it_when_others_go(kind):
    def chosen() -> list[str]:
        table = hashed(hosts, kind)
        return [table.hashed(key).id for key in KEYS]

    hosts = hosts_of(*near_and_far(5, 0))
    before = chosen()
    assert set(before) == {f"near{number}" for number in range(5)}
    hosts[2].ejected = True
    after = chosen()
    moved = sum(one != other for one, other in zip(before, after, strict=True) if one != "near2")
    assert "near2" not in after
    assert moved < 0.25 * len(KEYS)  # the ring is scaled anew, as Envoy's; most stay
    hosts[2].ejected = False
    assert chosen() == before


def test_the_key_decides_the_priority_too():
    hosts = hosts_of(*near_and_far(2, 2))
    hosts[0].ejected = True
    table = hashed(hosts)
    assert table.loads == (70, 30)
    for key in KEYS:
        assert table.hashed(key).id.startswith("near" if key % 100 < 70 else "far")


def test_degraded_endpoints_have_the_last_keys():
    hosts = hosts_of(*near_and_far(4, 4))
    hosts[0].verdict = hosts[1].verdict = Verdict(Health.DEGRADED)
    hosts[2].verdict = UNHEALTHY
    for host in hosts[4:]:
        host.ejected = True
    table = hashed(hosts)
    for key in KEYS[:500]:
        assert table.hashed(key).id in ({"near3"} if key % 100 < 35 else {"near0", "near1"})


def test_a_ring_of_localities_weighs_them_as_written():
    hosts = placed(("a", 1), ("b", 3), ("c", 1))
    table = hashed(hosts, locality_weights=(("a", 75), ("b", 25)))
    seen = Counter(table.hashed(key).id[0] for key in KEYS)
    assert set(seen) == {"a", "b"}
    assert seen["a"] / len(KEYS) == pytest.approx(0.75, abs=0.06)


def test_a_ring_of_localities_has_envoys_points_to_the_last():
    """A key that a real Envoy 1.40 sends to the first endpoint: another order of multiplying gives the third one point more, and it."""
    places = (("a", 41243, 1), ("a", 33499, 3), ("b", 33877, 1), ("b", 34839, 1))
    hosts = hosts_of(
        *(LbEndpoint(f"{port}", "127.0.0.1", port, locality=Locality(at), weight=weight) for at, port, weight in places)
    )
    hosts[3].verdict = UNHEALTHY
    table = spread(
        fedgate_backend(
            balance=Balance.RING_HASH, hash=HashPolicy("header", "x", size=1024), locality_weights=(("a", 80), ("b", 20))
        ),
        gather(hosts, {}),
        None,
        random.Random(9).random,
    )
    while not table.build():
        pass
    assert table.hashed(xxh64(b"user-115")).id == "41243"


def test_requests_without_a_key_go_anywhere():
    table = hashed(hosts_of(*near_and_far(3, 0)))
    assert set(shares(table)) == {"near0", "near1", "near2"}
    assert table_of(hosts_of(*near_and_far(3, 0))).hashed is None
    assert hashed([]).hashed is None


def test_another_attempt_finds_another_endpoint():
    table = hashed(hosts_of(*near_and_far(3, 0)))
    assert all(len({table.hashed(key, attempt).id for attempt in range(40)}) == 3 for key in KEYS[:50])


# ------------------------------------------------------------------------------------------------------------- warm-up

MINUTE = Warmup(60_000)


def warming(hosts: list[Host], now: float, warmup: Warmup = MINUTE, **changes: object) -> Spread:
    backend = fedgate_backend(**{"balance": Balance.ROUND_ROBIN, "warmup": warmup, **changes})
    return spread(backend, gather(hosts, {}), None, random.Random(9).random, now=now)


def test_a_new_endpoint_begins_with_a_tenth_and_grows():
    hosts = hosts_of(*near_and_far(2, 0))
    hosts[0].since = -1000.0
    assert shares(warming(hosts, 0.0))["near1"] == pytest.approx(0.1 / 1.1, abs=0.01)
    assert shares(warming(hosts, 30.0))["near1"] == pytest.approx(0.5 / 1.5, abs=0.01)
    assert shares(warming(hosts, 60.0))["near1"] == pytest.approx(0.5, abs=0.01)
    assert warming(hosts, 30.0).step_at == pytest.approx(30.6)
    assert warming(hosts, 60.0).step_at == float("inf")


def test_only_policies_that_can_warm_up_do():
    hosts = hosts_of(*near_and_far(2, 0))
    hosts[0].since = -1000.0
    assert shares(warming(hosts, 0.0, balance=Balance.RANDOM))["near1"] == pytest.approx(0.5, abs=0.02)
    assert shares(table_of(hosts, warmup=MINUTE))["near1"] == pytest.approx(0.5, abs=0.02)


def test_a_priority_of_new_endpoints_grows_as_long_as_another_can_carry_the_rest():
    hosts = hosts_of(*near_and_far(2, 2))
    for host in hosts[2:]:
        host.since = -1000.0
    across = Warmup(60_000, across=True)
    assert warming(hosts, 0.0).loads == (100, 0)  # Envoy
    assert warming(hosts, 0.0, across).loads == (14, 86)
    assert warming(hosts, 30.0, across).loads == (70, 30)
    assert warming(hosts, 45.0, across).loads == (100, 0)  # 1.4 times as much as it needs
    assert warming(hosts[:2], 0.0, across).loads == (100,)
    hosts[0].since = -1000.0
    assert warming(hosts, 0.0, across).loads == (77, 23)


def test_a_locality_of_new_endpoints_grows_too():
    hosts = placed(("a", 2), ("b", 2))
    for host in hosts[2:]:
        host.since = -1000.0
    weights = (("a", 50), ("b", 50))
    assert by_place(shares(warming(hosts, 0.0, locality_weights=weights)))["a"] == pytest.approx(0.5, abs=0.02)
    across = by_place(shares(warming(hosts, 0.0, Warmup(60_000, across=True), locality_weights=weights)))
    assert across["a"] == pytest.approx(0.14 / 1.14, abs=0.02)
