"""Listeners: the servers of Gateways, merged by address and port, and the node's own ports.

Theory of operation. Servers gather on Sockets (`servers`), oldest Gateway first; each Socket becomes a Listener with the chains that
its servers came to. Beside them are the node's own ports. Where a server's connections are relayed instead of read as HTTP, the routes
depend on the catalog: `references` are the backends they need, `depends` the hostnames whose change makes the listeners again.
"""

from __future__ import annotations

from dataclasses import dataclass

from federation.compile.backends import Setting
from federation.compile.destinations import Reference
from federation.compile.hosts import GatewayTable, ServerHosts
from federation.compile.nameserver import nameserver_listener
from federation.compile.scope import MESH
from federation.compile.servers import Servers, Socket
from federation.compile.services import subject_of
from federation.compile.status import Problem, left_out, problem
from federation.compile.tls import Keyring, east_west_tls
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import FilterChain, Listener, ListenerKind


@dataclass(frozen=True)
class Listening:
    """What the listeners stage came to. tables: what the hosts stage fills. relayed: servers without a table."""

    listeners: tuple[Listener, ...]
    tables: tuple[GatewayTable, ...]
    secrets: dict[str, Secret]
    problems: tuple[Problem, ...]
    references: frozenset[Reference] = frozenset()
    depends: frozenset[str] = frozenset()
    relayed: tuple[ServerHosts, ...] = ()


def listening(setting: Setting) -> Listening:
    """Raises nothing."""
    keys, problems = setting.keyring(), list[Problem]()
    own = [each for each in _own_listeners(setting, keys, problems) if _has_port(each, setting, problems)]
    servers = Servers(setting, keys, {listener.key for listener in own})
    for gateway in setting.scope.gateways:
        for index, server in enumerate(gateway.spec.servers):
            servers.add(gateway, index, server)
    topology = setting.inputs.node.spec.gateway_topology
    proxied = topology.proxy_protocol is not None
    listeners = [_listener(socket, proxied) for socket in servers.sockets.values() if socket.chains or socket.plain]
    tables = [table for socket in servers.sockets.values() for table in socket.all_tables()]
    return Listening(
        (*own, *listeners),
        tuple(tables),
        keys.secrets,
        (*problems, *servers.problems),
        frozenset(servers.references),
        frozenset(servers.depends),
        tuple(servers.relayed),
    )


def _listener(socket: Socket, proxied: bool) -> Listener:
    chains = list(socket.chains)
    if socket.plain:
        chains.append(FilterChain(socket.plain_table, socket.plain_table))
    return Listener(socket.address, socket.port, ListenerKind.GATEWAY, tuple(chains), proxy_protocol=proxied)


def _has_port(listener: Listener, setting: Setting, problems: list[Problem]) -> bool:
    """A port of 0 would be another one in each worker and after each start."""
    if listener.port:
        return True
    text = f"port 0 of the {listener.kind.value} listener stands for any free port, which nobody could be told of; write a number"
    problems.append(left_out(subject_of(setting.inputs.node), "spec.listen", "PortNotUsable", text))
    return False


def _own_listeners(setting: Setting, keys: Keyring, problems: list[Problem]) -> list[Listener]:
    """The node's http, health, admin, dns and east-west ports. The last only with an identity."""
    listen, node = setting.inputs.node.spec.listen, setting.inputs.node
    found = [
        Listener(listen.http.host, listen.http.port, ListenerKind.MESH, (FilterChain(MESH, MESH),)),
        Listener(listen.health.host, listen.health.port, ListenerKind.HEALTH),
        Listener(listen.admin.host, listen.admin.port, ListenerKind.ADMIN),
        nameserver_listener(setting.inputs),
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
