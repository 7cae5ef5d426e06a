"""Conditions from problems."""

from __future__ import annotations

from federation.compile.status import Subject, left_out, problem, refused, statuses, warning

WEB = Subject("Gateway", "edge", "web")
API = Subject("Gateway", "edge", "api")


def test_nothing_wrong_is_three_times_true() -> None:
    status = statuses([WEB], [])[WEB]
    assert status.good
    assert [each.type for each in status.conditions] == ["Accepted", "ResolvedRefs", "Programmed"]


def test_each_problem_lands_in_its_condition_and_repeats_are_said_once() -> None:
    missing = problem(WEB, "spec.servers[0]", "InvalidCredential", "no such secret")
    notes = [missing, missing, refused(API, "", "SelectorMismatch", "not ours"), left_out(WEB, "", "PortInUse", "taken")]
    found = statuses([WEB, API], notes)
    assert [(each.status, each.reason) for each in found[WEB].conditions] == [
        (True, "Accepted"),
        (False, "InvalidCredential"),
        (False, "PortInUse"),
    ]
    assert found[WEB].conditions[1].message == "spec.servers[0]: no such secret"
    assert not found[API].conditions[0].status


def test_a_warning_leaves_the_conditions_alone() -> None:
    status = statuses([WEB], [warning(WEB, "spec", "CertificateExpired", "expired yesterday")])[WEB]
    assert status.good
    assert status.warnings == ("spec: expired yesterday",)
    assert not statuses([], [warning(WEB, "spec", "CertificateExpired", "expired")])


def test_a_problem_reads_as_a_line_of_the_log() -> None:
    assert str(problem(WEB, "spec.servers[0]", "InvalidCredential", "no such secret")) == f"{WEB} spec.servers[0]: no such secret"
    assert str(warning(API, "", "CertificateExpired", "expired")) == f"{API}: warning: expired"
