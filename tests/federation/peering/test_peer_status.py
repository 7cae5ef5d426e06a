"""How a peer is doing, over addresses and both directions."""

import pytest

from federation.peering.status import AcceptedStatus, AddressStatus, LinkState, PeerStatus, combined, of_addresses


def addresses(*states):
    return {f"{n}": AddressStatus(f"{n}", LinkState(state), float(n + 1), error=f"e{n}") for n, state in enumerate(states)}


@pytest.mark.parametrize(
    ("states", "best"),
    [
        ((), LinkState.CONNECTING),
        (("failing",), LinkState.FAILING),
        (("failing", "connecting"), LinkState.CONNECTING),
        (("failing", "lost"), LinkState.LOST),
        (("connecting", "lost"), LinkState.LOST),
        (("lost", "failing", "connected", "connecting"), LinkState.CONNECTED),
    ],
)
def test_a_peer_is_as_well_as_its_best_address(states, best):
    assert of_addresses(addresses(*states))[0] is best


def test_of_the_best_those_who_are_it_longest():
    assert of_addresses(addresses("failing", "lost", "lost"))[1:3] == (2.0, "e1")


def test_both_directions_in_one_record():
    link = PeerStatus("west", "td", LinkState.CONNECTED, imported=3)
    assert combined(link, None) is link
    both = combined(link, AcceptedStatus(sessions=2, offered=7, error="earlier"))
    assert (both.imported, both.exported, both.sessions, both.error) == (3, 7, 2, "earlier")
    assert combined(link, AcceptedStatus(sessions=0, offered=7)).exported == 0
