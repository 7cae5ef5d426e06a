"""A source of Nomad's own services (`provider = "nomad"`): what is registered, joined with the checks of its allocations and with its nodes.

Theory of operation. One blocking query for each namespace (or `*`) says which services there are. Each service has a blocking query of its
own, so that a change is answered with that service alone and at once; a client may have 100 connections to an agent, so those beyond
MOST_WATCHED are read anew whenever the list's query says that something changed. What was registered by an allocation that is new, or whose
registration changed, is said once its allocation, checks and node have been asked for, or that failed. Then the checks of an allocation that
has some are asked for again and again, because Nomad's checks cannot be waited for.

What fails alone (one service, one allocation, one node) keeps what was known of it and is tried again. The list failing means that
the registry is lost: `watch` raises. What is known outlives a watch, so that a restart does not begin by knowing less.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog
import trio

from discovery.clients.nomad import WAIT, Answer, NomadClient, NomadOptions, NomadRefused, NomadUnreachable, part
from discovery.here import Here
from discovery.model import Service
from discovery.nomad import NamespaceList, Node, Registration, Seen, make_service
from discovery.source import SourceLost
from discovery.sources.nomad_allocations import AT_ONCE, Asking
from discovery.supervise import TaskSet, describe
from discovery.update import Remove, Reset, Update, Upsert
from discovery.watch import Watchable

ALL = "*"
# A connection each; with those of the lists and of the short questions they stay below the 100 that an agent allows one client.
MOST_WATCHED = 64
_SWEEP_EVERY = 1.0  # at most; what is not watched by a query of its own is read whole, so a rollout must not read it at every step
# Answers without news come when a query's time is over; a proxy that drops `index` would give them as fast as it is asked.
_UNCHANGED = 0.05
_MOST_NAMESPACES = 8  # lists that are waited for at once; for more there is `*`

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*")
_log = structlog.get_logger("nomad")

_LISTS = msgspec.json.Decoder(tuple[NamespaceList, ...] | None)
_REGISTRATIONS = msgspec.json.Decoder(tuple[Registration, ...] | None)
_ANY = msgspec.json.Decoder(tuple[msgspec.Raw, ...] | None)


class NomadSourceOptions(msgspec.Struct, frozen=True):
    """connection: where and as whom. namespaces: `*` is all the token may read. tags: only registrations with all of them. allow_stale:
    blocking queries may be answered by any server, not by the leader alone."""

    connection: NomadOptions = NomadOptions()
    namespaces: tuple[str, ...] = (ALL,)
    tags: tuple[str, ...] = ()
    allow_stale: bool = True


class _Key(NamedTuple):
    namespace: str
    service: str


class NomadSource:
    """One Nomad region, through one agent."""

    def __init__(self, name: str, here: Here, options: NomadSourceOptions) -> None:
        self.name = name
        self.cluster = here.cluster
        self._here = here
        self._options = options
        self._allocations: dict[str, Seen] = {}
        self._nodes: dict[str, Node] = {}
        self._registered: dict[_Key, tuple[Registration, ...]] = {}
        self._unnamed: set[_Key] = set()

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """See Source. Raises SourceLost."""
        async with NomadClient(self._options.connection) as client, trio.open_nursery() as nursery:
            watch = _Watch(self, client)
            nursery.start_soon(watch.run)
            await watch.settled.wait()
            known = {hostname: service for hostname in watch.hostnames() if (service := watch.build(hostname))}
            yield Reset(tuple(known.values()))
            while True:
                for hostname in await watch.wait_stale():
                    service = watch.build(hostname)
                    if service is not None and service != known.get(hostname):
                        known[hostname] = service
                        yield Upsert(service)
                    elif service is None and known.pop(hostname, None) is not None:
                        yield Remove(hostname)

    def __repr__(self) -> str:
        return f"<NomadSource {self.cluster}/{self.name} {self._options.connection.address} allocations={len(self._allocations)}>"


class _Watch:
    """One watch: the queries under way and what they said."""

    def __init__(self, source: NomadSource, client: NomadClient) -> None:
        self.settled = trio.Event()
        self._source, self._client, self._options = source, client, source._options
        self._lists: dict[str, frozenset[_Key]] = {}
        self._held: dict[_Key, tuple[Registration, ...]] = {}
        self._hosts: dict[str, set[_Key]] = {}
        self._watched: Watchable[Mapping[_Key, None]] = Watchable({})
        self._swept: frozenset[_Key] = frozenset()
        self._sweep = trio.Event()
        self._stale: set[str] = set()
        self._woken = trio.Event()
        self._asked = Asking(client, source._allocations, source._nodes, self._asked_anew)
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def run(self) -> None:
        """Ask until cancelled. Raises SourceLost."""
        tasks = TaskSet(self._keep, rng=random.random, report=_report)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._asked.run)
            nursery.start_soon(self._sweep_unwatched)
            nursery.start_soon(tasks.run, self._watched)
            for namespace in self._options.namespaces[:_MOST_NAMESPACES]:
                nursery.start_soon(self._list, namespace)

    def hostnames(self) -> list[str]:
        return sorted(self._hosts)

    async def wait_stale(self) -> list[str]:
        """Wait for services whose state changed; each is named once. A cancelled wait loses nothing."""
        while not self._stale:
            self._woken = trio.Event()
            await self._woken.wait()
        stale, self._stale = sorted(self._stale), set()
        return stale

    def build(self, hostname: str) -> Service | None:
        """The service as it is known; None if nothing is registered under that name."""
        found = [
            each
            for key in sorted(self._hosts.get(hostname, ()))
            for each in self._held.get(key, ())
            if self._asked.is_known(each) and set(self._options.tags) <= set(each.tags or ())
        ]
        if not found:
            return None
        source = self._source
        return make_service(
            hostname,
            found,
            source._here,
            allocations=source._allocations,
            nodes=source._nodes,
            region=self._options.connection.region,
        )

    # ---------------------------------------------------------------------------------------------------- what there is

    async def _list(self, namespace: str) -> None:
        """Follow which services a namespace has."""
        index = 0
        while True:
            try:
                answer = await self._client.get(
                    "/v1/services",
                    _LISTS,
                    namespace=namespace,
                    index=index,
                    wait=_jittered(),
                    stale=self._options.allow_stale and index > 0,
                )
                if not answer.value and namespace == ALL:
                    await self._check_allowed()
            except (NomadRefused, NomadUnreachable) as error:
                raise SourceLost(str(error)) from None
            if answer.index < index:
                index = 0  # the servers were restored: what they say now is believed once it is said consistently
                continue
            changed, index = answer.index != index, answer.index
            if not changed:
                await trio.sleep(_UNCHANGED)
            keys = self._keys(answer.value or ())
            if changed or namespace not in self._lists:
                self._lists[namespace] = keys
                self._follow()

    def _keys(self, lists: Iterable[NamespaceList]) -> frozenset[_Key]:
        """What can have a name in DNS: Nomad allows namespaces of 128 characters."""
        found = {_Key(each.namespace, named.service_name) for each in lists for named in each.services or ()}
        unusable = {key for key in found if not _HOST.fullmatch(self._hostname(key))}
        for key in unusable - self._source._unnamed:
            _log.warning("nomad.no_name", namespace=key.namespace, service=key.service, hostname=self._hostname(key)[:300])
        self._source._unnamed |= unusable
        return frozenset(found - unusable)

    async def _check_allowed(self) -> None:
        """Nomad answers a token that may read no namespace with an empty list, which is not "no services". Raises NomadRefused."""
        namespaces = await self._client.get("/v1/namespaces", _ANY)
        if not namespaces.value:
            token = self._options.connection.token_file or "that is sent, none,"
            raise NomadRefused(f"the token {token} may read no namespace; give it a policy with `read-job`", 403)

    def _follow(self) -> None:
        """The lists changed: watch what is new, forget what is gone, sweep what has no query of its own."""
        wanted = frozenset().union(*self._lists.values())
        for key in self._held.keys() - wanted:
            self._forget(key)
        watched = [key for key in self._watched.value if key in wanted]
        others = sorted(wanted.difference(watched))
        watched += others[: max(0, MOST_WATCHED - len(watched))]
        self._swept = wanted.difference(watched)
        self._watched.set(dict.fromkeys(watched))
        if self._swept:
            self._sweep.set()
        self._settle()

    def _forget(self, key: _Key) -> None:
        self._took(key, ())
        del self._held[key], self._source._registered[key]
        hostname = self._hostname(key)
        self._hosts[hostname].discard(key)
        if not self._hosts[hostname]:
            del self._hosts[hostname]

    # ------------------------------------------------------------------------------------------------ one service

    async def _keep(self, key: _Key, _: None) -> None:
        """Follow one service by its own blocking query. Raises what the client raises: it is begun anew after a pause."""
        index = 0
        while True:
            answer = await self._read(key, index)
            if answer.index < index:
                index = 0
                continue
            if answer.index == index:
                await trio.sleep(_UNCHANGED)
            index = answer.index
            self._took(key, answer.value or ())

    async def _read(self, key: _Key, index: int = 0) -> Answer[tuple[Registration, ...] | None]:
        """Raises what the client raises; what was known of the service is what holds then."""
        try:
            return await self._client.get(
                f"/v1/service/{part(key.service)}",
                _REGISTRATIONS,
                namespace=key.namespace,
                index=index,
                wait=_jittered(),
                stale=self._options.allow_stale and index > 0,
            )
        except (NomadRefused, NomadUnreachable):
            if key not in self._held:
                self._took(key, self._source._registered.get(key, ()))
            raise

    async def _sweep_unwatched(self) -> None:
        while True:
            await self._sweep.wait()
            self._sweep = trio.Event()
            async with trio.open_nursery() as nursery:
                for key in sorted(self._swept):
                    await self._limit.acquire_on_behalf_of(key)
                    nursery.start_soon(self._read_once, key)
            await trio.sleep(_SWEEP_EVERY)

    async def _read_once(self, key: _Key) -> None:
        try:
            answer = await self._read(key)
        except (NomadRefused, NomadUnreachable) as error:
            _report(key, error)  # it stays as it was, and is read again soon
            self._sweep.set()
        else:
            if key in self._swept:
                self._took(key, answer.value or ())
        finally:
            self._limit.release_on_behalf_of(key)

    def _took(self, key: _Key, registrations: tuple[Registration, ...]) -> None:
        """What a service has now."""
        before = self._held.get(key, ())
        self._held[key] = self._source._registered[key] = registrations
        self._hosts.setdefault(self._hostname(key), set()).add(key)
        self._asked.want(registrations, before)
        self._touch([self._hostname(key)])

    def _hostname(self, key: _Key) -> str:
        return self._source._here.host(key.service, key.namespace)

    def _asked_anew(self, registrations: Iterable[Registration]) -> None:
        self._touch(self._hostname(_Key(each.namespace, each.service_name)) for each in registrations)

    def _touch(self, hostnames: Iterable[str]) -> None:
        """These are to be built again."""
        self._stale.update(hostnames)
        self._woken.set()
        self._settle()

    def _settle(self) -> None:
        """Everything is known for the first time: each list, each service of them, and what its registrations need."""
        if self.settled.is_set() or len(self._lists) < len(self._options.namespaces[:_MOST_NAMESPACES]):
            return
        if all(key in self._held for keys in self._lists.values() for key in keys) and self._asked.idle:
            self._asked.forget_unwanted()
            for key in self._source._registered.keys() - self._held.keys():
                del self._source._registered[key]
            self.settled.set()


def _jittered() -> float:
    """Seconds that a query may block: spread, so that those which began together do not all end together."""
    return WAIT * (1 - 0.1 * random.random())


def _report(key: _Key, error: Exception) -> None:
    """One service cannot be read: what was known of it stands."""
    _log.warning("nomad.service_unread", namespace=key.namespace, service=key.service, error=describe(error))
