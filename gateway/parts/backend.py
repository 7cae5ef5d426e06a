"""What traffic is balanced over, and how it is watched (Istio DestinationRule)."""

from __future__ import annotations

import enum

import msgspec

from discovery.model import Locality
from gateway.parts.access import Allowed
from gateway.parts.tls import UpstreamTls


class Balance(enum.Enum):
    LEAST_REQUEST = "LEAST_REQUEST"  # power of two choices
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"
    PEAK_EWMA = "PEAK_EWMA"  # power of two choices by peak-sensitive moving average of latency times requests in flight
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"
    PASSTHROUGH = "PASSTHROUGH"  # to the address that the client connected to; HTTP: to the one that Host names


class HashPolicy(msgspec.Struct, frozen=True, gc=False):
    """What a request's hash is taken of (Istio c6). kind: header | cookie | source-ip | query. size: least entries of a ring, or the
    length of a maglev table (a prime).

    cookie: ttl_ms None = an existing cookie only; otherwise one is made for clients that bring none (0 = for their session), with
    path and attributes (name, value; value "" = a flag).
    """

    kind: str
    name: str = ""
    path: str = ""
    ttl_ms: int | None = None
    attributes: tuple[tuple[str, str], ...] = ()
    size: int = 1024


class Warmup(msgspec.Struct, frozen=True, gc=False):
    """A new endpoint's weight grows from minimum_percent to all of it over duration_ms: weight * max(minimum_percent / 100,
    (time / duration) ** (1 / aggression)) (Istio c8, Envoy slow_start). across: what a priority or a locality of new endpoints takes
    grows with them, as long as others can carry the rest (defaults: fedgate); otherwise only shares within one do, as in Envoy."""

    duration_ms: int
    minimum_percent: int = 10
    aggression: float = 1.0
    across: bool = False


class Outlier(msgspec.Struct, frozen=True, gc=False):
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


class Silence(msgspec.Struct, frozen=True, gc=False):
    """An endpoint that answers nothing is ejected (DESIGN section 6): after max(floor_ms, multiple * its own recent p99)
    without any answer while at least `waiting` requests wait on it, or no connection within the backend's connect timeout."""

    floor_ms: int = 500
    multiple: int = 10
    waiting: int = 3


class Failback(msgspec.Struct, frozen=True, gc=False):
    """A priority that lost its health gets traffic again after hold_down_ms of health, then linearly more over ramp_ms."""

    hold_down_ms: int = 30_000
    ramp_ms: int = 30_000


class HealthCheck(msgspec.Struct, frozen=True, gc=False):
    """Active check, made by the control process. kind: http | tcp | grpc (grpc.health.v1; `service` is asked for). statuses: half-open
    ranges that are healthy; Envoy's default is 200 only."""

    kind: str = "http"
    path: str = "/"
    host: str = ""
    port: int = 0  # 0 = the endpoint's own
    interval_ms: int = 1000
    timeout_ms: int = 500
    unhealthy_threshold: int = 2
    healthy_threshold: int = 2
    statuses: tuple[tuple[int, int], ...] = ((200, 201),)
    service: str = ""


class Limits(msgspec.Struct, frozen=True, gc=False):
    """Circuit breakers, per gateway: all workers together (Istio c9, c10). 0 = no limit.

    connections: open towards the backend's endpoints. pending: requests that wait for a connection. requests: in flight.
    retries: in flight at once.
    """

    connections: int = 0
    pending: int = 0
    requests: int = 0
    retries: int = 0


class RetryBudget(msgspec.Struct, frozen=True, gc=False):
    """Retries in flight may be `percent` of the requests in flight, and always `least` (Istio c14). Takes the place of limits.retries."""

    percent: int = 20
    least: int = 3


class Keepalive(msgspec.Struct, frozen=True, gc=False):
    """TCP keepalive towards endpoints; 0 = the system's value."""

    probes: int = 0
    time_ms: int = 0
    interval_ms: int = 0


class Http2(msgspec.Struct, frozen=True, gc=False):
    """How a backend is spoken to in HTTP/2. always: prior knowledge in clear text and ALPN h2 over TLS. client: as the client itself
    speaks (useClientProtocol); otherwise HTTP/1.1, or what ALPN gives where TLS offers h2. streams: most at once on a connection, 0 = what
    the server allows. ping_ms: a PING when nothing was heard for so long, and the connection is closed without an answer in
    ping_timeout_ms; 0 = none."""

    always: bool = False
    client: bool = False
    streams: int = 0
    ping_ms: int = 0
    ping_timeout_ms: int = 0


class Tunnel(msgspec.Struct, frozen=True, gc=False):
    """TCP connections are carried through the endpoint, an HTTP proxy: method CONNECT or POST for host:port (Istio c13)."""

    method: str
    host: str
    port: int


