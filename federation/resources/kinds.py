"""Which kinds there are, and what is done with a document of each: read, refused for now, passed over, or unknown.

Silence is never the answer: a kind that changes who may do what, and is not built, is an error (passing over an AuthorizationPolicy would
open doors); one that speaks of sidecars or of workloads is a note.
"""

from __future__ import annotations

from difflib import get_close_matches

import msgspec

from federation.resources.destination_rule import DestinationRule
from federation.resources.external_service import ExternalService
from federation.resources.fedgate import Export, Peer, ServicePolicy
from federation.resources.gateway import Gateway
from federation.resources.kubernetes import EndpointSlice, Secret, Service
from federation.resources.message import Message
from federation.resources.node import Node
from federation.resources.service_entry import ServiceEntry, WorkloadEntry
from federation.resources.virtual_service import VirtualService
from federation.resources.workload_group import WorkloadGroup

NETWORKING, FEDGATE = "networking.istio.io", "fedgate.io"
ISTIO_VERSIONS = ("v1", "v1beta1", "v1alpha3")


class Kind(msgspec.Struct, frozen=True):
    """A kind that is read. field: of Resources. flat: it has no `spec`, what it says stands at the top."""

    name: str
    group: str
    versions: tuple[str, ...]
    model: type[Message]
    field: str
    flat: bool = False


class Refused(msgspec.Struct, frozen=True):
    """A kind that is an error; why, and what to do."""

    message: str


class Passed(msgspec.Struct, frozen=True):
    """A kind that is left alone; why."""

    message: str


_READ = {
    (kind.group, kind.name): kind
    for kind in (
        Kind("Gateway", NETWORKING, ISTIO_VERSIONS, Gateway, "gateways"),
        Kind("VirtualService", NETWORKING, ISTIO_VERSIONS, VirtualService, "virtual_services"),
        Kind("DestinationRule", NETWORKING, ISTIO_VERSIONS, DestinationRule, "destination_rules"),
        Kind("ServiceEntry", NETWORKING, ISTIO_VERSIONS, ServiceEntry, "service_entries"),
        Kind("WorkloadEntry", NETWORKING, ISTIO_VERSIONS, WorkloadEntry, "workload_entries"),
        Kind("WorkloadGroup", NETWORKING, ISTIO_VERSIONS, WorkloadGroup, "workload_groups"),
        Kind("Service", "", ("v1",), Service, "services"),
        Kind("Secret", "", ("v1",), Secret, "secrets", flat=True),
        Kind("EndpointSlice", "discovery.k8s.io", ("v1", "v1beta1"), EndpointSlice, "endpoint_slices", flat=True),
        Kind("Node", FEDGATE, ("v1",), Node, "nodes"),
        Kind("Peer", FEDGATE, ("v1",), Peer, "peers"),
        Kind("Export", FEDGATE, ("v1",), Export, "exports"),
        Kind("ServicePolicy", FEDGATE, ("v1",), ServicePolicy, "service_policies"),
        Kind("ExternalService", FEDGATE, ("v1",), ExternalService, "external_services"),
    )
}

_LATER = {
    "security.istio.io": ("PeerAuthentication", "RequestAuthentication", "AuthorizationPolicy"),
    "telemetry.istio.io": ("Telemetry",),
    "gateway.networking.k8s.io": (),  # the Gateway API: every kind of it
    FEDGATE: ("Drill",),
}
_NOT_FOR_GATEWAYS = {
    NETWORKING: ("Sidecar", "EnvoyFilter", "ProxyConfig"),
    "extensions.istio.io": ("WasmPlugin",),
}
_OURS = tuple(sorted({group for group, _ in _READ if group} | set(_LATER) | set(_NOT_FOR_GATEWAYS)))


def look_up(api_version: str, name: str) -> Kind | Refused | Passed:
    """What to do with a document of this apiVersion and kind."""
    group, _, version = api_version.rpartition("/")
    kind = _READ.get((group, name))
    if kind is not None:
        if version in kind.versions:
            return kind
        right = f"{group}/{kind.versions[0]}".lstrip("/")
        return Refused(f"{name} has no version `{version[:40]}`; write apiVersion {right}")
    if name in _NOT_FOR_GATEWAYS.get(group, ()):
        return Passed(f"{name} speaks of sidecars and cannot apply to a gateway: it is not looked at")
    if name in _LATER.get(group, ()) or group == "gateway.networking.k8s.io":
        return Refused(f"{name} ({group}) is not supported yet; remove it")
    if group in _OURS and group != "discovery.k8s.io":
        return Refused(_unknown_kind(group, name))
    near = get_close_matches(group[:80], _OURS, n=1, cutoff=0.85)
    if near:
        return Refused(f"unknown API group `{group}`; did you mean `{near[0]}`?")
    return _foreign(group, name)


def _unknown_kind(group: str, name: str) -> str:
    known = [kind for owner, kind in _READ if owner == group]
    known += [*_LATER.get(group, ()), *_NOT_FOR_GATEWAYS.get(group, ())]
    near = get_close_matches(name[:80], known, n=1)
    return f"unknown kind `{name[:80]}` of {group}" + (
        f"; did you mean `{near[0]}`?" if near else f"; known: {', '.join(sorted(known))}"
    )


def _foreign(group: str, name: str) -> Refused | Passed:
    """A group that is not ours: passed over, unless the kind is plainly one of ours under the wrong apiVersion."""
    owners = [owner for owner, kind in _READ if kind == name and owner in (NETWORKING, FEDGATE)]
    owners += [owner for owner, kinds in _LATER.items() if name in kinds]
    theirs = (group, name) == ("", "Node")  # Kubernetes has Nodes too
    if owners and not theirs and group in ("", "apps"):
        return Refused(f"{name} is no kind of apiVersion `{group or 'v1'}`; write apiVersion {owners[0]}/v1")
    return Passed(f"{name} ({group or 'Kubernetes'}) is passed over: a gateway has no use for it")
