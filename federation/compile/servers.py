"""The servers of Gateways on their sockets: which may share one, and the filter chains that each becomes.

Theory of operation. What may share an address and port, as in Istio: plain HTTP servers of any HTTP protocol share one table; servers
with TLS are told apart by server name; a TCP server has its port to itself. Whatever does not fit beside an older Gateway's server is left
out and said (IST0145), name by name where only some names are taken. A server that ends TLS and carries HTTP has a table of its own;
one that ends TLS and is TCP, or that is TCP, is relayed by the `tcp` routes of VirtualServices; PASSTHROUGH by their `tls` routes,
one chain a set of server names; AUTO_PASSTHROUGH by the server name itself, which names service, port and subset. A server whose
certificate cannot be had, or that has nowhere to send its connections, is left out, and everything else runs.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

from federation.compile.backends import Setting
from federation.compile.destinations import Reference
from federation.compile.hosts import GatewayTable, ServerHosts
from federation.compile.inputs import with_located_files
from federation.compile.names import split_gateway_host
from federation.compile.services import subject_of
from federation.compile.status import Problem, Subject, left_out, problem, warning
from federation.compile.tcp_routes import Streams, TcpServer, tcp_routes, tls_routes
from federation.compile.tls import HTTP_ALPN, Keyring, Notes, downstream_tls
from federation.resources.document import Document
from federation.resources.gateway import UNIX, Gateway, Server
from federation.resources.scalars import HostPort
from federation.trust.identity import TrustError
from gateway.snapshot import DownstreamTls, FilterChain

EVERY_ADDRESS = "0.0.0.0"  # where Istio binds a server that says nothing


class Carries(enum.Enum):
    """What an address and port are for."""

    HTTP = "plain HTTP"
    TLS = "TLS"
    TCP = "TCP"

    @classmethod
    def of(cls, server: Server) -> Carries:
        if server.secure:
            return cls.TLS
        return cls.HTTP if server.port.protocol.is_http else cls.TCP


@dataclass
class Socket:
    """One address and port while servers gather on it. hosts: of servers with TLS; names: that their chains are chosen by."""

    address: str
    port: int
    carries: Carries
    chains: list[FilterChain] = field(default_factory=list)
    plain: list[ServerHosts] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    tables: list[GatewayTable] = field(default_factory=list)

    @property
    def plain_table(self) -> str:
        return f"http.{self.port}" if self.address == EVERY_ADDRESS else f"http.{self.port}.{self.address}"

    def all_tables(self) -> list[GatewayTable]:
        return [*self.tables, GatewayTable(self.plain_table, self.port, tuple(self.plain))] if self.plain else self.tables


@dataclass(frozen=True)
class _Server:
    """One server with what is said about it. name: of its chains."""

    gateway: Document[Gateway]
    server: Server
    subject: Subject
    path: str
    name: str

    @property
    def full(self) -> str:
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def hosts(self) -> ServerHosts:
        redirect = self.server.tls is not None and self.server.tls.https_redirect
        return ServerHosts(self.full, self.gateway.namespace, tuple(self.server.hosts), redirect)

    @property
    def streams(self) -> TcpServer:
        return TcpServer(self.full, self.gateway.namespace, tuple(self.server.hosts), self.server.port.number)

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts without their namespaces, each once."""
        return tuple(dict.fromkeys(split_gateway_host(host, self.gateway.namespace)[1] for host in self.server.hosts))


