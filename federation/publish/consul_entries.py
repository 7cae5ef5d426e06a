"""Publications as entries of Consul's catalog, and what has to be written so that these stand there. Pure; publish/consul.py writes.

Theory of operation. All entries of a gateway are services of one node of its own, which no agent runs on (as consul-k8s does it). Node and
services bear a mark that says who wrote them, and every write is a check-and-set: what somebody else wrote, or changed meanwhile, is never
overwritten, and a service name that others use already is left to them. Each entry has a check of its own which is critical while the service
has no healthy workload: so it disappears from Consul's DNS, and is known to be broken, not gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from discovery.clients.consul_entries import PUBLISHED, PUBLISHED_BY
from federation.publish.publication import Publication

NODE_ADDRESS = "127.0.0.1"  # every entry has an address of its own; consul-k8s' node has the same
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # what Consul's DNS can answer
_NODE = re.compile(r"[^a-z0-9-]+")

Operation = dict[str, Any]


class Entry(msgspec.Struct, frozen=True):
    """One instance as it is to stand there. Its name on the node is `ident`."""

    ident: str
    service: str
    address: str
    port: int
    meta: tuple[tuple[str, str], ...]
    healthy: bool


class Standing(msgspec.Struct, frozen=True):
    """An entry as it stands there, with the indices that its next write has to name."""

    entry: Entry
    index: int
    check: int


class Wish(msgspec.Struct, frozen=True):
    """entries: by ident. conflicts: names that cannot be had, with the reason."""

    entries: Mapping[str, Entry]
    conflicts: Mapping[str, str]


def node_name(prefix: str, owner: str) -> str:
    """`fed-` and `east/gw-1` → `fed-east-gw-1`."""
    return _NODE.sub("-", f"{prefix}{owner}".lower()).strip("-")


def service_name(publication: Publication, prefix: str) -> str:
    """`reviews-shop` with the prefix; in the namespace `default` without it."""
    suffix = "" if publication.namespace in ("", "default") else f"-{publication.namespace}"
    return f"{prefix}{publication.service}{suffix}".lower()


def wished(publications: Iterable[Publication], *, prefix: str, owner: str, sources: frozenset[str], taken: frozenset[str]) -> Wish:
    """What is to stand there. sources: this node's that read the same registry: what comes from there is not written back. taken: names of
    services there that no gateway published. Of two services that come to one name the first by hostname has it."""
    entries: dict[str, Entry] = {}
    conflicts: dict[str, str] = {}
    owners: dict[str, str] = {}
    for publication in sorted(publications, key=lambda each: each.hostname):
        if publication.sources & sources or not publication.addresses:
            continue
        name = service_name(publication, prefix)
        if not _LABEL.fullmatch(name):
            conflicts[name] = "no name that Consul's DNS can answer"
        elif name in taken:
            conflicts[name] = "somebody else registers a service of that name"
        elif owners.setdefault(name, publication.hostname) != publication.hostname:
            conflicts[name] = f"{owners[name]} has the name, {publication.hostname} does not get it"
        else:
            entries.update((entry.ident, entry) for entry in _entries(publication, name, owner))
    return Wish(entries, conflicts)


def _entries(publication: Publication, name: str, owner: str) -> Iterable[Entry]:
    """One an address. Consul knows one port an instance: the first is it, the others are in the meta as `port-NAME`."""
    meta = {
        PUBLISHED_BY: owner,
        "fedgate-hostname": publication.hostname,
        "fedgate-clusters": ",".join(publication.clusters)[:512],  # Consul's limit of a value
    }
    first = publication.ports[0] if publication.ports else None
    if first is not None and first.protocol.value != "UNKNOWN":
        meta["protocol"] = first.protocol.value.lower()
    meta.update(
        {f"port-{_NODE.sub('-', (port.name or str(port.number)).lower())}": str(port.number) for port in publication.ports[1:17]}
    )
    for address in publication.addresses:
        yield Entry(
            ident=f"{name}:{address}",
            service=name,
            address=address,
            port=first.number if first else 0,
            meta=tuple(sorted(meta.items())),
            healthy=publication.healthy > 0,
        )


def standing(
    services: Iterable[Mapping[str, Any]], checks: Iterable[Mapping[str, Any]], owner: str
) -> tuple[dict[str, Standing], frozenset[str]]:
    """(what stands on our node and is ours, the idents there that are somebody else's)."""
    by_service = {
        str(check.get("ServiceID")): check for check in checks if check.get("CheckID") == check_id(str(check.get("ServiceID")))
    }
    ours: dict[str, Standing] = {}
    foreign: set[str] = set()
    for service in services:
        ident, meta = str(service["ID"]), service.get("Meta") or {}
        if meta.get(PUBLISHED_BY) != owner:
            foreign.add(ident)
            continue
        check = by_service.get(ident, {})
        entry = Entry(
            ident=ident,
            service=str(service["Service"]),
            address=str(service.get("Address") or ""),
            port=int(service.get("Port") or 0),
            meta=tuple(sorted((str(key), str(value)) for key, value in meta.items())),
            healthy=check.get("Status") == "passing",
        )
        ours[ident] = Standing(entry, int(service["ModifyIndex"]), int(check.get("ModifyIndex") or 0))
    return ours, frozenset(foreign)


def check_id(ident: str) -> str:
    return f"fedgate:{ident}"


def node_operation(node: str, owner: str) -> Operation:
    """Make our node, if there is none of that name."""
    meta = {PUBLISHED_BY: owner, "external-node": "true", "external-probe": "false"}  # Consul ESM is not to probe it
    return {"Node": {"Verb": "cas", "Node": {"Node": node, "Address": NODE_ADDRESS, "Meta": meta}}}


def operations(entry: Entry, old: Standing | None, node: str) -> Sequence[Operation]:
    """One or two writes that make the entry stand there: all of it, or its check alone."""
    found: list[Operation] = []
    if old is None or msgspec.structs.replace(old.entry, healthy=entry.healthy) != entry:
        service = {
            "ID": entry.ident,
            "Service": entry.service,
            "Address": entry.address,
            "Port": entry.port,
            "Tags": [PUBLISHED],
            "Meta": dict(entry.meta),
        }
        found.append({"Service": {"Verb": "cas", "Node": node, "Service": _with_index(service, old.index if old else 0)}})
    if old is None or not old.check or old.entry.healthy != entry.healthy or old.entry.service != entry.service:
        check = {
            "Node": node,
            "CheckID": check_id(entry.ident),
            "ServiceID": entry.ident,
            "Name": "healthy workloads",
            "Status": "passing" if entry.healthy else "critical",
            "Output": "" if entry.healthy else "no healthy workload in any cluster",
        }
        found.append({"Check": {"Verb": "cas", "Check": _with_index(check, old.check if old else 0)}})
    return found


def removal(old: Standing, node: str) -> Operation:
    """Take an entry of ours back, with its check, if nobody changed it."""
    service = {"ID": old.entry.ident, "Service": old.entry.service, "ModifyIndex": old.index}
    return {"Service": {"Verb": "delete-cas", "Node": node, "Service": service}}


def _with_index(written: dict[str, Any], index: int) -> dict[str, Any]:
    """Without an index a check-and-set creates."""
    return {**written, "ModifyIndex": index} if index else written
