"""How long the first publication waits for peers."""

from __future__ import annotations

import pytest
import structlog

from federation.unheard import PEERS_WITHIN, Unheard

NEVER = float("inf")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([((), 5.0)], [True]),
        ([(("west",), 5.0), ((), 6.0)], [False, True]),
        ([(("west", "north"), 5.0), (("north",), 6.0), ((), 7.0)], [False, False, True]),
        ([(("west",), 5.0), (("west",), 5.0 + PEERS_WITHIN)], [False, True]),  # one that is down does not keep the others for ever
        ([((), 5.0), (("late",), 6.0)], [True, True]),  # a Peer that is written later was never published
        ([(("west",), 5.0), (("west",), 65.0), (("west",), 66.0)], [False, True, True]),
    ],
)
def test_over(asked, expected):
    waiting = Unheard()
    assert [waiting.over(unheard, now) for unheard, now in asked] == expected


def test_it_says_when_to_ask_again_and_whom_it_gave_up():
    waiting = Unheard()
    assert waiting.until == NEVER
    with structlog.testing.capture_logs() as logs:
        waiting.over(("west", "north"), 5.0)
        assert (waiting.until, logs) == (5.0 + PEERS_WITHIN, [])
        waiting.over(("west",), 5.0 + PEERS_WITHIN)
    assert waiting.until == NEVER
    assert [(each["event"], each["peers"]) for each in logs] == [("publishing.peers_unheard", ["west"])]