class Servers:
    """Gathers servers, the oldest Gateway's first. taken: keys of listeners that are the node's own."""

    def __init__(self, setting: Setting, keys: Keyring, taken: set[str]) -> None:
        self.sockets: dict[tuple[str, int], Socket] = {}
        self.problems: list[Problem] = []
        self.references: set[Reference] = set()
        self.depends: set[str] = set()
        self.relayed: list[ServerHosts] = []
        self._setting = setting
        self._keys = keys
        self._taken = taken

    def add(self, gateway: Document[Gateway], index: int, server: Server) -> None:
        """Puts one server on its socket, or says why not."""
        name = f"{server.port.number}.{server.port.name}.{gateway.name}.{gateway.namespace}"
        this = _Server(gateway, server, subject_of(gateway), f"spec.servers[{index}]", name)
        socket = self._socket(this)
        if socket is None:
            return
        if socket.carries is Carries.HTTP:
            socket.plain.append(this.hosts)
        elif socket.carries is Carries.TCP:
            self._tcp(socket, this)
        elif own := self._claimed(socket, this):
            if server.passthrough:
                self._passthrough(socket, this, own)
            else:
                self._terminated(socket, this, own)

    # --------------------------------------------------------------------------------------------------------- sockets

    def _socket(self, this: _Server) -> Socket | None:
        """The socket that it may be on."""
        server = this.server
        address = server.bind.removeprefix(UNIX) if server.on_unix else server.bind or EVERY_ADDRESS
        port, carries = server.port.number, Carries.of(server)
        if not server.on_unix:
            fault = _bind_fault(address, port, self._taken, this)
            if fault is not None:
                self.problems.append(fault)
                return None
        found = self.sockets.get((address, port))
        if found is None:
            return self.sockets.setdefault((address, port), Socket(address, port, carries))
        if found.carries is not carries or carries is Carries.TCP:
            where = f"port {port}" if port else f"socket {address}"
            text = f"{where} is {found.carries.value} in an older server, and this one is {carries.value}; " + (
                "TCP has its port to itself (IST0145)"
                if Carries.TCP in (carries, found.carries)
                else "a port is one of them (IST0145)"
            )
            self.problems.append(left_out(this.subject, f"{this.path}.port", "PortConflict", text))
            return None
        return found

    def _claimed(self, socket: Socket, this: _Server) -> tuple[str, ...]:
        """Its hosts on a socket with TLS, without those of older servers."""
        taken = [name for name in this.names if name in socket.hosts]
        own = tuple(name for name in this.names if name not in socket.hosts)
        if taken:
            text = f"{', '.join(taken)} on port {socket.port} belong to an older server (IST0145)"
            kind = warning if own else left_out
            self.problems.append(kind(this.subject, f"{this.path}.hosts", "HostConflict", text))
        socket.hosts |= set(own)
        return own

    def _free(self, socket: Socket, names: Iterable[str]) -> tuple[str, ...] | None:
        """Those that no chain has yet, and has now; () = every name; None = there are none."""
        free = [name for name in names or ("*",) if name not in socket.names]
        socket.names |= set(free)
        if not free:
            return None
        return () if "*" in free else tuple(sorted(free))

    # ---------------------------------------------------------------------------------------------------------- chains

    def _terminated(self, socket: Socket, this: _Server, own: tuple[str, ...]) -> None:
        """TLS ends here; within it is HTTP, which has a table of its own, or TCP."""
        http = this.server.port.protocol.value == "HTTPS"
        streams = Streams() if http else tcp_routes(this.streams, self._setting.scope, self._setting.inputs)
        if not http and not self._has_routes(streams, this):
            return
        tls = self._tls(this, HTTP_ALPN if http else ())
        names = None if tls is None else self._free(socket, own)
        if names is None:
            return
        if not http:
            socket.chains.append(FilterChain(f"tls.{this.name}", "", names, tls, tcp=streams.routes))
            return
        table = f"https.{this.name}" if socket.address == EVERY_ADDRESS else f"https.{this.name}.{socket.address}"
        socket.tables.append(GatewayTable(table, socket.port, (this.hosts,)))
        socket.chains.append(FilterChain(table, table, names, tls))

    def _passthrough(self, socket: Socket, this: _Server, own: tuple[str, ...]) -> None:
        """TLS goes through, by the `tls` routes of VirtualServices or by the server name itself."""
        if this.server.automatic:
            names, hosts = _automatic_names(own), tuple(sorted(own))
            chain = FilterChain(f"auto.{this.name}", server_names=names, passthrough=True, auto=True, auto_hosts=hosts)
            socket.chains.append(chain)
            return
        streams = tls_routes(this.streams, self._setting.scope, self._setting.inputs)
        if not self._has_routes(streams, this):
            return
        for index, each in enumerate(streams.chains):
            free = self._free(socket, each.server_names)
            lost = [name for name in each.server_names or ("*",) if free is None or (free and name not in free)]
            if lost:
                text = f"server names {', '.join(lost)} on port {socket.port} belong to an older server (IST0145)"
                self.problems.append(warning(this.subject, f"{this.path}.hosts", "HostConflict", text))
            if free is not None:
                socket.chains.append(FilterChain(f"passthrough.{this.name}.{index}", "", free, tcp=each.routes, passthrough=True))

    def _tcp(self, socket: Socket, this: _Server) -> None:
        streams = tcp_routes(this.streams, self._setting.scope, self._setting.inputs)
        if self._has_routes(streams, this):
            socket.chains.append(FilterChain(f"tcp.{this.name}", tcp=streams.routes))

    def _has_routes(self, streams: Streams, this: _Server) -> bool:
        self.relayed.append(this.hosts)
        self.references |= streams.references
        self.depends |= streams.depends
        self.problems += streams.problems
        if streams.routes or streams.chains:
            return True
        kind = "tls" if this.server.passthrough else "tcp"
        text = f"no VirtualService of gateway {this.full} has a `{kind}` route for these hosts and this port; until then it is not served"
        self.problems.append(warning(this.subject, this.path, "NoRoute", text))
        return False

    def _tls(self, this: _Server, alpn: tuple[str, ...]) -> DownstreamTls | None:
        """Istio looks for credentialName beside the gateway's workload; where documents are files the Gateway's own namespace is as
        natural, so both are tried. None = it cannot be had, and that is said."""
        if this.server.tls is None:
            return None
        notes: Notes = []
        namespaces = (self._setting.scope.client, this.gateway.namespace)
        settings = with_located_files(this.server.tls, this.gateway.origin)
        try:
            tls = downstream_tls(settings, namespaces, self._keys, notes, alpn)
        except TrustError as error:
            text = f"{error}; this server is left out until then (IST0161)"
            self.problems.append(problem(this.subject, f"{this.path}.tls", "InvalidCertificateRef", text))
            return None
        self.problems += [warning(this.subject, f"{this.path}.tls", reason, message) for reason, message in notes]
        return tls


def _automatic_names(hosts: Iterable[str]) -> tuple[str, ...]:
    """What covers the server names `outbound_.PORT_.SUBSET_.HOST` of these hosts."""
    names = {host if host.startswith("*") else f"*.{host}" for host in hosts}
    return () if "*" in names else tuple(sorted(names))


def _bind_fault(address: str, port: int, taken: set[str], this: _Server) -> Problem | None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        text = f"{address!r} is not an IP address; write one of this machine, or leave bind out for all of them"
        return left_out(this.subject, f"{this.path}.bind", "AddressNotUsable", text)
    key = str(HostPort(address, port))
    if key in taken:
        text = f"{key} is already this node's own (spec.listen of the Node); take another port"
        return left_out(this.subject, f"{this.path}.port", "PortConflict", text)
    return None
