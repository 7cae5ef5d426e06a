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
    is_ip,
    is_label,
    label_faults,
    port_fault,
    range_fault,
    warning,
)
from federation.resources.connection_pool import ConnectionPoolSettings, H2UpgradePolicy, HTTPSettings, TCPSettings
from federation.resources.load_balancer import ConsistentHashLB, LoadBalancerSettings, SimpleLB
from federation.resources.locality import Distribute, Failover, LocalityLbSetting, ZoneAwareLbSetting
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, Number, Whole, choice_reader
from federation.resources.server_tls import SecretName, secret_name_faults
from federation.resources.virtual_service import PortSelector

__all__ = [
    "ClientTLSSettings",
    "ClientTlsMode",
    "ConnectionPoolSettings",
    "ConsistentHashLB",
    "DestinationRule",
    "Distribute",
    "Failover",
    "H2UpgradePolicy",
    "HTTPSettings",
    "LoadBalancerSettings",
    "LocalityLbSetting",
    "OutlierDetection",
    "PortTrafficPolicy",
    "ProxyProtocol",
    "RetryBudget",
    "SimpleLB",
    "Subset",
    "TCPSettings",
    "TrafficPolicy",
    "TunnelSettings",
    "WorkloadSelector",
    "ZoneAwareLbSetting",
]


class ClientTlsMode(enum.Enum):
    DISABLE = "DISABLE"
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


_Mode = Annotated[ClientTlsMode, BeforeValidator(choice_reader(ClientTlsMode))]


class OutlierDetection(Message):
    """None: not written, so Envoy's and Istio's default (FIELD: 5 errors, 10 s, 30 s, 10 per cent)."""

    consecutive_errors: Whole = 0
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
        if self.consecutive_errors:
            message = "consecutiveErrors is deprecated and does nothing; write consecutiveGatewayErrors or consecutive5xxErrors"
            yield from warning(("consecutiveErrors",), message)
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
    if locality and (locality.failover or locality.failover_priority) and outlier is None:
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


class TunnelSettings(Message):
    """TCP and TLS connections are carried through the destination, an HTTP proxy. protocol "": CONNECT."""

    protocol: str = ""
    target_host: str = ""
    target_port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        if self.protocol not in ("", "CONNECT", "POST"):
            yield Fault(("protocol",), 'tunnel protocol must be "CONNECT" or "POST"')
        if not self.target_host:
            yield Fault(("targetHost",), "targetHost is required; write a full name or an IP")
        elif not is_ip(self.target_host):
            yield from fault(("targetHost",), host_fault(self.target_host, wildcard=False))
        yield from fault(("targetPort",), port_fault(self.target_port))


class ProxyProtocolVersion(enum.Enum):
    V1 = "V1"
    V2 = "V2"


_Version = Annotated[ProxyProtocolVersion, BeforeValidator(choice_reader(ProxyProtocolVersion))]


class ProxyProtocol(Message):
    version: _Version = ProxyProtocolVersion.V1


class RetryBudget(Message):
    """Retries at once: percent of the requests in flight, and always min_retry_concurrency."""

    percent: Number = 20
    min_retry_concurrency: Whole = 3

    def faults(self) -> Iterator[Fault]:
        if not 0 <= self.percent <= 100:
            yield Fault(("percent",), "percent is not in the range 0..100")
        yield from fault(("minRetryConcurrency",), range_fault(self.min_retry_concurrency, 0))


class TrafficPolicy(Message):
    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None

    def faults(self) -> Iterator[Fault]:
        if not any(getattr(self, name) for name in type(self).model_fields):
            yield Fault((), "trafficPolicy is empty; write something, or remove it")
        if self.tunnel and self.proxy_protocol:
            yield Fault(("proxyProtocol",), "tunnel and proxyProtocol must not be set together; keep one")
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


class WorkloadSelector(Message):
    """Istio's type.v1beta1.WorkloadSelector."""

    match_labels: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        for key, value in self.match_labels.items():
            if "*" in key + value:
                yield Fault(("matchLabels", key), "a selector has no wildcards; write the whole value")
            else:
                yield from label_faults({key: value}, ("matchLabels",))
        if not self.match_labels:
            yield from warning(("matchLabels",), "without labels the selector takes every gateway of the namespace")


class DestinationRule(Message):
    """workload_selector: only for gateways (Nodes) with these labels in the rule's own namespace."""

    host: str
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None

    def faults(self) -> Iterator[Fault]:
        yield from fault(("host",), host_fault(self.host))
        for index, name in duplicates([subset.name for subset in self.subsets]):
            yield Fault(("subsets", index, "name"), f"subset `{name}` is written twice; rename or remove one")
        yield from export_to_faults(self.export_to)
