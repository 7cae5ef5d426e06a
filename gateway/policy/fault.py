"""Faults that a route injects (Istio HTTPFaultInjection): which requests wait, and which are answered instead of sent on.

Theory of operation. Delay and abort are two draws of their own, the delay's first; a request may wait and then be aborted. Shares are
parts per million, as Envoy compares them. Whoever runs this waits, then answers: an HTTP status with the body `fault filter abort`; a gRPC
status is that status for a gRPC request (HTTP 200, no body, grpc-message `fault filter abort`) and for any other a plain 200 with that
body. In the access log the flags are DI (delayed) and FI (aborted), the details `fault_filter_abort`. Pure: the randomness is an argument.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.snapshot import Fault

MILLION = 1_000_000
BODY = b"fault filter abort"
DETAIL = b"fault_filter_abort"


class Faults:
    """A Fault made ready. May be drawn from for every request of its route."""

    __slots__ = ("_abort_share", "_delay", "_delay_share", "_grpc", "_status")

    def __init__(self, fault: Fault) -> None:
        self._delay = fault.delay_ms / 1000
        self._delay_share = fault.delay_share if fault.delay_ms else 0
        self._status = 0 if fault.abort_grpc >= 0 else fault.abort_status
        self._grpc = fault.abort_grpc
        self._abort_share = fault.abort_share if fault.abort_status or fault.abort_grpc >= 0 else 0

    def draw(self, random: Callable[[], float]) -> tuple[float, int, int]:
        """(seconds to wait first, HTTP status to answer or 0, gRPC status to answer or -1) for one request. random: [0, 1)."""
        delay = self._delay if self._delay_share and random() * MILLION < self._delay_share else 0.0
        if self._abort_share and random() * MILLION < self._abort_share:
            return delay, self._status, self._grpc
        return delay, 0, -1

    def __repr__(self) -> str:
        return f"<Faults {self._delay}s {self._delay_share}ppm, {self._status or self._grpc} {self._abort_share}ppm>"
