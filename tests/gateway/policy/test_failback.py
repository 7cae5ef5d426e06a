"""failback: down at once, up after hold-down and along the ramp; never on the first start."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.failback import Ramp
from gateway.snapshot import Failback

POLICY = Failback(hold_down_ms=30_000, ramp_ms=20_000)


def story(*rows: tuple[float, int], policy: Failback = POLICY) -> list[int]:
    """(now, natural availability of `near`) → what it is granted."""
    ramp = Ramp(policy)
    return [ramp.observe(now, [("near", natural), ("far", 100)])[0] for now, natural in rows]


def test_the_first_start_is_not_a_failback():
    assert story((0, 0), (5, 0), (6, 100)) == [0, 0, 100]


def test_what_is_lost_comes_back_after_hold_down_and_along_the_ramp():
    assert story((0, 100), (1, 0), (10, 100), (39.9, 100), (40, 100), (45, 100), (50, 100), (59.9, 100), (60, 100), (61, 100)) == [
        *(100, 0, 0, 0, 0, 25, 50, 99, 100, 100)
    ]


def test_a_break_in_health_begins_the_hold_down_anew():
    assert story((0, 100), (1, 0), (10, 100), (30, 0), (31, 100), (41, 100), (61, 100), (71, 100)) == [100, 0, 0, 0, 0, 0, 0, 50]


def test_a_loss_on_the_ramp_is_followed_down_at_once_and_held_again():
    assert story((0, 100), (1, 0), (10, 100), (50, 100), (51, 20), (52, 100), (81, 100), (92, 100)) == [
        100,
        0,
        0,
        50,
        20,
        20,
        20,
        60,
    ]


def test_what_is_lost_in_part_keeps_what_it_has():
    assert story((0, 100), (1, 46), (2, 93), (31, 93), (42, 93), (52, 93)) == [100, 46, 46, 46, 69, 93]


def test_the_ramp_goes_to_what_is_natural_then():
    assert story((0, 100), (1, 0), (10, 40), (50, 40), (55, 80), (60, 80)) == [100, 0, 0, 20, 60, 80]


def test_a_priority_is_known_by_its_name_when_numbers_change():
    ramp = Ramp(POLICY)
    assert ramp.observe(0, [("near", 100), ("far", 100)]) == (100, 100)
    assert ramp.observe(1, [("far", 100)]) == (100,)  # near has vanished from the registry
    assert ramp.observe(9, [("near", 100), ("far", 100)]) == (0, 100)
    assert ramp.moving
    assert ramp.observe(59, [("near", 100), ("far", 100)]) == (100, 100)
    assert not ramp.moving
    assert repr(ramp) == "<Ramp near:100 far:100>"


def test_without_hold_down_and_ramp_it_is_back_at_once():
    assert story((0, 100), (1, 0), (2, 100), policy=Failback(hold_down_ms=0, ramp_ms=0)) == [100, 0, 100]


@given(st.lists(st.tuples(st.floats(0.01, 40), st.integers(0, 100)), min_size=1, max_size=40))
def test_granted_is_never_over_natural_and_never_jumps_up_before_hold_down(steps):
    ramp, now, before, carried, rising = Ramp(POLICY), 0.0, 0, False, None
    for step, natural in steps:
        now += step
        granted = ramp.observe(now, [("near", natural)])[0]
        assert 0 <= granted <= natural
        if carried and granted > before:
            assert rising is not None
            assert now - rising >= 30
        rising = (now if rising is None else rising) if granted < natural else None
        before, carried = granted, carried or natural > 0
