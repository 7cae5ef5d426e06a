"""Conditions in a status: written once, others' left alone, the time of a transition kept."""

from datetime import UTC, datetime, timedelta

import pytest

from discovery.document import Condition
from discovery.kubernetes.conditions import MOST_WORDS, updated

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = Condition("Accepted", True, "Accepted", "it is")


def test_what_is_said_is_not_said_again():
    first = updated((), [GOOD], generation=2, now=NOW)
    assert first == [
        {
            "type": "Accepted",
            "status": "True",
            "reason": "Accepted",
            "message": "it is",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 2,
        }
    ]
    assert updated(first, [GOOD], generation=2, now=NOW + timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("condition", "generation", "since"),
    [
        (Condition("Accepted", True, "Accepted", "other words"), 2, "2026-01-02T03:04:05Z"),
        (Condition("Accepted", True, "Accepted", "it is"), 3, "2026-01-02T03:04:05Z"),
        (Condition("Accepted", False, "Invalid", "it is"), 2, "2026-01-02T04:04:05Z"),
    ],
)
def test_only_a_status_that_moves_is_a_transition(condition, generation, since):
    first = updated((), [GOOD], generation=2, now=NOW)
    (second,) = updated(first, [condition], generation=generation, now=NOW + timedelta(hours=1))
    assert second["lastTransitionTime"] == since
    assert second["observedGeneration"] == generation


def test_conditions_of_others_stay_where_they_are():
    theirs = {"type": "Reconciled", "status": "True", "lastProbeTime": "x"}
    found = updated([theirs, {"type": "Accepted", "status": "False"}], [GOOD], generation=0, now=NOW)
    assert found[0] == theirs
    assert [each["type"] for each in found] == ["Reconciled", "Accepted"]
    assert "observedGeneration" not in found[1]


def test_a_schema_without_generations_is_written_once():
    said = {"type": "Accepted", "status": "True", "reason": "Accepted", "message": "it is"}
    assert updated([said], [GOOD], generation=7, now=NOW) is None


def test_long_words_are_cut_and_equal_themselves():
    long = Condition("Accepted", False, "Invalid", "x" * 5000)
    first = updated((), [long], generation=1, now=NOW)
    assert len(first[0]["message"]) == MOST_WORDS
    assert updated(first, [long], generation=1, now=NOW) is None
