"""Faults: what is drawn for a request, and how often."""

from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.fault import Faults
from gateway.snapshot import Fault

ALL = 1_000_000


@pytest.mark.parametrize(
    ("fault", "random", "expected"),
    [
        (Fault(delay_ms=1500, delay_share=ALL), [0.999999], (1.5, 0, -1)),
        (Fault(delay_ms=1500, delay_share=ALL, abort_status=503, abort_share=ALL), [0.9, 0.9], (1.5, 503, -1)),
        (Fault(delay_ms=1500, delay_share=500_000, abort_status=503, abort_share=500_000), [0.5, 0.499999], (0.0, 503, -1)),
        (Fault(delay_ms=1500, delay_share=500_000, abort_status=503, abort_share=500_000), [0.499999, 0.5], (1.5, 0, -1)),
        (Fault(abort_grpc=14, abort_share=ALL), [0.5], (0.0, 0, 14)),
        (Fault(abort_grpc=0, abort_status=503, abort_share=ALL), [0.5], (0.0, 0, 0)),  # gRPC's OK is a status, too
        (Fault(abort_status=503, abort_share=1), [0.0], (0.0, 503, -1)),
        (Fault(abort_status=503, abort_share=1), [0.000001], (0.0, 0, -1)),
        (Fault(delay_ms=1500), [0.0], (0.0, 0, -1)),
        (Fault(delay_share=ALL, abort_share=ALL), [0.0, 0.0], (0.0, 0, -1)),  # nothing to wait, nothing to answer
    ],
)
def test_what_is_drawn(fault, random, expected):
    assert Faults(fault).draw(iter(random).__next__) == expected


@given(st.integers(0, ALL), st.floats(0, 1, exclude_max=True))
def test_the_share_is_exact_to_a_millionth(share, number):
    drawn = Faults(Fault(abort_status=500, abort_share=share)).draw(repeat(number).__next__)
    assert (drawn[1] == 500) is (number * ALL < share)
