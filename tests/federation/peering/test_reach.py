"""Up, suspect, down: by what sessions, dials and workers say."""

import pytest

from federation.peering.reach import Reach
from gateway.verdicts import AddressState

A, B = "192.0.2.1:15443", "192.0.2.2:15443"
WORDS = {
    "connected": lambda r: r.connected(A),
    "lost": lambda r: r.lost(A),
    "refused": lambda r: r.failed(A, closed=False),
    "closed": lambda r: r.failed(A, closed=True),
    "alive": lambda r: r.confirmed(A, alive=True),
    "dead": lambda r: r.confirmed(A, alive=False),
}


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ("connected", None),
        ("connected lost", "suspect"),
        ("connected lost alive", None),
        ("connected lost dead", "down"),
        ("connected lost dead alive", "down"),
        ("connected lost connected", None),
        ("connected lost connected dead", None),
        ("connected dead", None),
        ("connected lost dead refused", "down"),
        ("connected lost dead closed", "suspect"),
        ("connected lost dead closed alive", None),
        ("connected lost dead connected", None),
        ("connected lost alive refused", "suspect"),
        ("connected lost alive refused dead", "down"),
        ("refused", "suspect"),
        ("refused dead", "down"),
        ("dead", None),
    ],
)
def test_stories(story, state):
    reach = Reach()
    for word in story.split():
        WORDS[word](reach)
    assert reach.states == ({A: AddressState(state)} if state else {})


def test_a_change_is_a_new_mapping_and_no_change_is_not():
    reach = Reach()
    reach.lost(A)
    first = reach.states
    reach.failed(A, closed=False)
    assert reach.states is first
    reach.lost(B)
    assert reach.states == {A: AddressState.SUSPECT, B: AddressState.SUSPECT}
    assert first == {A: AddressState.SUSPECT}


def test_addresses_that_went_are_forgotten():
    reach = Reach()
    reach.lost(A)
    reach.lost(B)
    reach.keep({B})
    assert set(reach.states) == {B}
