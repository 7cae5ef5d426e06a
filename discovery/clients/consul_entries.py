"""What Consul's health endpoint says of a service's instances, read into plain values. Pure.

One entry is an instance with its node and the checks of both. Rules, each Consul's own:
- Address: the service's, else the node's. Of another datacenter the `wan` addresses go first, as Consul itself translates them.
- Health: the worst of all checks. A maintenance check says that it shall take no traffic, not that it is broken. No checks at all:
  nobody knows, which counts as healthy. Warning still takes traffic, with the weight for it.
- A proxy, a gateway and an instance that speaks Connect itself (`native`) take Connect's mutual TLS only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from discovery.model import Health, Locality
from discovery.reading import labelled_locality

PUBLISHED = "fedgate-published"
"""The tag of what a gateway wrote into Consul, and (with `-by`) the meta key of who wrote it: no source reads it back."""
PUBLISHED_BY = f"{PUBLISHED}-by"
MAINTENANCE = ("_node_maintenance", "_service_maintenance")
MOST_WEIGHT = 65_535  # Consul's own limit, DNS's for SRV
_REGION, _ZONE, _SUBZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"
_TAG = "tag.fedgate.io/"


class Instance(msgspec.Struct, frozen=True):
    """One instance. node, ident: its name in Consul. kind: "" for a workload, `connect-proxy` and others for what serves them. proxies: of a
    connect-proxy (service, instance id, whether all traffic of that instance goes through it). address: an IP, a name still to be resolved,
    or the path of a unix socket."""

    node: str
    ident: str
    address: str
    port: int
    datacenter: str
    health: Health = Health.UNKNOWN
    weight: int = 1
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = {}
    locality: Locality | None = None
    kind: str = ""
    native: bool = False
    proxies: tuple[str, str, bool] | None = None

    @property
    def labels(self) -> tuple[tuple[str, str], ...]:
        """Its meta, and its tags: `k=v` and `k|v` are the label k, any other is `tag.fedgate.io/TAG: "true"`."""
        labels: dict[str, str] = {}
        for tag in self.tags:
            separator = "=" if "=" in tag else "|"
            key, found, value = tag.partition(separator)
            labels[key if found else f"{_TAG}{tag}"] = value if found else "true"
        return tuple(sorted({**labels, **self.meta}.items()))


def read(entries: Sequence[Mapping[str, Any]], *, own: str) -> tuple[Instance, ...]:
    """The instances, in order; what a gateway published is left out. own: the datacenter whose addresses are used as they are. Entries that
    are none (another program answers) raise ValueError."""
    try:
        found = [_instance(entry, own) for entry in entries]
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"not what Consul's health endpoint answers ({type(error).__name__}: {error})") from None
    kept = (instance for instance in found if PUBLISHED_BY not in instance.meta)
    return tuple(sorted(kept, key=lambda instance: (instance.node, instance.ident)))


def _instance(entry: Mapping[str, Any], own: str) -> Instance:
    node, service, checks = entry["Node"], entry["Service"], entry.get("Checks") or ()
    meta = {str(key): str(value) for key, value in (service.get("Meta") or {}).items()}
    health, weight = _health(checks, service.get("Weights") or {})
    address, port = _address(node, service, abroad=bool(own) and node.get("Datacenter", own) != own)
    kind, proxy = str(service.get("Kind") or ""), service.get("Proxy") or {}
    proxied = str(proxy.get("DestinationServiceName") or "")
    return Instance(
        node=str(node["Node"]),
        ident=str(service.get("ID") or service["Service"]),
        address=address,
        port=port,
        datacenter=str(node.get("Datacenter") or ""),
        health=health,
        weight=weight,
        tags=tuple(sorted(str(tag) for tag in service.get("Tags") or ())),
        meta=meta,
        locality=_locality(node, service, meta),
        kind=kind,
        native=bool((service.get("Connect") or {}).get("Native")),
        proxies=(proxied, str(proxy.get("DestinationServiceID") or ""), proxy.get("Mode") == "transparent") if proxied else None,
    )


def _address(node: Mapping[str, Any], service: Mapping[str, Any], *, abroad: bool) -> tuple[str, int]:
    port = int(service.get("Port") or 0)
    if service.get("SocketPath"):
        return str(service["SocketPath"]), 0
    if abroad:
        wan = (service.get("TaggedAddresses") or {}).get("wan")
        if wan and wan.get("Address"):
            return str(wan["Address"]), int(wan.get("Port") or port)
    if service.get("Address"):
        return str(service["Address"]), port
    if abroad and (node.get("TaggedAddresses") or {}).get("wan"):
        return str(node["TaggedAddresses"]["wan"]), port
    return str(node.get("Address") or ""), port


def _health(checks: Iterable[Mapping[str, Any]], weights: Mapping[str, Any]) -> tuple[Health, int]:
    """Health and weight. A warning weight of 0 keeps traffic away as long as others can carry it."""
    passing, warning = int(weights.get("Passing", 1)), int(weights.get("Warning", 1))
    states = set()
    for check in checks:
        if str(check.get("CheckID") or "").startswith(MAINTENANCE) and check.get("Status") != "passing":
            return Health.DRAINING, _share(passing)
        states.add(check.get("Status"))
    if states - {"passing", "warning"}:
        return Health.UNHEALTHY, _share(passing)
    if "warning" in states:
        return (Health.HEALTHY, _share(warning)) if warning > 0 else (Health.DEGRADED, 1)
    return (Health.HEALTHY if states else Health.UNKNOWN), _share(passing)


def _share(weight: int) -> int:
    return min(max(weight, 1), MOST_WEIGHT)


def _locality(node: Mapping[str, Any], service: Mapping[str, Any], meta: Mapping[str, str]) -> Locality | None:
    """Service before node; a locality label, then Consul's own Locality, then region and zone by the names that Kubernetes gave them."""
    of_node = {str(key): str(value) for key, value in (node.get("Meta") or {}).items()}
    for labels, said in ((meta, service.get("Locality")), (of_node, node.get("Locality"))):
        if (labelled := labelled_locality(labels)) is not None:
            return labelled
        if said and said.get("Region"):
            return Locality(str(said["Region"]), str(said.get("Zone") or ""))
        if labels.get(_REGION):
            zone = labels.get(_ZONE, "")
            return Locality(labels[_REGION], zone, labels.get(_SUBZONE, "") if zone else "")
    return None
