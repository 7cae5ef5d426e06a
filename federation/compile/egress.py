"""What becomes of a backend that leads outside: how its addresses are found, who may use it, where its connections leave from.

Theory of operation. Resolution STATIC and DNS are endpoints like any others. NONE and DYNAMIC_DNS list none: the worker goes where the client
meant, as far as the entry's hosts and addresses allow it. DNS_ROUND_ROBIN is one endpoint whose address changes under it. What has no
field in Istio's documents is a ServicePolicy's.

ALLOW_ANY is one more such backend, for whatever host nobody knows, under Istio's name for it. Hosts that a ServicePolicy reserves for some
clients (`from`) are not reached that way: by another port than their own, anybody could.
"""

from __future__ import annotations

import msgspec

from discovery.model import Endpoint, Port, Protocol, Resolution, Service
from federation.compile.actions import retry_policy
from federation.compile.inputs import Inputs
from federation.compile.names import endpoint_id
from federation.compile.policies import Spread, effective, policy
from federation.compile.scope import MESH, Scope
from federation.compile.service_policy import allowed, rate_limits
from federation.resources.fedgate import ServicePolicy
from federation.resources.node import OutboundMode
from gateway.snapshot import Backend, Balance, EndpointSet, Forward, LbEndpoint, Part, Route, RouteMatch, Split, VirtualHost

PASSTHROUGH = "PassthroughCluster"  # Istio's name of what ALLOW_ANY leads to; its logs and metrics say so
ANY_PORT = -1
EVERYWHERE = ("0.0.0.0/0", "::/0")
UNLISTED = (Resolution.NONE, Resolution.DYNAMIC_DNS)
_NAMELESS = (Protocol.TCP, Protocol.MONGO, Protocol.UDP)


def outside(service: Service | None, port: Port | None, said: ServicePolicy | None) -> dict[str, object]:
    """Fields of the Backend for one port of a service. said: what ServicePolicies say of it."""
    found: dict[str, object] = {"allowed": allowed(said), "source_address": said.source_address if said else ""}
    if service is None or port is None:
        return found
    if service.resolution is Resolution.DNS_ROUND_ROBIN:
        found["logical"] = True
    elif service.resolution in UNLISTED:
        found |= _unlisted(service, port, said)
    return found


def _unlisted(service: Service, port: Port, said: ServicePolicy | None) -> dict[str, object]:
    """NONE: the addresses of the entry; its TCP without addresses is for any (FIELD trap 13). A protocol without names is told apart by
    address only."""
    networks = service.addresses if service.resolution is Resolution.NONE else ()
    nameless = port.protocol in _NAMELESS
    if nameless and not networks:
        networks = EVERYWHERE
    return {
        "balance": Balance.PASSTHROUGH,
        "hash": None,
        "warmup": None,
        "dynamic_dns": True,
        "dynamic_hosts": () if nameless else (service.hostname,),
        "dynamic_port": port.target,
        "dynamic_networks": tuple(dict.fromkeys((*networks, *(said.private_addresses if said else ())))),
    }


def one_at_a_time(chosen: list[tuple[Endpoint, int]]) -> list[tuple[Endpoint, int]]:
    """Of DNS_ROUND_ROBIN: one address, whoever else describes the service, beside peers' gateways."""
    own = [(each, number) for each, number in chosen if not each.peer]
    return own[:1] + [(each, number) for each, number in chosen if each.peer]


def logical_id(host: str, port: int) -> str:
    """The id of an endpoint whose address changes under it."""
    return f"{host}:{port}"


def id_of(backend: Backend, endpoint: Endpoint, port: int) -> str:
    """LbEndpoint.id of an endpoint in this backend."""
    return logical_id(backend.host, port) if backend.logical and not endpoint.peer else endpoint_id(endpoint, port)


def addressed(backend: Backend, endpoints: tuple[LbEndpoint, ...]) -> tuple[LbEndpoint, ...]:
    """The endpoints with the ids that they have in this backend."""
    if not backend.logical:
        return endpoints
    return tuple(each if each.peer else msgspec.structs.replace(each, id=logical_id(backend.host, each.port)) for each in endpoints)


def allow_any(scope: Scope, inputs: Inputs) -> list[Part]:
    """What Istio's ALLOW_ANY lets out on the `http` port; nothing under REGISTRY_ONLY."""
    if inputs.node.spec.outbound_traffic_policy is not OutboundMode.ALLOW_ANY:
        return []
    said = scope.policy_for("*")
    rules = policy(effective(None, 0, ""), Spread.ONE_ENDPOINT, said, own_defaults=inputs.fedgate)
    backend = Backend(
        PASSTHROUGH,
        PASSTHROUGH,
        80,
        balance=Balance.PASSTHROUGH,
        connect_timeout_ms=rules.connect_timeout_ms,
        idle_timeout_ms=rules.idle_timeout_ms,
        tcp_idle_timeout_ms=rules.tcp_idle_timeout_ms,
        rate_limits=rate_limits(said),
        allowed=allowed(said),
        source_address=said.source_address if said else "",
        dynamic_dns=True,
        dynamic_hosts=("*",),
        dynamic_except=_reserved(scope),
        dynamic_port=ANY_PORT,
        dynamic_networks=said.private_addresses if said else (),
    )
    route = Route("allow_any", RouteMatch(), Forward((Split(PASSTHROUGH),), retry=retry_policy(None, fedgate=inputs.fedgate)))
    return [backend, EndpointSet(PASSTHROUGH, ()), VirtualHost(MESH, "allow_any", ("*",), (route,))]


def _reserved(scope: Scope) -> tuple[str, ...]:
    """Hosts that not everybody may use, `*` left out: what is for everything is this backend's own."""
    found = {host.lower() for each in scope.policies if each.spec.from_ is not None for host in each.spec.hosts}
    return tuple(sorted(found - {"*"}))
