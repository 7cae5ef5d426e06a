"""A source of Consul's catalog: its services and their health, those imported from cluster peers included.

Theory of operation. One blocking query says which services there are; `consul_asking` reads their instances and checks as these change. What
a cluster peer exports to us has instances that can be waited for like any; which services these are has to be asked for again and
again. `consul_services` makes Services of what was heard.

The Reset comes when every service has answered once. A service's query that fails later is begun anew, with backoff, and what it said
stands; the list's query failing means that the registry is lost: `watch` raises. One that the token may not read keeps what was known of
it, and only that no service at all may be read is a failure before the Reset. A service that disappeared from the list goes when its own
query finds no instance of it either. When Consul's index went backwards (it was restored, or lost its disk), agents need a minute or so
to register everything again: until RESTORED_WITHIN is over, an answer with fewer instances than the last takes nothing away.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

import msgspec
import structlog
import trio

from discovery.clients.consul import ConsulClient, ConsulConnection, Refused
from discovery.clients.consul_entries import PUBLISHED, Instance, read
from discovery.here import Here
from discovery.model import Service
from discovery.sources.consul_addresses import Addresses, Lookup, system_lookup
from discovery.sources.consul_asking import Asking, Instances, Pace
from discovery.sources.consul_services import Key, Names, Part, build, names_to_resolve, parts_of
from discovery.supervise import describe
from discovery.update import Remove, Reset, Update, Upsert

MOST_WATCHED = (
    96  # of the 200 connections that Consul takes from one address (http_max_conns_per_client); half is left to others there
)
BESIDES = 24  # connections for the lists, the checks and the first reads (consul_asking.AT_ONCE)
PEER_EVERY = 2.0  # seconds between two looks at what a peer exports: a small list, and exports change by configuration
RESTORED_WITHIN = (
    90.0  # agents compare what they have with the catalog once a minute (with more than 128 nodes less often), then register
)
_OWN = "consul"  # the servers' own service: its port speaks Consul's RPC
_ABROAD = "\0"  # no datacenter's name: that of a peer may bear the name of ours

_log = structlog.get_logger("consul")


class ConsulSourceOptions(msgspec.Struct, frozen=True):
    """peers: names of cluster peers whose exports are read too. tags: only instances with all of them. default_namespace: of services whose
    meta says none. allow_stale: blocking queries may be answered by any server. most_watched: services with a query of their own."""

    connection: ConsulConnection = ConsulConnection()
    peers: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    default_namespace: str = "default"
    allow_stale: bool = True
    most_watched: int = MOST_WATCHED


class ConsulSource:
    """See Source; `watch` raises Unreachable and Refused of discovery.clients.consul."""

    def __init__(self, name: str, here: Here, options: ConsulSourceOptions, *, lookup: Lookup = system_lookup) -> None:
        """lookup: of instances that are registered with a DNS name."""
        self.name = name
        self.cluster = here.cluster
        self._here = here
        self._options = options
        self._lookup = lookup
        self._memory = _Memory()

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        options = self._options
        connections = options.most_watched + len(options.peers) + BESIDES
        async with ConsulClient(options.connection, stale=options.allow_stale, connections=connections) as client:
            own = await client.own_datacenter() if options.connection.datacenter else ""
            names = Names(self._here, options.default_namespace, options.tags, own)
            watch = _Watch(self, client, names)
            async with trio.open_nursery() as nursery:
                await watch.begin(nursery)
                known = await watch.wait_settled()
                yield Reset(tuple(known.values()))
                while True:
                    for hostname in await watch.wait_stale():
                        service = watch.build(hostname)
                        if service is None and known.pop(hostname, None) is not None:
                            yield Remove(hostname)
                        elif service is not None and service != known.get(hostname):
                            known[hostname] = service
                            yield Upsert(service)

    def __repr__(self) -> str:
        return (
            f"<ConsulSource {self.cluster}/{self.name} {self._options.connection.address} services={len(self._memory.instances)}>"
        )


class _Memory:
    """What outlives a watch: the instances last believed, the list's last index, and until when (trio's time) a Consul that was restored may
    take nothing away."""

    def __init__(self) -> None:
        self.instances: dict[Key, tuple[Instance, ...]] = {}
        self.index = 0
        self.until = float("-inf")

    def listed(self, index: int, *, restarted: bool) -> None:
        if restarted or index < self.index:
            self.until = trio.current_time() + RESTORED_WITHIN
            _log.warning(
                "consul.index_went_back", was=self.index, now=index, action="what is missing stays until agents had their time"
            )
        self.index = index

    @property
    def holds(self) -> bool:
        return trio.current_time() < self.until


class _Watch:
    """One watch: what it heard by Consul service, and which hostnames that makes stale."""

    def __init__(self, source: ConsulSource, client: ConsulClient, names: Names) -> None:
        self._name = source.name
        self._options = source._options
        self._memory = source._memory
        self._client = client
        self._names = names
        self._asking = Asking(client, most=source._options.most_watched, take=self._take, failed=self._failed)
        self._addresses = Addresses(self._resolved, lookup=source._lookup)
        self._listed: dict[str, frozenset[str]] = {}  # by peer or "" the names on its list
        self._parts: dict[Key, dict[str, Part]] = {}
        self._speakers: dict[str, set[Key]] = {}  # by hostname who says something of it
        self._held: dict[Key, tuple[Instance, ...]] = {}  # what a restored Consul says, not believed yet
        self._stale: set[str] = set()
        self._woken = trio.Event()
        self._failing: dict[Key, Exception] = {}  # whose last query failed

    # ----------------------------------------------------------------------------------------------- what `watch` calls

    async def begin(self, nursery: trio.Nursery) -> None:
        """Read the lists once and start the tasks. Raises what the client raises."""
        listed = await self._client.names()
        self._memory.listed(listed.index, restarted=False)
        self._list("", listed.data)
        for peer in self._options.peers:
            self._list(peer, await self._client.imported(peer))
            nursery.start_soon(self._follow_peer, peer)
        for key, instances in [*self._memory.instances.items()]:
            if key[1] not in self._listed.get(key[0], ()):
                self._believe(key, (), instances)
        for task in (self._asking.run, self._addresses.run, self._release):
            nursery.start_soon(task)
        nursery.start_soon(self._follow_list, listed.index)

    async def wait_settled(self) -> dict[str, Service]:
        """Every service, once each of the Consul services on the lists has answered. Raises what one that failed raised, as a part is not
        everything, unless the token may not read that one."""
        while not self._settled():
            for error in self._failing.values():
                if not _denied(error):
                    raise error
            await self._wait_woken()
        if self._failing and not any(self._parts.values()):
            raise next(iter(self._failing.values()))
        self._stale.clear()
        built = {hostname: self.build(hostname) for hostname in self._speakers}
        return {hostname: service for hostname, service in built.items() if service is not None}

    async def wait_stale(self) -> set[str]:
        """Wait for hostnames of which something changed. A cancelled wait loses nothing."""
        while not self._stale:
            await self._wait_woken()
        stale, self._stale = self._stale, set()
        return stale

    def build(self, hostname: str) -> Service | None:
        """The service as it is known now; None if nobody speaks of it."""
        parts = [self._parts[key][hostname] for key in self._speakers.get(hostname, ())]
        return build(hostname, parts, self._names, self._addresses.known) if parts else None

    def _settled(self) -> bool:
        wanted = ((peer, name) for peer, on in self._listed.items() for name in on)
        return self._addresses.asked and all(key in self._parts or _denied(self._failing.get(key)) for key in wanted)

    async def _wait_woken(self) -> None:
        self._woken = trio.Event()
        await self._woken.wait()

    # ------------------------------------------------------------------------------------------------------- the lists

    async def _follow_list(self, index: int) -> None:
        pace = Pace()
        while True:
            await pace.wait()
            answer = await self._client.names(index)
            if answer.restarted:
                self._memory.listed(answer.index, restarted=True)
            index = self._memory.index = answer.index
            self._list("", answer.data)
            self._asking.sweep()

    async def _follow_peer(self, peer: str) -> None:
        while True:
            await trio.sleep(PEER_EVERY)
            self._list(peer, await self._client.imported(peer))

    def _list(self, peer: str, found: Mapping[str, Sequence[str]]) -> None:
        """Take a list: ask after what is new on it; what is gone from it and has no instances either, goes."""
        if peer and peer not in self._listed and not found:
            _log.warning("consul.peer_exports_nothing", source=self._name, peer=peer, action="check the peering's name and state")
        tags = set(self._options.tags)
        names = frozenset(name for name, of in found.items() if tags <= set(of) and PUBLISHED not in of and (peer or name != _OWN))
        gone = self._listed.get(peer, frozenset()) - names
        self._listed[peer] = names
        self._asking.want([(peer, name) for name in sorted(names)])
        for name in gone:
            self._forget_gone((peer, name))

    def _forget_gone(self, key: Key) -> None:
        """Its own query decides; until that found no instance either, the service stands."""
        if key[1] not in self._listed.get(key[0], ()) and not self._memory.instances.get(key):
            self._asking.forget(key)
            self._failing.pop(key, None)
            self._memory.instances.pop(key, None)
            self._put(key, {})
            self._parts.pop(key, None)

    # ------------------------------------------------------------------------------------------------------- what is said

    def _take(self, key: Key, answer: Instances) -> None:
        try:
            instances = read(answer.data, own=_ABROAD if key[0] else self._names.own)
        except ValueError as error:
            return self._failed(key, error)
        if self._failing.pop(key, None) is not None:
            _log.info("consul.query_answered", source=self._name, peer=key[0], service=key[1])
        self._believe(key, instances, self._memory.instances.get(key, ()), restarted=answer.restarted)

    def _believe(self, key: Key, now: tuple[Instance, ...], before: tuple[Instance, ...], *, restarted: bool = False) -> None:
        if len(now) < len(before) and (restarted or self._memory.holds):
            self._held[key], now = now, before
        else:
            self._held.pop(key, None)
            self._memory.instances[key] = now
        self._put(key, parts_of(key, now, self._names))
        self._forget_gone(key)

    async def _release(self) -> None:
        """What a restored Consul takes away is believed when the time for its agents is over."""
        while True:
            await trio.sleep_until(max(self._memory.until, trio.current_time() + 1))
            if self._held and not self._memory.holds:
                _log.info("consul.restored", source=self._name, services=len(self._held), action="what is still missing goes now")
                for key, instances in [*self._held.items()]:
                    self._believe(key, instances, ())

    def _put(self, key: Key, parts: dict[str, Part]) -> None:
        """Replace what a Consul service says, and note whom that concerns."""
        before = self._parts.get(key, {})
        self._parts[key] = parts
        for hostname in parts.keys() - before.keys():
            self._speakers.setdefault(hostname, set()).add(key)
        for hostname in before.keys() - parts.keys():
            self._speakers[hostname].discard(key)
            if not self._speakers[hostname]:
                del self._speakers[hostname]
        self._stale |= {name for name in {**before, **parts} if before.get(name) != parts.get(name)}
        if names_to_resolve(before.values()) != names_to_resolve(parts.values()):
            self._addresses.want(names_to_resolve(part for of in self._parts.values() for part in of.values()))
        self._woken.set()

    def _resolved(self, name: str) -> None:
        for hostname, keys in self._speakers.items():
            if name in names_to_resolve(self._parts[key][hostname] for key in keys):
                self._stale.add(hostname)
        self._woken.set()

    def _failed(self, key: Key, error: Exception) -> None:
        if key not in self._failing:
            words = {"error": describe(error), "action": "it is asked again; what it said stands"}
            _log.warning("consul.query_failed", source=self._name, peer=key[0], service=key[1], **words)
        self._failing[key] = error
        if key not in self._parts and _denied(error) and self._memory.instances.get(key):
            self._put(key, parts_of(key, self._memory.instances[key], self._names))
        self._woken.set()


def _denied(error: Exception | None) -> bool:
    return isinstance(error, Refused) and error.status == 403
