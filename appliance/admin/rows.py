"""What the admin API answers with, one type per kind of row: the contract of `/api/v1/…` and of `fedgate get -o json`.

Names are camelCase in JSON. Nothing secret is in any of them: keys are not even named.
"""

from __future__ import annotations

import msgspec


class Row(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """A row of a table."""


class ChainRow(Row, frozen=True):
    name: str
    server_names: tuple[str, ...]
    table: str
    tls: str  # "" = plain text
    certificates: tuple[str, ...]
    redirect_https: bool


class ListenerRow(Row, frozen=True):
    """bound: the socket listens. error: why not."""

    address: str
    port: int
    kind: str
    bound: bool
    error: str
    chains: tuple[ChainRow, ...]


class DestinationRow(Row, frozen=True):
    backend: str
    weight: int


class RouteRow(Row, frozen=True):
    """One route in its order. match and action are for people; destinations for programs."""

    table: str
    virtual_host: str
    domains: tuple[str, ...]
    name: str
    match: str
    action: str
    destinations: tuple[DestinationRow, ...]
    timeout_ms: int
    retries: int


class PriorityRow(Row, frozen=True):
    """load: per cent of the traffic, the arithmetic's result. healthy of total: workloads, peers' counted by what they say."""

    priority: int
    load: int
    endpoints: int
    healthy: int
    total: int
    localities: tuple[str, ...]


class BackendRow(Row, frozen=True):
    """policy: what is in force, each with its numbers; an absent key is off."""

    name: str
    host: str
    port: int
    subset: str
    balance: str
    panic: bool
    priorities: tuple[PriorityRow, ...]
    requests: int
    retries: int
    overflow: int
    tls: str
    policy: dict[str, object]


class EndpointRow(Row, frozen=True):
    """health: healthy, degraded, unhealthy, draining, ejected, suspect or down; reason says by whom and why.

    failures are of those requests; latencies in milliseconds; healthy/total of a peer's gateway are the workloads behind it."""

    backend: str
    id: str
    address: str
    cluster: str
    locality: str
    priority: int
    weight: int
    peer: str
    health: str
    reason: str
    healthy: int
    total: int
    active: int
    connections: int
    requests: int
    failures: int
    p50_ms: float
    p99_ms: float


class CertificateRow(Row, frozen=True):
    """One certificate of a chain that the Snapshot uses. valid: now, by its dates. use: which listener, backend or trust."""

    name: str
    kind: str  # leaf, intermediate, root
    valid: bool
    serial: str
    not_before: str
    not_after: str
    trust_domain: str
    subject_alt_names: tuple[str, ...]
    issuer: str
    used_by: tuple[str, ...]


class PeerAddressRow(Row, frozen=True):
    """verdict: "", suspect or down."""

    address: str
    state: str
    verdict: str
    gateway: str
    rtt_ms: float
    error: str


class PeerRow(Row, frozen=True):
    """state: connected, connecting, lost (what it said stands) or failing. services: taken from it; exported: it is told of, over
    `sessions` sessions. findings: what of its claims was not believed."""

    name: str
    trust_domain: str
    cluster: str
    state: str
    services: int
    exported: int
    sessions: int
    rtt_ms: float
    addresses: tuple[PeerAddressRow, ...]
    problem: str
    findings: tuple[str, ...]


class ServiceRow(Row, frozen=True):
    """addresses: as its registries say. virtual_addresses: those that it was given here, by which clients reach it.
    resolution: as in a ServiceEntry; headless ones have no address of their own. created: since when the own cluster has it. findings:
    where its sources contradict each other, and what was decided; what a registry says of it that cannot be followed."""

    hostname: str
    namespace: str
    ports: tuple[str, ...]
    clusters: dict[str, str]  # cluster → healthy/total
    sources: tuple[str, ...]
    exported_to: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    virtual_addresses: tuple[str, ...] = ()
    resolution: str = ""
    headless: bool = False
    created: str = ""
    findings: tuple[str, ...] = ()


class WinnerRow(Row, frozen=True):
    """Why a field of a merged service is what it is."""

    field: str
    winner: str
    reason: str
    losers: tuple[str, ...]


class SourceRow(Row, frozen=True):
    """state: none (has said nothing), live, kept, expired or degraded (what became of its shard while it is lost). age_s: how old what it
    says may be: 0 while it is connected. said_s: since it last said something, -1 = never. lost_s: since it was lost, -1 = it is not.
    findings: contradictions that it lost. damped: endpoints that come and go, and are used after others. problem: the last error, or what
    is odd about what it says."""

    cluster: str
    name: str
    state: str
    services: int
    endpoints: int
    age_s: float
    problem: str
    connected: bool = False
    said_s: float = -1.0
    lost_s: float = -1.0
    failures: int = 0
    findings: int = 0
    damped: int = 0


class PublisherRow(Row, frozen=True):
    """conflicts: names that somebody else owns there, left alone."""

    name: str
    connected: bool
    published: int
    pending: int
    conflicts: tuple[str, ...]
    problem: str


class ConditionRow(Row, frozen=True):
    type: str
    status: bool
    reason: str
    message: str


class DocumentRow(Row, frozen=True):
    """One document of the configuration and what became of it. kind "" for a file that could not be read."""

    kind: str
    namespace: str
    name: str
    file: str
    line: int
    good: bool
    conditions: tuple[ConditionRow, ...]
    warnings: tuple[str, ...]
    errors: tuple[str, ...]


class WorkerRow(Row, frozen=True):
    worker: int
    up: bool
    pid: int
    restarts: int
    version: str
    faults: tuple[str, ...]


class SnapshotRow(Row, frozen=True):
    """version: published. running: by all workers, "" while they differ."""

    version: str
    running: str
    parts: int
    node: str
    cluster: str
    workers: tuple[WorkerRow, ...]
    faults: tuple[str, ...]
    problem: str  # "" or why what runs is older than what is configured
