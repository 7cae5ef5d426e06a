"""Istio DestinationRule (networking/v1alpha3/destination_rule.proto): how traffic to a host is balanced, watched and encrypted."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from federation.resources.checks import (
    duplicates,
    duration_fault,
    export_to_faults,
    fault,
    host_fault,
    is_label,
    label_faults,
    range_fault,
    warning,
)
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, Whole, choice_reader
from federation.resources.server_tls import SecretName, secret_name_faults
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

    def faults(self) -> Iterator[Fault]:
        for name, region in (("from", self.from_), ("to", self.to)):
            if not region:
                yield Fault((name,), f"`{name}` is empty; write a region")
            if "/" in region:
                yield Fault((name,), "failover names regions only; write the part before the first `/`")
            if "*" in region:
                yield Fault((name,), "failover names one region, no `*`; write one entry per region")
        if self.from_ == self.to:
            yield Fault((), "failover from a region to itself; write two different regions")


class LocalityLbSetting(Message):
    """Istio's LocalityLoadBalancerSetting. enabled None: not written (on, by the mesh's default)."""

    later = ("distribute", "failoverPriority")

    enabled: Flag | None = None
    failover: tuple[Failover, ...] = ()

    def faults(self) -> Iterator[Fault]:
        for index, region in duplicates([entry.from_ for entry in self.failover]):
            yield from warning(("failover", index), f"failover from `{region}` is written twice; the first holds")


class LoadBalancerSettings(Message):
    later = ("consistentHash", "warmup", "warmupDurationSecs", "zoneAwareLbSetting")

    simple: _Simple = SimpleLB.UNSPECIFIED
    locality_lb_setting: LocalityLbSetting | None = None


class TCPSettings(Message):
    later = ("maxConnections", "tcpKeepalive", "maxConnectionDuration", "idleTimeout")

    connect_timeout: Milliseconds | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("connectTimeout",), duration_fault(self.connect_timeout))


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

    def faults(self) -> Iterator[Fault]:
        yield from fault(("idleTimeout",), duration_fault(self.idle_timeout))
        yield from fault(("maxRequestsPerConnection",), range_fault(self.max_requests_per_connection, 0))
        yield from fault(("http2MaxRequests",), range_fault(self.http2_max_requests, 0))


class ConnectionPoolSettings(Message):
    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None

    def faults(self) -> Iterator[Fault]:
        if self.tcp is None and self.http is None:
            yield Fault((), "connectionPool is empty; write tcp or http, or remove it")


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

    def faults(self) -> Iterator[Fault]:
        yield from fault(("interval",), duration_fault(self.interval))
        yield from fault(("baseEjectionTime",), duration_fault(self.base_ejection_time))
        yield from fault(("maxEjectionPercent",), range_fault(self.max_ejection_percent, 0, 100))
        yield from fault(("minHealthPercent",), range_fault(self.min_health_percent, 0, 100))
        yield from fault(("consecutive5xxErrors",), range_fault(self.consecutive_5xx_errors, 0))
        yield from fault(("consecutiveGatewayErrors",), range_fault(self.consecutive_gateway_errors, 0))
        yield from fault(("consecutiveLocalOriginFailures",), range_fault(self.consecutive_local_origin_failures, 0))
        for index, code in enumerate(self.outlier_detection_http_error_codes):
            yield from fault(("outlierDetectionHttpErrorCodes", index), range_fault(code, 100, 599))
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            message = (
                "consecutiveLocalOriginFailures counts only with splitExternalLocalOriginErrors: true; write that, or remove it"
            )
            yield Fault(("consecutiveLocalOriginFailures",), message)


class ClientTLSSettings(Message):
    mode: _Mode = ClientTlsMode.DISABLE
    client_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: str = ""
    credential_name: SecretName = ""
    subject_alt_names: tuple[str, ...] = ()
    sni: str = ""
    insecure_skip_verify: Flag = False

    def faults(self) -> Iterator[Fault]:
        named = {
            "clientCertificate": self.client_certificate,
            "privateKey": self.private_key,
            "caCertificates": self.ca_certificates,
        }
        written = [name for name, value in named.items() if value]
        if self.mode in (ClientTlsMode.DISABLE, ClientTlsMode.ISTIO_MUTUAL):
            if written or self.credential_name:
                names = ", ".join([*written, *(["credentialName"] if self.credential_name else [])])
                yield from warning((), f"mode {self.mode.value} does not use {names}; remove them, or write SIMPLE or MUTUAL")
            return
        yield from secret_name_faults("credentialName", self.credential_name)
        if self.ca_crl and (self.credential_name or self.insecure_skip_verify):
            other = "the Secret's `ca.crl` (or `crl`) is the list" if self.credential_name else "nothing is verified"
            text = f"caCrl goes with files; here {other}; remove it"
            yield Fault(("caCrl",), text)
        if self.insecure_skip_verify and (self.ca_certificates or self.subject_alt_names):
            yield Fault(
                ("insecureSkipVerify",), "insecureSkipVerify excludes caCertificates and subjectAltNames; keep those, it is safer"
            )
        if self.credential_name:
            if written:
                yield Fault(("credentialName",), f"credentialName excludes {', '.join(written)}; keep one")
        elif self.mode is ClientTlsMode.MUTUAL:
            for name in ("clientCertificate", "privateKey"):
                if not named[name]:
                    yield Fault((), f"MUTUAL needs `{name}`; write it, or credentialName")
        elif self.client_certificate or self.private_key:
            yield from warning((), "mode SIMPLE sends no client certificate; write MUTUAL, or remove it")


def _failover_needs_ejection(balancer: LoadBalancerSettings | None, outlier: OutlierDetection | None) -> Iterator[Fault]:
    """Istio's own warning; what the effective policy makes of it is for analyze to say."""
    locality = balancer.locality_lb_setting if balancer else None
    if locality and locality.failover and outlier is None:
        message = (
            "outlier detection policy must be provided for failover: without it no locality is ever left; write outlierDetection"
        )
        yield from warning(("loadBalancer", "localityLbSetting", "failover"), message)


