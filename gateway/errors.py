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

    def __init__(self, detail: str = "", *, flag: str = "") -> None:
        super().__init__(detail or self.detail)
        if detail:
            self.detail = detail
        if flag:
            self.flag = flag


class BadRequest(GatewayError):
    """The client's bytes are not HTTP, or are HTTP that two parsers could read differently. The connection is closed."""

    status, grpc, flag, detail = 400, 13, "DPE", "http1.codec_error"


class HeadersTooLarge(GatewayError):
    status, grpc, flag, detail = 431, 8, "DPE", "http1.headers_too_large"


class NotImplementedByGateway(GatewayError):
    """A protocol feature this gateway does not carry (CONNECT, Upgrade for now)."""

    status, grpc, flag, detail = 501, 12, "DPE", "not_implemented"


class NoRoute(GatewayError):
    status, grpc, flag, detail = 404, 12, "NR", "route_not_found"


class NoBackend(GatewayError):
    """The route names a backend that this Snapshot does not have, or traffic policy is REGISTRY_ONLY."""

    status, grpc, flag, detail = 503, 14, "NC", "cluster_not_found"


class NoHealthyEndpoint(GatewayError):
    status, grpc, flag, detail = 503, 14, "UH", "no_healthy_upstream"
    body = b"no healthy upstream"


class Overflow(GatewayError):
    status, grpc, flag, detail = 503, 14, "UO", "overflow"


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


class DownstreamClosed(GatewayError):
    """The client went away before its answer was complete; never sent, only logged."""

    status, grpc, flag, detail = 0, 1, "DC", "downstream_remote_disconnect"
