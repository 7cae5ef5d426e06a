"""What is known of endpoints' health, from all who know something, composed into one overlay.

Theory of operation. Three speak of endpoints: their registry (Endpoint.health), the peer behind whose gateway they are
(healthy of total, pushed as it changes), and the active checks. The worst word wins, because each of them sees what the others
cannot: a registry that a task is ending, a check that its port is dead. Peers' addresses are separate: whether a gateway
answers at all says nothing of the workloads behind it. What is not named is healthy, so an ordinary endpoint costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping

from discovery.model import Endpoint, Health, Service
from federation.compile.egress import id_of
from federation.compile.names import endpoint_group
from gateway.snapshot import Backend, EndpointSet, Snapshot
from gateway.verdicts import AddressState, Verdict, Verdicts

Checks = Mapping[str, Mapping[str, Verdict]]
"""backend name → endpoint id → what the active check says"""

Labels = Callable[[Backend], Collection[tuple[str, str]]]
"""the labels that all workloads of a backend's subset have; none for a whole service"""

_RANK = {Health.HEALTHY: 0, Health.UNKNOWN: 0, Health.DEGRADED: 1, Health.DRAINING: 2, Health.UNHEALTHY: 3}
_NOTHING: Mapping[str, Verdict] = {}


def _no_labels(backend: Backend) -> Collection[tuple[str, str]]:
    return ()


def of_endpoint(endpoint: Endpoint) -> Verdict | None:
    """What its registry says of a workload; None when that is nothing but good."""
    if _RANK[endpoint.health] == 0:
        return None
    count = 1 if endpoint.health.usable else 0
    return Verdict(endpoint.health, healthy=count, total=1, reason=f"registry: {endpoint.health.value}")


def of_group(endpoints: Iterable[Endpoint]) -> Verdict:
    """The counts of one peer's locality: summed over the sets of labels behind one address. Its addresses stand for the same
    workloads, so the fullest of them is taken, not the sum."""
    counts: dict[str, tuple[int, int]] = {}
    for each in endpoints:
        healthy, total = counts.get(each.address, (0, 0))
        counts[each.address] = (healthy + each.healthy, total + each.total)
    healthy, total = max(counts.values())
    if not healthy:
        return Verdict(Health.UNHEALTHY, 0, total, "peer: no healthy workload")
    return Verdict(Health.HEALTHY, healthy, total, "peer")


def worst(first: Verdict | None, second: Verdict | None) -> Verdict | None:
    """The one that is worse; the first of two alike."""
    if first is None or second is None:
        return first or second
    return second if _RANK[second.health] > _RANK[first.health] else first


def of_backend(
    backend: Backend,
    endpoints: EndpointSet,
    service: Service | None,
    *,
    checks: Mapping[str, Verdict],
    labels: Collection[tuple[str, str]] = (),
) -> Mapping[str, Verdict]:
    """Everything known of one backend's endpoints and groups, by id or group. labels: of the backend's subset."""
    names = {each.id for each in endpoints.endpoints}
    found: dict[str, Verdict] = {}
    groups: dict[str, list[Endpoint]] = {}
    port = service.port(backend.port) if service else None
    for endpoint in service.endpoints if service and port else ():
        number = endpoint.port(port.name) if port else None
        if number is None or (name := id_of(backend, endpoint, number)) not in names:
            continue
        if endpoint.peer and not set(labels) <= set(endpoint.labels):
            continue
        if endpoint.peer:
            groups.setdefault(endpoint_group(endpoint), []).append(endpoint)
        elif (verdict := worst(of_endpoint(endpoint), checks.get(name))) is not None:
            found[name] = verdict
    found.update({group: of_group(members) for group, members in groups.items()})
    return found


def compose(
    snapshot: Snapshot,
    services: Mapping[str, Service],
    *,
    checks: Checks,
    addresses: Mapping[str, AddressState],
    labels: Labels = _no_labels,
    evacuated: Mapping[str, int] | None = None,
) -> Verdicts:
    """The whole overlay for a Snapshot."""
    endpoints = {}
    for backend in snapshot.backends():
        inner = _of(snapshot, backend, services, checks, labels)
        if inner:
            endpoints[backend.name] = inner
    return Verdicts(endpoints=endpoints, addresses=dict(addresses), evacuated=dict(evacuated or {}))


def recompose(
    previous: Verdicts,
    snapshot: Snapshot,
    services: Mapping[str, Service],
    *,
    checks: Checks,
    touched: Iterable[str],
    labels: Labels = _no_labels,
) -> Verdicts:
    """`recomposing`, at once."""
    steps = recomposing(previous, snapshot, services, checks=checks, touched=touched, labels=labels)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Verdicts = end.value
            return result


def recomposing(
    previous: Verdicts,
    snapshot: Snapshot,
    services: Mapping[str, Service],
    *,
    checks: Checks,
    touched: Iterable[str],
    labels: Labels = _no_labels,
) -> Generator[None, None, Verdicts]:
    """`previous` with the backends named in `touched` composed again, one a step; those that left the Snapshot are dropped. Inner
    mappings that come out equal stay the same objects, so that the difference is cheap to find, and where all do `previous` itself comes
    back."""
    endpoints = dict(previous.endpoints)
    changed = False
    for name in touched:
        backend = snapshot.parts.get(f"backend/{name}")
        inner = _of(snapshot, backend, services, checks, labels) if isinstance(backend, Backend) else _NOTHING
        if not inner:
            changed |= endpoints.pop(name, None) is not None
        elif endpoints.get(name) != inner:
            endpoints[name] = inner
            changed = True
        yield
    return Verdicts(endpoints=endpoints, addresses=previous.addresses, evacuated=previous.evacuated) if changed else previous


def _of(
    snapshot: Snapshot, backend: Backend, services: Mapping[str, Service], checks: Checks, labels: Labels
) -> Mapping[str, Verdict]:
    endpoints = snapshot.parts.get(f"endpoints/{backend.name}")
    if not isinstance(endpoints, EndpointSet):
        return _NOTHING
    known = checks.get(backend.name, _NOTHING)
    return of_backend(backend, endpoints, services.get(backend.host), checks=known, labels=labels(backend))
