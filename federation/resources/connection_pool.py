"""Istio's ConnectionPoolSettings: how many connections and requests a destination gets, and how long they last.

A number of 0, or one at or above 2^31 - 1, is "no limit", as Istio's default 2^32 - 1 is.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duration_fault, fault, range_fault
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, Whole, choice_reader

MOST = 2**32 - 1
"""Envoy's circuit breakers are uint32."""

MOST_REQUESTS = 2**29
"""Of maxRequestsPerConnection (destination_rule.proto)."""


class H2UpgradePolicy(enum.Enum):
    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


_Upgrade = Annotated[H2UpgradePolicy, BeforeValidator(choice_reader(H2UpgradePolicy))]


class TcpKeepalive(Message):
    """None and 0: as the system has it (Linux: 9 probes, 75 s apart, after 7200 s)."""

    probes: Whole = 0
    time: Milliseconds | None = None
    interval: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("probes",), range_fault(self.probes, 0, 127))  # Linux: MAX_TCP_KEEPCNT
        for name, value in (("time", self.time), ("interval", self.interval)):
            if value is not None and not 1000 <= value <= 32_767_000:  # Linux: MAX_TCP_KEEPIDLE, in whole seconds
                yield Fault((name,), "the system counts keepalive in seconds, 1s to 32767s; write for example 75s")


class TCPSettings(Message):
    """None: not written. idle_timeout 0 = never."""

    max_connections: Whole | None = None
    connect_timeout: Milliseconds | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Milliseconds | None = None
    idle_timeout: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("maxConnections",), range_fault(self.max_connections, 0, MOST))
        yield from fault(("connectTimeout",), duration_fault(self.connect_timeout))
        yield from fault(("maxConnectionDuration",), duration_fault(self.max_connection_duration))


class Http2KeepAlive(Message):
    """A PING after `interval` in which nothing was heard; closed without an answer in `timeout`."""

    interval: Milliseconds | None = None
    timeout: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("interval",), duration_fault(self.interval))
        yield from fault(("timeout",), duration_fault(self.timeout))
        if (self.interval is None) != (self.timeout is None):
            yield Fault((), "http2KeepAlive needs both interval and timeout; write the other one too")


class HTTPSettings(Message):
    """None: not written. max_requests_per_connection 0 = no limit, 1 = a connection each."""

    http1_max_pending_requests: Whole | None = None
    http2_max_requests: Whole | None = None
    max_requests_per_connection: Whole | None = None
    max_retries: Whole | None = None
    idle_timeout: Milliseconds | None = None
    h2_upgrade_policy: _Upgrade = H2UpgradePolicy.DEFAULT
    use_client_protocol: Flag = False
    max_concurrent_streams: Whole | None = None
    http2_keep_alive: Http2KeepAlive | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("http1MaxPendingRequests",), range_fault(self.http1_max_pending_requests, 0, MOST))
        yield from fault(("http2MaxRequests",), range_fault(self.http2_max_requests, 0, MOST))
        yield from fault(("maxRequestsPerConnection",), range_fault(self.max_requests_per_connection, 0, MOST_REQUESTS))
        yield from fault(("maxRetries",), range_fault(self.max_retries, 0, MOST))
        yield from fault(("idleTimeout",), duration_fault(self.idle_timeout))
        yield from fault(("maxConcurrentStreams",), range_fault(self.max_concurrent_streams, 0))
        if self.use_client_protocol and self.h2_upgrade_policy is H2UpgradePolicy.UPGRADE:
            message = "use client protocol must not be true when H2UpgradePolicy is UPGRADE; remove one of the two"
            yield Fault(("useClientProtocol",), message)


class ConnectionPoolSettings(Message):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None

    def faults(self) -> Iterator[Fault]:
        if self.tcp is None and self.http is None:
            yield Fault((), "connectionPool is empty; write tcp or http, or remove it")
