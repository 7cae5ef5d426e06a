"""Relayed connections that are not offered any more: their Export was withdrawn, their chain, their route or their backend is gone.

Theory of operation. Requests are looked at one by one, so what is withdrawn ends with the next. A relay was looked at once, and may last for
days: so after each change of what listeners do, each relay is asked for as if it were new. One that would not be taken to its backend now has
the Node's drainDuration to end by itself, as Envoy drains the connections of a filter chain that was removed; then it is closed. If it
is offered again before, nothing happens. What only changes the shares of a route ends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from gateway.native.connection import ConnectionContext

if TYPE_CHECKING:
    from gateway.native.tcp import Connection

Offers = Callable[[ConnectionContext, str, str], bool]
"""(context, the IP that its socket has here, backend) → whether a new connection like it may go there."""


class Withdrawn:
    """Of one worker."""

    __slots__ = ("_offers", "_relays", "_until")

    def __init__(self, relays: Collection[Connection], offers: Offers) -> None:
        """relays: all that stand or are being connected, at any time."""
        self._relays = relays
        self._offers = offers
        self._until: dict[Connection, float] = {}  # those that have to end, and when

    def look(self, until: float) -> Iterator[None]:
        """What is offered has changed: look at all of them, one a step; those that have to end have until then."""
        for relay in list(self._relays):
            if relay.backend_name and not self._offers(relay.context, relay.address, relay.backend_name):
                self._until.setdefault(relay, until)
            else:
                self._until.pop(relay, None)
            yield

    def tick(self, now: float) -> None:
        """End those whose time is over. Between two turns only."""
        if self._until:
            for relay in [relay for relay, until in self._until.items() if until <= now or relay not in self._relays]:
                del self._until[relay]
                relay.withdraw()

    def __repr__(self) -> str:
        return f"<Withdrawn {len(self._until)} of {len(self._relays)}>"
