"""What a peer is offered: the services of the own cluster that Exports name for it, with how many workloads are healthy, where.

Pure. Least privilege: nothing is offered unless a pattern names it for this peer. Only workloads of the own cluster count. What came
from another peer is never passed on, or two gateways could send each other a request for ever.

An endpoint is healthy when its registry says so and no verdict on a backend of its host says otherwise. That is one count for all
ports, so a workload with one dead port is not counted: better that a peer sends less than that it sends into the dead port.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from discovery.model import Endpoint, Service
from federation.compile.names import covers
from federation.peering.terms import ExportTerms, PeerTerms
from federation.peering.wire import ExportedPort, ExportedService, LocalityCount
from gateway.verdicts import Verdicts

MAX_GROUPS = 64  # locality and label groups of one service; beyond that labels are left out, and subsets cannot be told

# Labels that differ from pod to pod or rollout to rollout and that no subset selects by; with them each workload were a group of its own.
NOISE = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "batch.kubernetes.io/job-completion-index",
    }
)


def offers(
    services: Iterable[Service], exports: Collection[ExportTerms], verdicts: Verdicts, *, cluster: str, peer: PeerTerms
) -> tuple[ExportedService, ...]:
    """What `peer` is offered by `cluster`, by hostname. services: the catalog's; those of other clusters are passed over."""
    allowed = [export for export in exports if peer.name in export.peers or "*" in export.peers]
    if not allowed:
        return ()
    sick = unhealthy(verdicts)
    found = {}
    for service in services:
        tls = _permit(service.hostname, allowed)
        if tls is None or service.hostname.startswith("*"):
            continue
        own = [endpoint for endpoint in service.endpoints if not endpoint.peer and endpoint.cluster in ("", cluster)]
        if service.endpoints and not own:
            continue  # a name that only others serve is theirs to offer
        found[service.hostname] = _exported(service, own, sick.get(service.hostname, frozenset()), tls)
    return tuple(found[hostname] for hostname in sorted(found))


def unhealthy(verdicts: Verdicts) -> Mapping[str, Collection[str]]:
    """host → ids of the endpoints that some backend of it has out."""
    found: dict[str, set[str]] = {}
    for backend, inner in verdicts.endpoints.items():
        for identifier, verdict in inner.items():
            if not verdict.health.usable or not verdict.healthy:
                found.setdefault(backend.rpartition("|")[2], set()).add(identifier)
    return found


def _permit(hostname: str, allowed: Iterable[ExportTerms]) -> str | None:
    """The TLS form that the first matching Export gives it; None when none names it."""
    for export in allowed:
        if any(covers(pattern.lower(), hostname) for pattern in export.services):
            return export.tls
    return None


def _exported(service: Service, endpoints: list[Endpoint], sick: Collection[str], tls: str) -> ExportedService:
    counts = _counts(endpoints, sick, labelled=True)
    if len(counts) > MAX_GROUPS:
        counts = _counts(endpoints, sick, labelled=False)
    return ExportedService(
        hostname=service.hostname,
        namespace=service.namespace,
        ports=tuple(ExportedPort(port.number, port.name, port.protocol.value) for port in sorted(service.ports)),
        localities=counts,
        tls=tls,
        labels=tuple(sorted(service.labels))[:64],
        created=service.created,
    )


def _counts(endpoints: Iterable[Endpoint], sick: Collection[str], *, labelled: bool) -> tuple[LocalityCount, ...]:
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
    for endpoint in endpoints:
        labels = tuple(sorted((k, v) for k, v in endpoint.labels if k not in NOISE))[:64] if labelled else ()
        count = groups.setdefault((str(endpoint.locality), labels), [0, 0])
        count[0] += endpoint.healthy if _healthy(endpoint, sick) else 0
        count[1] += endpoint.total
    return tuple(sorted(LocalityCount(where, healthy, total, labels) for (where, labels), (healthy, total) in groups.items()))


def _healthy(endpoint: Endpoint, sick: Collection[str]) -> bool:
    if not endpoint.health.usable:
        return False
    where = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return not any(f"{where}:{number}" in sick or endpoint.address in sick for _, number in endpoint.ports)
