"""The targets of fuzz_targets.py under hypothesis: good inputs cut apart, put together, mutated; and any bytes."""

from __future__ import annotations

import pytest
from fuzz_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROFILE = settings(max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)


def mutated(seeds):
    """One or several good inputs, one after the other, with a few bytes changed, put in or taken away."""
    changes = st.tuples(
        st.integers(0, 2**16), st.sampled_from(["set", "insert", "delete", "double"]), st.binary(min_size=1, max_size=4)
    )
    return st.builds(change, st.lists(st.sampled_from(seeds), min_size=1, max_size=3).map(b"".join), st.lists(changes, max_size=4))


def change(data, changes):
    for place, how, new in changes:
        at = place % (len(data) + 1)
        if how == "set":
            data = data[:at] + new + data[at + len(new) :]
        elif how == "insert":
            data = data[:at] + new + data[at:]
        elif how == "delete":
            data = data[:at] + data[at + len(new) :]
        else:
            data = data[: at + 8] + data[at:]
    return data


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_for_mutated_inputs(name):
    check, seeds = TARGETS[name]
    given(mutated(seeds))(PROFILE(lambda data: check(data)))()


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_for_any_bytes(name):
    check, _ = TARGETS[name]
    given(st.binary(max_size=300))(PROFILE(lambda data: check(data)))()


@pytest.mark.parametrize("name", TARGETS)
def test_promises_hold_for_what_is_good(name):
    check, seeds = TARGETS[name]
    for seed in seeds:
        check(seed)
