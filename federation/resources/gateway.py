"""Istio Gateway (networking/v1alpha3/gateway.proto): what the gateway listens on, for which hosts, with which certificates."""

from __future__ import annotations

import enum
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Protocol
from federation.resources.message import Message
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


class Server(Message):
    """hosts: `[namespace/]name`, the name exact, `*.suffix` or `*`."""

    later = ("defaultEndpoint",)

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    name: str = ""


class Gateway(Message):
    """selector: labels of the Nodes it applies to; empty = every Node."""

    servers: tuple[Server, ...]
    selector: dict[str, str] = Field(default_factory=dict)
