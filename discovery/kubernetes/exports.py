"""What became of a ServiceExport: its conditions Valid, Ready and Conflict (KEP-1645). Pure.

A conflict is one of the merged catalog: another cluster exports the same name with other ports or of another type. It is told on the
exports of all clusters, each by its own gateway, with who won and why.
"""

from __future__ import annotations

from collections.abc import Sequence

from discovery.document import Condition
from discovery.kubernetes.objects import Service
from discovery.merge import Finding


def export_conditions(found: Service | None, host: str, findings: Sequence[Finding] | None) -> tuple[Condition, ...]:
    """found: the Service of the export's name. host: its name in the cluster set. findings: of that name; None while nobody has
    compared the clusters yet, then nothing is said of conflicts."""
    if found is None:
        return _invalid("NoService", "there is no Service of this name in this namespace; create it, or delete this ServiceExport")
    if found.spec.type == "ExternalName":
        return _invalid(
            "InvalidServiceType", "a Service of type ExternalName cannot be exported; give it a selector, or export another"
        )
    valid = Condition("Valid", True, "Valid", "the Service can be exported")
    ready = Condition("Ready", True, "Exported", f"offered as {host} to the peers that an Export names")
    return (valid, ready) if findings is None else (valid, ready, _conflict(findings))


def _invalid(reason: str, message: str) -> tuple[Condition, ...]:
    return (Condition("Valid", False, reason, message), Condition("Ready", False, "Failed", "the export is not valid"))


def _conflict(findings: Sequence[Finding]) -> Condition:
    if not findings:
        return Condition("Conflict", False, "NoConflicts", "all clusters that export this service agree")
    reasons = sorted({_reason(finding.field) for finding in findings})
    return Condition("Conflict", True, ",".join(reasons), "; ".join(finding.message for finding in sorted(findings)))


def _reason(field: str) -> str:
    return "PortConflict" if field.startswith("ports") else "TypeConflict"
