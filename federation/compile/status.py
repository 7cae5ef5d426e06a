"""What became of each document: three conditions, and the problems they were made from.

Accepted: the document was read and applies to this gateway. ResolvedRefs: everything it names exists. Programmed: what it asks
for is in the Snapshot. Compile never raises on what users wrote: a stage notes a Problem and leaves out the least it can.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

import msgspec

from discovery.document import Condition


class Subject(msgspec.Struct, frozen=True, order=True):
    """The document something is said about."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class ConditionType(enum.Enum):
    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"


class Problem(msgspec.Struct, frozen=True, order=True):
    """One thing that is wrong with a document, or (warning) that works but not as its author may think.

    path is where in the document, `spec.servers[0].tls.credentialName`; reason one CamelCase word; message says what, why and
    what to do.
    """

    subject: Subject
    path: str
    reason: str
    message: str
    condition: str = ConditionType.RESOLVED_REFS.value
    warning: bool = False

    def __str__(self) -> str:
        where = f"{self.subject} {self.path}".rstrip()
        return f"{where}: {'warning: ' if self.warning else ''}{self.message}"


class Status(msgspec.Struct, frozen=True):
    """The conditions of one document, always all three in the order Accepted, ResolvedRefs, Programmed."""

    subject: Subject
    conditions: tuple[Condition, ...]
    warnings: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        return all(condition.status for condition in self.conditions)


def problem(subject: Subject, path: str, reason: str, message: str) -> Problem:
    """Something named does not exist or cannot be used."""
    return Problem(subject, path, reason, message)


def refused(subject: Subject, path: str, reason: str, message: str) -> Problem:
    """The document (or a part of it) does not apply here."""
    return Problem(subject, path, reason, message, condition=ConditionType.ACCEPTED.value)


def left_out(subject: Subject, path: str, reason: str, message: str) -> Problem:
    """Accepted and resolved, but not running."""
    return Problem(subject, path, reason, message, condition=ConditionType.PROGRAMMED.value)


def warning(subject: Subject, path: str, reason: str, message: str) -> Problem:
    return Problem(subject, path, reason, message, warning=True)


def statuses(subjects: Iterable[Subject], problems: Iterable[Problem]) -> dict[Subject, Status]:
    """A Status for every subject; problems of subjects that are not listed are ignored."""
    found: dict[Subject, dict[Problem, None]] = {subject: {} for subject in subjects}
    for each in problems:
        if each.subject in found:
            found[each.subject][each] = None
    return {subject: _status(subject, sorted(notes)) for subject, notes in found.items()}


_GOOD = {ConditionType.ACCEPTED: "Accepted", ConditionType.RESOLVED_REFS: "ResolvedRefs", ConditionType.PROGRAMMED: "Programmed"}


def _status(subject: Subject, problems: list[Problem]) -> Status:
    conditions = []
    for kind in ConditionType:
        bad = [each for each in problems if not each.warning and each.condition == kind.value]
        if bad:
            text = "; ".join(_text(each) for each in bad)
            conditions.append(Condition(kind.value, False, bad[0].reason, text))
        else:
            conditions.append(Condition(kind.value, True, _GOOD[kind]))
    return Status(subject, tuple(conditions), tuple(_text(each) for each in problems if each.warning))


def _text(each: Problem) -> str:
    return f"{each.path}: {each.message}" if each.path else each.message
