"""Raw documents → Resources: each document is judged by itself; a faulty one is left out, and all the others stand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from discovery.document import RawDocument, path_of
from federation.resources.document import Document, Metadata
from federation.resources.expansion import expanded
from federation.resources.external_service import ExternalService
from federation.resources.kinds import Kind, Passed, Refused, look_up
from federation.resources.message import Fault, Message, Path
from federation.resources.resources import Problem, Resources
from federation.resources.strict import nearest, read_message
from federation.resources.workload_group import annotation_faults

M = TypeVar("M", bound=Message)

_ITEM = re.compile(r"items\[(\d{1,9})\]\.?")
_TOP = ("apiVersion", "kind", "metadata", "spec", "status")
_SLICE_OF = "kubernetes.io/service-name"  # the label that says which Service an EndpointSlice belongs to


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """One document and the verdict on it. document None: faulty (then errors), or passed over (then a warning says so). stands_for: (field
    of Resources, document) of each that it stands for."""

    raw: RawDocument
    kind: str
    name: str
    field: str = ""
    document: Document[Message] | None = None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    stands_for: tuple[tuple[str, Document[Message]], ...] = ()


def read(documents: Iterable[RawDocument]) -> Resources:
    """Everything that is right, by kind; what is wrong, in `problems`; what is worth knowing, in `notes`. Raises nothing.

    Of two documents of one kind, namespace and name the first stands, so that what was loaded is not replaced by accident.
    """
    fields: dict[str, list[Document[Message]]] = {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    first: dict[tuple[str, str, str], Document[Message]] = {}
    for judged in judge_all(documents):
        problems += judged.errors
        notes += judged.warnings
        document = judged.document
        if document is None:
            continue
        standing = first.setdefault((judged.field, document.namespace, document.name), document)
        if standing is not document:
            message = f"{document.namespace}/{document.name} is written already at {standing.origin}, which stands; remove one"
            problems.append(_problem(judged.raw, (judged.kind, judged.name), Fault(("metadata", "name"), message)))
            continue
        fields.setdefault(judged.field, []).append(document)
        for field, made in judged.stands_for:
            fields.setdefault(field, []).append(made)
    lists: dict[str, Any] = {field: tuple(found) for field, found in fields.items()}
    return Resources(**lists, notes=tuple(notes), problems=tuple(problems))


def judge_all(documents: Iterable[RawDocument]) -> Iterator[Judged]:
    """Each document; a List (as `kubectl get -o yaml` prints) as its items."""
    for raw in documents:
        items = raw.content.get("items")
        if raw.content.get("kind") == "List" and raw.content.get("apiVersion") == "v1" and isinstance(items, list | tuple):
            lines = _lines_by_item(raw.lines)
            for index, item in enumerate(items):
                content = item if isinstance(item, Mapping) else {}
                yield judge(RawDocument(raw.at(f"items[{index}]"), content, lines.get(index, {})))
        else:
            yield judge(raw)


def judge(raw: RawDocument) -> Judged:
    """Read one document strictly. Raises nothing."""
    content = raw.content
    api_version, kind_name = _text(content, "apiVersion"), _text(content, "kind")
    metadata = content.get("metadata")
    name = _text(metadata, "name") if isinstance(metadata, Mapping) else ""
    about = (kind_name, name)
    if not api_version or not kind_name:
        missing = "apiVersion" if not api_version else "kind"
        fault = Fault((missing,), f"`{missing}` is required, as text; write for example apiVersion: fedgate.io/v1, kind: Node")
        return Judged(raw, *about, errors=(_problem(raw, about, fault),))
    kind = look_up(api_version, kind_name)
    if isinstance(kind, Refused):
        return Judged(raw, *about, errors=(_problem(raw, about, Fault(("kind",), kind.message)),))
    if isinstance(kind, Passed):
        return Judged(raw, *about, warnings=(_problem(raw, about, Fault(("kind",), kind.message)),))
    document, faults = _document(raw, kind, api_version)
    errors = tuple(_problem(raw, about, fault) for fault in faults if not fault.warning)
    warnings = tuple(_problem(raw, about, fault) for fault in faults if fault.warning)
    judged = Judged(raw, *about, field=kind.field, document=document, errors=errors, warnings=warnings)
    return _with_others(judged, document.spec) if document is not None and isinstance(document.spec, ExternalService) else judged


def _with_others(judged: Judged, spec: ExternalService) -> Judged:
    """What is wrong with a document that it stands for is wrong with it."""
    owner = judged.kind, judged.name
    made: list[tuple[str, Document[Message]]] = []
    errors: list[Problem] = []
    warnings: list[Problem] = []
    for raw in expanded(judged.raw, spec):
        other = judge(raw)
        where = f"its {other.kind} would be wrong: "
        errors += [_problem(judged.raw, owner, Fault(("spec",), f"{where}{each.path}: {each.message}")) for each in other.errors]
        warnings += [_problem(judged.raw, owner, Fault(("spec",), f"{each.path}: {each.message}")) for each in other.warnings]
        if other.document is not None:
            made.append((other.field, dataclasses.replace(other.document, owner=owner)))
    if errors:
        return dataclasses.replace(judged, document=None, errors=(*judged.errors, *errors))
    return dataclasses.replace(judged, warnings=(*judged.warnings, *warnings), stands_for=tuple(made))


def _document(raw: RawDocument, kind: Kind, api_version: str) -> tuple[Document[Message] | None, list[Fault]]:
    metadata, faults = _within(("metadata",), *read_message(Metadata, raw.content.get("metadata") or {}))
    if kind.flat:
        said: object = {key: value for key, value in raw.content.items() if key not in ("apiVersion", "kind", "metadata", "status")}
        spec, more = _within((), *read_message(kind.model, said))
    else:
        for key in raw.content:
            if key not in _TOP:
                faults.append(Fault((key,), f"unknown field `{key[:80]}`{nearest(key, _TOP) or '; fields belong under `spec`'}"))
        said = raw.content.get("spec")
        spec, more = _within(("spec",), *read_message(kind.model, {} if said is None else said))
    faults += more
    if metadata is not None and kind.name == "WorkloadGroup":
        faults += [Fault(("metadata", "annotations", *each.path), each.message) for each in annotation_faults(metadata.annotations)]
    if metadata is None or spec is None or any(not fault.warning for fault in faults):
        return None, faults
    if kind.name == "EndpointSlice" and not metadata.labels.get(_SLICE_OF):
        message = f"without label {_SLICE_OF} the slice belongs to no Service and is not used; write it"
        faults.append(Fault(("metadata", "labels"), message, warning=True))
    return Document(kind.name, api_version, metadata, spec, raw.origin), faults


def _within(at: Path, message: M | None, faults: tuple[Fault, ...]) -> tuple[M | None, list[Fault]]:
    return message, [Fault((*at, *fault.path), fault.message, fault.warning) for fault in faults]


def _problem(raw: RawDocument, about: tuple[str, str], fault: Fault) -> Problem:
    path = path_of(fault.path)
    return Problem(raw.origin.file, raw.line(path), *about, _printable(path), _printable(fault.message))


def _text(mapping: Mapping[str, Any], key: str) -> str:
    value = mapping.get(key)
    return _printable(value[:253]) if isinstance(value, str) else ""  # no kind or name is longer


def _printable(text: str) -> str:
    """A lone surrogate, which no output can encode, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def _lines_by_item(lines: Mapping[str, int]) -> dict[int, dict[str, int]]:
    """The lines of a List, item by item, each as if its paths began there."""
    split: dict[int, dict[str, int]] = {}
    for path, line in lines.items():
        match = _ITEM.match(path)
        if match is not None:
            split.setdefault(int(match[1]), {})[path[match.end() :]] = line
    return split