class RateLimit(msgspec.Struct, frozen=True, gc=False):
    """A token bucket, shared by all workers of the gateway (FIELD j6, j8). `tokens` are added each `per_ms`, at most `burst` are kept.

    by: what requests are told apart by, one bucket for each combination of values, in order: ("header", NAME), ("source", ""),
    ("path", ""), ("method", ""), ("claim", "a.b"), ("identity", ""); empty = one bucket for all. A request that lacks one of
    them is not limited by this. match: only requests with these headers (exact; value "" = present).
    """

    tokens: int
    per_ms: int = 1000
    burst: int = 0  # 0 = tokens
    by: tuple[tuple[str, str], ...] = ()
    match: tuple[tuple[str, str], ...] = ()
    name: str = ""


class Backend(msgspec.Struct, frozen=True, tag="backend", gc=False):
    """A named group of endpoints that traffic is balanced over (Envoy's "cluster").

    host, port, subset: what it stands for, for metrics, logs and people. namespace: of the service.
    panic_percent: Envoy's healthy_panic_threshold (Istio's minHealthPercent): 0 = never. panic_last_resort: no panic while
    another priority is healthy (defaults: fedgate). overprovisioning: per cent (140).
    max_requests_per_connection: 0 = no limit. peer_tls: TLS for endpoints that are a peer's gateway, by peer name; the SNI there is
    the backend's own `outbound_.PORT_.SUBSET_.HOST`.
    idle_timeout_ms: of kept HTTP connections; tcp_idle_timeout_ms: of relayed TCP; 0 = none. max_connection_ms: an upstream
    connection is not used for a new request after that, a relayed one is closed; 0 = none.
    locality_weights: (locality as text, weight): a priority's load is spread over its localities by weight times availability
    (Istio distribute; Envoy locality_weighted_lb) and then over the endpoints of each; empty = over all endpoints alike.
    zone_aware: the smallest number of endpoints with which as much stays in the own zone as that can carry (FIELD i7); 0 = off.
    zone_percent: share of the requests that zone-aware routing is applied to. zone: the gateway's own locality, as text.
    allowed: who may use it, any one of them; None = everybody, () = nobody. Others are answered 403 (RBAC: access denied), TCP is closed.
    source_address: connections to it leave from this address of the machine ("" = the system's choice).
    dynamic_dns: no endpoints are listed; the name that the client named (Host, SNI), if it is in `dynamic_hosts` (exact, `*.suffix`), is
    resolved by the worker, cached by TTL, and connected to at `dynamic_port` (0 = `port`; -1 = the port that the
    client names) (Istio DYNAMIC_DNS, and NONE where nothing else says what the client meant). Needs balance PASSTHROUGH.
    dynamic_networks: CIDRs: answers in private, loopback and other special networks are refused unless they are in one of these; an
    address in place of a name is taken only if it is in one of them, or public where every host may be named (`*`). dynamic_except: hosts,
    as in dynamic_hosts, that are not taken all the same.
    logical: one endpoint at most, whose id stays when its address changes: connections that stand go on (Istio DNS_ROUND_ROBIN).
    proxy_protocol: "" | "V1" | "V2": every connection begins with that header and is used for one client only.
    """

    name: str
    host: str
    port: int
    subset: str = ""
    namespace: str = ""
    balance: Balance = Balance.LEAST_REQUEST
    hash: HashPolicy | None = None
    warmup: Warmup | None = None
    connect_timeout_ms: int = 10_000
    idle_timeout_ms: int = 3_600_000
    tcp_idle_timeout_ms: int = 3_600_000
    max_connection_ms: int = 0
    max_requests_per_connection: int = 0
    keepalive: Keepalive | None = None
    http2: Http2 | None = None
    limits: Limits = Limits()
    retry_budget: RetryBudget | None = None
    rate_limits: tuple[RateLimit, ...] = ()
    outlier: Outlier | None = None
    silence: Silence | None = None
    failback: Failback | None = None
    panic_percent: int = 0
    panic_last_resort: bool = False
    overprovisioning: int = 140
    locality_weights: tuple[tuple[str, int], ...] = ()
    zone_aware: int = 0
    zone_percent: int = 100
    zone: str = ""
    tls: UpstreamTls | None = None
    peer_tls: tuple[tuple[str, UpstreamTls], ...] = ()
    proxy_protocol: str = ""
    tunnel: Tunnel | None = None
    health_check: HealthCheck | None = None
    allowed: tuple[Allowed, ...] | None = None
    source_address: str = ""
    dynamic_dns: bool = False
    dynamic_hosts: tuple[str, ...] = ()
    dynamic_except: tuple[str, ...] = ()
    dynamic_port: int = 0
    dynamic_networks: tuple[str, ...] = ()
    logical: bool = False


class LbEndpoint(msgspec.Struct, frozen=True, gc=False):
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


class EndpointSet(msgspec.Struct, frozen=True, tag="endpoints", gc=False):
    backend: str
    endpoints: tuple[LbEndpoint, ...]
