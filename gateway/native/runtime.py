"""What all exchanges of a worker share: the reactor, the tables that run, the backends' state, the dialer, the observer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.native.backend import BackendState
from gateway.native.observe import Observer
from gateway.native.pool import Dialer
from gateway.native.reactor import Reactor, Strand
from gateway.snapshot import Inbound
from gateway.table import RouteTable

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

_IDS = 1 << 48  # the last field of a UUID has 48 bits; then the rest changes too


class Runtime:
    """Replaced in place when a Snapshot is applied; an exchange takes from it once, at its beginning, what it must keep."""

    __slots__ = (
        "_id_next",
        "_id_prefix",
        "checks",
        "connections",
        "dialer",
        "draining",
        "inbounds",
        "observer",
        "random",
        "reactor",
        "ready",
        "states",
        "tables",
    )

    def __init__(
        self, reactor: Reactor, dialer: Dialer, observer: Observer, *, states: dict[str, BackendState], random: Callable[[], float]
    ) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.observer = observer
        self.states = states
        self.random = random
        self.tables: Mapping[str, RouteTable] = {}
        self.inbounds: Mapping[str, Inbound] = {}
        self.connections: set[Exchange] = set()
        self.checks: set[Strand] = set()  # connections to the readiness port
        self.draining = False
        self.ready = False
        self._id_next = _IDS
        self._id_prefix = b""

    def request_id(self) -> bytes:
        """A new x-request-id in the form of a random UUID. Unique; it is not a secret and must not be used as one."""
        self._id_next += 1
        if self._id_next >= _IDS:
            text = os.urandom(8).hex()
            self._id_prefix = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{os.urandom(2).hex()[1:]}-".encode()
            self._id_next = int.from_bytes(os.urandom(5), "big")
        return b"%b%012x" % (self._id_prefix, self._id_next)
