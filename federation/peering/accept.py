"""What is made of a peer's claims: discovery Services whose endpoints are the peer's gateway addresses.

Pure. Each address of the peer stands for the same workloads, so each gets one endpoint per locality and set of labels there, with the
same counts; nothing is summed over addresses. The locality is the workloads', so that failover by locality is right; the port is the
gateway's, because its one port serves every service by SNI. What the Peer document does not let the peer claim is left out, and a
Finding says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from discovery.model import Endpoint, Health, Locality, Port, Service
from federation.compile.names import covers
from federation.peering.terms import Finding, PeerTerms
from federation.peering.wire import ExportedService, LocalityCount

Address = tuple[str, int]
"""IP address and port of a peer's gateway"""

Labels = tuple[tuple[str, str], ...]


def accepted(
    exported: ExportedService,
    terms: PeerTerms,
    *,
    cluster: str,
    network: str,
    addresses: Collection[Address],
    distinguish: Collection[str] | None = None,
) -> Service | Finding:
    """The Service that `exported` means here, or why it is not believed.

    cluster, network: what the peer said in its Hello. Workloads of one locality with different labels are endpoints of their own, so
    that subsets can select among them; distinguish: only these label keys keep them apart, and each has the labels all of it share."""
    hostname = exported.hostname
    if fault := _name_fault(hostname):
        return Finding(hostname, fault)
    if not any(covers(pattern.lower(), hostname) for pattern in terms.imports):
        return Finding(hostname, f"peer {terms.name} offers it, but spec.imports of Peer {terms.name} does not allow it to")
    if exported.tls not in ("terminate", "passthrough"):
        return Finding(hostname, f"peer {terms.name} offers it by TLS form {exported.tls!r}, which this version does not know")
    ports = tuple(Port(port.number, port.name, port.known) for port in exported.ports)
    if len({port.number for port in ports}) != len(ports) or len({port.name for port in ports}) != len(ports):
        return Finding(hostname, f"peer {terms.name} offers it with two ports of one number or one name")
    try:
        groups = _grouped(exported.localities, distinguish)
    except ValueError as error:
        return Finding(hostname, f"peer {terms.name}: {error}")
    endpoints = tuple(
        Endpoint(
            address=address,
            ports=tuple((port.name, number) for port in ports),
            labels=count.labels,
            cluster=cluster,
            network=network,
            locality=Locality.parse(count.locality),
            weight=max(1, count.total // max(1, len(addresses))),  # together: the share of what is behind
            health=Health.HEALTHY if count.healthy else Health.UNHEALTHY,
            peer=terms.name,
            healthy=count.healthy,
            total=count.total,
            identity=f"spiffe://{terms.trust_domain}/ns/fedgate/sa/gateway",
        )
        for address, number in addresses
        for count in groups
    )
    return Service(
        hostname=hostname,
        namespace=exported.namespace,
        ports=ports,
        endpoints=endpoints,
        labels=exported.labels,
        created=exported.created,
    )


def _name_fault(hostname: str) -> str:
    """Why `hostname` is no name that a service can have here; "" when it is one. It becomes part of SNIs, routes and DNS."""
    if hostname != hostname.lower() or hostname.startswith("*"):
        return "a service's name is lower case and no wildcard"
    labels = hostname.split(".")
    good = all(label and len(label) <= 63 and all(c.isascii() and (c.isalnum() or c in "-_") for c in label) for label in labels)
    return "" if good else "is no DNS name"


def _grouped(counts: Iterable[LocalityCount], keys: Collection[str] | None) -> list[LocalityCount]:
    """Counts of one locality summed, kept apart by the labels in `keys` (None = by all). Raises ValueError for what is no
    locality or count."""
    groups: dict[tuple[str, Labels], list[LocalityCount]] = {}
    for count in counts:
        if count.healthy > count.total:
            raise ValueError(f"{count.healthy} healthy of {count.total} workloads in {count.locality!r}")
        Locality.parse(count.locality)
        kept = tuple(pair for pair in count.labels if keys is None or pair[0] in keys)
        groups.setdefault((count.locality, kept), []).append(count)
    return [_sum(locality, members) for (locality, _), members in sorted(groups.items())]


def _sum(locality: str, members: list[LocalityCount]) -> LocalityCount:
    shared = set(members[0].labels).intersection(*(member.labels for member in members))
    return LocalityCount(
        locality=locality,
        healthy=sum(member.healthy for member in members),
        total=sum(member.total for member in members),
        labels=tuple(sorted(shared)),
    )
