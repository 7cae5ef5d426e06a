"""Istio DestinationRule (networking/v1alpha3/destination_rule.proto): how traffic to a host is balanced, watched and encrypted."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator, Field

from federation.resources.message import Message
from federation.resources.scalars import Flag, Milliseconds, Whole, choice_reader
from federation.resources.virtual_service import PortSelector


class SimpleLB(enum.Enum):
    UNSPECIFIED = "UNSPECIFIED"  # least request, as LEAST_REQUEST
    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


class ClientTlsMode(enum.Enum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


_read_simple = choice_reader(SimpleLB, later=("PASSTHROUGH",), same={"LEAST_CONN": SimpleLB.LEAST_REQUEST})
_Simple = Annotated[SimpleLB, BeforeValidator(_read_simple)]
_Mode = Annotated[ClientTlsMode, BeforeValidator(choice_reader(ClientTlsMode))]


class Failover(Message):
    """Regions: when `from` has not enough left, its traffic goes to `to` first."""

    from_: str = Field(default="", alias="from")
    to: str = ""


class LocalityLbSetting(Message):
    """Istio's LocalityLoadBalancerSetting. enabled None: not written (on, by the mesh's default)."""

    later = ("distribute", "failoverPriority")

    enabled: Flag | None = None
    failover: tuple[Failover, ...] = ()


class LoadBalancerSettings(Message):
    later = ("consistentHash", "warmup", "warmupDurationSecs", "zoneAwareLbSetting")

    simple: _Simple = SimpleLB.UNSPECIFIED
    locality_lb_setting: LocalityLbSetting | None = None


class TCPSettings(Message):
    later = ("maxConnections", "tcpKeepalive", "maxConnectionDuration", "idleTimeout")

    connect_timeout: Milliseconds | None = None


class HTTPSettings(Message):
    """None: not written. max_requests_per_connection 0 = no limit."""

    later = (
        "http1MaxPendingRequests",
        "maxRetries",
        "h2UpgradePolicy",
        "useClientProtocol",
        "maxConcurrentStreams",
        "http2KeepAlive",
    )

    idle_timeout: Milliseconds | None = None
    max_requests_per_connection: Whole | None = None
    http2_max_requests: Whole | None = None


class ConnectionPoolSettings(Message):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None


class OutlierDetection(Message):
    """None: not written, so Envoy's and Istio's default (FIELD: 5 errors, 10 s, 30 s, 10 per cent)."""

    later = ("consecutiveErrors",)

    split_external_local_origin_errors: Flag = False
    consecutive_local_origin_failures: Whole | None = None
    consecutive_gateway_errors: Whole | None = None
    consecutive_5xx_errors: Whole | None = Field(default=None, alias="consecutive5xxErrors")
    interval: Milliseconds | None = None
    base_ejection_time: Milliseconds | None = None
    max_ejection_percent: Whole | None = None
    min_health_percent: Whole | None = None
    outlier_detection_http_error_codes: tuple[Whole, ...] = ()


class ClientTLSSettings(Message):
    later = ("caCrl",)

    mode: _Mode = ClientTlsMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Flag = False


class PortTrafficPolicy(Message):
    """Replaces the destination's whole policy for the port; what it does not write is default, not inherited."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None


class TrafficPolicy(Message):
    later = ("tunnel", "proxyProtocol", "retryBudget")

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()


class Subset(Message):
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None


class DestinationRule(Message):
    later = ("workloadSelector",)

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
