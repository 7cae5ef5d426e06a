"""What is true of the whole gateway."""

from __future__ import annotations

import msgspec

from discovery.model import Locality
from gateway.parts.name import Dns


class AccessLog(msgspec.Struct, frozen=True, gc=False):
    """path "" = off. format: text (Istio's) or json."""

    path: str = ""
    format: str = "text"


class Overload(msgspec.Struct, frozen=True, gc=False):
    """When to shed, per worker. 0 = the default of `native/overload`, -1 = never.

    connections: open downstream; more are closed at once. memory_mb: of the worker process. lag_ms: how late the loop is. Requests are
    answered 503 with `x-envoy-overloaded: true` while memory or lag is over the limit.
    """

    connections: int = 0
    memory_mb: int = 0
    lag_ms: int = 0


class Node(msgspec.Struct, frozen=True, tag="node", gc=False):
    """What is true of the whole gateway.

    trusted_proxies: how many proxies before this one may be believed about x-forwarded-for (Istio numTrustedProxies).
    client_cert: x-forwarded-client-cert: SANITIZE | FORWARD_ONLY | APPEND_FORWARD | SANITIZE_SET | ALWAYS_FORWARD_ONLY.
    """

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
    client_cert: str = "SANITIZE_SET"
    drain_ms: int = 45_000
    overload: Overload = Overload()
    dns: Dns | None = None