class PortTrafficPolicy(Message):
    """Replaces the destination's whole policy for the port; what it does not write is default, not inherited."""

    port: PortSelector
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None

    def faults(self) -> Iterator[Fault]:
        if not (self.load_balancer or self.connection_pool or self.outlier_detection or self.tls):
            yield Fault(
                (), "the port's policy is empty, and would replace the destination's by defaults; write something, or remove it"
            )
        yield from _failover_needs_ejection(self.load_balancer, self.outlier_detection)


class TrafficPolicy(Message):
    later = ("tunnel", "proxyProtocol", "retryBudget")

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if not (self.load_balancer or self.connection_pool or self.outlier_detection or self.tls or self.port_level_settings):
            yield Fault((), "trafficPolicy is empty; write something, or remove it")
        for index, number in duplicates([settings.port.number for settings in self.port_level_settings]):
            yield Fault(("portLevelSettings", index, "port"), f"port {number} has settings already; merge them")
        yield from _failover_needs_ejection(self.load_balancer, self.outlier_detection)


class Subset(Message):
    name: str
    labels: dict[str, str] = Field(default_factory=dict)
    traffic_policy: TrafficPolicy | None = None

    def faults(self) -> Iterator[Fault]:
        if not is_label(self.name):
            yield Fault(("name",), f"`{self.name[:80]}` is no subset name; use letters, digits and `-`, 63 at most")
        yield from label_faults(self.labels, ("labels",))


class DestinationRule(Message):
    later = ("workloadSelector",)

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("host",), host_fault(self.host))
        for index, name in duplicates([subset.name for subset in self.subsets]):
            yield Fault(("subsets", index, "name"), f"subset `{name}` is written twice; rename or remove one")
        yield from export_to_faults(self.export_to)
