"""From Hosts and what is known of them to a table that a request can be picked from: counts, loads, pickers.

Built anew when something changed (an ejection, a verdict, a step of a ramp or of a warm-up), never per request. A workload counts 1 of
1 in its priority. The addresses of a peer's gateways in one group stand for the same workloads and count once, `healthy` of `total`; the
weights of its addresses (compile gives them the number of workloads together) add up, `healthy/total` of that is spread over those
that are in service.

Three things change that. Warm-up: the weight of what is new grows with its age, and (Warmup.across) so does what a priority of new
endpoints takes. Localities: a priority's load goes to its localities first, by their weights or zone-aware, then to the endpoints of each.
Consistent hashing: `Spread.hashed` chooses by the request's key, the priority included; `entries` are for requests that have none.

Pure: no I/O, no clock; randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from discovery.model import Health
from gateway.native.host import Host
from gateway.policy import warmup, zones
from gateway.policy.balance import Count, Loads, Random, availability, loads, picker
from gateway.policy.hashing import normalized
from gateway.policy.keyed import Keyed
from gateway.snapshot import Backend, Balance

Weighted = list[tuple[Host, float]]

HASHING = frozenset({Balance.RING_HASH, Balance.MAGLEV})
NEVER = float("inf")

_SLICE = 500  # steps of a hash table a tick: 0.5 to 2 ms; no turn may last over 5


class Priority:
    """What one priority has. permille: of its availability, after evacuations. warm: share of its weight that has warmed up."""

    __slots__ = ("degraded", "healthy", "hosts", "in_degraded", "in_healthy", "members", "name", "permille", "warm")

    def __init__(self) -> None:
        self.name = ""
        self.hosts = self.healthy = self.degraded = 0
        self.permille = 1000
        self.warm = 1.0
        self.members: list[Host] = []
        self.in_healthy: Weighted = []
        self.in_degraded: Weighted = []

    @property
    def count(self) -> Count:
        return Count(self.hosts, self.healthy, self.degraded)


class ByKey(Protocol):
    def __call__(self, key: int, attempt: int = 0, /) -> Host: ...


class Spread:
    """entries: (upper bound of its share in 0..100, function that picks), nothing with a share of 0. in_service: by priority. hashed:
    with consistent hashing, the endpoint for a key of 64 bits; attempt: how many chosen before did not suit. step_at: when a warm-up
    asks for a new table."""

    __slots__ = ("_unfinished", "entries", "hashed", "in_service", "loads", "panic", "step_at")

    def __init__(
        self,
        shares: Loads,
        entries: list[tuple[float, Callable[[], Host]]],
        in_service: tuple[tuple[Host, ...], ...],
        *,
        tables: Sequence[tuple[int, Keyed[Host]]] = (),
        step_at: float = NEVER,
    ) -> None:
        """tables: (upper bound in 1..100 of the keys that go there, their table)."""
        self.loads = shares.total
        self.panic = any(shares.panic)
        self.entries = entries
        self.in_service = in_service
        self.hashed: ByKey | None = _by_key(tables) if tables else None
        self.step_at = step_at
        self._unfinished = [table for _, table in tables if not table.ready]

    def build(self) -> bool:
        """Go on with hash tables that are not whole yet, for up to 2 ms; True when all are. Call it once a tick until then."""
        while self._unfinished and self._unfinished[-1].build(_SLICE):
            self._unfinished.pop()
        return not self._unfinished


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


class _Part(NamedTuple):
    """Endpoints of one priority that carry `load` (0..100) together."""

    priority: Priority
    degraded: bool
    panic: bool
    load: int
    chosen: Weighted


def spread(
    backend: Backend, priorities: Sequence[Priority], granted: Sequence[int] | None, random: Random, *, now: float | None = None
) -> Spread:
    """The table of a backend. granted: as in balance.loads. now: for warm-ups; None = nothing warms up."""
    step_at = NEVER if now is None else _warm(backend, priorities, now)
    shares = loads(
        [priority.count for priority in priorities],
        overprovisioning=backend.overprovisioning,
        panic_percent=backend.panic_percent,
        last_resort=backend.panic_last_resort,
        granted=_granted(priorities, granted, backend.overprovisioning),
    )
    # Where the client names the address (native/original.py), nobody is chosen, as in Istio's ORIGINAL_DST clusters.
    parts = [] if backend.balance is Balance.PASSTHROUGH else list(_parts(priorities, shares))
    entries: list[tuple[float, Callable[[], Host]]] = []
    bound = 0.0
    for part in parts:
        for share, members in _by_locality(backend, part, first=part.priority is priorities[0]):
            bound += part.load * share
            entries.append((bound, picker(backend.balance, [h for h, _ in members], [w for _, w in members], random)))
    in_service = tuple(tuple(host for host, _ in p.in_healthy + p.in_degraded) for p in priorities)
    tables = _tables(backend, parts) if backend.balance in HASHING else []
    return Spread(shares, entries, in_service, tables=tables, step_at=step_at)


def _granted(priorities: Sequence[Priority], granted: Sequence[int] | None, overprovisioning: int) -> Sequence[int] | None:
    """What failback grants, less what is evacuated, and for what is new no more than has warmed up."""
    if all(priority.permille == 1000 and priority.warm == 1.0 for priority in priorities):
        return granted
    whole = granted or [natural(priority, overprovisioning) for priority in priorities]
    return [
        min(
            value * priority.permille // 1000,
            100 if priority.warm == 1.0 else int(natural_share(priority) * overprovisioning * priority.warm),
        )
        for value, priority in zip(whole, priorities, strict=True)
    ]


def natural_share(priority: Priority) -> float:
    """Workloads in service of all."""
    return (priority.healthy + priority.degraded) / priority.hosts if priority.hosts else 0.0


def _parts(priorities: Sequence[Priority], shares: Loads) -> Iterator[_Part]:
    """Who carries something, by priority, in a panic everybody."""
    for index, priority in enumerate(priorities):
        panic = shares.panic[index]
        everyone = [(host, float(host.endpoint.weight)) for host in priority.members]
        for degraded, load, part in (
            (False, shares.healthy[index], priority.in_healthy),
            (True, shares.degraded[index], priority.in_degraded),
        ):
            chosen = everyone if panic else part
            if not load or not chosen:
                continue
            if not any(weight for _, weight in chosen):
                # All evacuated, and still asked because nobody else can carry it: alike.
                chosen = [(host, 1.0) for host, _ in chosen]
            yield _Part(priority, degraded, panic, load, [pair for pair in chosen if pair[1] > 0])


# --------------------------------------------------------------------------------------------------------- localities


def _by_locality(backend: Backend, part: _Part, *, first: bool) -> list[tuple[float, Weighted]]:
    """(share of 1.0, endpoints): one for all, or one a locality. In a panic localities do not count (Envoy)."""
    if part.panic or not (backend.locality_weights or (backend.zone_aware and first)):
        return [(1.0, part.chosen)]
    members = _localities(part.chosen)
    if backend.locality_weights:
        shares = _weighted(backend, part, members)
    else:
        zoned = _zoned(backend, part, members)
        if zoned is None:
            return [(1.0, part.chosen)]
        shares = zoned
    return [(shares[name], members[name]) for name in members if shares.get(name, 0.0) > 0]


def _localities(chosen: Weighted) -> dict[str, Weighted]:
    found: dict[str, Weighted] = {}
    for host, weight in chosen:
        found.setdefault(str(host.endpoint.locality), []).append((host, weight))
    return found


def _weighted(backend: Backend, part: _Part, members: Mapping[str, Weighted]) -> dict[str, float]:
    hosts: dict[str, float] = {}
    for host in part.priority.members:
        name = str(host.endpoint.locality)
        hosts[name] = hosts.get(name, 0.0) + (host.endpoint.weight if host.endpoint.group else 1.0)
    across = backend.warmup is not None and backend.warmup.across
    in_service = {
        # A workload counts 1 whatever its weight; a peer's address, as many as stand behind it.
        name: sum(weight if host.endpoint.group else weight / host.endpoint.weight if across else 1.0 for host, weight in pairs)
        for name, pairs in members.items()
    }
    return zones.weighted_shares(dict(backend.locality_weights), hosts, in_service, backend.overprovisioning)


def _zoned(backend: Backend, part: _Part, members: Mapping[str, Weighted]) -> dict[str, float] | None:
    """Zone-aware shares, mixed with plain ones as zone_percent says; None where they do not apply. One gateway is all of its kind
    that it knows, so its locality has all gateways: what stays is what its endpoints are of all."""
    if len(part.chosen) < backend.zone_aware:
        return None
    counts = {name: len(pairs) for name, pairs in members.items()}
    shares = zones.zone_shares(backend.zone, {backend.zone: 1}, counts)
    if shares is None:
        return None
    mixed, total = backend.zone_percent / 100, sum(weight for _, weight in part.chosen)
    plain = {name: sum(weight for _, weight in pairs) / total for name, pairs in members.items()}
    return {name: mixed * shares.get(name, 0.0) + (1 - mixed) * plain[name] for name in members}


# ------------------------------------------------------------------------------------------------------------- hashing


def _tables(backend: Backend, parts: Sequence[_Part]) -> list[tuple[int, Keyed[Host]]]:
    """Healthy endpoints by priority, then degraded ones: the order in which Envoy gives hash values to priorities. (Envoy's tables
    hold no degraded endpoints, so those values get none there; here they do.)"""
    found: list[tuple[int, Keyed[Host]]] = []
    size = backend.hash.size if backend.hash is not None else 1024
    bound = 0
    for part in sorted(parts, key=lambda each: each.degraded):
        chosen = _key_shares(backend, part)
        if chosen:
            bound += part.load
            named = [(host.key, share) for host, share in chosen]
            found.append((bound, Keyed(backend.balance, size, [host for host, _ in chosen], named)))
    return found


def _key_shares(backend: Backend, part: _Part) -> Weighted:
    """Of 1.0. With locality weights a locality has its weight whatever is left of it, and what has nothing in service leaves its share to
    nobody (Envoy's hash tables know no partial availability). The order of multiplying and dividing is Envoy's, in
    thread_aware_lb_impl.cc: another would be a point more or less of a ring, and a key in 500 at another endpoint."""
    if not backend.locality_weights:
        return list(zip([host for host, _ in part.chosen], normalized([weight for _, weight in part.chosen]), strict=True))
    weights = dict(backend.locality_weights)
    there = {str(host.endpoint.locality) for host in part.priority.members}
    whole = sum(weight for name, weight in weights.items() if name in there)
    found: Weighted = []
    for name, pairs in _localities(part.chosen).items():
        share = weights.get(name, 0) / whole if whole else 0.0
        total = sum(weight for _, weight in pairs)
        found += [(host, weight * share / total) for host, weight in pairs if share]
    return found


def _by_key(tables: Sequence[tuple[int, Keyed[Host]]]) -> ByKey:
    if len(tables) == 1:
        return tables[0][1].choose

    def choose(key: int, attempt: int = 0, /) -> Host:
        point = key % 100
        for bound, table in tables:
            if point < bound:
                return table.choose(key, attempt)
        return tables[-1][1].choose(key, attempt)

    return choose


# ------------------------------------------------------------------------------------------------------------- warm-up


def _warm(backend: Backend, priorities: Sequence[Priority], now: float) -> float:
    """Cut the weights of what is new, and say when to look again."""
    policy = backend.warmup
    if policy is None or backend.balance not in warmup.WARMED:
        return NEVER
    cold = False
    for priority in priorities:
        before = sum(weight for _, weight in priority.in_healthy + priority.in_degraded)
        for part in (priority.in_healthy, priority.in_degraded):
            for index, (host, weight) in enumerate(part):
                factor = warmup.factor(policy, now - host.since)
                cold = cold or factor < 1.0
                part[index] = (host, weight * factor)
        after = sum(weight for _, weight in priority.in_healthy + priority.in_degraded)
        if policy.across and after < before:
            priority.warm = after / before
    return now + warmup.step(policy) if cold else NEVER
