"""Backends and their endpoints, and what peers may reach: everything that belongs to one hostname.

Theory of operation. `backends_of` is a pure function of one hostname: of its service in the catalog, of the references that routes made to
it, and of what applies to all (Setting). An outbound backend may send to any endpoint; an inbound one, which a peer reaches by its SNI, to
this cluster's own only, so that nothing goes round in circles. A backend that cannot have the TLS it asks for has no endpoints: better 503
than plain text. Peers' endpoints carry the TLS of the peer, with the service's name as SNI.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property

import msgspec

from discovery.model import Endpoint, Port, Protocol, Service
from federation.compile.credentials import Credentials
from federation.compile.egress import addressed, one_at_a_time, outside
from federation.compile.federation import Federation
from federation.compile.inputs import Inputs, with_located_files
from federation.compile.name_parts import address_problems, name_of, name_references
from federation.compile.names import (
    backend_name,
    covers,
    endpoint_group,
    endpoint_id,
    gateway_identity,
    service_sni,
    spiffe,
    split_gateway_host,
)
from federation.compile.policies import (
    BALANCE_ANNOTATION,
    HTTP2_PORTS,
    Policy,
    Spread,
    effective,
    policy,
    unknown_balance,
    with_baseline,
)
from federation.compile.priorities import Place, distribution, is_foreign, priorities
from federation.compile.routes import Reference
from federation.compile.scope import Rule, Scope
from federation.compile.service_policy import rate_limits
from federation.compile.services import subject_of
from federation.compile.status import Problem, problem, warning
from federation.compile.tls import Keyring, Notes, peer_tls, upstream_tls
from federation.resources.destination_rule import ClientTlsMode, ClientTLSSettings, DestinationRule
from federation.resources.document import Document
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import Backend, Balance, EndpointSet, Http2, Inbound, LbEndpoint, Part, UpstreamTls, part_name

PEER_ALPN = ("h2", "http/1.1")
"""What is offered to peers' gateways for HTTP."""


@dataclass(frozen=True)
class Setting:
    """What holds for every hostname."""

    inputs: Inputs
    scope: Scope
    federation: Federation
    place: Place
    credentials: Credentials

    @cached_property
    def passed_through(self) -> tuple[str, ...]:
        """Hosts of this Node's AUTO_PASSTHROUGH servers, whose clients name a backend by its SNI."""
        servers = [(each.namespace, server) for each in self.scope.gateways for server in each.spec.servers if server.automatic]
        return tuple({split_gateway_host(host, namespace)[1]: None for namespace, server in servers for host in server.hosts})

    def keyring(self) -> Keyring:
        inputs = self.inputs
        return Keyring(self.credentials, inputs.identity, trust_domain=inputs.node.spec.trust_domain, now=inputs.now)


