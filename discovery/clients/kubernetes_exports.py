"""Tells each ServiceExport what became of it. What to say: discovery.kubernetes.exports; how it is written: kubernetes_status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from discovery.clients.kubernetes_status import StatusWriter, Wish
from discovery.kubernetes import objects as kube
from discovery.kubernetes.exports import export_conditions
from discovery.kubernetes.services import clusterset_host
from discovery.merge import Finding


class ExportStatuses:
    """services: the Services there are, by key, always the current ones. writer: who writes; its memory outlives us."""

    def __init__(self, services: Mapping[str, kube.Service], writer: StatusWriter) -> None:
        self._services = services
        self._exports: dict[str, kube.ServiceExport] = {}
        self._findings: dict[str, tuple[Finding, ...]] | None = None
        self._writer = writer
        self._root = ""

    def service_changed(self, key: str) -> None:
        if key in self._exports:
            self._say(key)

    def export_changed(self, key: str, before: kube.ServiceExport | None, after: kube.ServiceExport | None) -> None:
        if after is None:
            self._exports.pop(key, None)
        else:
            self._exports[key] = after
            self._say(key)
        if before is not None and (after is None or after.metadata.uid != before.metadata.uid):
            self._writer.forget(before.metadata.uid)

    def found_at(self, root: str) -> None:
        """Where the API is, `/apis/GROUP/VERSION`."""
        if root != self._root:
            self._root = root
            for key in self._exports:
                self._say(key)

    def report(self, findings: Iterable[Finding]) -> None:
        """What the merged catalog found, of all names; the latest call wins."""
        found: dict[str, tuple[Finding, ...]] = {}
        for finding in findings:
            found[finding.hostname] = (*found.get(finding.hostname, ()), finding)
        before, self._findings = self._findings, found
        for key in self._exports:
            host = clusterset_host(key)
            if before is None or before.get(host) != found.get(host):
                self._say(key)

    def _say(self, key: str) -> None:
        export = self._exports[key]
        host = clusterset_host(key)
        findings = None if self._findings is None else self._findings.get(host, ())
        metadata = export.metadata
        if self._root:
            wish = Wish(
                path=f"{self._root}/namespaces/{metadata.namespace}/serviceexports/{metadata.name}",
                uid=metadata.uid,
                version=metadata.resource_version,
                generation=metadata.generation,
                found=[_builtins(each) for each in export.status.conditions or ()],
                conditions=export_conditions(self._services.get(key), host, findings),
            )
            self._writer.want(wish)

    def __repr__(self) -> str:
        return f"<ExportStatuses exports={len(self._exports)} {self._writer!r}>"


def _builtins(condition: kube.Condition) -> dict[str, object]:
    made: dict[str, object] = msgspec.to_builtins(condition)
    return {key: value for key, value in made.items() if value is not None}
