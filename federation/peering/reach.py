"""Whether a peer's gateway address may be sent traffic, by what its sessions, its dials and the workers say.

Pure. Theory of operation. A lost session says only that control over there is silent, so the address becomes SUSPECT and the workers,
who carry the traffic, ask it themselves. Their answer decides: alive → up, on the last counts; not alive → DOWN, at once, for all.
While no session is there, each failed dial asks them again if the address is up. A DOWN address is up again when a session is;
also SUSPECT, for the workers to say, when it closes a connection by itself: then a process lives there (a stopped one closes
nothing, and dials to it only time out).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from gateway.verdicts import AddressState


class Reach:
    """States of a peer's addresses (`IP:PORT`); `states` is a new mapping whenever it changed."""

    def __init__(self) -> None:
        self.states: Mapping[str, AddressState] = {}

    def connected(self, address: str) -> None:
        self._set(address, None)

    def lost(self, address: str) -> None:
        """Its session ended, whatever the reason."""
        if self.states.get(address) is not AddressState.DOWN:
            self._set(address, AddressState.SUSPECT)

    def failed(self, address: str, *, closed: bool) -> None:
        """A dial did not become a session. closed: the other side ended a connection it had taken, so something lives there."""
        if self.states.get(address) is not AddressState.DOWN or closed:
            self._set(address, AddressState.SUSPECT)

    def confirmed(self, address: str, *, alive: bool) -> None:
        """A worker asked it. Late answers do not count: not against a session that is back, nor for an address that is down."""
        if self.states.get(address) is AddressState.SUSPECT:
            self._set(address, None if alive else AddressState.DOWN)

    def keep(self, addresses: Collection[str]) -> None:
        """Forget all other addresses: the peer no longer has them."""
        if any(address not in addresses for address in self.states):
            self.states = {address: state for address, state in self.states.items() if address in addresses}

    def _set(self, address: str, state: AddressState | None) -> None:
        if self.states.get(address) is state:
            return
        rest = {known: what for known, what in self.states.items() if known != address}
        self.states = rest if state is None else {**rest, address: state}
