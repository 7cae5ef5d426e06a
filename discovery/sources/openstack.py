"""A source of services in an OpenStack cloud: Octavia's load balancers, and Nova's servers by their metadata.

Theory of operation. OpenStack pushes nothing, so it is read again and again, in parts: Octavia, servers, and ports (which only add zones
and port states). A part that cannot be read keeps what it said last, is tried again after a backoff of its own, and delays no other.
Only when none of the wished registries (Octavia, servers) answers is the source lost. What an answer lacks is gone; what was not
answered is not: a load balancer whose members nobody could say keeps the service that it was. A catalog of Keystone's without Octavia is
an answer too, unless Octavia was there before. What was read outlives a watch, so a restart keeps the last good parts.
"""

from __future__ import annotations

import enum
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec
import structlog
import trio

from discovery.backoff import Backoff, BackoffPolicy, Random
from discovery.clients.cloud_reader import CloudReader
from discovery.clients.openstack import CloudAccess, CloudError, OpenStackClient, Project
from discovery.draft import Drafts
from discovery.here import Here
from discovery.model import Locality, Service
from discovery.nova import NeutronPort, Server, add_servers, zones_of
from discovery.octavia import Balancing, add_balancers
from discovery.source import SourceLost
from discovery.update import Remove, Reset, Update, Upsert

INTERVAL = 10.0  # seconds between two readings
_JITTER = 0.1  # of the interval, either way: a hundred gateways must not read in one instant
_LONGEST_BACKOFF = 30.0  # seconds: a registry that comes back is seen within them (FIELD trap 18), as everywhere
_PATIENCE = 3  # first readings that wait for the members of every pool: then a pool that never answers holds up nobody
_log = structlog.get_logger()


class Discover(enum.Enum):
    """What is read."""

    OCTAVIA = "octavia"
    SERVERS = "servers"


class OpenStackOptions(msgspec.Struct, frozen=True):
    """interval: seconds between two readings; a reading that takes longer than that makes it longer."""

    access: CloudAccess
    discover: tuple[Discover, ...] = (Discover.OCTAVIA, Discover.SERVERS)
    interval: float = INTERVAL


class _Part:
    """One part of the cloud: how it is read, what became of that."""

    def __init__(self, name: str, read: Callable[[], Awaitable[None]], *, interval: float, rng: Random) -> None:
        self.name = name
        self.read = read
        self.known = False
        self.error: CloudError | None = None
        self.due = 0.0
        self.backoff = Backoff(BackoffPolicy(base=interval, cap=max(_LONGEST_BACKOFF, interval)), rng)


