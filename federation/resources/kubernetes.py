"""Kubernetes objects in files: Service, EndpointSlice and Secret, as `kubectl get -o yaml` prints them.

What a Service says to kube-proxy, to a cloud's load balancer or to the node it runs on means nothing to a gateway and is passed over;
what would change where traffic goes and is not built is in `later`.
"""

from __future__ import annotations

import base64
import binascii
import enum
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator

from federation.resources.message import Message
from federation.resources.scalars import Flag, Whole, choice_reader
from gateway.secret import Secret as SecretBytes


class ServiceType(enum.Enum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class TransportProtocol(enum.Enum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class AddressType(enum.Enum):
    IPV4 = "IPv4"
    IPV6 = "IPv6"


_Type = Annotated[ServiceType, BeforeValidator(choice_reader(ServiceType, later=("ExternalName",)))]
_Transport = Annotated[TransportProtocol, BeforeValidator(choice_reader(TransportProtocol))]
_AddressType = Annotated[AddressType, BeforeValidator(choice_reader(AddressType, later=("FQDN",)))]


def _number_or_name(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a port number or the name of a container's port")
    return value


class ServicePort(Message):
    """target_port: a number, or the name of a container's port (then EndpointSlices say the number). 0 = `port`."""

    passed_over = ("nodePort",)

    port: Whole
    name: str = ""
    protocol: _Transport = TransportProtocol.TCP
    app_protocol: str = ""
    target_port: Annotated[int | str, PlainValidator(_number_or_name)] = 0


class Service(Message):
    """cluster_ip "None" = headless. selector: labels of Pods; fedgate reads EndpointSlices instead."""

    passed_over = (
        "clusterIPs",
        "externalIPs",
        "loadBalancerIP",
        "loadBalancerClass",
        "loadBalancerSourceRanges",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
        "internalTrafficPolicy",
        "healthCheckNodePort",
        "ipFamilies",
        "ipFamilyPolicy",
        "sessionAffinityConfig",
    )
    later = ("externalName", "trafficDistribution")

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = Field(default_factory=dict)
    cluster_ip: str = Field(default="", alias="clusterIP")
    type: _Type = ServiceType.CLUSTER_IP
    publish_not_ready_addresses: Flag = False
    session_affinity: str = "None"


class EndpointConditions(Message):
    """None: not known, which counts as ready (Kubernetes' own rule); serving follows ready."""

    ready: Flag | None = None
    serving: Flag | None = None
    terminating: Flag | None = None


class SliceEndpoint(Message):
    """Kubernetes calls it Endpoint."""

    passed_over = ("nodeName", "targetRef", "hints", "deprecatedTopology", "topology")

    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    zone: str = ""


class SlicePort(Message):
    """port None: every port (then the service's own number is taken)."""

    name: str = ""
    port: Whole | None = None
    protocol: _Transport = TransportProtocol.TCP
    app_protocol: str = ""


class EndpointSlice(Message):
    """Belongs to the Service that label kubernetes.io/service-name names."""

    address_type: _AddressType
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()


def _decoded(value: object) -> SecretBytes:
    if isinstance(value, SecretBytes):
        return value
    if not isinstance(value, str):
        raise ValueError("must be base64 text")
    try:
        return SecretBytes(base64.b64decode("".join(value.split()), validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("is not base64; encode it, or write it as it is under `stringData`") from None


def _plain(value: object) -> SecretBytes:
    if isinstance(value, SecretBytes):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text")
    return SecretBytes(value.encode())


CERTIFICATE_KEYS = ("tls.crt", "cert")
PRIVATE_KEY_KEYS = ("tls.key", "key")
CA_KEYS = ("ca.crt", "cacert")


class Secret(Message):
    """Certificates and keys by the names that Istio looks for: tls.crt+tls.key or cert+key, ca.crt or cacert. Prints nothing of them."""

    passed_over = ("immutable",)

    type: str = "Opaque"
    data: dict[str, Annotated[SecretBytes, PlainValidator(_decoded)]] = Field(default_factory=dict)
    string_data: dict[str, Annotated[SecretBytes, PlainValidator(_plain)]] = Field(default_factory=dict)

    def _first(self, names: tuple[str, ...]) -> SecretBytes | None:
        for values in (self.string_data, self.data):  # Kubernetes: stringData overwrites data
            for name in names:
                if name in values:
                    return values[name]
        return None

    @property
    def certificate(self) -> str:
        """The chain's PEM, "" when there is none."""
        found = self._first(CERTIFICATE_KEYS)
        return found.reveal().decode("utf-8", "replace") if found else ""

    @property
    def private_key(self) -> SecretBytes | None:
        return self._first(PRIVATE_KEY_KEYS)

    @property
    def ca(self) -> str:
        """The PEM bundle of authorities, "" when there is none."""
        found = self._first(CA_KEYS)
        return found.reveal().decode("utf-8", "replace") if found else ""
