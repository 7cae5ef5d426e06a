"""Where a source stands: what its endpoints and services have when the registry does not say. Data only; every source gets one.

Pure.
"""

from __future__ import annotations

import msgspec

from discovery.model import Locality

HOSTNAME = "{service}.{namespace}.svc.{clusterDomain}"
"""The default template of every source: the same name in two clusters is the same service (DESIGN section 2)."""

FIELDS = ("service", "namespace", "cluster", "clusterDomain")
"""What a template may name."""


class Here(msgspec.Struct, frozen=True):
    """cluster, network, locality: of an endpoint whose registry says nothing else. hostname: the source's template."""

    cluster: str
    network: str = ""
    locality: Locality = Locality()
    cluster_domain: str = "cluster.local"
    hostname: str = HOSTNAME

    def host(self, service: str, namespace: str) -> str:
        """The federation-wide name, lower case. A name that is no DNS name comes out as it is: whoever asked checks it."""
        made = self.hostname
        for field, value in zip(FIELDS, (service, namespace, self.cluster, self.cluster_domain), strict=True):
            made = made.replace(f"{{{field}}}", value)
        return made.lower()


def template_fault(template: str) -> str | None:
    """What is wrong with a hostname template; None if it can be used."""
    rest = template
    for field in FIELDS:
        rest = rest.replace(f"{{{field}}}", "x")
    if "{" in rest or "}" in rest:
        return f"`{template[:80]}` names a field that is not known; use " + ", ".join(f"{{{field}}}" for field in FIELDS)
    if "{service}" not in template:
        return "without {service} every service would have the same name; write for example " + HOSTNAME
    return None
