"""What became of each document, for the source that it came from: Kubernetes shows it as status.conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from discovery.document import Condition, Origin, Outcome
from federation.compile.services import subject_of
from federation.compile.status import ConditionType, Status, Subject
from federation.reading import Reading

INVALID = "Invalid"


def outcomes(reading: Reading, statuses: Mapping[Subject, Status]) -> dict[Origin, Outcome]:
    """By the origin that the document was published with. A document that cannot be read is not Accepted, and says so in full even while
    its last good version serves on; one that compile says nothing of is Accepted and no more."""
    found: dict[Origin, Outcome] = {}
    for document in reading.resources.every():
        status = statuses.get(subject_of(document))
        if status is not None:
            found[document.origin] = Outcome(status.conditions, status.warnings)
        else:
            found[document.origin] = Outcome((Condition(ConditionType.ACCEPTED.value, True, "Accepted"),))
    wrong: dict[Origin, list[str]] = {}
    for problem in reading.problems:
        text = f"{problem.path}: {problem.message}" if problem.path else problem.message
        wrong.setdefault(problem.origin, []).append(text)
    for origin, texts in wrong.items():
        found[origin] = Outcome((Condition(ConditionType.ACCEPTED.value, False, INVALID, "; ".join(texts)),))
    return found
