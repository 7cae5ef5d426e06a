"""Listeners: the servers of Gateways, merged by address and port, and the node's own ports.

Theory of operation. All plain HTTP servers of a port share one table; every HTTPS server has its own, chosen by server name. Two servers
that claim the same port with and without TLS, or the same name of one port, conflict: the older Gateway's holds (IST0145). A server
whose certificate cannot be had is left out, and everything else runs.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from discovery.model import Protocol
from federation.compile.backends import Setting
from federation.compile.hosts import GatewayTable, ServerHosts
from federation.compile.inputs import with_located_files
from federation.compile.names import split_gateway_host
from federation.compile.scope import MESH
from federation.compile.services import subject_of
from federation.compile.status import Problem, Subject, left_out, problem, warning
from federation.compile.tls import Keyring, Notes, downstream_tls, east_west_tls
from federation.resources.document import Document
from federation.resources.gateway import Gateway, Server
from federation.resources.scalars import HostPort
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import DownstreamTls, FilterChain, Listener, ListenerKind

EVERY_ADDRESS = "0.0.0.0"  # where Istio binds a server that says nothing


@dataclass(frozen=True)
class Listening:
    """What the listeners stage came to. tables: what the hosts stage fills."""

    listeners: tuple[Listener, ...]
    tables: tuple[GatewayTable, ...]
    secrets: dict[str, Secret]
    problems: tuple[Problem, ...]


@dataclass
class _Socket:
    """One address and port while servers gather on it."""

    address: str
    port: int
    secure: bool
    chains: list[FilterChain] = field(default_factory=list)
    plain: list[ServerHosts] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    tables: list[GatewayTable] = field(default_factory=list)


def listening(setting: Setting) -> Listening:
    """Raises nothing."""
    keys, problems = setting.keyring(), list[Problem]()
    own = [each for each in _own_listeners(setting, keys, problems) if _has_port(each, setting, problems)]
    taken = {listener.key for listener in own}
    sockets: dict[tuple[str, int], _Socket] = {}
    for gateway in setting.scope.gateways:
        for index, server in enumerate(gateway.spec.servers):
            problems += _add(sockets, gateway, index, server, setting, keys, taken)
    listeners, tables = list(own), list[GatewayTable]()
    for socket in sockets.values():
        tables += socket.tables
        if socket.plain:
            table = GatewayTable(_plain_table(socket), socket.port, tuple(socket.plain))
            tables.append(table)
            socket.chains.append(FilterChain(table.name, table.name))
        if socket.chains:
            listeners.append(Listener(socket.address, socket.port, ListenerKind.GATEWAY, tuple(socket.chains)))
    return Listening(tuple(listeners), tuple(tables), keys.secrets, tuple(problems))


def _add(
    sockets: dict[tuple[str, int], _Socket],
    gateway: Document[Gateway],
    index: int,
    server: Server,
    setting: Setting,
    keys: Keyring,
    taken: set[str],
) -> list[Problem]:
    """Puts one server on its socket, or says why not."""
    subject, path = subject_of(gateway), f"spec.servers[{index}]"
    address, port = server.bind or EVERY_ADDRESS, server.port.number
    fault = _bind_fault(address, port, taken, subject, path)
    if fault is not None:
        return [fault]
    secure = server.port.protocol is Protocol.HTTPS
    socket = sockets.setdefault((address, port), _Socket(address, port, secure))
    if socket.secure is not secure:
        text = (
            f"port {port} is {'HTTPS' if socket.secure else 'plain HTTP'} in an older Gateway; a port is one or the other (IST0145)"
        )
        return [left_out(subject, f"{path}.port", "PortConflict", text)]
    name = f"{gateway.namespace}/{gateway.name}"
    if not secure:
        redirect = server.tls is not None and server.tls.https_redirect
        socket.plain.append(ServerHosts(name, gateway.namespace, tuple(server.hosts), redirect))
        return []
    names = [split_gateway_host(host, gateway.namespace)[1] for host in server.hosts]
    free = tuple(each for each in dict.fromkeys(names) if each not in socket.names)
    if not free:
        text = f"{', '.join(names)} on port {port} belong to an older server (IST0145)"
        return [left_out(subject, f"{path}.hosts", "HostConflict", text)]
    notes: Notes = []
    try:
        tls = _server_tls(server, gateway, setting, keys, notes)
    except TrustError as error:
        return [problem(subject, f"{path}.tls", "InvalidCertificateRef", f"{error}; this server is left out until then (IST0161)")]
    socket.names |= set(free)
    table = f"https.{port}.{server.port.name}.{gateway.name}.{gateway.namespace}"
    if table in {each.name for each in socket.tables}:
        table = f"{table}.{index}"
    socket.tables.append(GatewayTable(table, port, (ServerHosts(name, gateway.namespace, tuple(server.hosts)),)))
    socket.chains.append(FilterChain(table, table, () if "*" in free else tuple(sorted(free)), tls))
    return [warning(subject, f"{path}.tls", reason, message) for reason, message in notes]


def _server_tls(server: Server, gateway: Document[Gateway], setting: Setting, keys: Keyring, notes: Notes) -> DownstreamTls:
    """Istio looks for credentialName beside the gateway's workload; where documents are files the Gateway's own namespace is as
    natural, so both are tried. Raises TrustError."""
    if server.tls is None or server.tls.mode is None:
        raise TrustError("an HTTPS server needs tls.mode and a certificate")
    return downstream_tls(with_located_files(server.tls, gateway.origin), (setting.scope.client, gateway.namespace), keys, notes)


def _bind_fault(address: str, port: int, taken: set[str], subject: Subject, path: str) -> Problem | None:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        text = f"{address!r} is not an IP address; write one of this machine, or leave bind out for all of them"
        return left_out(subject, f"{path}.bind", "AddressNotUsable", text)
    key = str(HostPort(address, port))
    if key in taken:
        text = f"{key} is already this node's own (spec.listen of the Node); take another port"
        return left_out(subject, f"{path}.port", "PortConflict", text)
    return None


def _plain_table(socket: _Socket) -> str:
    return f"http.{socket.port}" if socket.address == EVERY_ADDRESS else f"http.{socket.port}.{socket.address}"


def _has_port(listener: Listener, setting: Setting, problems: list[Problem]) -> bool:
    """A port of 0 would be another one in each worker and after each start."""
    if listener.port:
        return True
    text = f"port 0 of the {listener.kind.value} listener stands for any free port, which nobody could be told of; write a number"
    problems.append(left_out(subject_of(setting.inputs.node), "spec.listen", "PortNotUsable", text))
    return False


def _own_listeners(setting: Setting, keys: Keyring, problems: list[Problem]) -> list[Listener]:
    """The node's http, health, admin and east-west ports. The last only with an identity."""
    listen, node = setting.inputs.node.spec.listen, setting.inputs.node
    found = [
        Listener(listen.http.host, listen.http.port, ListenerKind.MESH, (FilterChain(MESH, MESH),)),
        Listener(listen.health.host, listen.health.port, ListenerKind.HEALTH),
        Listener(listen.admin.host, listen.admin.port, ListenerKind.ADMIN),
    ]
    try:
        tls = east_west_tls(keys, setting.federation.bundles())
    except TrustError as error:
        if setting.federation.peers or setting.federation.exports:
            text = f"{error}; peers can neither reach this gateway nor be reached"
            problems.append(problem(subject_of(node), "spec.trustDomain", "NoIdentity", text))
        return found
    chain = FilterChain("east-west", "", tls=tls)
    name = f"peering.{node.spec.trust_domain}"
    return [*found, Listener(listen.east_west.host, listen.east_west.port, ListenerKind.EAST_WEST, (chain,), peering_name=name)]
