"""When results become a verdict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.thresholds import UNKNOWN, after


@pytest.mark.parametrize(
    ("results", "unhealthy", "healthy", "verdicts"),
    [
        ("+", 2, 2, "+"),  # the first result counts at once, either way
        ("-", 2, 2, "-"),
        ("+--", 2, 2, "++-"),
        ("+-+-+-", 2, 2, "++++++"),  # never two in a row
        ("-++", 2, 2, "--+"),
        ("-+++", 2, 3, "---+"),
        ("+---", 3, 2, "+++-"),
        ("+-", 1, 1, "+-"),
        ("+-", 0, 0, "+-"),
        ("-++--", 2, 2, "--++-"),
    ],
)
def test_table(results, unhealthy, healthy, verdicts):
    standing, said = UNKNOWN, ""
    for result in results:
        standing = after(standing, result == "+", unhealthy_threshold=unhealthy, healthy_threshold=healthy)
        said += "+" if standing.healthy else "-"
    assert said == verdicts


@given(st.lists(st.booleans(), min_size=1), st.integers(1, 5), st.integers(1, 5))
def test_enough_alike_in_a_row_always_decide(results, unhealthy, healthy):
    standing = UNKNOWN
    for passed in results + [results[-1]] * 5:
        standing = after(standing, passed, unhealthy_threshold=unhealthy, healthy_threshold=healthy)
    assert standing.healthy is results[-1]
    assert standing.against == 0
