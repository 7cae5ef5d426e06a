"""From Hosts and what is known of them to a table that a request can be picked from: counts, loads, pickers.

Built anew when something changed (an ejection, a verdict, a step of a ramp), never per request. A workload counts 1 of 1 in its
priority. The addresses of a peer's gateways in one group stand for the same workloads and count once, `healthy` of `total`; the
weights of its addresses (compile gives them the number of workloads together) add up, `healthy/total` of that is spread over those
that are in service.

Pure: no I/O, no clock; randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from discovery.model import Health
from gateway.native.host import Host
from gateway.policy.balance import Count, Loads, Random, availability, loads, picker
from gateway.snapshot import Backend

Weighted = list[tuple[Host, float]]


class Priority:
    """What one priority has. permille: of its availability, after evacuations."""

    __slots__ = ("degraded", "healthy", "hosts", "in_degraded", "in_healthy", "members", "name", "permille")

    def __init__(self) -> None:
        self.name = ""
        self.hosts = self.healthy = self.degraded = 0
        self.permille = 1000
        self.members: list[Host] = []
        self.in_healthy: Weighted = []
        self.in_degraded: Weighted = []

    @property
    def count(self) -> Count:
        return Count(self.hosts, self.healthy, self.degraded)


class Spread:
    """entries: (upper bound of its share in 0..100, function that picks), nothing with a share of 0. in_service: by priority."""

    __slots__ = ("entries", "in_service", "loads", "panic")

    def __init__(
        self, shares: Loads, entries: list[tuple[float, Callable[[], Host]]], in_service: tuple[tuple[Host, ...], ...]
    ) -> None:
        self.loads = shares.total
        self.panic = any(shares.panic)
        self.entries = entries
        self.in_service = in_service


EMPTY = Spread(Loads((), (), ()), [], ())


def gather(hosts: Iterable[Host], evacuated: Mapping[str, int], *, half_open: bool = False) -> list[Priority]:
    """Hosts by priority, counted. half_open: count those as in service that have yet to answer (when nothing else is)."""
    units: dict[tuple[int, str], list[Host]] = {}
    for host in hosts:
        units.setdefault((host.priority, host.endpoint.group or "\0" + host.id), []).append(host)
    priorities = [Priority() for _ in range(max((key[0] for key in units), default=-1) + 1)]
    kept = [0] * len(priorities)
    for (index, _), members in units.items():
        kept[index] += _add(priorities[index], members, evacuated, half_open)
    for priority, permille in zip(priorities, kept, strict=True):
        in_service = priority.healthy + priority.degraded
        priority.permille = permille // in_service if in_service else 1000
        # The name outlives renumbering: see policy/failback.py.
        priority.name = min((f"{host.endpoint.locality}|{host.endpoint.cluster}" for host in priority.members), default="")
    return priorities


def _add(priority: Priority, members: list[Host], evacuated: Mapping[str, int], half_open: bool) -> int:
    """Count one unit: a workload, or the addresses of a peer's group. Returns its workloads in service times per mille kept."""
    first = members[0]
    members = [host for host in members if host.endpoint.weight > 0]
    if not members:
        return 0  # weight 0: it is not to be used, and nobody misses it
    verdict = first.verdict
    healthy, total = (verdict.healthy, verdict.total) if verdict is not None and first.endpoint.group else (1, 1)
    priority.hosts += total
    priority.members += members
    open_to = [host for host in members if _usable(host, half_open)]
    healthy = min(healthy, total)
    if not open_to or healthy <= 0:
        return 0
    permille = evacuated.get(first.endpoint.cluster, 1000)
    whole = sum(host.endpoint.weight for host in members)
    weight = whole * healthy / total * permille / 1000 / len(open_to)
    weighted = [(host, weight) for host in open_to]
    if verdict is not None and verdict.health is Health.DEGRADED:
        priority.degraded += healthy
        priority.in_degraded += weighted
    else:
        priority.healthy += healthy
        priority.in_healthy += weighted
    return healthy * permille


def _usable(host: Host, half_open: bool) -> bool:
    if host.ejected or host.down or (host.half_open and not half_open):
        return False
    return host.verdict is None or host.verdict.health.usable


def natural(priority: Priority, overprovisioning: int) -> int:
    """Availability of a priority before failback and evacuation, healthy and degraded endpoints together, at most 100."""
    healthy = availability(priority.healthy, priority.hosts, overprovisioning)
    return min(100, healthy + availability(priority.degraded, priority.hosts, overprovisioning))


def spread(backend: Backend, priorities: Sequence[Priority], granted: Sequence[int] | None, random: Random) -> Spread:
    """The table of a backend. granted: as in balance.loads."""
    if any(priority.permille < 1000 for priority in priorities):
        whole = granted or [natural(priority, backend.overprovisioning) for priority in priorities]
        granted = [value * priority.permille // 1000 for value, priority in zip(whole, priorities, strict=True)]
    shares = loads(
        [priority.count for priority in priorities],
        overprovisioning=backend.overprovisioning,
        panic_percent=backend.panic_percent,
        last_resort=backend.panic_last_resort,
        granted=granted,
    )
    entries: list[tuple[float, Callable[[], Host]]] = []
    bound = 0
    for index, priority in enumerate(priorities):
        everyone = [(host, float(host.endpoint.weight)) for host in priority.members]
        for load, part in ((shares.healthy[index], priority.in_healthy), (shares.degraded[index], priority.in_degraded)):
            chosen = everyone if shares.panic[index] else part
            if not load or not chosen:
                continue
            bound += load
            # All evacuated, and still asked because nobody else can carry it: by their own weights.
            weights = [weight for _, weight in chosen] if any(weight for _, weight in chosen) else [1.0] * len(chosen)
            kept = [(host, weight) for (host, _), weight in zip(chosen, weights, strict=True) if weight > 0]
            entries.append((float(bound), picker(backend.balance, [h for h, _ in kept], [w for _, w in kept], random)))
    in_service = tuple(tuple(host for host, _ in p.in_healthy + p.in_degraded) for p in priorities)
    return Spread(shares, entries, in_service)
