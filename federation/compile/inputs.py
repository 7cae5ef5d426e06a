"""What compile is given. Everything is data: files are read, names resolved, the clock is a value."""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from discovery.document import Origin
from discovery.model import Locality, Service
from federation.compile.credentials import Credentials, FileContent, Identity
from federation.compile.priorities import Place
from federation.resources.document import Document
from federation.resources.message import Message
from federation.resources.node import Defaults, Node
from federation.resources.resources import Resources
from federation.vips import Assigned

NO_VIPS = Assigned()
RESOLV_CONF = "/etc/resolv.conf"
_FILE_FIELDS = ("server_certificate", "client_certificate", "private_key", "ca_certificates", "ca_crl")
_FILE_LISTS = ("tls_certificates",)  # of messages that have such fields


@dataclass(frozen=True)
class Inputs:
    """resources: the documents. services: the merged catalog by hostname. identity: who this gateway is, None without one (then
    no east-west). bundles: trust domain → PEM roots of the peers. files: what `files_named` asked for. now: for expiry only. assigned: the
    services' virtual addresses. synced: every source has said what it knows."""

    node: Document[Node]
    now: datetime
    resources: Resources = field(default_factory=Resources)
    services: Mapping[str, Service] = field(default_factory=dict)
    identity: Identity | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileContent] = field(default_factory=dict)
    assigned: Assigned = NO_VIPS
    synced: bool = True

    @property
    def fedgate(self) -> bool:
        """Whether our defaults hold where nothing is written, or Istio's."""
        return self.node.spec.defaults is Defaults.FEDGATE

    @property
    def place(self) -> Place:
        spec, labels = self.node.spec, self.node.metadata.labels
        locality: Locality = spec.locality
        return Place(spec.cluster, spec.network or spec.cluster, locality, tuple(sorted(labels.items())))

    def is_admin(self, address: str, number: int) -> bool:
        """Whether this endpoint is this gateway's own admin API, which says too much to be reached over a route: whoever may register
        endpoints may not therefore read it."""
        listen = self.node.spec.listen.admin
        if number != listen.port or not number:
            return False
        try:
            there, own = ipaddress.ip_address(address), ipaddress.ip_address(listen.host)
        except ValueError:
            return False
        there = getattr(there, "ipv4_mapped", None) or there
        return there == own or (own.is_unspecified and (there.is_loopback or there.is_unspecified))

    def credentials(self) -> Credentials:
        """A name that two Secret documents have means the first."""
        secrets = {(each.namespace, each.name): each.spec for each in reversed(self.resources.secrets)}
        return Credentials(secrets, self.files)


_ELSEWHERE = " (named in "


def located(path: str, origin: Origin) -> str:
    """Where a file is that a document names: a relative path begins at the document's own file, so that a folder can be moved
    whole. What a document that is no file (`consul:…`) names is no file of this machine: see `elsewhere`."""
    if not path:
        return path
    if origin.file.partition(":")[0].isalpha() and ":" in origin.file:
        return f"{path}{_ELSEWHERE}{origin.file})"
    if path.startswith("/"):
        return path
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin.file), path))


def elsewhere(path: str) -> str:
    """Why a located path is not read, "" if it is: whoever may write documents into a registry may not therefore use this machine's files,
    the gateway's own keys among them."""
    if _ELSEWHERE not in path:
        return ""
    return "only documents in files name files of the gateway's machine; put it into a Secret and write credentialName"


T = TypeVar("T", bound=Message)


def with_located_files(tls: T, origin: Origin) -> T:
    """The TLS settings of a server or a rule, with their files located."""
    update: dict[str, object] = {name: located(path, origin) for name in _FILE_FIELDS if (path := getattr(tls, name, ""))}
    for name in _FILE_LISTS:
        if several := getattr(tls, name, ()):
            update[name] = tuple(with_located_files(each, origin) for each in several)
    return tls.model_copy(update=update) if update else tls


def files_named(resources: Resources) -> frozenset[str]:
    """Every file that Gateways, DestinationRules and Peers name, located, and the machine's nameservers: for plane to read and to watch."""
    found: set[str] = {RESOLV_CONF}
    for gateway in resources.gateways:
        found |= {path for server in gateway.spec.servers for path in _files(server.tls, gateway.origin)}
    for rule in resources.destination_rules:
        policies = [rule.spec.traffic_policy, *(subset.traffic_policy for subset in rule.spec.subsets)]
        for policy in policies:
            blocks = [] if policy is None else [policy.tls, *(port.tls for port in policy.port_level_settings)]
            found |= {path for tls in blocks for path in _files(tls, rule.origin)}
    found |= {located(peer.spec.bundle.path, peer.origin) for peer in resources.peers}
    return frozenset(found - {""})


def _files(tls: Message | None, origin: Origin) -> list[str]:
    if tls is None:
        return []
    found = [located(getattr(tls, name, ""), origin) for name in _FILE_FIELDS]
    return found + [path for name in _FILE_LISTS for each in getattr(tls, name, ()) for path in _files(each, origin)]
