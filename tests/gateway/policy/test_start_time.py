"""Formats of START_TIME; what each directive gives is what a real Envoy 1.40 gave."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.start_time import STANDARD, StartTime, format_fault

MOMENT = 1795264157.971755  # 2026-11-21, a Saturday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STANDARD, b"2026-11-21T12:29:17.971Z"),
        ("%s", b"1795264157"),
        ("%s.%3f", b"1795264157.971"),
        ("%s%3f", b"1795264157971"),
        ("%f", b"971755000"),
        ("%1f %6f %9f", b"9 971755 971755000"),
        ("%Y/%m/%dT%H:%M:%S%z", b"2026/11/21T12:29:17+0000"),
        ("%FT%TZ", b"2026-11-21T12:29:17Z"),
        ("%D %R %e %j %a %A %b %B %p %I %y %u %Z %%", b"11/21/26 12:29 21 325 Sat Saturday Nov November PM 12 26 6 UTC %"),
        ("no time at all", b"no time at all"),
        ("%E6S", b"17.971755"),
    ],
)
def test_formats(text, expected):
    assert format_fault(text) is None
    assert StartTime(text).text(MOMENT) == expected


@pytest.mark.parametrize("text", ["%n", "%", "%Q", "%0f", "%12f", "%ES", "%E*S", "a %"])
def test_what_is_no_directive(text):
    assert "is no directive of START_TIME" in format_fault(text)


def test_fractions_do_not_carry_into_the_next_second():
    assert StartTime(STANDARD).text(0.9999999) == b"1970-01-01T00:00:00.999Z"


@given(st.text(alphabet="%sfEYST139 -:", max_size=20), st.floats(0, 4e9))
def test_what_has_no_fault_can_be_said(text, seconds):
    if format_fault(text) is None:
        StartTime(text).text(seconds)
