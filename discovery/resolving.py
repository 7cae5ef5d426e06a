"""What DNS names stand for: which services to resolve, and how answers become endpoints. Pure; sources/dns.py asks.

A name's answer is kept question by question (name and record type), so that an AAAA that fails does not take the A with it.
Rules (Istio's STRICT_DNS, which users know): every address is an endpoint; the TTL says when to ask again; a failure
(SERVFAIL, timeout) keeps the last good answer; an authoritative "there is none" (NXDOMAIN, empty NOERROR) removes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from math import lcm

import msgspec

from discovery.model import Endpoint, Port, Protocol, Resolution, Service

# Istio's dnsRefreshRate: how long to wait where no TTL says it, or after a failure.
DEFAULT_REFRESH = 60.0
# Consul and many service DNS servers answer with TTL 0; once a second is as fast as failover needs, and no flood.
SHORTEST_REFRESH = 1.0
SRV_PRIORITY_LABEL = "fedgate.io/srv-priority"
# Parts that a weight is divided into when targets have different numbers of addresses: exact for up to ten each, and a largest weight of
# 65,535 stays far below 2^32, Envoy's limit.
_FINEST = 2520


class Nameservers(msgspec.Struct, frozen=True):
    """Whom to ask. addresses: IPs; none means the system's resolver configuration, read anew at each watch and after failures.
    ports: (address, port) of those that answer elsewhere. timeout: seconds for one question with all its retries; 5 s is Istio's for its
    upstream resolvers."""

    addresses: tuple[str, ...] = ()
    port: int = 53
    timeout: float = 5.0
    ports: tuple[tuple[str, int], ...] = ()


SYSTEM = Nameservers()


class DnsTarget(msgspec.Struct, frozen=True):
    """One name (or IP literal, which is passed through) that stands for endpoints of a service.

    name: absolute, with or without the last dot. srv: it owns SRV records (`_billing._tcp.corp.example`), so ports come from
    the records. endpoint: everything the endpoints carry but their address: ports, labels, locality, weight, network.
    """

    name: str
    srv: bool = False
    endpoint: Endpoint = Endpoint("")


class DnsService(msgspec.Struct, frozen=True):
    """A service whose endpoints are DNS names: `service` is the template, with no endpoints of its own or with those that need
    no resolving; `targets` are the names."""

    service: Service
    targets: tuple[DnsTarget, ...]


class SrvRecord(msgspec.Struct, frozen=True, order=True):
    """RFC 2782. target: absolute without the last dot, "" for the root, which says that there is decidedly no service."""

    priority: int
    weight: int
    port: int
    target: str


class Question(msgspec.Struct, frozen=True, order=True):
    """name: lower case, without the last dot. kind: A, AAAA or SRV."""

    name: str
    kind: str


class Answer(msgspec.Struct, frozen=True):
    """The last good answer to a question and what came of the last try.

    addresses, records: sorted, so that a server that rotates them changes nothing. first: the address that was answered first, for
    services of one address at a time. ttl: seconds, None if not said.
    error: why the last try failed, "" if it did not. good: there has been a good answer.
    """

    addresses: tuple[str, ...] = ()
    records: tuple[SrvRecord, ...] = ()
    ttl: float | None = None
    error: str = ""
    good: bool = True
    first: str = ""

    @property
    def refresh(self) -> float:
        """Seconds until the question is asked again."""
        if self.error or self.ttl is None:
            return DEFAULT_REFRESH
        return max(self.ttl, SHORTEST_REFRESH)


Answers = Mapping[Question, Answer]


def of_host(host: str, *, srv: str = "", ports: tuple[Port, ...] = ()) -> DnsService:
    """What a Node's `dns: {services: [{host, srv}]}` says. srv: the SRV records' owner; without it the host itself is resolved.
    ports: without any the service has port 80, the one a Host header means that names none."""
    ports = ports or (Port(80, "http", Protocol.UNKNOWN),)
    template = Endpoint("", ports=tuple((port.name, port.number) for port in ports))
    return DnsService(Service(host.lower(), ports=ports), (DnsTarget(srv or host, srv=bool(srv), endpoint=template),))


def failed(last: Answer | None, error: str) -> Answer:
    """The answer after a try that failed: what was good stays."""
    if last is None:
        return Answer(error=error, good=False)
    return msgspec.structs.replace(last, error=error)


def questions(services: Iterable[DnsService], answers: Answers, kinds: tuple[str, ...]) -> frozenset[Question]:
    """Everything to be asked, given what is known: the addresses of SRV targets come once the SRV answer is there.
    kinds: the address record types, A and AAAA or one of them."""
    return frozenset(question for service in services for question in needs(service, answers, kinds))


def needs(service: DnsService, answers: Answers, kinds: tuple[str, ...]) -> Iterator[Question]:
    """The questions of one service."""
    for target in service.targets:
        if is_address(target.name):
            continue
        name = normal(target.name)
        if not target.srv:
            yield from (Question(name, kind) for kind in kinds)
            continue
        yield (question := Question(name, "SRV"))
        for record in answers[question].records if question in answers else ():
            if record.target:
                yield from (Question(record.target, kind) for kind in kinds)


def resolve(service: DnsService, answers: Answers, kinds: tuple[str, ...]) -> Service | None:
    """The service with the endpoints its names stand for; None until every question has been tried once.

    SRV (RFC 2782): a record's port serves every port of the service. Its weight (0 counts as 1: the least there is) is shared by the
    addresses of its target, so that a target with two gets no more than one with a single address. Its priority is the
    endpoints' tier, counted from 0: later ones take what earlier ones cannot carry. It is the label `fedgate.io/srv-priority`
    too, as it was written, for a subset or a DestinationRule's `failoverPriority`.
    Resolution DNS_ROUND_ROBIN: one address, that which was answered first (Envoy's LOGICAL_DNS); IPv6 only without an IPv4.
    """
    if any(question not in answers for question in needs(service, answers, kinds)):
        return None
    found: dict[tuple[str, tuple[tuple[str, int], ...]], Endpoint] = {
        (endpoint.address, endpoint.ports): endpoint for endpoint in service.service.endpoints
    }
    one = service.service.resolution is Resolution.DNS_ROUND_ROBIN
    for target in service.targets:
        for endpoint in _one(target, answers, kinds) if one else _endpoints(service.service, target, answers, kinds):
            found.setdefault((endpoint.address, endpoint.ports), endpoint)
    return msgspec.structs.replace(service.service, endpoints=tuple(found.values()))


def _one(target: DnsTarget, answers: Answers, kinds: tuple[str, ...]) -> Iterator[Endpoint]:
    if is_address(target.name):
        yield msgspec.structs.replace(target.endpoint, address=target.name)
        return
    for kind in kinds:
        answer = answers[Question(normal(target.name), kind)]
        if answer.addresses:
            yield msgspec.structs.replace(target.endpoint, address=answer.first or answer.addresses[0])
            return


def _endpoints(service: Service, target: DnsTarget, answers: Answers, kinds: tuple[str, ...]) -> Iterator[Endpoint]:
    if is_address(target.name):
        yield msgspec.structs.replace(target.endpoint, address=target.name)
    elif not target.srv:
        yield from _at(target.endpoint, normal(target.name), answers, kinds)
    else:
        yield from _located(service, target, answers, kinds)


def _located(service: Service, target: DnsTarget, answers: Answers, kinds: tuple[str, ...]) -> Iterator[Endpoint]:
    """The endpoints of a name with SRV records."""
    records = [record for record in answers[Question(normal(target.name), "SRV")].records if record.target]
    tiers = {priority: tier for tier, priority in enumerate(sorted({record.priority for record in records}))}
    counts = {record: sum(len(answers[Question(record.target, kind)].addresses) for kind in kinds) for record in records}
    for record in records:
        if not counts[record]:
            continue
        beside = {counts[each] for each in records if each.priority == record.priority and counts[each]}
        shares = min(lcm(*beside), _FINEST)
        template = msgspec.structs.replace(
            target.endpoint,
            ports=tuple((port.name, record.port) for port in service.ports),
            labels=tuple(sorted({**dict(target.endpoint.labels), SRV_PRIORITY_LABEL: str(record.priority)}.items())),
            weight=max(1, round(max(1, record.weight) * shares / counts[record])),
            tier=tiers[record.priority],
        )
        yield from _at(template, record.target, answers, kinds)


def _at(template: Endpoint, name: str, answers: Answers, kinds: tuple[str, ...]) -> Iterator[Endpoint]:
    for kind in kinds:
        for address in answers[Question(name, kind)].addresses:
            yield msgspec.structs.replace(template, address=address)


def normal(name: str) -> str:
    """A DNS name as questions hold it: lower case, no last dot."""
    return name.rstrip(".").lower()


def is_address(name: str) -> bool:
    """True for an IP literal."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
