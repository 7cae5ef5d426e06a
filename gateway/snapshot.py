"""What an engine runs: plain frozen data in named parts, with one canonical JSON form.

Theory of operation. A Snapshot is a mapping from part name to part. A part's hash is SHA-256 of its canonical JSON; the
Snapshot's version is the sum, mod 2^256, of SHA-256(name + NUL + part hash) over all parts, so adding, replacing or removing one
part changes the version in O(1) and a chain of Deltas ends in the same version as the whole.

Part names, by type:
    node                             Node            (exactly one)
    listener/ADDRESS:PORT            Listener        (one a socket)
    host/TABLE/NAME                  VirtualHost     (TABLE is named by filter chains)
    inbound/SNI                      Inbound         (what the east-west port lets peers reach)
    backend/NAME                     Backend         NAME = outbound|PORT|SUBSET|HOST (Istio's cluster name) or inbound|PORT|SUBSET|HOST
    endpoints/NAME                   EndpointSet     (same NAME as the backend)

Nothing secret is in it: private keys are named by digest and travel beside it (`Secrets`). Health is not in it: Verdicts are.
Durations are whole milliseconds (`_ms`), 0 = off unless said otherwise. Percentages are whole per cent.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from discovery.model import Locality

# ---------------------------------------------------------------------------------------------------------------- TLS


class CertificateRef(msgspec.Struct, frozen=True):
    """A certificate chain (PEM, leaf first; public) and the digest (hex SHA-256 of the key's PEM) of its private key in Secrets."""

    chain: str
    key: str
    name: str = ""  # where it came from, for people: "secret shop/web-tls", "file /etc/…"


class TlsMode(enum.Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"  # mutual with SPIFFE identities, verified against `bundles` by trust domain


class DownstreamTls(msgspec.Struct, frozen=True):
    """TLS towards clients of one filter chain.

    ca: PEM bundle that client certificates must chain to (MUTUAL). bundles: trust domain → PEM roots; after the handshake the
    chain is verified again against the bundle of the trust domain in its own URI SAN (ISTIO_MUTUAL, east-west).
    subject_alt_names: when not empty, a client certificate must carry one of them (DNS, URI, email or IP SAN, exact).
    min_version, max_version: "TLSv1_0" … "TLSv1_3"; "" = TLS 1.2 and the newest there is.
    """

    mode: TlsMode
    certificates: tuple[CertificateRef, ...]
    ca: str = ""
    bundles: tuple[tuple[str, str], ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ("http/1.1",)
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class UpstreamTlsMode(enum.Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class UpstreamTls(msgspec.Struct, frozen=True):
    """TLS towards endpoints. sni "" = taken from the request's Host. ca "" = the system's roots.

    subject_alt_names: the server's certificate must carry one (exact; SPIFFE URIs included); empty = the name in sni is checked
    for SIMPLE and MUTUAL. bundles: as in DownstreamTls, for ISTIO_MUTUAL and for peers. TLS 1.3 only when `peer` (between gateways).
    """

    mode: UpstreamTlsMode
    sni: str = ""
    ca: str = ""
    bundles: tuple[tuple[str, str], ...] = ()
    certificate: CertificateRef | None = None
    subject_alt_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ("http/1.1",)
    insecure_skip_verify: bool = False
    peer: bool = False


# ----------------------------------------------------------------------------------------------------------- listeners


class ListenerKind(enum.Enum):
    GATEWAY = "gateway"  # a server of a Gateway document
    MESH = "mesh"  # the node's own `http` port: routes of gateway `mesh`
    EAST_WEST = "east-west"  # 15443: the client hello decides: Inbound by SNI, peering, nothing
    HEALTH = "health"  # readiness: GET /healthz/ready
    ADMIN = "admin"  # bound by the supervisor for control; workers ignore it


class FilterChain(msgspec.Struct, frozen=True):
    """How connections of a listener with one of these server names are served.

    server_names: exact names or `*.suffix`; empty = every name, and plain text. tls None = plain text.
    table: the route table (prefix of `host/TABLE/…` parts). redirect_https: every request answered 301 to https.
    """

    name: str
    table: str
    server_names: tuple[str, ...] = ()
    tls: DownstreamTls | None = None
    redirect_https: bool = False


class Listener(msgspec.Struct, frozen=True, tag="listener"):
    """One listening socket. address: IP; port: 1..65535. EAST_WEST uses `tls` of its single chain for every Inbound."""

    address: str
    port: int
    kind: ListenerKind
    chains: tuple[FilterChain, ...] = ()
    peering_name: str = ""  # EAST_WEST: SNI that is handed to control, `peering.TRUSTDOMAIN`

    @property
    def key(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Inbound(msgspec.Struct, frozen=True, tag="inbound"):
    """One SNI that peers may reach at the east-west port. The SNI alone names the service, whatever Host the streams carry.

    backend: an `inbound|…` backend whose endpoints are this cluster's own only (never back out). trust_domains: who may.
    identities: SPIFFE ids whose gateways may open it; a fedgate peer's is `spiffe://TD/ns/fedgate/sa/gateway`.
    """

    sni: str
    backend: str
    trust_domains: tuple[str, ...]
    identities: tuple[str, ...]


# -------------------------------------------------------------------------------------------------------------- routes


class MatchKind(enum.Enum):
    EXACT = "exact"
    PREFIX = "prefix"
    REGEX = "regex"  # RE2, full match
    PRESENT = "present"


class StringMatch(msgspec.Struct, frozen=True):
    kind: MatchKind
    value: str = ""
    ignore_case: bool = False


class NamedMatch(msgspec.Struct, frozen=True):
    """Of a header (name lower case) or a query parameter. inverted = withoutHeaders."""

    name: str
    match: StringMatch
    inverted: bool = False


class RouteMatch(msgspec.Struct, frozen=True):
    """All must hold. path None = any. path is matched without the query string; prefix is a raw string prefix (Istio b6)."""

    path: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    scheme: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    query: tuple[NamedMatch, ...] = ()
    port: int = 0  # of the listener; 0 = any


class HeaderOperations(msgspec.Struct, frozen=True):
    """set replaces, add appends another value, remove drops every value; names lower case. Applied remove, then set, then add … as Envoy."""

    set: tuple[tuple[str, str], ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.add or self.remove)


class RetryPolicy(msgspec.Struct, frozen=True):
    """Istio HTTPRetry. attempts: tries after the first. conditions: Envoy's names; statuses: retriable-status-codes.

    Back-off: attempt N waits uniform [0, (2^N - 1) * base_ms), at most max_ms (Envoy router_filter). Retries never wait when
    another endpoint is there and `immediate` (defaults: fedgate): going elsewhere needs no pause.
    """

    attempts: int = 2
    conditions: tuple[str, ...] = ("connect-failure", "refused-stream", "unavailable", "cancelled")
    statuses: tuple[int, ...] = ()
    per_try_timeout_ms: int = 0
    base_ms: int = 25
    max_ms: int = 250
    previous_hosts: bool = True  # a retry avoids endpoints already tried
    host_attempts: int = 5
    previous_priorities: bool = False  # retryRemoteLocalities
    immediate: bool = False


class Split(msgspec.Struct, frozen=True):
    """A share of a route's traffic: weight / sum of weights. headers_*: destination level, applied before the route's."""

    backend: str
    weight: int = 1
    request_headers: HeaderOperations = HeaderOperations()
    response_headers: HeaderOperations = HeaderOperations()


class Forward(msgspec.Struct, frozen=True, tag="forward"):
    """Proxy to one of the splits. timeout_ms covers all retries; 0 = none (Istio b17)."""

    splits: tuple[Split, ...]
    timeout_ms: int = 0
    retry: RetryPolicy | None = None
    rewrite_prefix: str | None = None  # replaces the matched prefix (prefix match) or the whole path (otherwise)
    rewrite_authority: str = ""


class Redirect(msgspec.Struct, frozen=True, tag="redirect"):
    """Istio HTTPRedirect. uri replaces the whole path (None = kept); port 0 = kept; scheme/authority "" = kept."""

    status: int = 301
    uri: str | None = None
    prefix_rewrite: str | None = None
    authority: str = ""
    scheme: str = ""
    port: int = 0
    derive_port: str = ""  # FROM_PROTOCOL_DEFAULT | FROM_REQUEST_PORT


class DirectResponse(msgspec.Struct, frozen=True, tag="direct"):
    status: int
    body: bytes = b""


class Route(msgspec.Struct, frozen=True):
    """One (http route, match) pair in order of precedence; the first that matches wins. name: `route.match` for the log."""

    name: str
    match: RouteMatch
    action: Forward | Redirect | DirectResponse
    request_headers: HeaderOperations = HeaderOperations()
    response_headers: HeaderOperations = HeaderOperations()


class VirtualHost(msgspec.Struct, frozen=True, tag="host"):
    """Routes for some Host names in one table. domains: exact, `*.suffix` or `*`, lower case, without port."""

    table: str
    name: str
    domains: tuple[str, ...]
    routes: tuple[Route, ...]


# ------------------------------------------------------------------------------------------------------------ backends


class Balance(enum.Enum):
    LEAST_REQUEST = "LEAST_REQUEST"  # power of two choices
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


class Outlier(msgspec.Struct, frozen=True):
    """Istio OutlierDetection (FIELD section 0). Counters 0 = that detector is off."""

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    split_local_origin: bool = False
    consecutive_local_origin: int = 5
    interval_ms: int = 10_000
    base_ejection_ms: int = 30_000
    max_ejection_ms: int = 300_000
    max_ejection_percent: int = 10
    error_codes: tuple[int, ...] = ()


class Silence(msgspec.Struct, frozen=True):
    """An endpoint that answers nothing is ejected (DESIGN section 6): after max(floor_ms, multiple * its own recent p99)
    without any answer while at least `waiting` requests wait on it, or no connection within the backend's connect timeout."""

    floor_ms: int = 500
    multiple: int = 10
    waiting: int = 3


class Failback(msgspec.Struct, frozen=True):
    """A priority that lost its health gets traffic again after hold_down_ms of health, then linearly more over ramp_ms."""

    hold_down_ms: int = 30_000
    ramp_ms: int = 30_000


class HealthCheck(msgspec.Struct, frozen=True):
    """Active check, made by the control process. kind: http | tcp. statuses: half-open ranges; Envoy's default is 200 only."""

    kind: str = "http"
    path: str = "/"
    host: str = ""
    port: int = 0  # 0 = the endpoint's own
    interval_ms: int = 1000
    timeout_ms: int = 500
    unhealthy_threshold: int = 2
    healthy_threshold: int = 2


class Backend(msgspec.Struct, frozen=True, tag="backend"):
    """A named group of endpoints that traffic is balanced over (Envoy's "cluster").

    host, port, subset: what it stands for, for metrics, logs and people. namespace: of the service.
    panic_percent: Envoy's healthy_panic_threshold (Istio's minHealthPercent): 0 = never. panic_last_resort: no panic while
    another priority is healthy (defaults: fedgate). overprovisioning: per cent (140).
    max_requests: circuit breaker for requests in flight, per gateway (shared by workers); 0 = no limit.
    max_requests_per_connection: 0 = no limit. peer_tls: TLS for endpoints that are a peer's gateway, by peer name; the SNI there is
    the backend's own `outbound_.PORT_.SUBSET_.HOST`.
    """

    name: str
    host: str
    port: int
    subset: str = ""
    namespace: str = ""
    balance: Balance = Balance.LEAST_REQUEST
    connect_timeout_ms: int = 10_000
    idle_timeout_ms: int = 3_600_000
    max_requests_per_connection: int = 0
    max_requests: int = 0
    outlier: Outlier | None = None
    silence: Silence | None = None
    failback: Failback | None = None
    panic_percent: int = 0
    panic_last_resort: bool = False
    overprovisioning: int = 140
    tls: UpstreamTls | None = None
    peer_tls: tuple[tuple[str, UpstreamTls], ...] = ()
    health_check: HealthCheck | None = None
    retry_budget_percent: int = 0


class LbEndpoint(msgspec.Struct, frozen=True):
    """One address of a backend, with the priority that compile gave it (0 first).

    id: unique in the backend and stable over time: `ADDRESS:PORT` of a workload; `PEER/LOCALITY/ADDRESS:PORT` of a peer's gateway.
    group: "" for a workload; `PEER/LOCALITY` for a peer's gateway: addresses of one group stand for the same workloads, whose
    `healthy/total` the Verdicts say, and are counted once. unix sockets: address is the absolute path, port 0.
    """

    id: str
    address: str
    port: int
    cluster: str = ""
    locality: Locality = Locality()
    priority: int = 0
    weight: int = 1
    peer: str = ""
    group: str = ""
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """`ADDRESS:PORT`, how Verdicts.addresses names it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class EndpointSet(msgspec.Struct, frozen=True, tag="endpoints"):
    backend: str
    endpoints: tuple[LbEndpoint, ...]


# ---------------------------------------------------------------------------------------------------------------- node


class AccessLog(msgspec.Struct, frozen=True):
    """path "" = off. format: text (Istio's) or json."""

    path: str = ""
    format: str = "text"


class Node(msgspec.Struct, frozen=True, tag="node"):
    """What is true of the whole gateway."""

    name: str
    cluster: str
    namespace: str = "fedgate"
    locality: Locality = Locality()
    network: str = ""
    trust_domain: str = "cluster.local"
    defaults: str = "fedgate"
    access_log: AccessLog = AccessLog()
    outbound: str = "REGISTRY_ONLY"
    trusted_proxies: int = 0
    drain_ms: int = 45_000


Part = Node | Listener | VirtualHost | Inbound | Backend | EndpointSet

# ------------------------------------------------------------------------------------------------- snapshot and delta

_encoder = msgspec.json.Encoder(order="deterministic")
_MODULUS = 1 << 256


def part_name(part: Part) -> str:
    """The name a part is kept under; see the module's table."""
    match part:
        case Node():
            return "node"
        case Listener():
            return f"listener/{part.key}"
        case VirtualHost():
            return f"host/{part.table}/{part.name}"
        case Inbound():
            return f"inbound/{part.sni}"
        case Backend():
            return f"backend/{part.name}"
        case EndpointSet():
            return f"endpoints/{part.backend}"


def canonical(part: Part) -> bytes:
    """The one canonical JSON form: sorted keys, no white space."""
    return _encoder.encode(part)


def _weight(name: str, part: Part) -> int:
    inner = hashlib.sha256(canonical(part)).digest()
    return int.from_bytes(hashlib.sha256(name.encode() + b"\0" + inner).digest(), "big")


class Delta(msgspec.Struct, frozen=True):
    """From the Snapshot of version `base` to that of `version`. A whole Snapshot is a Delta with base "" and nothing to remove."""

    base: str
    version: str
    set: tuple[Part, ...] = ()
    remove: tuple[str, ...] = ()


class Snapshot:
    """An immutable mapping of part name → part, with a version. Two Snapshots of equal parts have equal versions.

    Unchanged parts are the same objects from one Snapshot to the next, so `is` tells "unchanged".
    """

    __slots__ = ("_sum", "parts")

    def __init__(self, parts: Mapping[str, Part] | None = None, *, total: int | None = None) -> None:
        self.parts: Mapping[str, Part] = dict(parts or {})
        self._sum = sum(_weight(n, p) for n, p in self.parts.items()) % _MODULUS if total is None else total

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Snapshot:
        """Raises ValueError when two parts have one name."""
        named: dict[str, Part] = {}
        for part in parts:
            name = part_name(part)
            if name in named:
                raise ValueError(f"two parts are named {name!r}")
            named[name] = part
        return cls(named)

    @property
    def version(self) -> str:
        """64 hex digits."""
        return f"{self._sum:064x}"

    @property
    def node(self) -> Node | None:
        part = self.parts.get("node")
        return part if isinstance(part, Node) else None

    def backends(self) -> list[Backend]:
        return [part for part in self.parts.values() if isinstance(part, Backend)]

    def listeners(self) -> list[Listener]:
        return [part for part in self.parts.values() if isinstance(part, Listener)]

    def endpoints(self, backend: str) -> tuple[LbEndpoint, ...]:
        part = self.parts.get(f"endpoints/{backend}")
        return part.endpoints if isinstance(part, EndpointSet) else ()

    def changed(self, update: Iterable[Part], remove: Iterable[str] = ()) -> Snapshot:
        """A new Snapshot with some parts replaced or removed; equal parts keep the old object. Costs what it touches,
        beside one shallow copy of the mapping."""
        parts = dict(self.parts)
        total = self._sum
        for name in remove:
            old = parts.pop(name, None)
            if old is not None:
                total -= _weight(name, old)
        for part in update:
            name = part_name(part)
            old = parts.get(name)
            if old == part:
                continue
            if old is not None:
                total -= _weight(name, old)
            parts[name] = part
            total += _weight(name, part)
        return Snapshot(parts, total=total % _MODULUS)

    def delta_from(self, base: Snapshot | None) -> Delta:
        """What turns `base` into this; the whole when base is None."""
        if base is None:
            return Delta(base="", version=self.version, set=tuple(self.parts.values()))
        update = tuple(
            part for name, part in self.parts.items() if base.parts.get(name) is not part and base.parts.get(name) != part
        )
        remove = tuple(name for name in base.parts if name not in self.parts)
        return Delta(base=base.version, version=self.version, set=update, remove=remove)

    def apply(self, delta: Delta) -> Snapshot:
        """Raises ValueError when the delta's base is not this version or the result is not the version it promises."""
        if not delta.base:
            result = Snapshot.of(delta.set)
        elif delta.base != self.version:
            raise ValueError(f"delta is from version {delta.base[:12]}…, but version {self.version[:12]}… is running")
        else:
            result = self.changed(delta.set, delta.remove)
        if result.version != delta.version:
            raise ValueError(f"delta promised version {delta.version[:12]}…, applying it gave {result.version[:12]}…")
        return result

    def json(self) -> bytes:
        """Canonical JSON of the whole: {"version": …, "parts": {name: part}} with sorted names."""
        return _encoder.encode({"version": self.version, "parts": dict(sorted(self.parts.items()))})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and other._sum == self._sum

    def __hash__(self) -> int:
        return hash(self._sum)

    def __repr__(self) -> str:
        return f"<Snapshot {self.version[:12]} {len(self.parts)} parts>"


def validate(snapshot: Snapshot) -> list[str]:
    """Every fault of references and numbers, each `part name: what is wrong`; empty when an engine can run it."""
    faults: list[str] = []
    tables = {part.table for part in snapshot.parts.values() if isinstance(part, VirtualHost)}
    for name, part in snapshot.parts.items():
        if name != part_name(part):
            faults.append(f"{name}: is kept under a name that is not its own, {part_name(part)}")
        match part:
            case Listener():
                if not 1 <= part.port <= 65535:
                    faults.append(f"{name}: port {part.port} is not in 1..65535")
                faults += [
                    f"{name}: chain {chain.name} names table {chain.table!r}, which has no virtual host"
                    for chain in part.chains
                    if chain.table and chain.table not in tables
                ]
            case Inbound():
                if f"backend/{part.backend}" not in snapshot.parts:
                    faults.append(f"{name}: backend {part.backend!r} does not exist")
            case VirtualHost():
                faults += _route_faults(name, part, snapshot)
            case Backend():
                if part.overprovisioning < 100:
                    faults.append(f"{name}: overprovisioning {part.overprovisioning} is under 100")
            case EndpointSet():
                if f"backend/{part.backend}" not in snapshot.parts:
                    faults.append(f"{name}: backend {part.backend!r} does not exist")
                if len({endpoint.id for endpoint in part.endpoints}) != len(part.endpoints):
                    faults.append(f"{name}: two endpoints have one id")
            case Node():
                pass
    if "node" not in snapshot.parts:
        faults.append("node: missing")
    return faults


def _route_faults(name: str, host: VirtualHost, snapshot: Snapshot) -> list[str]:
    faults = []
    for index, route in enumerate(host.routes):
        if not isinstance(route.action, Forward):
            continue
        if sum(split.weight for split in route.action.splits) <= 0:
            faults.append(f"{name}.routes[{index}]: weights sum to 0")
        faults += [
            f"{name}.routes[{index}]: backend {split.backend!r} does not exist"
            for split in route.action.splits
            if f"backend/{split.backend}" not in snapshot.parts
        ]
    return faults
