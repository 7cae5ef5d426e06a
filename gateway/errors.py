"""One exception per way a request can fail, each with its HTTP status, gRPC status and Envoy response flag.

Sources: Envoy access log docs (%RESPONSE_FLAGS%), RFC 9110 section 15, gRPC status codes (google.rpc.Code).
"""

from __future__ import annotations


class GatewayError(Exception):
    """A request that this gateway answers by itself. `detail` is Envoy's %RESPONSE_CODE_DETAILS%: one word, no spaces."""

    status = 503
    grpc = 14
    flag = "-"
    detail = "via_upstream"
    body = b""
    headers: tuple[bytes, ...] = ()  # lines beside those of every answer

    def __init__(self, detail: str = "", *, flag: str = "") -> None:
        super().__init__(detail or self.detail)
        if detail:
            self.detail = detail
        if flag:
            self.flag = flag


class BadRequest(GatewayError):
    """The client's bytes are not HTTP, or are HTTP that two parsers could read differently. The connection is closed."""

    status, grpc, flag, detail = 400, 13, "DPE", "http1.codec_error"


class WrongScheme(BadRequest):
    """An absolute target of https on a connection in clear text (RFC 9110 section 7.4); the status is Envoy's."""

    status, grpc, detail = 403, 7, "http1.scheme_contradicts_connection"


class HeadersTooLarge(GatewayError):
    status, grpc, flag, detail = 431, 8, "DPE", "http1.headers_too_large"


class NoRoute(GatewayError):
    status, grpc, flag, detail = 404, 12, "NR", "route_not_found"


class NoBackend(GatewayError):
    """The route names a backend that this Snapshot does not have, or traffic policy is REGISTRY_ONLY."""

    status, grpc, flag, detail = 503, 14, "NC", "cluster_not_found"


class NoHealthyEndpoint(GatewayError):
    status, grpc, flag, detail = 503, 14, "UH", "no_healthy_upstream"
    body = b"no healthy upstream"


class Overflow(GatewayError):
    """A circuit breaker. The answer says `x-envoy-overloaded: true`."""

    status, grpc, flag, detail = 503, 14, "UO", "upstream_reset_before_response_started{overflow}"
    body = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
    headers = (b"x-envoy-overloaded: true",)


class ConnectFailed(GatewayError):
    status, grpc, flag, detail = 503, 14, "UF", "upstream_reset_before_response_started{connection_failure}"
    body = b"upstream connect error or disconnect/reset before headers"


class UpstreamReset(GatewayError):
    status, grpc, flag, detail = 503, 14, "UC", "upstream_reset_before_response_started{connection_termination}"
    body = b"upstream connect error or disconnect/reset before headers"


class UpstreamProtocolError(GatewayError):
    status, grpc, flag, detail = 502, 13, "UPE", "upstream_reset_before_response_started{protocol_error}"
    body = b"upstream protocol error"


class UpstreamTimeout(GatewayError):
    status, grpc, flag, detail = 504, 4, "UT", "response_timeout"
    body = b"upstream request timeout"


class PerTryTimeout(GatewayError):
    status, grpc, flag, detail = 504, 4, "UT", "upstream_per_try_timeout"
    body = b"upstream request timeout"


class RequestTimeout(GatewayError):
    """The client was too slow with its head."""

    status, grpc, flag, detail = 408, 4, "DPE", "request_header_timeout"


class LoopDetected(GatewayError):
    """x-fedgate-hops says that this request went through too many gateways."""

    status, grpc, flag, detail = 508, 14, "NR", "loop_detected"


class RateLimited(GatewayError):
    """A local rate limit. As Envoy 1.40: no further header, and gRPC is told UNAVAILABLE (RESOURCE_EXHAUSTED only if asked for)."""

    status, grpc, flag, detail = 429, 14, "RL", "local_rate_limited"
    body = b"local_rate_limited"


class AccessDenied(GatewayError):
    """The client may not use this backend (Backend.allowed). Status, body and detail are those of Envoy's RBAC filter."""

    status, grpc, flag, detail = 403, 7, "-", "rbac_access_denied_matched_policy[none]"
    body = b"RBAC: access denied"


class NotReachable(GatewayError):
    """The host or address that the client named is none that it may be taken to (policy/reach)."""

    status, grpc, flag, detail = 403, 7, "-", "destination_not_allowed"
    body = b"destination not allowed"


class DnsFailed(GatewayError):
    """The host that the client named has no address, or no nameserver answers. Flag and detail are those of Envoy's forward proxy."""

    status, grpc, flag, detail = 503, 14, "DF", "dns_resolution_failure"
    body = b"DNS resolution failure"


class Overloaded(GatewayError):
    """This worker sheds: its loop is late or its memory full (native/overload)."""

    status, grpc, flag, detail = 503, 14, "OM", "overload"
    body = b"overloaded"
    headers = (b"x-envoy-overloaded: true",)


class FaultAborted(GatewayError):
    """A fault that a VirtualService injects: `status`, or a gRPC code where the fault says one (then the answer's status is 200 to gRPC)."""

    status, grpc, flag, detail = 503, 14, "FI", "fault_filter_abort"
    body = b"fault filter abort"

    def __init__(self, status: int = 0, grpc: int = -1) -> None:
        super().__init__()
        if status:
            self.status, self.grpc = status, to_grpc(status)
        if grpc >= 0:
            self.grpc = grpc
            self.status = status or to_http(grpc)


class DownstreamClosed(GatewayError):
    """The client went away before its answer was complete; never sent, only logged."""

    status, grpc, flag, detail = 0, 1, "DC", "downstream_remote_disconnect"


# gRPC → HTTP as Envoy's Grpc::Utility::grpcToHttpStatus (googleapis code.proto, "HTTP Mapping"); what nobody knows is 500.
_TO_HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
# HTTP → gRPC as Envoy's httpToGrpcStatus (grpc/doc/http-grpc-status-mapping.md); what is not there is UNKNOWN.
_TO_GRPC = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def to_http(grpc: int) -> int:
    """The HTTP status that a grpc-status stands for: what outlier detection and metrics count for an answer of gRPC."""
    return _TO_HTTP[grpc] if 0 <= grpc < len(_TO_HTTP) else 500


def to_grpc(status: int) -> int:
    """The gRPC status of an answer of HTTP that never was one of gRPC."""
    return _TO_GRPC.get(status, 2)
