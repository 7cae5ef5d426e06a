"""Istio Gateway (networking/v1alpha3/gateway.proto): what the gateway listens on, for which hosts, with which certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from discovery.model import Protocol
from federation.resources.checks import duplicates, fault, host_fault, is_ip, is_label, label_faults, port_fault, warning
from federation.resources.message import Fault, Message
from federation.resources.scalars import Whole, choice_reader
from federation.resources.server_tls import ServerTlsMode, ServerTLSSettings, TlsProtocol

__all__ = [
    "UNIX",
    "Gateway",
    "Port",
    "PortProtocol",
    "Server",
    "ServerTLSSettings",
    "ServerTlsMode",
    "TlsProtocol",
]

UNIX = "unix://"

# Istio parses these names too and carries them as TCP (pkg/config/protocol); a filter that reads them is not a gateway's.
_AS_TCP = {"REDIS": Protocol.TCP, "MYSQL": Protocol.TCP}
_ROUTED = (
    Protocol.HTTP,
    Protocol.HTTPS,
    Protocol.HTTP2,
    Protocol.GRPC,
    Protocol.GRPC_WEB,
    Protocol.TCP,
    Protocol.TLS,
    Protocol.MONGO,
)
_read_protocol = choice_reader(Protocol, same=_AS_TCP)


def _protocol(value: object) -> Protocol:
    known = ", ".join(each.value for each in _ROUTED)
    try:
        found = _read_protocol(value)
    except ValueError as error:
        _, _, hint = str(error).partition("; did you mean")
        raise ValueError(f"must be one of {known}" + (f"; did you mean{hint}" if hint else "")) from None
    if found not in _ROUTED:
        raise ValueError(f"`{found.value}` is not carried by a gateway; write one of {known}")
    return found


PortProtocol = Annotated[Protocol, BeforeValidator(_protocol)]


class Port(Message):
    """number 0: a server on a unix socket."""

    number: Whole
    name: str
    protocol: PortProtocol
    target_port: Whole = 0

    def faults(self) -> Iterator[Fault]:
        if not self.name:
            yield Fault(("name",), "the port's name is empty; write one, unique in the Gateway")
        if self.target_port:
            yield Fault(("targetPort",), "targetPort has no meaning in a Gateway; remove it")


class Server(Message):
    """hosts: `[namespace/]name`, the name exact, `*.suffix` or `*`. bind: an IP, `unix:///path`, `unix://@abstract`, or "" for all."""

    port: Port
    hosts: tuple[str, ...]
    bind: str = ""
    tls: ServerTLSSettings | None = None
    name: str = ""
    default_endpoint: str = ""

    @property
    def on_unix(self) -> bool:
        return self.bind.startswith(UNIX)

    @property
    def passthrough(self) -> bool:
        """TLS goes through as it is, by the server name of its client hello."""
        return self.secure and self.tls is not None and self.tls.effective_mode in PASSED_THROUGH

    @property
    def automatic(self) -> bool:
        """… and that names the backend too."""
        return self.passthrough and self.tls is not None and self.tls.effective_mode is ServerTlsMode.AUTO_PASSTHROUGH

    @property
    def secure(self) -> bool:
        return self.port.protocol in (Protocol.HTTPS, Protocol.TLS)

    def faults(self) -> Iterator[Fault]:
        if not self.hosts:
            yield Fault(("hosts",), "a server needs at least one host; write one, or `*`")
        for index, host in enumerate(self.hosts):
            yield from fault(("hosts", index), _server_host_fault(host))
        yield from self._address()
        yield from self._tls()
        if self.default_endpoint:
            text = "defaultEndpoint does nothing, in Istio neither; write a VirtualService that routes there, and remove it"
            yield from warning(("defaultEndpoint",), text)

    def _address(self) -> Iterator[Fault]:
        if self.on_unix:
            yield from fault(("bind",), _unix_fault(self.bind.removeprefix(UNIX)))
            if self.port.number:
                yield Fault(("port", "number"), f"a server on a unix socket has no port; write 0 instead of {self.port.number}")
            return
        yield from fault(("port", "number"), port_fault(self.port.number))
        if self.bind and not is_ip(self.bind):
            text = "bind is no IP; write one of this machine's, unix:///path or unix://@name, or leave it out for all"
            yield Fault(("bind",), text)

    def _tls(self) -> Iterator[Fault]:
        protocol, tls = self.port.protocol, self.tls
        if tls is not None and tls.https_redirect and not protocol.is_http:
            text = "httpsRedirect is for plain HTTP servers"
            yield from warning(("tls", "httpsRedirect"), text + ("; here it redirects in a circle" if self.secure else ""))
        if self.secure:
            if tls is None:
                yield Fault(("tls",), f"an {protocol.value} server needs `tls`; write tls.mode and its certificate")
            elif tls.mode is None:
                text = "no mode is written, which means PASSTHROUGH: nothing is decrypted here; write the mode"
                yield from warning(("tls", "mode"), text)
        elif tls is not None and not protocol.is_http:
            yield Fault(("tls",), f"a {protocol.value} server has no TLS settings; write protocol TLS, or remove tls")
        elif tls is not None and (tls.effective_mode not in PASSED_THROUGH or tls.names_files):
            text = f"a plain {protocol.value} server has no TLS settings but httpsRedirect; write protocol HTTPS, or remove tls"
            yield Fault(("tls",), text)


PASSED_THROUGH = (ServerTlsMode.PASSTHROUGH, ServerTlsMode.AUTO_PASSTHROUGH)


def _unix_fault(path: str) -> str | None:
    """Istio: a name that begins with @ is abstract, anything else an absolute path to a file. Linux takes 107 bytes (unix(7))."""
    known = len(path) > 1 if path.startswith("@") else path.startswith("/") and not path.endswith("/")
    if not known:
        return "bind names no unix socket; write unix:///path/to/socket or unix://@name"
    return "the socket's path is too long; at most 107 bytes" if len(path.encode()) > 107 else None


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
        for index, name in duplicates([server.name for server in self.servers]):
            if name:
                yield from warning(("servers", index, "name"), f"server name `{name}` is used twice; names are unique")
        yield from label_faults(self.selector, ("selector",))
