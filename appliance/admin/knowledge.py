"""What the plane knows beside its Snapshot, as rows: services, peers, sources, documents. Reads the plane, changes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from appliance.admin.rows import (
    ConditionRow,
    DocumentRow,
    PeerAddressRow,
    PeerRow,
    PublisherRow,
    ServiceRow,
    SourceRow,
    WinnerRow,
)
from discovery.catalog import Catalog
from discovery.model import Endpoint, Service
from discovery.source import SourceStatus
from federation.compile.names import covers
from federation.compile.status import Status, Subject
from federation.peering.status import PeerStatus
from federation.plane import Plane
from federation.resources.document import Document
from federation.resources.fedgate import Export
from federation.resources.resources import Problem, Resources


class PlaneKnowledge:
    """appliance.admin.gateway.Knowledge of a running plane. wall: seconds since 1970."""

    def __init__(self, plane: Plane, wall: Callable[[], float] = time.time) -> None:
        self._plane = plane
        self._wall = wall

    def services(self) -> Sequence[ServiceRow]:
        """By hostname."""
        catalog, exports, virtual = self._plane.catalog, self._exports(), self._plane.virtual_addresses
        return [service_row(catalog, catalog.services[name], exports, virtual(name)) for name in sorted(catalog.services)]

    def service(self, hostname: str) -> ServiceRow | None:
        catalog = self._plane.catalog
        found = catalog.services.get(hostname)
        if found is None:
            return None
        return service_row(catalog, found, self._exports(), self._plane.virtual_addresses(hostname))

    def winners(self, hostname: str) -> Sequence[WinnerRow] | None:
        if hostname not in self._plane.catalog.services:
            return None
        return [
            WinnerRow(field=each.field, winner=str(each.winner), reason=each.reason, losers=tuple(str(key) for key in each.losers))
            for each in self._plane.catalog.provenance(hostname)
        ]

    def peers(self) -> Sequence[PeerRow]:
        return [peer_row(status) for status in self._plane.peers()]

    def sources(self) -> Sequence[SourceRow]:
        now, catalog = self._wall(), self._plane.catalog
        lost = Counter(key for found in catalog.findings.values() for finding in found for key in finding.losers)
        return [source_row(catalog, status, now, lost[status.key]) for status in self._plane.sources()]

    def publishers(self) -> Sequence[PublisherRow]:
        return [
            PublisherRow(
                name=each.name,
                connected=each.connected,
                published=each.published,
                pending=each.pending,
                conflicts=each.conflicts,
                problem=each.error,
            )
            for each in self._plane.publishers()
        ]

    def documents(self) -> Sequence[DocumentRow]:
        reading = self._plane.reading
        if reading is None:
            return ()
        return document_rows(reading.resources, reading.problems, self._plane.statuses)

    def _exports(self) -> Sequence[Document[Export]]:
        return self._plane.reading.resources.exports if self._plane.reading else ()


def service_row(
    catalog: Catalog, service: Service, exports: Iterable[Document[Export]], virtual: tuple[str, ...] = ()
) -> ServiceRow:
    """virtual: the addresses that the service was given. A peer's gateways of one locality stand for the same workloads and are counted
    once."""
    clusters: dict[str, list[int]] = {}
    groups: set[tuple[str, str, object]] = set()
    for endpoint in service.endpoints:
        group = (endpoint.peer, str(endpoint.locality), endpoint.labels)
        if endpoint.peer and group in groups:
            continue
        groups.add(group)
        healthy, total = _counts(endpoint)
        count = clusters.setdefault(endpoint.cluster, [0, 0])
        count[0] += healthy
        count[1] += total
    offered = {
        peer
        for export in exports
        if any(covers(pattern.lower(), service.hostname) for pattern in export.spec.services) and catalog.own in clusters
        for peer in export.spec.peers
    }
    return ServiceRow(
        hostname=service.hostname,
        namespace=service.namespace,
        ports=tuple(f"{port.number}/{port.protocol.value}" for port in service.ports),
        clusters={name: f"{healthy}/{total}" for name, (healthy, total) in sorted(clusters.items())},
        sources=tuple(str(claim.key) for claim in catalog.claims.get(service.hostname, ())),
        exported_to=tuple(sorted(offered)),
        addresses=service.addresses,
        virtual_addresses=virtual,
        resolution=service.resolution.value,
        headless=service.headless,
        created=service.created,
        findings=tuple(
            f"{finding.field}: {finding.message}" if finding.conflict else finding.message
            for finding in catalog.findings.get(service.hostname, ())
        ),
    )


def _counts(endpoint: Endpoint) -> tuple[int, int]:
    if endpoint.peer:
        return endpoint.healthy, endpoint.total
    return (1 if endpoint.health.usable else 0), 1


def peer_row(status: PeerStatus) -> PeerRow:
    return PeerRow(
        name=status.name,
        trust_domain=status.trust_domain,
        cluster=status.cluster,
        state=status.state.value,
        services=status.imported,
        exported=status.exported,
        sessions=status.sessions,
        rtt_ms=status.rtt_ms,
        addresses=tuple(
            PeerAddressRow(
                address=each.address,
                state=each.state.value,
                verdict=each.verdict,
                gateway=each.gateway,
                rtt_ms=each.rtt_ms,
                error=each.error,
            )
            for each in status.addresses
        ),
        problem=status.error,
        findings=tuple(f"{finding.subject}: {finding.message}" for finding in status.findings),
    )


def source_row(catalog: Catalog, status: SourceStatus, now: float, findings: int = 0) -> SourceRow:
    """findings: how many contradictions it lost."""
    shard = catalog.shards.get(status.key, {})
    return SourceRow(
        cluster=status.key.cluster,
        name=status.key.source,
        state=status.shard,
        services=status.services,
        endpoints=sum(len(service.endpoints) for service in shard.values()),
        age_s=max(0.0, now - status.updated) if status.updated is not None and not status.connected else 0.0,
        problem=status.error or status.remark,
        connected=status.connected,
        said_s=max(0.0, now - status.updated) if status.updated is not None else -1.0,
        lost_s=max(0.0, now - status.lost) if status.lost is not None and not status.connected else -1.0,
        failures=status.failures,
        findings=findings,
        damped=status.damped,
    )


def document_rows(resources: Resources, problems: Iterable[Problem], statuses: Mapping[Subject, Status]) -> list[DocumentRow]:
    """By file and line: every document that stands, with its status, and everything that is wrong with those that do not."""
    wrong: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        wrong.setdefault((problem.file, problem.kind, problem.name), []).append(problem)
    rows = []
    for document in resources.every():
        errors = wrong.pop((document.origin.file, document.kind, document.name), [])
        rows.append(_row(document, errors, statuses.get(Subject(document.kind, document.namespace, document.name))))
    for (file, kind, name), errors in wrong.items():
        rows.append(
            DocumentRow(
                kind=kind,
                namespace="",
                name=name,
                file=file,
                line=errors[0].line,
                good=False,
                conditions=(),
                warnings=(),
                errors=tuple(_words(error) for error in errors),
            )
        )
    return sorted(rows, key=lambda row: (row.file, row.line, row.kind, row.name))


def _row(document: Document, errors: Sequence[Problem], status: Status | None) -> DocumentRow:  # type: ignore[type-arg]
    conditions = status.conditions if status else ()
    return DocumentRow(
        kind=document.kind,
        namespace=document.namespace,
        name=document.name,
        file=document.origin.file,
        line=document.origin.line,
        good=not errors and (status is None or status.good),
        conditions=tuple(ConditionRow(type=c.type, status=c.status, reason=c.reason, message=c.message) for c in conditions),
        warnings=status.warnings if status else (),
        errors=(*(_words(error) for error in errors), *(c.message for c in conditions if not c.status)),
    )


def _words(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message
