"""Where connections come in, and what becomes of them before any request: listeners, filter chains, TCP routes, exports."""

from __future__ import annotations

import enum

import msgspec

from gateway.parts.tls import DownstreamTls


class ListenerKind(enum.Enum):
    GATEWAY = "gateway"  # a server of a Gateway document
    MESH = "mesh"  # the node's own `http` port: routes of gateway `mesh`
    EAST_WEST = "east-west"  # 15443: the client hello decides: Inbound by SNI, peering, nothing
    HEALTH = "health"  # readiness: GET /healthz/ready
    DNS = "dns"  # the nameserver: UDP and TCP
    ADMIN = "admin"  # bound by the supervisor for control; workers ignore it


class TcpSplit(msgspec.Struct, frozen=True, gc=False):
    """A share of a TCP route's connections: weight / sum of weights, drawn once per connection (Istio b24)."""

    backend: str
    weight: int = 1


class TcpRoute(msgspec.Struct, frozen=True, gc=False):
    """Where connections go, in order of precedence; the first that matches wins (Istio TCPRoute, TLSRoute).

    destination_subnets: CIDRs that the address the client connected to must be in; empty = any. server_names are the chain's.
    """

    name: str
    splits: tuple[TcpSplit, ...]
    destination_subnets: tuple[str, ...] = ()


class FilterChain(msgspec.Struct, frozen=True, gc=False):
    """How connections of a listener with one of these server names are served.

    server_names: exact names or `*.suffix`; empty = every name, and plain text. tls None = not ended here: plain text, or, with
    `passthrough`, TLS whose client hello is read for its server name and whose bytes are relayed as they are.
    table: the route table (prefix of `host/TABLE/…` parts) of an HTTP chain; "" = the connection is relayed by `tcp`.
    auto: AUTO_PASSTHROUGH: the server name `outbound_.PORT_.SUBSET_.HOST` names the backend `inbound|PORT|SUBSET|HOST`, for HOST in
    `auto_hosts` (exact, `*.suffix`, `*`).
    redirect_https: every request answered 301 to https.
    destinations: CIDRs; the chain is only for connections whose own (local) address is in one of them: VIPs, bound by AnyIP. The
    narrowest network wins, and before server names; empty = every address.
    """

    name: str
    table: str = ""
    server_names: tuple[str, ...] = ()
    tls: DownstreamTls | None = None
    redirect_https: bool = False
    tcp: tuple[TcpRoute, ...] = ()
    passthrough: bool = False
    auto: bool = False
    auto_hosts: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()


class Listener(msgspec.Struct, frozen=True, tag="listener", gc=False):
    """One listening socket. address: IP with port 1..65535; or a unix socket, `/path` or `@abstract`, whose `port` is the number
    that the server has in its document (for routes and redirects). EAST_WEST uses `tls` of its single chain for every Inbound.
    proxy_protocol: every connection begins with a PROXY header, version 1 or 2, which says who the client is; without one it is closed.
    """

    address: str
    port: int
    kind: ListenerKind
    chains: tuple[FilterChain, ...] = ()
    peering_name: str = ""  # EAST_WEST: SNI that is handed to control, `peering.TRUSTDOMAIN`
    proxy_protocol: bool = False

    @property
    def unix(self) -> bool:
        return self.address[:1] in ("/", "@")

    @property
    def key(self) -> str:
        if self.unix:
            return f"unix:{self.address}"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Inbound(msgspec.Struct, frozen=True, tag="inbound", gc=False):
    """One SNI that peers may reach at the east-west port. The SNI alone names the service, whatever Host the streams carry.

    backend: an `inbound|…` backend whose endpoints are this cluster's own only (never back out). trust_domains: who may.
    identities: SPIFFE ids whose gateways may open it; a fedgate peer's is `spiffe://TD/ns/fedgate/sa/gateway`.
    passthrough: the workloads end TLS themselves: bytes are relayed, nothing is decrypted, nobody is asked who he is here.
    """

    sni: str
    backend: str
    trust_domains: tuple[str, ...]
    identities: tuple[str, ...]
    passthrough: bool = False