class Parts(msgspec.Struct, frozen=True, gc=False):
    """What one hostname comes to."""

    parts: tuple[Part, ...] = ()
    secrets: tuple[tuple[str, Secret], ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass
class _Host:
    """One hostname while its parts are made."""

    host: str
    service: Service | None
    rule: Rule | None
    setting: Setting
    keys: Keyring
    problems: list[Problem]

    @property
    def owners(self) -> tuple[Document[DestinationRule], ...]:
        return self.rule.documents if self.rule else ()

    def port(self, number: int) -> Port | None:
        return self.service.port(number) if self.service else None

    def protocol(self, number: int) -> Protocol:
        port = self.port(number)
        return port.protocol if port else Protocol.UNKNOWN


def backends_of(host: str, references: Iterable[Reference], setting: Setting) -> Parts:
    """All parts of one hostname. Raises nothing."""
    service = setting.inputs.services.get(host)
    rule = setting.scope.rule(host, service.namespace if service else "")
    this = _Host(host, service, rule, setting, setting.keyring(), [])
    parts: list[Part] = []
    word = unknown_balance(rule)
    if word:
        text = f"{BALANCE_ANNOTATION} is {word[:40]!r}, which is no balance it can ask for; write PEAK_EWMA, or remove it"
        this.problems += [warning(subject_of(each), "metadata.annotations", "UnknownBalance", text) for each in this.owners]
    for reference in sorted({*references, *(name_references(service) if service is not None else ())}):
        parts += _backend(this, reference, "outbound")
    parts += _inbound(this)
    known = {part_name(part) for part in parts}
    parts += [part for part in _automatic(this) if part_name(part) not in known]
    name = name_of(service, setting) if service is not None else None
    if service is not None:
        this.problems += address_problems(service, setting)
    parts += [name] if name is not None else []
    return Parts(tuple(parts), tuple(sorted(this.keys.secrets.items())), tuple(dict.fromkeys(this.problems)))


def _inbound(this: _Host) -> list[Part]:
    """One SNI for each port and subset of an exported service, whole and subsets alike; what is no HTTP is relayed (ALPN `istio`)."""
    setting = this.setting
    names = setting.federation.may_have(this.host)
    peers = [setting.federation.peers[name] for name in names]
    domains = tuple(sorted({each.trust_domain for each in peers if each.bundle}))
    if not domains or this.service is None or setting.inputs.identity is None:
        return []
    cluster = setting.place.cluster
    if this.service.endpoints and all(is_foreign(each, cluster) for each in this.service.endpoints):
        return []  # it is another cluster's: a name that is exported here does not make us a way there
    parts: list[Part] = []
    for number in sorted({port.number for port in this.service.ports if port.protocol is not Protocol.UDP}):
        for subset in ("", *(this.rule.subsets if this.rule else ())):
            parts += _backend(this, Reference(this.host, number, subset), "inbound")
            backend = backend_name(this.host, number, subset, direction="inbound")
            identities = tuple(gateway_identity(domain) for domain in domains)
            parts.append(Inbound(service_sni(this.host, number, subset), backend, domains, identities))
    return parts


def _automatic(this: _Host) -> list[Part]:
    """For AUTO_PASSTHROUGH: a backend for each port and subset of a service that runs here (Istio leaves out external ones). Its bytes are
    the client's own TLS, so nothing is added to them."""
    service = this.service
    if service is None or service.external or not any(covers(pattern, this.host) for pattern in this.setting.passed_through):
        return []
    parts: list[Part] = []
    for number in sorted({port.number for port in service.ports if port.protocol is not Protocol.UDP}):
        for subset in ("", *(this.rule.subsets if this.rule else ())):
            backend, endpoints = _backend(this, Reference(this.host, number, subset), "inbound")
            parts += [msgspec.structs.replace(backend, tls=None), endpoints]
    return parts


def _backend(this: _Host, reference: Reference, direction: str) -> tuple[Backend, EndpointSet]:
    setting = this.setting
    name = backend_name(this.host, reference.port, reference.subset, direction=direction)
    written_blocks = effective(this.rule, reference.port, reference.subset)
    blocks = with_baseline(written_blocks, setting.inputs.node.spec.default_traffic_policy)
    chosen = _chosen(this, reference, own_only=direction == "inbound")
    written = setting.scope.policy_for(this.host)
    fedgate = setting.inputs.fedgate
    rules = policy(
        blocks,
        Spread.of([each for each, _ in chosen]),
        written,
        own_defaults=fedgate,
        protocol=this.protocol(reference.port),
    )
    beyond = outside(this.service, _served(this, reference), written)
    if "logical" in beyond:
        chosen = one_at_a_time(chosen)
    elif "dynamic_dns" in beyond:
        chosen = []  # where the client means to go is said by the client alone
    if beyond.get("dynamic_dns"):
        this.problems += _unchecked(this)
    try:
        tls = _tls(this, blocks.tls, chosen)
    except TrustError as error:
        this.problems += _tls_problems(this, error)
        tls, chosen = None, []
        if Balance.PASSTHROUGH in (rules.balance, beyond.get("balance")):  # nor in plain text to where the client means to go
            beyond |= {"dynamic_dns": False, "balance": Balance.LEAST_REQUEST}
    tls, http2 = _with_alpn(tls, rules.http2, this.protocol(reference.port))
    peers, chosen = _peers(this, reference, chosen)
    weights = distribution([each for each, _ in chosen], setting.place.locality, rules.locality)
    if weights is not None:
        chosen = [(each, number) for each, number in chosen if str(each.locality) in weights]
    ranks = priorities([each for each, _ in chosen], setting.place, rules.locality)
    endpoints = tuple(_lb_endpoint(each, number, rank) for (each, number), rank in zip(chosen, ranks, strict=True))
    backend = msgspec.structs.replace(
        _with_policy(name, this, reference, rules),
        rate_limits=rate_limits(written, inbound=direction == "inbound"),
        locality_weights=tuple(weights.items()) if weights else (),
        zone=str(setting.place.locality) if rules.zone_aware else "",
        tls=tls,
        http2=http2,
        peer_tls=peers,
        **beyond,
    )
    return backend, EndpointSet(name, addressed(backend, endpoints))


def _with_policy(name: str, this: _Host, reference: Reference, rules: Policy) -> Backend:
    """The fields of Policy have the names of Backend's, all but locality."""
    given = {each.name: getattr(rules, each.name) for each in fields(rules) if each.name != "locality"}
    namespace = this.service.namespace if this.service else ""
    return Backend(name, this.host, reference.port, subset=reference.subset, namespace=namespace, **given)


def _served(this: _Host, reference: Reference) -> Port | None:
    """The service's port, None without one; nor is there any for a subset that nothing defines."""
    return this.port(reference.port) if subset_labels(this.rule, reference.subset) is not None else None


def _unchecked(this: _Host) -> list[Problem]:
    """A check that is asked for by this very host, not by a pattern that means others too."""
    document = this.setting.scope.service_policy(this.host)
    if document is None or document.spec.health_check is None or this.host not in [each.lower() for each in document.spec.hosts]:
        return []
    text = f"{this.host} has no endpoints that could be checked: clients say where they mean to go; remove healthCheck, or list endpoints"
    return [warning(subject_of(document), "spec.healthCheck", "NothingToCheck", text)]


def _with_alpn(tls: UpstreamTls | None, http2: Http2 | None, protocol: Protocol) -> tuple[UpstreamTls | None, Http2 | None]:
    """What is offered: what will be spoken; both where the client decides. Of a port that speaks HTTP/1.1 and may be upgraded both are
    offered too, and the server chooses: Envoy would offer h2 alone and speak it to who did not agree."""
    if tls is None or http2 is None or not (http2.always or http2.client):
        return tls, http2
    if http2.always and protocol not in HTTP2_PORTS:
        settings = msgspec.structs.replace(http2, always=False)
        return msgspec.structs.replace(tls, alpn=("h2", "http/1.1")), settings
    return msgspec.structs.replace(tls, alpn=("h2",) if http2.always else ("h2", "http/1.1")), http2


def subset_labels(rule: Rule | None, subset: str) -> set[tuple[str, str]] | None:
    """The labels that an endpoint of this subset has; none for the whole service; None when nothing defines the subset."""
    if not subset:
        return set()
    chosen = rule.subsets.get(subset) if rule else None
    return set(chosen.labels.items()) if chosen else None


def _chosen(this: _Host, reference: Reference, *, own_only: bool) -> list[tuple[Endpoint, int]]:
    """The endpoints that serve this port and subset, each once, with their port numbers."""
    port = this.port(reference.port)
    if port is None or this.service is None:
        return []
    labels = subset_labels(this.rule, reference.subset)
    if labels is None:
        return []
    cluster = this.setting.place.cluster
    found: dict[str, tuple[Endpoint, int]] = {}
    for endpoint in this.service.endpoints:
        number = endpoint.port(port.name)
        if number is None or (own_only and is_foreign(endpoint, cluster)) or not labels <= set(endpoint.labels):
            continue
        if this.setting.inputs.is_admin(endpoint.address, number):
            text = f"{this.host} has this gateway's admin API, {endpoint.address}:{number}, as an endpoint, which is left out"
            this.problems.append(warning(subject_of(this.setting.inputs.node), "spec.listen.admin", "AdminAsEndpoint", text))
            continue
        name = endpoint_id(endpoint, number)
        if name in found and endpoint.peer:  # one gateway for workloads of several labels: it has the weight of all of them
            endpoint = msgspec.structs.replace(found[name][0], weight=found[name][0].weight + endpoint.weight)
            found[name] = (endpoint, number)
        found.setdefault(name, (endpoint, number))
    return list(found.values())


def _peers(
    this: _Host, reference: Reference, chosen: list[tuple[Endpoint, int]]
) -> tuple[tuple[tuple[str, UpstreamTls], ...], list[tuple[Endpoint, int]]]:
    """TLS for each peer among the endpoints, and the endpoints without those of peers that cannot or may not be used."""
    federation, sni = this.setting.federation, service_sni(this.host, reference.port, reference.subset)
    found: dict[str, UpstreamTls] = {}
    for name in sorted({each.peer for each, _ in chosen if each.peer}):
        facts = federation.peers.get(name)
        if facts is None or not facts.bundle or not federation.may_claim(name, this.host):
            continue
        try:
            found[name] = msgspec.structs.replace(peer_tls(facts.trust_domain, facts.bundle, sni, this.keys), alpn=PEER_ALPN)
        except TrustError:
            continue  # said once, of the Node, by the listeners stage
    return tuple(found.items()), [(each, number) for each, number in chosen if not each.peer or each.peer in found]


def _lb_endpoint(endpoint: Endpoint, port: int, priority: int) -> LbEndpoint:
    return LbEndpoint(
        id=endpoint_id(endpoint, port),
        address=endpoint.address,
        port=port,
        cluster=endpoint.cluster,
        locality=endpoint.locality,
        priority=priority,
        weight=endpoint.weight,
        peer=endpoint.peer,
        group=endpoint_group(endpoint),
        labels=() if endpoint.peer else endpoint.labels,  # behind a gateway there may be workloads of several labels
    )


def _tls(this: _Host, settings: ClientTLSSettings | None, chosen: list[tuple[Endpoint, int]]) -> UpstreamTls | None:
    """Raises TrustError."""
    if settings is None:
        return None
    settings = with_located_files(settings, this.owners[0].origin) if this.owners else settings
    notes: Notes = []
    names = this.service.subject_alt_names if this.service else ()
    if not names and settings.mode is ClientTlsMode.ISTIO_MUTUAL:
        names = _identities(chosen, this.setting.inputs.node.spec.trust_domain)
    namespaces = (this.setting.scope.client, *(each.namespace for each in this.owners))
    made = upstream_tls(settings, names, namespaces, this.keys, notes)
    for reason, message in notes:
        this.problems += [warning(subject_of(each), "spec.trafficPolicy.tls", reason, message) for each in this.owners]
    return made


def _identities(chosen: list[tuple[Endpoint, int]], trust_domain: str) -> tuple[str, ...]:
    """Whom the workloads run as, when all of them say so (WorkloadEntry's serviceAccount): nobody else is then talked to, as in Istio."""
    said = {each.identity for each, _ in chosen if not each.peer}
    if not said or "" in said:
        return ()
    return tuple(sorted(each if "://" in each else spiffe(trust_domain, *each.split("/", 1)) for each in said))


def _tls_problems(this: _Host, error: TrustError) -> list[Problem]:
    text = f"{error}; nothing is sent to {this.host} until then"
    return [problem(subject_of(each), "spec.trafficPolicy.tls", "InvalidCredential", text) for each in this.owners]
