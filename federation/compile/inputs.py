"""What compile is given. Everything is data: files are read, names resolved, the clock is a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from discovery.model import Locality, Service
from federation.compile.credentials import Credentials, FileContent, Identity
from federation.compile.priorities import Place
from federation.resources.document import Document
from federation.resources.node import Defaults, Node
from federation.resources.resources import Resources


@dataclass(frozen=True)
class Inputs:
    """resources: the documents. services: the merged catalog by hostname. identity: who this gateway is, None without one (then
    no east-west). bundles: trust domain → PEM roots of the peers. files: what `files_named` asked for. now: for expiry only."""

    node: Document[Node]
    now: datetime
    resources: Resources = field(default_factory=Resources)
    services: Mapping[str, Service] = field(default_factory=dict)
    identity: Identity | None = None
    bundles: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, FileContent] = field(default_factory=dict)

    @property
    def fedgate(self) -> bool:
        """Whether our defaults hold where nothing is written, or Istio's."""
        return self.node.spec.defaults is Defaults.FEDGATE

    @property
    def place(self) -> Place:
        spec, labels = self.node.spec, self.node.metadata.labels
        locality: Locality = spec.locality
        return Place(spec.cluster, spec.network or spec.cluster, locality, tuple(sorted(labels.items())))

    def credentials(self) -> Credentials:
        """A name that two Secret documents have means the first."""
        secrets = {(each.namespace, each.name): each.spec for each in reversed(self.resources.secrets)}
        return Credentials(secrets, self.files)


def files_named(resources: Resources) -> frozenset[str]:
    """Every file that Gateways and DestinationRules name: for plane to read and to watch."""
    found: set[str] = set()
    for gateway in resources.gateways:
        for server in gateway.spec.servers:
            if server.tls is not None:
                found |= {server.tls.server_certificate, server.tls.private_key, server.tls.ca_certificates}
    for rule in resources.destination_rules:
        policies = [rule.spec.traffic_policy, *(subset.traffic_policy for subset in rule.spec.subsets)]
        for policy in policies:
            blocks = [] if policy is None else [policy.tls, *(port.tls for port in policy.port_level_settings)]
            for tls in blocks:
                if tls is not None:
                    found |= {tls.client_certificate, tls.private_key, tls.ca_certificates}
    return frozenset(found - {""})
