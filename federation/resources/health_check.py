"""healthCheck of a ServicePolicy and of an ExternalService: what every endpoint is asked, by the control process, once for the whole gateway.

Of a service in the cluster the defaults are quick (every second, 500 ms): a round trip there is under a millisecond, and a second is how
long a dead endpoint may take requests that nothing else notices. Of an external service they are patient: see EXTERNAL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from federation.resources.checks import duration_fault, fault, host_fault, port_fault, range_fault
from federation.resources.message import Fault, Message
from federation.resources.scalars import Milliseconds, Whole, ms

EXTERNAL = {"interval": "10s", "timeout": "3s", "unhealthyThreshold": 3, "healthyThreshold": 2}
"""Of an ExternalService, where nothing is written. 10 s: what a stranger's service takes without asking who we are (Consul's and AWS Route
53's fast interval). 3 s: TCP and TLS over the Internet are three round trips, of which one may lose a packet (1 s until it is sent anew).
Three failures: one lost check in a hundred then takes a good endpoint out once in 100 days, not every 17 minutes."""

_STATUSES = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def parse_statuses(text: str) -> tuple[int, int] | None:
    """`204` → (204, 205), `200-299` → (200, 300): half-open; None when it is neither."""
    match = _STATUSES.fullmatch(text)
    if match is None or int(match[2] or match[1]) < int(match[1]):
        return None
    return int(match[1]), int(match[2] or match[1]) + 1


class HttpCheck(Message):
    """GET path. statuses: that are healthy, `200` or `200-299`; none: 200 only, as Envoy. host "": the service's. port 0: the endpoint's
    own."""

    path: str = "/"
    host: str = ""
    port: Whole = 0
    statuses: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not self.path.startswith("/") or any(letter <= " " or letter > "~" for letter in self.path):
            yield Fault(("path",), "is no path; begin it with /, without spaces")
        if self.host:
            yield from fault(("host",), host_fault(self.host, wildcard=False))
        yield from fault(("port",), port_fault(self.port, zero=True))
        for index, text in enumerate(self.statuses):
            if parse_statuses(text) is None:
                yield Fault(("statuses", index), f"`{text[:80]}` is no status; write for example 204, or 200-299")


class TcpCheck(Message):
    """A connection that is taken is healthy."""

    port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port, zero=True))


class GrpcCheck(Message):
    """grpc.health.v1.Health/Check: SERVING is healthy. service "": the server as a whole. host, port as of HttpCheck."""

    service: str = ""
    host: str = ""
    port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        if len(self.service) > 255:
            yield Fault(("service",), "the service's name is longer than 255 characters; write package.Service")
        if self.host:
            yield from fault(("host",), host_fault(self.host, wildcard=False))
        yield from fault(("port",), port_fault(self.port, zero=True))


class HealthCheck(Message):
    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    grpc: GrpcCheck | None = None
    interval: Milliseconds = ms(1000)
    timeout: Milliseconds = ms(500)
    unhealthy_threshold: Whole = 2
    healthy_threshold: Whole = 2

    def faults(self) -> Iterator[Fault]:
        if sum(each is not None for each in (self.http, self.tcp, self.grpc)) != 1:
            yield Fault((), "a health check is one of http, tcp and grpc; write one")
        yield from fault(("interval",), duration_fault(self.interval))
        yield from fault(("timeout",), duration_fault(self.timeout))
        yield from fault(("unhealthyThreshold",), range_fault(self.unhealthy_threshold, 1))
        yield from fault(("healthyThreshold",), range_fault(self.healthy_threshold, 1))
