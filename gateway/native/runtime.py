"""What all exchanges of a worker share: the reactor, the tables that run, the backends' state, the dialer, the observer."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.native.backend import BackendState
from gateway.native.codec.events import RequestHead
from gateway.native.http2 import Unflushed
from gateway.native.observe import Observer
from gateway.native.overload import OverloadMonitor
from gateway.native.pool import Dialer
from gateway.native.reactor import Reactor, Strand
from gateway.native.resolver import Resolver
from gateway.snapshot import Inbound
from gateway.table import Destination, Forwarding, RouteTable

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange
    from gateway.native.http1 import Http1Exchange
    from gateway.native.http2_server import Http2Server
    from gateway.native.tcp import Connection as Relay

Mirror = Callable[["Exchange", RequestHead, Forwarding, Destination], None]
"""Sends copies of a request: native/mirror.py, which cannot be imported from here."""

_LAST_DIGITS = [b"%03x" % number for number in range(4096)]


def _no_mirror(x: Exchange, head: RequestHead, action: Forwarding, destination: Destination) -> None:
    """For who does without."""


class Runtime:
    """Replaced in place when a Snapshot is applied; an exchange takes from it once, at its beginning, what it must keep."""

    __slots__ = (
        "_id_next",
        "_id_prefix",
        "checks",
        "client_cert",
        "connections",
        "dialer",
        "draining",
        "inbounds",
        "mirror",
        "observer",
        "overload",
        "overload",
        "random",
        "reactor",
        "ready",
        "relays",
        "resolver",
        "states",
        "tables",
        "trusted_proxies",
        "unflushed",
    )

    def __init__(
        self, reactor: Reactor, dialer: Dialer, observer: Observer, *, states: dict[str, BackendState], random: Callable[[], float]
    ) -> None:
        self.reactor = reactor
        self.dialer = dialer
        self.observer = observer
        self.resolver = Resolver(reactor)
        self.mirror: Mirror = _no_mirror
        self.overload = OverloadMonitor(reactor)
        self.states = states
        self.random = random
        self.tables: Mapping[str, RouteTable] = {}
        self.inbounds: Mapping[str, Inbound] = {}
        self.connections: set[Http1Exchange | Http2Server] = set()
        self.unflushed = Unflushed()  # of HTTP/2, flushed at the end of every turn
        self.relays: set[Relay] = set()  # connections that are relayed and not read
        self.checks: set[Strand] = set()  # connections to the readiness port
        self.overload = OverloadMonitor(reactor)
        self.trusted_proxies = 0
        self.client_cert = "SANITIZE_SET"
        self.draining = False
        self.ready = False
        self._id_next = 4096
        self._id_prefix = b""

    def request_id(self) -> bytes:
        """A new x-request-id in the form of a random UUID: random but for its last three digits, which count. It is not a secret
        and must not be used as one."""
        self._id_next += 1
        if self._id_next >= 4096:
            text = os.urandom(16).hex()
            self._id_prefix = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:29]}".encode()
            self._id_next = 0
        return self._id_prefix + _LAST_DIGITS[self._id_next]
