"""Raw documents → Resources, again and again: what did not change is not read again, and what broke keeps its last good version.

Theory of operation. Pure, with memory: for every document its verdict (reused while the document is equal), and for every (kind, namespace,
name) the last version that was good. A document that is faulty now stands as it last was, and its problems are told; one that is gone is
forgotten. Reading is done in steps, because a thousand documents take a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Mapping
from typing import Any

from discovery.document import DocumentError, Documents, Origin, RawDocument
from federation.resources.document import Document
from federation.resources.message import Message
from federation.resources.read import Judged, judge_all
from federation.resources.resources import Problem, Resources

Key = tuple[str, str, str]
"""(kind, namespace, name) of a document"""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """resources: what holds, last good versions included; its problems and notes are those of what is written now. stale: the
    documents that stand in an older version. unread: what could not even be parsed."""

    resources: Resources
    stale: tuple[Key, ...] = ()
    unread: tuple[DocumentError, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong, sorted: what cannot be parsed, and what is not a good document."""
        unread = (Problem(e.origin.file, e.origin.line, "", "", e.path, f"{e.message}; {e.remedy}") for e in self.unread)
        return tuple(sorted((*unread, *self.resources.problems)))


class Reader:
    """Keeps what is known of documents between two readings."""

    def __init__(self) -> None:
        self._judged: dict[Origin, tuple[RawDocument, tuple[Judged, ...]]] = {}
        self._good: dict[Key, Judged] = {}

    @property
    def good(self) -> tuple[RawDocument, ...]:
        """The last good version of every document, as it was written: for `remember` in a later process."""
        return tuple(judged.raw for judged in self._good.values())

    def remember(self, documents: Iterable[RawDocument]) -> None:
        """These were `good` in an earlier process: they stand in for what is faulty, or in an unreadable file, when this one begins."""
        for judged in judge_all(documents):
            if judged.document is not None and not judged.errors:
                self._good.setdefault(_key(judged), judged)

    def read(self, sources: Iterable[Documents]) -> Generator[None, None, Reading]:
        """What the documents of all sources come to; yields between documents. Abandoned halfway, it has forgotten nothing."""
        sources = list(sources)
        judged: dict[Origin, tuple[RawDocument, tuple[Judged, ...]]] = {}
        verdicts: list[Judged] = []
        for raw in (each for source in sources for each in source.documents):
            known = self._judged.get(raw.origin)
            if known is None or known[0] != raw:
                known = raw, tuple(judge_all([raw]))
                yield
            judged[raw.origin] = known
            verdicts += known[1]
        errors = tuple(sorted(error for source in sources for error in source.errors))
        verdicts += _unreadable(verdicts, self._good, errors)
        reading, good = _assembled(verdicts, self._good)
        stale = (*reading.stale, *(key for key in good if good[key].raw.origin not in judged and key not in reading.stale))
        self._judged, self._good = judged, good
        return dataclasses.replace(reading, stale=stale, unread=errors)

    def __repr__(self) -> str:
        return f"<Reader of {len(self._judged)} documents>"


def _unreadable(now: Iterable[Judged], before: Mapping[Key, Judged], errors: Iterable[DocumentError]) -> list[Judged]:
    """Last good documents that are not here now, from files (or below folders, or of a whole place such as `consul`) that cannot be read:
    their source knows them only if it read them itself, in this process."""
    broken = {error.origin.file for error in errors}
    if not broken:
        return []
    here = {_key(judged) for judged in now}
    below = tuple(f"{file}{mark}" for file in broken for mark in "/:")
    return [judged for key, judged in before.items() if key not in here and f"{judged.raw.origin.file}/".startswith(below)]


def _assembled(verdicts: Iterable[Judged], before: Mapping[Key, Judged]) -> tuple[Reading, dict[Key, Judged]]:
    """Of two documents of one key the first stands. A faulty one is replaced by its last good version, if it had one."""
    fields: dict[str, list[Document[Message]]] = {}
    problems: list[Problem] = []
    notes: list[Problem] = []
    good: dict[Key, Judged] = {}
    stale: list[Key] = []
    for now in verdicts:
        problems += now.errors
        notes += now.warnings
        key = _key(now)
        chosen: Judged | None = now
        if now.errors:
            chosen = before.get(key)
            if chosen is not None:
                stale.append(key)
        if chosen is None or chosen.document is None:
            continue
        if key in good:
            problems.append(_twice(now, key, good[key]))
            continue
        good[key] = chosen
        fields.setdefault(chosen.field, []).append(chosen.document)
        for field, document in chosen.stands_for:
            fields.setdefault(field, []).append(document)
    lists: dict[str, Any] = {field: tuple(found) for field, found in fields.items()}
    resources = Resources(**lists, notes=tuple(notes), problems=tuple(problems))
    return Reading(resources, tuple(stale)), good


def _key(judged: Judged) -> Key:
    metadata = judged.raw.content.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    return judged.kind, namespace if isinstance(namespace, str) else "default", judged.name


def _twice(now: Judged, key: Key, standing: Judged) -> Problem:
    message = f"{key[1]}/{key[2]} is written already at {standing.raw.origin}, which stands; remove one"
    origin = now.raw.at("metadata.name")
    return Problem(origin.file, origin.line, key[0], key[2], "metadata.name", message)
