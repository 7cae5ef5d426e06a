"""Istio Gateway (networking/v1alpha3/gateway.proto): what the gateway listens on, for which hosts, with which certificates."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Protocol
from federation.resources.checks import duplicates, fault, host_fault, is_ip, is_label, label_faults, port_fault, warning
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Whole, choice_reader


class ServerTlsMode(enum.Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class TlsProtocol(enum.Enum):
    TLS_AUTO = "TLS_AUTO"
    TLSV1_0 = "TLSV1_0"
    TLSV1_1 = "TLSV1_1"
    TLSV1_2 = "TLSV1_2"
    TLSV1_3 = "TLSV1_3"


class RoutedProtocol(enum.Enum):
    """The protocols of discovery.model.Protocol that this release routes."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"


_read_protocol = choice_reader(RoutedProtocol, later=("TCP", "TLS", "MONGO", "GRPC-WEB", "REDIS", "MYSQL", "UDP"))


def _protocol(value: object) -> Protocol:
    return value if isinstance(value, Protocol) else Protocol(_read_protocol(value).value)


PortProtocol = Annotated[Protocol, BeforeValidator(_protocol)]
_later_modes = ("PASSTHROUGH", "AUTO_PASSTHROUGH", "OPTIONAL_MUTUAL")
_Mode = Annotated[ServerTlsMode, BeforeValidator(choice_reader(ServerTlsMode, later=_later_modes))]
_Version = Annotated[TlsProtocol, BeforeValidator(choice_reader(TlsProtocol))]


class Port(Message):
    number: Whole
    name: str
    protocol: PortProtocol
    target_port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        yield from fault(("number",), port_fault(self.number))
        if not self.name:
            yield Fault(("name",), "the port's name is empty; write one, unique in the Gateway")
        if self.target_port:
            yield Fault(("targetPort",), "targetPort has no meaning in a Gateway; remove it")


class ServerTLSSettings(Message):
    """mode None: none written, which is right only beside httpsRedirect on a plain HTTP server."""

    later = (
        "caCrl",
        "credentialNames",
        "caCertCredentialName",
        "tlsCertificates",
        "verifyCertificateSpki",
        "verifyCertificateHash",
        "cipherSuites",
        "insecureSkipVerify",
    )

    https_redirect: Flag = False
    mode: _Mode | None = None
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    credential_name: str = ""
    subject_alt_names: tuple[str, ...] = ()
    min_protocol_version: _Version = TlsProtocol.TLS_AUTO
    max_protocol_version: _Version = TlsProtocol.TLS_AUTO

    @property
    def names_certificates(self) -> bool:
        return bool(self.server_certificate or self.private_key or self.ca_certificates or self.credential_name)

    def faults(self) -> Iterator[Fault]:
        yield from self._certificates()
        versions = list(TlsProtocol)
        low, high = versions.index(self.min_protocol_version), versions.index(self.max_protocol_version)
        if low and high and low > high:
            yield Fault(("maxProtocolVersion",), "maxProtocolVersion is below minProtocolVersion; no client could connect")
        if TlsProtocol.TLSV1_2 not in (versions[low], versions[high]) and 0 < low < versions.index(TlsProtocol.TLSV1_2):
            yield from warning(("minProtocolVersion",), "TLS below 1.2 is not secure, and its ciphers are off; write TLSV1_2")

    def _certificates(self) -> Iterator[Fault]:
        if self.mode is None:
            return
        mode = self.mode.value
        if self.mode is ServerTlsMode.ISTIO_MUTUAL:
            if self.names_certificates:
                yield Fault((), "ISTIO_MUTUAL uses the gateway's own certificate; remove the certificates and credentialName")
            return
        if self.credential_name:
            if self.server_certificate or self.private_key:
                yield Fault((), "credentialName and serverCertificate/privateKey are both written; keep one")
            if "://" in self.credential_name:
                yield Fault(("credentialName",), "a credentialName with a scheme is not supported yet; write the Secret's name")
            return
        for name, value in (("serverCertificate", self.server_certificate), ("privateKey", self.private_key)):
            if not value:
                yield Fault((), f"{mode} needs a certificate: `{name}` is missing; write it, or credentialName")
        if self.mode is ServerTlsMode.MUTUAL and not self.ca_certificates:
            yield Fault(
                (), "MUTUAL needs `caCertificates`, which client certificates are checked against; write it, or credentialName"
            )


class Server(Message):
    """hosts: `[namespace/]name`, the name exact, `*.suffix` or `*`."""

    later = ("defaultEndpoint",)

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    name: str = ""

    def faults(self) -> Iterator[Fault]:
        if not self.hosts:
            yield Fault(("hosts",), "a server needs at least one host; write one, or `*`")
        for index, host in enumerate(self.hosts):
            yield from fault(("hosts", index), _server_host_fault(host))
        if self.bind.startswith("unix:"):
            yield Fault(("bind",), "a unix socket to listen on is not supported yet; write an IP, or leave it out")
        elif self.bind and not is_ip(self.bind):
            yield Fault(("bind",), "bind is no IP; write one of this machine's, or leave it out for all")
        yield from self._tls()

    def _tls(self) -> Iterator[Fault]:
        if self.port.protocol is Protocol.HTTPS:
            if self.tls is None:
                yield Fault(("tls",), "an HTTPS server needs `tls`; write tls.mode and its certificate")
                return
            if self.tls.mode is None:
                yield Fault(
                    ("tls", "mode"), "without a mode Istio passes TLS through, and `PASSTHROUGH` is not supported yet; write SIMPLE"
                )
            if self.tls.https_redirect:
                yield from warning(
                    ("tls", "httpsRedirect"), "httpsRedirect is for plain HTTP servers; here it redirects in a circle"
                )
        elif self.tls is not None and (self.tls.mode is not None or self.tls.names_certificates):
            name = self.port.protocol.value
            yield Fault(
                ("tls",), f"a plain {name} server has no TLS settings but httpsRedirect; write protocol HTTPS, or remove tls"
            )


def _server_host_fault(written: str) -> str | None:
    """`[namespace/]host`; a host without a dot is refused, as Istio refuses it: whose namespace would it be?"""
    namespace, slash, host = written.rpartition("/")
    if slash and namespace not in ("*", ".") and not is_label(namespace):
        return f"`{written[:80]}` is no host: before the slash stands a namespace, `.` or `*`"
    if host != "*" and "." not in host and host:
        return f"`{written[:80]}` is a short name; write the full one (with a dot), or `*`"
    return None if is_ip(host) else host_fault(host)


class Gateway(Message):
    """selector: labels of the Nodes it applies to; empty = every Node."""

    servers: tuple[Server, ...]
    selector: dict[str, str] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        if not self.servers:
            yield Fault(("servers",), "a Gateway needs at least one server; write what it listens on")
        for index, name in duplicates([server.port.name for server in self.servers]):
            yield Fault(("servers", index, "port", "name"), f"port name `{name}` is used twice; names are unique in a Gateway")
        yield from label_faults(self.selector, ("selector",))
