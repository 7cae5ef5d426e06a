"""status.conditions: what is there and what we say, made into what should be there. Pure.

Conditions of other types are others' and stay as they are; `lastTransitionTime` moves only when a status does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from discovery.document import Condition

MOST_WORDS = 1024
"""Characters of a message: metav1.Condition allows 32,768, and etcd has better things to keep."""

Written = Mapping[str, Any]


def updated(
    found: Sequence[Written], wanted: Sequence[Condition], *, generation: int, now: datetime
) -> list[dict[str, Any]] | None:
    """The whole list with ours in it; None if it says that already."""
    ours = {condition.type: condition for condition in wanted}
    result: list[dict[str, Any]] = []
    changed = False
    for each in found:
        condition = ours.pop(str(each.get("type", "")), None)
        if condition is None or _says(each, condition, generation):
            result.append(dict(each))
            continue
        changed = True
        moved = each.get("status") != _word(condition.status)
        since = None if moved else each.get("lastTransitionTime")
        result.append(_written(condition, generation, since or _time(now)))
    result += [_written(condition, generation, _time(now)) for condition in ours.values()]
    return result if changed or ours else None


def _says(found: Written, condition: Condition, generation: int) -> bool:
    """A status without observedGeneration is one whose schema has no such field."""
    seen = found.get("observedGeneration", generation)
    said = (found.get("status"), found.get("reason", ""), found.get("message", ""))
    return said == (_word(condition.status), condition.reason, condition.message[:MOST_WORDS]) and seen == generation


def _written(condition: Condition, generation: int, since: str) -> dict[str, Any]:
    return {
        "type": condition.type,
        "status": _word(condition.status),
        "reason": condition.reason,
        "message": condition.message[:MOST_WORDS],
        "lastTransitionTime": since,
        **({"observedGeneration": generation} if generation else {}),
    }


def _word(status: bool) -> str:
    return "True" if status else "False"


def _time(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
