"""Names: how hosts are resolved, compared and turned into the names of backends and SNIs.

Theory of operation. A host pattern is an exact name, `*.suffix` or `*`; a wildcard covers any number of labels but never the
bare suffix (`example.com` is not in `*.example.com`). Everything is lower case. Short names are those without a dot, as in
Istio: `reviews` is short, `reviews.shop` is not.
"""

from __future__ import annotations

from collections.abc import Iterable

from discovery.model import Endpoint

PEER_PRINCIPAL = "spiffe://{trust_domain}/ns/fedgate/sa/gateway"  # the one identity of a fedgate gateway (DESIGN section 7)


def backend_name(host: str, port: int, subset: str = "", *, direction: str = "outbound") -> str:
    """Istio's cluster name: `outbound|80|v1|reviews.shop.svc.cluster.local`."""
    return f"{direction}|{port}|{subset}|{host}"


def service_sni(host: str, port: int, subset: str = "") -> str:
    """Istio's SNI between gateways: `outbound_.80_.v1_.reviews.shop.svc.cluster.local`."""
    return f"outbound_.{port}_.{subset}_.{host}"


def gateway_identity(trust_domain: str) -> str:
    return PEER_PRINCIPAL.format(trust_domain=trust_domain)


def spiffe(trust_domain: str, namespace: str, account: str) -> str:
    return f"spiffe://{trust_domain}/ns/{namespace}/sa/{account}"


def resolve(host: str, namespace: str, cluster_domain: str) -> str:
    """The full name of a host as written in a document of `namespace`."""
    host = host.lower()
    if "." in host or host == "*":
        return host
    return f"{host}.{namespace}.svc.{cluster_domain}"


def covers(pattern: str, host: str) -> bool:
    """Every name that `host` (perhaps a wildcard itself) stands for is one that `pattern` stands for."""
    if pattern == "*" or pattern == host:
        return True
    if not pattern.startswith("*"):
        return False
    suffix = pattern[1:]
    return host.endswith(suffix) and len(host) > len(suffix)


def intersection(first: str, second: str) -> str | None:
    """The narrower of two patterns when one covers the other; None when they share no name."""
    if covers(first, second):
        return second
    return first if covers(second, first) else None


def specificity(pattern: str) -> tuple[int, int, str]:
    """Sort key: exact names first, then the longest wildcards, `*` last."""
    return (1 if pattern.startswith("*") else 0, -len(pattern), pattern)


def most_specific(patterns: Iterable[str], host: str) -> str | None:
    """Of the patterns that cover `host`, the closest."""
    return min((pattern for pattern in patterns if covers(pattern, host)), key=specificity, default=None)


def visible(export_to: Iterable[str], owner: str, viewer: str) -> bool:
    """Whether something of namespace `owner` may be used from namespace `viewer` (Istio exportTo; none written = everywhere)."""
    rules = tuple(export_to) or ("*",)
    return any(rule == "*" or rule == viewer or (rule == "." and owner == viewer) for rule in rules)


def split_gateway_host(written: str, gateway_namespace: str) -> tuple[str, str]:
    """`ns/host` of a Gateway's server → (namespace or `*`, host). `.` is the Gateway's own namespace; none written = any."""
    namespace, slash, host = written.rpartition("/")
    if not slash:
        return "*", host.lower()
    return (gateway_namespace if namespace == "." else namespace), host.lower()


def joined(address: str, port: int) -> str:
    """`ADDRESS:PORT`, with brackets around IPv6; a unix socket's path (or `@name`) alone."""
    if address.startswith(("/", "@")):
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint_group(endpoint: Endpoint) -> str:
    """`PEER/LOCALITY` for a peer's gateway, "" for a workload (gateway.snapshot.LbEndpoint.group)."""
    return f"{endpoint.peer}/{endpoint.locality}" if endpoint.peer else ""


def endpoint_id(endpoint: Endpoint, port: int) -> str:
    """gateway.snapshot.LbEndpoint.id: stable over time and unique in a backend."""
    where = joined(endpoint.address, port)
    return f"{endpoint_group(endpoint)}/{where}" if endpoint.peer else where
