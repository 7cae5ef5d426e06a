"""The demo's verdict: a run that proves nothing is not a success."""

from __future__ import annotations

from appliance.demo.measure import Phase
from appliance.demo.story import problems

STEADY = {"east-1": 0.75, "east-2": 0.25}


def phases(**changes: dict[str, float]) -> list[Phase]:
    shares = {
        "steady": STEADY,
        "region-down": {"west-1": 1.0},
        "region-back": STEADY,
        "gateway-down": {"east-1": 0.75, "west-1": 0.25},
    }
    shares |= {name.replace("_", "-"): value for name, value in changes.items()}
    return [Phase(name, 100, 0, None, 10.0, 1.0, 2.0, part) for name, part in shares.items()]


BEFORE = {"steady": {}, "region-down": STEADY, "region-back": {"west-1": 1.0}, "gateway-down": STEADY}


def test_traffic_that_moved_and_came_back_is_a_success() -> None:
    assert problems(phases(), BEFORE) == []


def test_killing_what_was_idle_proves_nothing() -> None:
    found = problems(phases(), {**BEFORE, "gateway-down": {"east-1": 0.9, "east-2": 0.1}})
    assert len(found) == 1
    assert "proves nothing" in found[0]


def test_traffic_that_did_not_leave_is_named() -> None:
    found = problems(phases(region_down={"east-1": 0.5, "west-1": 0.5}), BEFORE)
    assert any("still answered" in problem for problem in found)


def test_nothing_answered_at_all_is_no_success() -> None:
    assert problems(phases(region_down={}), BEFORE)


def test_traffic_that_did_not_come_back_is_named() -> None:
    found = problems(phases(region_back={"west-1": 1.0}), BEFORE)
    assert {problem.split(":")[0] for problem in found} == {"region-back"}
    assert len(found) == 2


def test_a_phase_that_never_settled_is_named() -> None:
    restless = [*phases()[:3], Phase("gateway-down", 100, 0, None, None, 1.0, 2.0, {"east-1": 0.75, "west-1": 0.25})]
    assert problems(restless, BEFORE) == ["gateway-down: the traffic did not settle"]
