"""The nouns: what a federation consists of. Frozen, ordered, hashable plain data; an Endpoint is the same object from the
registry that reported it to the balancer that picks it.

Pure: no I/O, no clock. Everything here may cross a process boundary as msgspec (JSON or msgpack).
"""

from __future__ import annotations

import enum

import msgspec


class Protocol(enum.Enum):
    """What a port speaks (Istio gateway.proto Port.protocol, plus UNKNOWN for a Kubernetes port that does not say)."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    TCP = "TCP"
    TLS = "TLS"
    MONGO = "MONGO"
    UDP = "UDP"
    UNKNOWN = "UNKNOWN"

    @property
    def is_http(self) -> bool:
        """True for what is routed as plain-text HTTP: also UNKNOWN, as Istio sniffs it and a gateway's `http` port is HTTP."""
        return self in _HTTP


_HTTP = frozenset({Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB, Protocol.UNKNOWN})


class Health(enum.Enum):
    """What a registry, a check or a peer says of an endpoint. UNKNOWN counts as healthy (nobody checks it)."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNKNOWN = "unknown"

    @property
    def usable(self) -> bool:
        return self in (Health.HEALTHY, Health.UNKNOWN, Health.DEGRADED)


class Locality(msgspec.Struct, frozen=True, order=True, gc=False):
    """region[/zone[/subzone]]. An empty part means "not known"."""

    region: str = ""
    zone: str = ""
    subzone: str = ""

    @classmethod
    def parse(cls, text: str) -> Locality:
        """`us-east-1/us-east-1a` → Locality. Raises ValueError on more than three parts or an empty part before a full one."""
        parts = text.split("/") if text else []
        if len(parts) > 3:
            raise ValueError(f"locality {text!r} has {len(parts)} parts; write region, region/zone or region/zone/subzone")
        if any(not part for part in parts):
            raise ValueError(f"locality {text!r} has an empty part; write region, region/zone or region/zone/subzone")
        return cls(*parts)

    def __str__(self) -> str:
        return "/".join(part for part in (self.region, self.zone, self.subzone) if part)


class Port(msgspec.Struct, frozen=True, order=True, gc=False):
    """A port of a service, as clients name it. `number` is the service's port; an Endpoint says which port it listens on.

    target: where it is connected to at addresses that nobody lists (resolution NONE, DYNAMIC_DNS); 0 = `number`."""

    number: int
    name: str = ""
    protocol: Protocol = Protocol.UNKNOWN
    target: int = 0


HOSTNAME_LABEL = "fedgate.io/hostname"
"""Label of an endpoint: what it is called below its service's name (Kubernetes: a Pod's hostname), for the nameserver."""


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One address that takes traffic for a service.

    address: an IP (v4, v6 without brackets), a DNS name still to be resolved by the data plane never: sources resolve; or an
        absolute path for a unix socket (then `ports` map to 0).
    ports: (service port's name, port number on this address); a service port missing here is not served by the endpoint.
    cluster, network, locality: where the workload is (for what lies behind a peer's gateway: the workload's, not the gateway's).
    weight: relative share, 1..; registries without weights say 1.
    peer: name of the Peer whose gateway this address is, "" for a workload that is reached directly. A peer's endpoint
        stands for `total` workloads of which `healthy` are; both are 1/1 for a workload, and 1/0 when unhealthy is known.
    identity: expected SPIFFE id, or service account `ns/sa`, "" when unknown.
    tier: the registry's own order of preference, 0 first (a later SRV priority, a backup member of a load balancer): within a
        locality's failover level a higher tier takes traffic only when the lower ones cannot carry it.
    """

    address: str
    ports: tuple[tuple[str, int], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    cluster: str = ""
    network: str = ""
    locality: Locality = Locality()
    weight: int = 1
    health: Health = Health.UNKNOWN
    peer: str = ""
    healthy: int = 1
    total: int = 1
    identity: str = ""
    tier: int = 0

    def port(self, name: str) -> int | None:
        """The number this endpoint serves the service port `name` on; None if it does not."""
        for known, number in self.ports:
            if known == name:
                return number
        return None


class Resolution(enum.Enum):
    """How a service's endpoints come to be (Istio service_entry.proto Resolution)."""

    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"
    NONE = "NONE"


class Service(msgspec.Struct, frozen=True, gc=False):
    """What one source says about one service name.

    hostname: the federation-wide name, lower case (`reviews.shop.svc.cluster.local`, or a ServiceEntry's host as written).
        The same name in two clusters is the same service.
    namespace: of the document or registry entry that said so; decides which DestinationRule applies. "" when it has none.
    external: Istio MESH_EXTERNAL. subject_alt_names: checked on upstream TLS unless a DestinationRule overrides.
    notes: what the registry says of it that the gateway cannot follow, in words with what to do ("speaks only Connect's mTLS …");
        the catalog keeps them as findings.
    """

    hostname: str
    namespace: str = ""
    ports: tuple[Port, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    addresses: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    resolution: Resolution = Resolution.STATIC
    external: bool = False
    subject_alt_names: tuple[str, ...] = ()
    headless: bool = False
    created: str = ""  # RFC 3339 creation time, decides conflicts "oldest wins"; "" sorts last
    notes: tuple[str, ...] = ()

    def port(self, number: int) -> Port | None:
        for port in self.ports:
            if port.number == number:
                return port
        return None


class ShardKey(msgspec.Struct, frozen=True, order=True, gc=False):
    """Whose view a shard is: (cluster, source name)."""

    cluster: str
    source: str

    def __str__(self) -> str:
        return f"{self.cluster}/{self.source}"


class Provenance(msgspec.Struct, frozen=True):
    """Which source won a field of a merged service, and why, for `fedgate get service NAME --why`."""

    field: str  # "ports[80].protocol", "addresses", "endpoints[10.0.0.1]"
    winner: ShardKey
    reason: str  # "only one says it", "oldest", "own cluster first" …
    losers: tuple[ShardKey, ...] = ()


class Cluster(msgspec.Struct, frozen=True, order=True):
    """A member of the federation."""

    name: str
    network: str = ""
    locality: Locality = Locality()
    trust_domain: str = ""