class OpenStackSource:
    """rng: for jitter. client: for a test that looks at it."""

    def __init__(
        self,
        name: str,
        here: Here,
        options: OpenStackOptions,
        *,
        rng: Random = random.random,
        client: OpenStackClient | None = None,
    ) -> None:
        self.name = name
        self.cluster = here.cluster
        self._here = here
        self._options = options
        self._rng = rng
        self._client = client or OpenStackClient(options.access)
        self._project: Project | None = None
        self._reader = CloudReader(self._client, "")
        self._balancing = Balancing()
        self._servers: list[Server] = []
        self._ports: list[NeutronPort] = []
        self._unanswered: dict[str, CloudError] = {}  # by pool
        self._services: dict[str, Service] = {}
        self._passed_over: set[str] = set()
        self._impatience = 0
        self._parts = self._planned()

    def _planned(self) -> dict[str, _Part]:
        reads: dict[str, Callable[[], Awaitable[None]]] = {"ports": self._read_ports}
        if Discover.OCTAVIA in self._options.discover:
            reads["octavia"] = self._read_octavia
        if Discover.SERVERS in self._options.discover:
            reads["servers"] = self._read_servers
        return {name: _Part(name, read, interval=self._options.interval, rng=self._rng) for name, read in reads.items()}

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """See Source. Raises SourceLost when neither Octavia nor servers could be read, or, before anything is known of a part, when
        that part could not."""
        for part in self._parts.values():
            part.due = 0.0
        try:
            began = trio.current_time()
            known = await self._read_first()
            yield Reset(tuple(known.values()))
            while True:
                await trio.sleep(self._pause(trio.current_time() - began))
                began = trio.current_time()
                await self._read()
                before, known = known, await self._built()
                for hostname, service in known.items():
                    if before.get(hostname) != service:
                        yield Upsert(service)
                for hostname in before.keys() - known.keys():
                    yield Remove(hostname)
        except SourceLost:
            raise  # the next watch goes on with this token: a cloud in trouble is not asked for another each time
        except BaseException:
            self._client.close()
            raise

    def _pause(self, took: float) -> float:
        """At most half of the time goes into reading, however slow the cloud is."""
        return max(self._options.interval, took) * (1 - _JITTER + 2 * _JITTER * self._rng())

    async def _read_first(self) -> dict[str, Service]:
        await self._read()
        for part in self._parts.values():
            if part.error is not None and not part.known and part.name != "ports":
                raise SourceLost(f"{part.error}")
        unknown = [error for pool, error in self._unanswered.items() if pool not in self._balancing.members]
        if unknown and self._impatience < _PATIENCE:
            self._impatience += 1
            raise SourceLost(f"{unknown[0]} (the first of {len(unknown)} pools whose members are not known)")
        self._impatience = 0
        return await self._built()

    async def _read(self) -> None:
        """Read what is due. Raises SourceLost when all that was wished for has failed."""
        await self._identify()
        async with trio.open_nursery() as nursery:
            for part in self._parts.values():
                if part.due <= trio.current_time():
                    nursery.start_soon(self._refresh, part)
        wished = [part for part in self._parts.values() if part.name != "ports"]
        errors = [part.error for part in wished if part.error is not None]
        if len(errors) == len(wished):
            raise SourceLost(str(min(errors, key=lambda error: error.missing)))

    async def _identify(self) -> None:
        """Whose credentials these are now. What was known of another project is forgotten."""
        try:
            project = await self._client.project()
        except CloudError as error:
            if self._project is None:
                raise SourceLost(str(error)) from error
            return  # the token may last still, and if not, every part says so
        if self._project is None or project.id != self._project.id:
            self._reader = CloudReader(self._client, project.id)
            self._parts = self._planned()
            self._balancing, self._servers, self._ports, self._services = Balancing(), [], [], {}
        self._project = project

    async def _refresh(self, part: _Part) -> None:
        before = part.error
        try:
            await part.read()
            part.known, part.error = True, None
            part.backoff.succeeded()
        except CloudError as error:
            part.error = error
            part.due = trio.current_time() + part.backoff.failed()
            if error.missing and not part.known and part.name != "ports" and len(self._options.discover) > 1:
                part.known = True  # this cloud has none: what else was wished for is read without it
        if str(before) != str(part.error):
            if part.error is None:
                _log.info("openstack.answered", source=self.name, part=part.name)
            else:
                _log.warning("openstack.failed", source=self.name, part=part.name, error=str(part.error), kept=part.known)

    async def _read_octavia(self) -> None:
        before = self._unanswered.keys()
        self._balancing, self._unanswered = await self._reader.balancing()
        for pool in self._unanswered.keys() - before:
            _log.warning("openstack.failed", source=self.name, part=f"pool {pool}", error=str(self._unanswered[pool]), kept=True)

    async def _read_servers(self) -> None:
        self._servers = await self._reader.servers()

    async def _read_ports(self) -> None:
        self._ports = await self._reader.ports()

    async def _built(self) -> dict[str, Service]:
        """Every service, as the parts have it now; put together in a thread, as ten thousand members take longer than links may wait."""
        built, unsure, passed_over = await trio.to_thread.run_sync(self._drafted)
        services = {hostname: self._same(hostname, service) for hostname, service in built.items() if hostname not in unsure}
        for hostname in unsure & self._services.keys():
            services[hostname] = self._services[hostname]
        for reason in sorted(passed_over - self._passed_over):
            _log.warning("openstack.passed_over", source=self.name, reason=reason)
        self._services, self._passed_over = services, passed_over
        return services

    def _drafted(self) -> tuple[dict[str, Service], frozenset[str], set[str]]:
        assert self._project is not None
        region = self._options.access.region or self._here.locality.region or self._project.region
        here = msgspec.structs.replace(self._here, locality=Locality(region))
        drafts = Drafts()
        zones = zones_of(self._ports, self._servers)
        unsure = add_balancers(drafts, self._balancing, here=here, project=self._project.name, zones=zones)
        add_servers(drafts, self._servers, self._ports, here=here, project=self._project.name)
        return drafts.built(), unsure, drafts.passed_over

    def _same(self, hostname: str, service: Service) -> Service:
        """The object that is known already, if it is equal."""
        known = self._services.get(hostname)
        return known if known is not None and known == service else service

    def __repr__(self) -> str:
        failing = ", ".join(part.name for part in self._parts.values() if part.error is not None)
        return f"<OpenStackSource {self.cluster}/{self.name} services={len(self._services)} failing={failing or 'none'}>"
