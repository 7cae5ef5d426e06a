"""outlier: Envoy's counters, ejection times and the limit on how many (FIELD section 0, i9, i10, trap 10)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import outlier
from gateway.policy.failure import Failure
from gateway.policy.outlier import CONSECUTIVE_5XX, GATEWAY_ERRORS, LOCAL_ORIGIN, Tally
from gateway.snapshot import Outlier

ISTIO = Outlier()
BOTH = Outlier(consecutive_5xx=5, consecutive_gateway_errors=3)
SPLIT = Outlier(split_local_origin=True, consecutive_local_origin=2, consecutive_gateway_errors=3)


def run(policy: Outlier, *events: int | Failure) -> list[str]:
    tally = Tally()
    return [
        outlier.failed(tally, event, policy) if isinstance(event, Failure) else outlier.answered(tally, event, policy)
        for event in events
    ]


def ejected_at(policy: Outlier, *events: int | Failure) -> tuple[int, str] | None:
    return next(((index, reason) for index, reason in enumerate(run(policy, *events), 1) if reason), None)


@pytest.mark.parametrize(
    ("policy", "events", "expected"),
    [
        (ISTIO, (500,) * 5, (5, CONSECUTIVE_5XX)),
        (ISTIO, (500,) * 4, None),
        (ISTIO, (500, 500, 500, 500, 200, 500, 500, 500, 500), None),  # a success resets
        (ISTIO, (500, 500, 500, 500, 404, 500), None),  # a 4xx is a success of the endpoint
        (ISTIO, (503,) * 4, None),  # gateway errors are off in Istio and count as 5xx
        (ISTIO, (503, 500, 502, 504, 599), (5, CONSECUTIVE_5XX)),
        (BOTH, (503, 502, 504), (3, GATEWAY_ERRORS)),
        (BOTH, (503, 502, 500, 504, 503), (5, CONSECUTIVE_5XX)),  # a 500 breaks the row of gateway errors only
        (BOTH, (Failure.CONNECT,) * 3, (3, GATEWAY_ERRORS)),
        (BOTH, (Failure.CONNECT_TIMEOUT, Failure.RESET, Failure.TIMEOUT), (3, GATEWAY_ERRORS)),
        (ISTIO, (Failure.CONNECT,) * 5, (5, CONSECUTIVE_5XX)),  # counts as 5xx unless split
        (SPLIT, (Failure.CONNECT,) * 2, (2, LOCAL_ORIGIN)),
        (SPLIT, (Failure.CONNECT, 500, Failure.CONNECT), None),  # any answer shows that it can be reached
        (SPLIT, (503, Failure.CONNECT, 503, 503), (4, GATEWAY_ERRORS)),  # and faults of origin do not touch the others
        (Outlier(consecutive_5xx=0), (500,) * 50, None),
        (Outlier(consecutive_5xx=0, split_local_origin=True, consecutive_local_origin=0), (Failure.RESET,) * 50, None),
        (Outlier(consecutive_5xx=2, error_codes=(429,)), (429, 429), (2, CONSECUTIVE_5XX)),
        (Outlier(consecutive_5xx=2, error_codes=(429,)), (500, 500, 500), None),
        (Outlier(consecutive_5xx=2, error_codes=(429,)), (429, 503, 429), None),  # a 5xx that is not named is a success
        # What was no answer is a fault whatever is named: Envoy matches statuses of responses only.
        (Outlier(consecutive_5xx=2, error_codes=(429,)), (Failure.RESET, 429), (2, CONSECUTIVE_5XX)),
        (Outlier(0, 2, error_codes=(429, 503)), (503, 429, 503, 503), (4, GATEWAY_ERRORS)),
    ],
)
def test_ejected_by_the_fault_that_reaches_the_threshold(policy, events, expected):
    assert ejected_at(policy, *events) == expected


def test_an_ejection_that_was_not_allowed_is_asked_for_again_after_as_many_faults():
    assert [index for index, reason in enumerate(run(ISTIO, *(500,) * 15), 1) if reason] == [5, 10, 15]


def test_a_tally_says_whether_anything_is_counted():
    tally = Tally()
    outlier.answered(tally, 500, ISTIO)
    assert tally.faulty
    outlier.answered(tally, 200, ISTIO)
    assert not tally.faulty
    outlier.failed(tally, Failure.RESET, SPLIT)
    outlier.failed(tally, Failure.RESET, msgspec.structs.replace(SPLIT, consecutive_local_origin=9))
    assert tally.faulty
    tally.clear()
    assert (tally.faulty, repr(tally)) == (False, "<Tally 5xx 0 gateway 0 local 0>")


@pytest.mark.parametrize(
    ("hosts", "percent", "ejectable"),
    [(3, 10, 0), (3, 33, 0), (3, 34, 1), (3, 66, 1), (3, 67, 2), (3, 100, 3), (10, 10, 1), (0, 100, 0)],
)
def test_max_ejection_percent_exactly(hosts, percent, ejectable):
    ejected = 0
    while outlier.may_eject(ejected, hosts, percent):
        ejected += 1
    assert ejected == ejectable == outlier.allowed(hosts, percent)


@given(st.integers(0, 200), st.integers(0, 100))
def test_never_more_than_the_percentage(hosts, percent):
    assert outlier.allowed(hosts, percent) * 100 <= hosts * percent


def test_ejection_time_grows_by_the_base_up_to_five_minutes():
    times, lengths = 0, []
    for _ in range(14):
        times = outlier.more_times(ISTIO, times)
        lengths.append(outlier.ejection_seconds(ISTIO, times))
    assert lengths[:10] == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300]
    assert lengths[10:] == [300] * 4
    assert times == 11  # so that it decays in as many sweeps as it took to grow


def test_a_base_over_five_minutes_is_its_own_cap():
    long = Outlier(base_ejection_ms=400_000)
    assert outlier.ejection_seconds(long, 1) == outlier.ejection_seconds(long, 3) == 400


def test_the_multiplier_decays_by_one_a_sweep():
    assert [outlier.fewer_times(times) for times in (3, 1, 0)] == [2, 0, 0]


def test_trap_10_thirty_seconds_times_n_up_to_300_and_the_multiplier_decays():
    times, lengths = 0, []
    for _ in range(13):
        times = outlier.more_times(ISTIO, times)
        lengths.append(outlier.ejection_seconds(ISTIO, times))
    assert lengths == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300]
    assert times == 11  # it stops there, so as many good sweeps bring it back
    for _ in range(11):
        times = outlier.fewer_times(times)
    assert (times, outlier.fewer_times(times)) == (0, 0)
    # The longest is 300 s or the base, if that is longer.
    assert outlier.ejection_seconds(Outlier(base_ejection_ms=400_000), 1) == 400
