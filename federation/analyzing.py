"""`fedgate analyze`: what is said of the whole set of some documents: each document's own faults and warnings, and what only several of
them together show (`federation/analyze`).

Nothing outside the documents is asked: the catalog is what they describe themselves. Where a Node names registries, a service that no
document describes may be theirs, so that destinations are not judged by whether they are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from discovery.document import DocumentError, Origin, RawDocument
from federation.analyze.analyze import analyze
from federation.analyze.finding import Finding, Level
from federation.compile.inputs import Inputs
from federation.compile.services import described
from federation.resources.document import Document, Metadata
from federation.resources.node import Node
from federation.resources.read import read
from federation.resources.resources import Problem, Resources
from federation.validate import documents_in

SCHEMA_ERROR, SCHEMA_WARNING = "IST0106", "IST0133"  # Istio's, for what is wrong, or doubtful, within one document
PARTIAL = "FG0003"
_SEVERITY = (Level.INFO, Level.WARNING, Level.ERROR)


class Message(msgspec.Struct, frozen=True):
    """One finding, as `fedgate analyze -o json` prints it, in istioctl's words: origin is the document, reference its file and line."""

    code: str
    level: str
    message: str
    origin: str = ""
    reference: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.origin, self.reference) if part)
        return f"{self.level} [{self.code}] ({where}) {self.message}" if where else f"{self.level} [{self.code}] {self.message}"


def findings_in(paths: Iterable[Path], now: datetime) -> list[Finding]:
    """Of all documents in these files and folders, the gravest first, then by file and line. Raises nothing."""
    documents: list[RawDocument] = []
    found: list[Finding] = []
    for each in documents_in(paths):
        if isinstance(each, DocumentError):
            found.append(Finding(SCHEMA_ERROR, Level.ERROR, "", "", f"{each.message}; {each.remedy}", each.origin))
        else:
            documents.append(each)
    resources = read(documents)
    found += [_of_problem(problem, SCHEMA_ERROR, Level.ERROR) for problem in resources.problems]
    # A kind that is passed over is no fault of its document.
    found += [_of_problem(note, SCHEMA_WARNING, Level.INFO if note.path == "kind" else Level.WARNING) for note in resources.notes]
    raws = {raw.origin: raw for raw in documents}
    for node in resources.nodes or (_anyone(resources),):
        found += [_placed(each, raws) for each in _together(resources, node, now)]
    return sorted(dict.fromkeys(found), key=lambda each: (-_SEVERITY.index(each.level), each.origin, each.code, each.text))


def at_least(level: Level, findings: Iterable[Finding]) -> list[Finding]:
    """Those that are as grave as that, or graver."""
    return [each for each in findings if _SEVERITY.index(each.level) >= _SEVERITY.index(level)]


def message(finding: Finding) -> Message:
    name = f"{finding.namespace}/{finding.name}" if finding.namespace else finding.name
    return Message(
        finding.code,
        finding.level.value.capitalize(),
        finding.text,
        f"{finding.kind} {name}".strip(),
        str(finding.origin),
    )


def _together(resources: Resources, node: Document[Node], now: datetime) -> Iterator[Finding]:
    said = described(resources, node)
    services = {service.hostname: service for service in said.static}
    for each in said.dns:
        services.setdefault(each.service.hostname, each.service)
    registries = [source.name for source in node.spec.sources if source.dns is None]
    if registries:
        text = f"sources are not asked ({', '.join(registries)}): destinations that no document describes are not judged"
        yield Finding(PARTIAL, Level.INFO, "Node", node.name, text, node.origin, node.namespace)
    if node.spec.resources:
        text = "the documents of spec.resources are not read: what they say is not known here"
        yield Finding(PARTIAL, Level.INFO, "Node", node.name, text, node.origin, node.namespace)
    if node not in resources.nodes and resources.gateways:
        text = "no Node is among the documents: they are judged as if one gateway had the labels of every Gateway's selector"
        yield Finding(PARTIAL, Level.INFO, "Node", node.name, text, node.origin)
    yield from analyze(Inputs(node, now, resources, services), every_service=not registries)


def _anyone(resources: Resources) -> Document[Node]:
    """The gateway of documents that name none: all Gateways are its own, and their secrets stand where Istio's do."""
    labels = {key: value for gateway in resources.gateways for key, value in gateway.spec.selector.items()}
    metadata = Metadata(name="any", namespace="istio-system", labels=labels)
    return Document("Node", "fedgate.io/v1", metadata, Node(cluster="any"))


def _placed(finding: Finding, raws: Mapping[Origin, RawDocument]) -> Finding:
    """With the line of its path."""
    raw = raws.get(finding.origin)
    return finding if raw is None else msgspec.structs.replace(finding, origin=raw.at(finding.path))


def _of_problem(problem: Problem, code: str, level: Level) -> Finding:
    return Finding(code, level, problem.kind, problem.name, problem.message, problem.origin, path=problem.path)
