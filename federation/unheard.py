"""How long a process that begins waits for peers to say what they offer, before it tells others outside what there is.

Pure. A process without memory knows nothing of a peer until their first session. What it published then would lack the peer's services,
and publishers take back whatever stands outside and is no longer told of: records of services that are well, and known to this gateway's
equals. So the first publication waits, but not for ever: a peer that is gone for good must not keep all other services from being told.
"""

from __future__ import annotations

from collections.abc import Collection

import structlog

# Seconds, from when this cluster's own sources have spoken. Publishers compare what stands outside once a minute, so nobody may rely on it
# to be fresher than that; and a peer that can be reached at all is: dials to it are at most 5 s apart, a gateway that is started anew, its
# machine included, is mostly back by then.
PEERS_WITHIN = 60.0

_log = structlog.get_logger("publishing")


class Unheard:
    """`until`: when to ask again though nobody spoke, inf for never. Once `over` is True it stays so."""

    def __init__(self) -> None:
        self.until = float("inf")
        self._over = False

    def over(self, unheard: Collection[str], now: float) -> bool:
        """Whether to publish. unheard: peers, by name, that have not yet said everything once."""
        if self._over:
            return True
        if self.until == float("inf"):
            self.until = now + PEERS_WITHIN
        if unheard and now < self.until:
            return False
        if unheard:
            action = "publishing begins without what only they offer; it is published when they are back, see `fedgate get peers`"
            _log.warning("publishing.peers_unheard", peers=sorted(unheard), waited_s=PEERS_WITHIN, action=action)
        self._over, self.until = True, float("inf")
        return True

    def __repr__(self) -> str:
        return f"<Unheard {'over' if self._over else f'until {self.until:.1f}'}>"
