"""A source of services whose endpoints are DNS names: A, AAAA and SRV, asked again when their TTL is over.

Theory of operation. What to resolve comes in by a Watchable of DnsServices; `discovery.resolving` says which questions that
means and what the answers make. Each question has a task of its own that asks, notes the answer and sleeps out its TTL; a
limiter bounds how many ask at once. The generator wakes when an answer changed or the wish did, rebuilds the services that
are concerned and says what differs. Answers outlive a watch, so a restart keeps the last good ones.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import structlog
import trio

from discovery.model import Service
from discovery.resolving import (
    DEFAULT_REFRESH,
    SYSTEM,
    Answer,
    DnsService,
    Nameservers,
    Question,
    SrvRecord,
    failed,
    needs,
    normal,
    resolve,
)
from discovery.source import SourceLost
from discovery.supervise import TaskSet, describe
from discovery.update import Remove, Reset, Update, Upsert
from discovery.watch import Watchable

# Enough to resolve a thousand names in seconds, few enough for a resolver's per-client limits (BIND's recursive-clients
# default of 1,000 is shared by all clients) and for our own descriptors.
_AT_ONCE = 32
_log = structlog.get_logger()


class DnsSource:
    """nameservers: when they change, every question is asked anew, at once. kinds: the address record types asked for; a host without IPv6
    may leave AAAA out."""

    def __init__(
        self,
        name: str,
        cluster: str,
        services: Watchable[tuple[DnsService, ...]],
        nameservers: Watchable[Nameservers] | None = None,
        *,
        kinds: tuple[str, ...] = ("A", "AAAA"),
    ) -> None:
        self.name = name
        self.cluster = cluster
        self._services = services
        self._nameservers = nameservers or Watchable(SYSTEM)
        self._kinds = kinds
        self._last: dict[Question, Answer] = {}
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._resolver_of: Nameservers | None = None
        self._limit = trio.CapacityLimiter(_AT_ONCE)

    def answers(self) -> Mapping[Question, Answer]:
        """The last answers, errors included: for an admin API."""
        return dict(self._last)

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """See Source. The Reset comes when every name has been asked once; a name that could not be resolved gives a service
        without its endpoints. Raises SourceLost if nothing could be resolved at all: nobody answers, which is not "none"."""
        watch = _Watch(self)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.keep_asking)
            known = await watch.wait_settled()
            yield Reset(tuple(known.values()))
            while True:
                for hostname in await watch.wait_stale():
                    service = watch.build(hostname)
                    if service is not None and service != known.get(hostname):
                        known[hostname] = service
                        yield Upsert(service)
                    elif hostname in known and not watch.wanted(hostname):
                        del known[hostname]
                        yield Remove(hostname)

    async def _ask(self, question: Question) -> Answer:
        """One try. Raises nothing that the network or the name can cause."""
        try:
            async with self._limit:
                answer = await self._query(question)
        except dns.resolver.NXDOMAIN as none:
            response: dns.message.Message = none.response(dns.name.from_text(question.name))  # type: ignore[no-untyped-call]
            return Answer(ttl=_negative_ttl(response))
        except (dns.exception.DNSException, OSError) as error:
            self._resolver = None  # the system's configuration may have changed
            return failed(self._last.get(question), describe(error))
        if answer.rrset is None:
            return Answer(ttl=_negative_ttl(answer.response))
        ttl = float(answer.chaining_result.minimum_ttl)
        if question.kind == "SRV":
            records = (
                SrvRecord(rdata.priority, rdata.weight, rdata.port, normal(rdata.target.to_text())) for rdata in answer.rrset
            )
            return Answer(records=tuple(sorted(records)), ttl=ttl)
        found = [rdata.address for rdata in answer.rrset]
        return Answer(addresses=tuple(sorted(found)), ttl=ttl, first=found[0])

    async def _query(self, question: Question) -> dns.resolver.Answer:
        nameservers = self._nameservers.value
        if self._resolver is None or self._resolver_of is not nameservers:
            self._resolver, self._resolver_of = _resolver(nameservers), nameservers
        return await self._resolver.resolve(
            dns.name.from_text(question.name),
            question.kind,
            raise_on_no_answer=False,
            search=False,
            lifetime=nameservers.timeout,
        )

    def __repr__(self) -> str:
        return f"<DnsSource {self.cluster}/{self.name} services={len(self._services.value)} questions={len(self._last)}>"


class _Watch:
    """One watch of a DnsSource: the tasks that ask, this watch's answers, and which services they make stale."""

    def __init__(self, source: DnsSource) -> None:
        self._source = source
        self._answers: dict[Question, Answer] = {}
        self._specs: dict[str, DnsService] = {}
        self._needs: dict[str, frozenset[Question]] = {}
        self._users: dict[Question, set[str]] = {}
        self._stale: set[str] = set()
        self._woken = trio.Event()
        self._asked: Watchable[Mapping[Question, Nameservers]] = Watchable({})
        self._seen, self._servers = source._services.version, source._nameservers.version
        self._take(source._services.value)

    async def keep_asking(self) -> None:
        """Run the questions' tasks and follow what is wanted. Cancelled, it leaves the source's last answers as they are."""
        tasks = TaskSet(self._keep_fresh, rng=random.random, report=_report)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks.run, self._asked)
            nursery.start_soon(self._ask_others)
            while True:
                self._seen, services = await self._source._services.newer_than(self._seen)
                self._take(services)

    async def _ask_others(self) -> None:
        """Ask everything anew when the nameservers are others; what the last ones answered stands until then."""
        while True:
            self._servers, servers = await self._source._nameservers.newer_than(self._servers)
            self._asked.set(dict.fromkeys(self._users, servers))

    async def wait_settled(self) -> dict[str, Service]:
        """Every service, once each question has been tried in this watch. Raises SourceLost if not one was answered."""
        while any(question not in self._answers for question in self._users):
            await self.wait_stale()
        self._check_reached()
        self._stale.clear()
        built = {hostname: self.build(hostname) for hostname in self._specs}
        return {hostname: service for hostname, service in built.items() if service is not None}

    async def wait_stale(self) -> set[str]:
        """Wait for services whose answers or wish changed; each is named once. A cancelled wait loses nothing."""
        while not self._stale:
            self._woken = trio.Event()
            await self._woken.wait()
        stale, self._stale = self._stale, set()
        return stale

    def build(self, hostname: str) -> Service | None:
        """The service as the answers make it; None if it is not wanted, or not every question has been tried yet."""
        spec = self._specs.get(hostname)
        return resolve(spec, self._answers, self._source._kinds) if spec else None

    def wanted(self, hostname: str) -> bool:
        return hostname in self._specs

    def _take(self, services: tuple[DnsService, ...]) -> None:
        """Follow the wish: plan what is new or changed, forget what is gone."""
        wanted = {spec.service.hostname: spec for spec in services}
        changed = [hostname for hostname in {**self._specs, **wanted} if self._specs.get(hostname) != wanted.get(hostname)]
        self._specs = wanted
        self._plan(changed)

    def _plan(self, hostnames: list[str]) -> None:
        """Work out anew which questions these services need, and let exactly the needed ones be asked."""
        for hostname in hostnames:
            spec = self._specs.get(hostname)
            needed = frozenset(needs(spec, self._answers, self._source._kinds)) if spec else frozenset()
            before = self._needs.pop(hostname, frozenset())
            if spec:
                self._needs[hostname] = needed
            for question in needed - before:
                self._users.setdefault(question, set()).add(hostname)
            for question in before - needed:
                self._leave(question, hostname)
        self._wake(hostnames)
        if self._users.keys() != self._asked.value.keys():
            self._asked.set(dict.fromkeys(self._users, self._source._nameservers.value))

    def _leave(self, question: Question, hostname: str) -> None:
        users = self._users[question]
        users.discard(hostname)
        if not users:
            del self._users[question]
            self._answers.pop(question, None)
            self._source._last.pop(question, None)

    async def _keep_fresh(self, question: Question, _: Nameservers) -> None:
        while True:
            answer = await self._source._ask(question)
            self._note(question, answer)
            await trio.sleep(answer.refresh)

    def _note(self, question: Question, answer: Answer) -> None:
        if question not in self._users:
            return  # it went out of use while it was asked
        before = self._answers.get(question)
        self._answers[question] = self._source._last[question] = answer
        if bool(answer.error) != bool(before and before.error):
            _log.info(
                "dns.answered" if not answer.error else "dns.failed", name=question.name, kind=question.kind, error=answer.error
            )
        if before is None or _said(before) != _said(answer):
            users = list(self._users[question])
            if question.kind == "SRV":
                self._plan(users)
            self._wake(users)

    def _wake(self, hostnames: list[str]) -> None:
        self._stale.update(hostnames)
        self._woken.set()

    def _check_reached(self) -> None:
        if not self._answers or any(answer.good for answer in self._answers.values()):
            return
        question, answer = next(iter(self._answers.items()))
        servers = ", ".join(self._source._nameservers.value.addresses) or "the system's nameservers"
        raise SourceLost(
            f"{servers} answered none of {len(self._answers)} DNS questions, the first being {question.name} {question.kind}: "
            f"{answer.error}; check that the nameserver can be reached from here"
        )


def _resolver(nameservers: Nameservers) -> dns.asyncresolver.Resolver:
    resolver = dns.asyncresolver.Resolver(configure=not nameservers.addresses)
    if nameservers.addresses:
        resolver.nameservers = list(nameservers.addresses)
        resolver.port = nameservers.port
        resolver.nameserver_ports = dict(nameservers.ports)
    return resolver


def _said(answer: Answer) -> tuple[object, ...]:
    return answer.addresses, answer.records, answer.first


def _negative_ttl(response: dns.message.Message) -> float:
    """How long "there is none" holds: RFC 2308's time from the SOA, but no longer than where no TTL is said at all, so that a
    service that comes into being is seen."""
    soa = [min(rrset.ttl, rrset[0].minimum) for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
    return float(min([*soa, DEFAULT_REFRESH]))


def _report(question: Question, error: Exception) -> None:
    """A fault of ours, or a record that dnspython reads and we do not: the question is asked again after a backoff."""
    _log.error("dns.question_failed", name=question.name, kind=question.kind, error=describe(error))
