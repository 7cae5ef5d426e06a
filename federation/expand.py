"""`fedgate expand`: what the ExternalServices of some files stand for, as the documents that could be written in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import yaml

from discovery.document import RawDocument, parse
from federation.resources.expansion import expanded
from federation.resources.external_service import ExternalService
from federation.resources.read import Judged, judge_all
from federation.validate import examine

KIND = "ExternalService"


class Expansion(msgspec.Struct, frozen=True):
    """text: YAML of all that was made, each ExternalService's after a comment that names it. errors: lines, when something cannot be
    read; then there is no text."""

    text: str = ""
    errors: tuple[str, ...] = ()


def expand(paths: Iterable[Path]) -> Expansion:
    """Of every ExternalService in these files; other documents are passed over. Raises nothing."""
    found: list[Judged] = []
    errors: list[str] = []
    for path in paths:
        documents, wrong = _read(path)
        errors += wrong
        for judged in judge_all(documents):
            if judged.kind == KIND:
                found.append(judged)
                errors += [str(each) for each in judged.errors]
    if errors:
        return Expansion(errors=tuple(errors))
    if not found:
        where = ", ".join(str(path) for path in paths)
        return Expansion(errors=(f"{where}: no {KIND} (apiVersion fedgate.io/v1); name a file that has one",))
    return Expansion("---\n".join(_printed(found)))


def _read(path: Path) -> tuple[tuple[RawDocument, ...], list[str]]:
    try:
        documents, errors = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError, ValueError):
        return (), list(examine([path]).lines)
    return documents, [str(error) for error in errors]


def _printed(found: Iterable[Judged]) -> Iterator[str]:
    for judged in found:
        document = judged.document
        assert document is not None
        assert isinstance(document.spec, ExternalService)
        comment = f"# {KIND} {document.namespace}/{document.name}, {judged.raw.origin}\n"
        for raw in expanded(judged.raw, document.spec):
            yield comment + yaml.safe_dump(dict(raw.content), sort_keys=False, allow_unicode=True, width=120)
            comment = ""
