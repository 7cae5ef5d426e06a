"""Faults to be injected (virtual_service.proto HTTPFaultInjection)."""

from __future__ import annotations

from collections.abc import Iterator

from federation.resources.checks import duration_fault, fault, range_fault, warning
from federation.resources.message import Fault, Message
from federation.resources.percent import Percent
from federation.resources.scalars import Milliseconds, Whole

GRPC_CODES = {  # google.rpc.Code
    name: code
    for code, name in enumerate(
        (
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        )
    )
}


def grpc_code(written: str) -> int | None:
    """Of a name or a number; None when there is no such status."""
    if written.isdigit() and len(written) < 3:
        return int(written) if int(written) < len(GRPC_CODES) else None
    return GRPC_CODES.get(written)


class FaultDelay(Message):
    """percentage not written: none of the requests (Istio). percent: the old whole number."""

    percent: Whole | None = None
    fixed_delay: Milliseconds | None = None
    exponential_delay: str | None = None
    percentage: Percent | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("fixedDelay",), duration_fault(self.fixed_delay))
        if self.exponential_delay is not None:
            yield Fault(
                ("exponentialDelay",), "exponentialDelay is declared, and nothing implements it, Istio neither; write fixedDelay"
            )
        elif self.fixed_delay is None:
            yield from warning((), "a delay without fixedDelay delays nothing; write for example fixedDelay: 2s")
        yield from fault(("percent",), range_fault(self.percent, 0, 100))
        if self.percent is not None:
            yield from warning(("percent",), "`percent` is deprecated; write percentage: {value: …}")
        elif self.percentage is None:
            yield from warning((), "without percentage no request is delayed; write percentage: {value: 100} for all")


class FaultAbort(Message):
    """percentage not written: none of the requests (Istio). grpcStatus: a name (UNAVAILABLE) or its number."""

    http_status: Whole | None = None
    grpc_status: str | None = None
    http2_error: str | None = None
    percentage: Percent | None = None

    def faults(self) -> Iterator[Fault]:
        statuses = (("httpStatus", self.http_status), ("grpcStatus", self.grpc_status), ("http2Error", self.http2_error))
        written = [name for name, value in statuses if value is not None]
        if len(written) > 1:
            yield Fault((), f"{' and '.join(written)} exclude each other; keep one")
        if not written:
            yield from warning((), "an abort without a status aborts nothing; write httpStatus or grpcStatus")
        if self.http2_error is not None:
            yield Fault(
                ("http2Error",), "http2Error is declared, and nothing implements it, Istio neither; write httpStatus or grpcStatus"
            )
        yield from fault(("httpStatus",), range_fault(self.http_status, 200, 599))
        if self.grpc_status is not None and grpc_code(self.grpc_status) is None:
            yield Fault(
                ("grpcStatus",), f"`{self.grpc_status[:40]}` is no gRPC status; write a name such as UNAVAILABLE, or 0 to 16"
            )
        if self.percentage is None:
            yield from warning((), "without percentage no request is aborted; write percentage: {value: 100} for all")


class HTTPFaultInjection(Message):
    delay: FaultDelay | None = None
    abort: FaultAbort | None = None

    def faults(self) -> Iterator[Fault]:
        if self.delay is None and self.abort is None:
            yield Fault((), "the fault does nothing; write delay, abort or both")
