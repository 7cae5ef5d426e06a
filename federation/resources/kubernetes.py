"""Kubernetes objects in files: Service, EndpointSlice and Secret, as `kubectl get -o yaml` prints them.

What a Service says to kube-proxy, to a cloud's load balancer or to the node it runs on means nothing to a gateway and is passed over;
what would change where traffic goes and is not built is in `later`.
"""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainValidator

from federation.resources.checks import duplicates, fault, host_fault, is_ip, port_fault, warning
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Whole, choice_reader
from gateway.secret import Secret as SecretBytes


class ServiceType(enum.Enum):
    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"
    EXTERNAL_NAME = "ExternalName"


class TransportProtocol(enum.Enum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


MOST_SLICE_ENDPOINTS = 1000  # Kubernetes' own limits
MOST_ADDRESSES = 100


class AddressType(enum.Enum):
    IPV4 = "IPv4"
    IPV6 = "IPv6"


_Type = Annotated[ServiceType, BeforeValidator(choice_reader(ServiceType))]
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

    def faults(self) -> Iterator[Fault]:
        yield from fault(("port",), port_fault(self.port))
        if isinstance(self.target_port, int):
            yield from fault(("targetPort",), port_fault(self.target_port, zero=True))


class Service(Message):
    """cluster_ip "None" = headless. selector: labels of Pods; fedgate reads EndpointSlices instead. external_name: what a Service of type
    ExternalName is another name of."""

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
    later = ("trafficDistribution",)

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = Field(default_factory=dict)
    cluster_ip: str = Field(default="", alias="clusterIP")
    type: _Type = ServiceType.CLUSTER_IP
    publish_not_ready_addresses: Flag = False
    session_affinity: str = "None"
    external_name: str = ""

    @property
    def is_external_name(self) -> bool:
        return self.type is ServiceType.EXTERNAL_NAME

    def faults(self) -> Iterator[Fault]:
        yield from self._name_faults()
        if not self.ports and self.cluster_ip != "None" and not self.is_external_name:
            yield Fault(("ports",), "a Service has at least one port, unless clusterIP is None; write it")
        for index, name in duplicates([port.name for port in self.ports]):
            message = (
                f"port name `{name}` is used twice; names are unique" if name else "with several ports each needs a name; write it"
            )
            yield Fault(("ports", index, "name"), message)
        for index, number in duplicates([(port.port, port.protocol.value) for port in self.ports]):
            yield Fault(("ports", index, "port"), f"port {number[0]} {number[1]} is written twice; remove one")
        if self.cluster_ip not in ("", "None") and not is_ip(self.cluster_ip):
            yield Fault(("clusterIP",), "clusterIP is no IP; write one, None, or leave it out")
        if self.session_affinity not in ("", "None"):
            text = "sessionAffinity is kube-proxy's and does nothing here (nor in Istio); write consistentHash: {useSourceIp: true} in a "
            yield from warning(("sessionAffinity",), f"{text}DestinationRule")

    def _name_faults(self) -> Iterator[Fault]:
        if self.is_external_name:
            if not self.ports:
                yield from warning(("ports",), "without ports nothing can be sent to a name outside; write those that it serves")
            if is_ip(self.external_name):
                yield Fault(("externalName",), "externalName is an address; write a name, or an EndpointSlice")
            else:
                yield from fault(("externalName",), host_fault(self.external_name, wildcard=False))
        elif self.external_name:
            yield from warning(("externalName",), "externalName counts in a Service of type ExternalName only")


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


def _of_type(address: str, kind: AddressType) -> bool:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return False
    return version == (4 if kind is AddressType.IPV4 else 6)


class EndpointSlice(Message):
    """Belongs to the Service that label kubernetes.io/service-name names."""

    address_type: _AddressType
    endpoints: tuple[SliceEndpoint, ...] = ()
    ports: tuple[SlicePort, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if len(self.endpoints) > MOST_SLICE_ENDPOINTS:
            yield Fault(("endpoints",), f"{len(self.endpoints)} endpoints, {MOST_SLICE_ENDPOINTS} at most; write several slices")
        for index, endpoint in enumerate(self.endpoints):
            at = ("endpoints", index, "addresses")
            if not 1 <= len(endpoint.addresses) <= MOST_ADDRESSES:
                yield Fault(at, f"an endpoint has 1 to {MOST_ADDRESSES} addresses, this one {len(endpoint.addresses)}")
            for place, address in enumerate(endpoint.addresses):
                if not _of_type(address, self.address_type):
                    yield Fault(
                        (*at, place), f"`{address[:80]}` is no {self.address_type.value} address, as addressType says; write one"
                    )
        for index, name in duplicates([port.name for port in self.ports]):
            yield Fault(("ports", index, "name"), f"port name `{name[:80]}` is used twice; names are unique in a slice")
        for index, port in enumerate(self.ports):
            if port.port is not None:
                yield from fault(("ports", index, "port"), port_fault(port.port))


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
    return SecretBytes(value.encode("utf-8", "surrogatepass"))


TLS_TYPE = "kubernetes.io/tls"
CERTIFICATE_KEYS = ("tls.crt", "cert")
PRIVATE_KEY_KEYS = ("tls.key", "key")
CA_KEYS = ("ca.crt", "cacert")
CRL_KEYS = ("ca.crl", "crl")
OCSP_KEY = "tls.ocsp-staple"


class Secret(Message):
    """Certificates and keys by the names that Istio looks for: tls.crt+tls.key or cert+key, ca.crt or cacert, ca.crl or crl. Prints
    nothing of them."""

    passed_over = ("immutable",)

    type: str = "Opaque"
    data: dict[str, Annotated[SecretBytes, PlainValidator(_decoded)]] = Field(default_factory=dict)
    string_data: dict[str, Annotated[SecretBytes, PlainValidator(_plain)]] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        certificate, key, ca = self.certificate, self.private_key, self.ca
        if self.type == TLS_TYPE and not certificate:
            yield Fault((), "a kubernetes.io/tls Secret needs tls.crt; write the certificate chain under data, in base64")
        if self.type == TLS_TYPE and key is None:
            yield Fault((), "a kubernetes.io/tls Secret needs tls.key; write the private key under data, in base64")
        for names, text in ((CERTIFICATE_KEYS, certificate), (CA_KEYS, ca)):
            if text and "-----BEGIN CERTIFICATE-----" not in text:
                yield Fault(self._where(names), "is no PEM certificate; it begins with -----BEGIN CERTIFICATE-----")
        if self.crl and "-----BEGIN X509 CRL-----" not in self.crl:
            yield Fault(self._where(CRL_KEYS), "is no PEM revocation list; it begins with -----BEGIN X509 CRL-----")
        if key is not None and certificate and b"PRIVATE KEY-----" not in key.reveal():
            yield Fault(self._where(PRIVATE_KEY_KEYS), "is no PEM private key; it begins with -----BEGIN PRIVATE KEY-----")

    def _where(self, names: tuple[str, ...]) -> tuple[str, ...]:
        for field, values in (("stringData", self.string_data), ("data", self.data)):
            for name in names:
                if name in values:
                    return (field, name)
        return ()

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

    @property
    def crl(self) -> str:
        """The PEM revocation lists, "" when there are none."""
        found = self._first(CRL_KEYS)
        return found.reveal().decode("utf-8", "replace") if found else ""

    @property
    def staple(self) -> bool:
        """It holds an OCSP answer to be stapled."""
        return self._first((OCSP_KEY,)) is not None
