"""How a peer is doing, for `fedgate get peers`, metrics and the journal. Pure data; times are UTC, seconds since the epoch."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from federation.peering.terms import Finding


class LinkState(enum.Enum):
    """Of one address, or of a peer: a peer is as well as its best address."""

    CONNECTED = "connected"  # a session, and everything the peer offers is known
    CONNECTING = "connecting"  # none yet, the first try is under way
    LOST = "lost"  # there was one; what it said stands
    FAILING = "failing"  # there never was one, and the last try failed


class AddressStatus(msgspec.Struct, frozen=True):
    """address: `IP:PORT`. verdict: "" up, suspect, down. rtt_ms: of the running session, 0 unknown. error: why there is none."""

    address: str
    state: LinkState = LinkState.CONNECTING
    since: float = 0.0
    verdict: str = ""
    rtt_ms: float = 0.0
    gateway: str = ""
    attempts: int = 0
    error: str = ""


class PeerStatus(msgspec.Struct, frozen=True):
    """imported: services we took from it; exported: services it is told of, over `sessions` sessions. findings: what of its claims
    was not believed."""

    name: str
    trust_domain: str
    state: LinkState = LinkState.CONNECTING
    since: float = 0.0
    cluster: str = ""
    rtt_ms: float = 0.0
    imported: int = 0
    exported: int = 0
    sessions: int = 0
    error: str = ""
    addresses: tuple[AddressStatus, ...] = ()
    findings: tuple[Finding, ...] = ()


class AcceptedStatus(msgspec.Struct, frozen=True):
    """The sessions that one peer's gateways opened to us. error: why the last that failed was refused or ended."""

    sessions: int = 0
    offered: int = 0
    error: str = ""


def combined(link: PeerStatus, accepted: AcceptedStatus | None) -> PeerStatus:
    """Both directions in one record."""
    if accepted is None:
        return link
    exported = accepted.offered if accepted.sessions else 0
    return msgspec.structs.replace(link, exported=exported, sessions=accepted.sessions, error=link.error or accepted.error)


def of_addresses(addresses: Mapping[str, AddressStatus]) -> tuple[LinkState, float, str, float]:
    """(state, since, error, rtt_ms) of a peer with these addresses: its best one's."""
    if not addresses:
        return LinkState.CONNECTING, 0.0, "", 0.0
    order = list(LinkState)
    order.insert(1, order.pop(order.index(LinkState.LOST)))
    best = min(addresses.values(), key=lambda each: (order.index(each.state), each.since))
    return best.state, best.since, best.error, best.rtt_ms
