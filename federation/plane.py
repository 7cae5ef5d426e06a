"""The control plane of one gateway: documents, sources, peers and trust joined, and what comes of them published.

Theory of operation. Everything that changes by itself sets a flag and wakes one task, `_decide`, which is the only one that compiles and
publishes. It works at once when it was idle, then at most every COALESCE seconds, so that a burst costs one round. A document
change reaches the catalog first (through the `static` source, like any registry) and then compile, so no route ever names a service
of the same change before it is there. Keys are published before the Verdicts, and those before the Snapshot that they belong to.

A document that breaks keeps its last good version; a round that fails by a fault of ours is logged and changes nothing.
"""

from __future__ import annotations

import posixpath
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
import trio

from discovery.catalog import Catalog
from discovery.document import DocumentSource
from discovery.feed import CatalogFeed
from discovery.model import Service, ShardKey
from discovery.resolving import DnsService
from discovery.source import Follower, SourceStatus
from discovery.supervise import describe
from discovery.update import Reset
from discovery.watch import Watchable
from federation.compile.credentials import Identity
from federation.compile.inputs import NO_VIPS, files_named
from federation.compile.nameserver import asked
from federation.compile.services import describing
from federation.compile.status import Problem as Finding
from federation.compile.status import Status, Subject
from federation.compile.whole import Compiled
from federation.health import HealthChecker
from federation.joining import Offering, bundles_of, export_terms, peer_terms
from federation.making import Setup, changed_backends, make, node_of, own_addresses, ranges_of, sliced, with_verdicts
from federation.material import FileMaterial
from federation.outcomes import outcomes
from federation.peering.link import PEER
from federation.peering.status import PeerStatus
from federation.peers import Peers, hello_of
from federation.places import Place, Places
from federation.publish.publication import PublisherStatus
from federation.publishing import Publishing, outlets
from federation.reading import Reader, Reading
from federation.registries import Registries, registries
from federation.remembered import Remembered, Shard
from federation.resources.document import Document
from federation.resources.node import Node
from federation.resources.resources import Problem
from federation.retiring import Retiring
from federation.surroundings import Factories, Surroundings, Trust
from federation.verdicts import Checks
from federation.vip_keeper import VipKeeper
from federation.vips import Assigned
from federation.workloads.office import Office
from gateway.engine import Confirmed, Report
from gateway.secret import Secrets
from gateway.snapshot import Snapshot
from gateway.verdicts import Verdicts

COALESCE = 0.05  # seconds between two rounds at least: a rollout of a hundred pods costs twenty rounds a second, not a hundred
READY_WITHIN = 5.0  # seconds that the first Snapshot waits for the sources of this cluster; then it is made of what there is
STORM = 0.5  # seconds that a round waits for large Resets to be written: 40,000 endpoints take so long, and other changes wait with them
SETTLE = 2.0  # seconds for a document change to reach the catalog; it takes milliseconds, and compile must not wait for ever
STATIC, DNS = "static", "dns"
NOTHING = Remembered()

_log = structlog.get_logger("plane")


class Plane:
    """`run` it. `snapshots`, `verdicts` and `secrets` are what an engine is given; the first Snapshot with parts in it is the first that
    was made. `rounds` counts what was taken in, also when nothing came of it. `compiled`, `reading` and `fault` are for people: the last
    results, and a round's failure ("" when it was good)."""

    def __init__(
        self,
        node: Document[Node],
        documents: Sequence[DocumentSource],
        factories: Factories,
        trust: Trust,
        *,
        surroundings: Surroundings | None = None,
        remembered: Remembered = NOTHING,
        vips: VipKeeper | None = None,
        workloads: Office | None = None,
    ) -> None:
        """remembered: that of an earlier process. vips: who gives services their virtual addresses. workloads: those that register
        themselves, a DocumentSource too. The plane runs both."""
        self.snapshots: Watchable[Snapshot] = Watchable(Snapshot())
        self.verdicts: Watchable[Verdicts] = Watchable(Verdicts())
        self.secrets: Watchable[Secrets] = Watchable({})
        self.rounds: Watchable[int] = Watchable(0)
        self.compiled: Compiled | None = None
        self.reading: Reading | None = None
        self.fault = ""
        self._node, self._trust, self._vips = node, trust, vips
        self._around = around = surroundings or Surroundings()
        cluster = node.spec.cluster
        self._office = workloads
        self._places = Places([*documents, *([workloads] if workloads else [])], factories.documents, rng=around.rng)
        self._publishing = Publishing(factories.publisher, rng=around.rng)
        self._feed, self._files, self._reader = CatalogFeed(cluster), FileMaterial(), Reader()
        self._reader.remember(remembered.documents)
        self._recalled = {shard.key for shard in remembered.shards}
        for shard in remembered.shards:
            self._feed.apply(shard.key, Reset(shard.services))
        self._offering = Offering(cluster)
        self._static: Watchable[tuple[Service, ...]] = Watchable(())
        self._dns: Watchable[tuple[DnsService, ...]] = Watchable(())
        self._nameservers = Watchable(asked(node.spec))
        sources = [factories.static(STATIC, cluster, self._static)]
        if factories.dns is not None:
            sources.append(factories.dns(DNS, cluster, self._dns, self._nameservers))
        self._followers = [Follower(source, self._feed, clock=time.time, rng=around.rng) for source in sources]
        self._registries = Registries(self._feed, factories.registry, cluster, rng=around.rng)
        self._peers = Peers(
            self._feed,
            hello=hello_of(node),
            credential=trust.credential,
            offers=self._offering.slot,
            lookup=around.lookup,
            dial=around.dial,
            rng=around.rng,
        )
        self._retiring = Retiring()
        self._health = HealthChecker(self.secrets, rng=around.rng, check=around.check)
        self._awake = trio.Event()
        self._stale = {"documents", "setup"}
        self._touched: set[str] = set()
        self._described: tuple[Finding, ...] = ()
        self._setup: Setup | None = None
        self._made_from: Setup | None = None
        self._checks: Checks = {}
        self._said: frozenset[object] = frozenset()

    # ------------------------------------------------------------------------------------------------ what others call

    @property
    def catalog(self) -> Catalog:
        return self._feed.catalog.value

    @property
    def statuses(self) -> Mapping[Subject, Status]:
        """What became of each document that could be read."""
        return self.compiled.statuses if self.compiled else {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with documents that could not be read, or not even parsed."""
        return self.reading.problems if self.reading else ()

    @property
    def remembered(self) -> Remembered:
        """What the next process should be told. Documents become shards by themselves."""
        shards = (Shard(key, tuple(found.values())) for key, found in self.catalog.shards.items() if key.source != STATIC)
        return Remembered(self._reader.good, tuple(shards))

    def sources(self) -> tuple[SourceStatus, ...]:
        """This cluster's sources, then the peers as sources."""
        own = (follower.status.value for follower in self._followers)
        return (*own, *self._registries.statuses(), *self._peers.sources())

    def publishers(self) -> tuple[PublisherStatus, ...]:
        """What `spec.publish` asks for."""
        return self._publishing.statuses()

    def virtual_addresses(self, hostname: str) -> tuple[str, ...]:
        """Those that the service was given; none for one that has its own, or none at all."""
        return self._assigned.addresses.get(hostname, ())

    async def leave(self) -> None:
        """Take back what was written to registries, for good: this gateway is taken out of service. Raises StillPublished."""
        await self._publishing.leave()

    def peers(self) -> tuple[PeerStatus, ...]:
        """Every Peer document, by name, both directions in one."""
        return self._peers.statuses()

    def reload(self) -> None:
        """Read every document and file again now. Never blocks."""
        self._places.reload()
        self._files.reload()

    def report(self, report: Report) -> None:
        """Hear what an engine says: whether a suspect address answers. Never blocks."""
        if isinstance(report, Confirmed):
            self._peers.confirmed(report)

    def hand_off(self, connection: socket.socket, hello: bytes) -> None:
        """Take over a peering connection (gateway.native.sockets.Handoff). Raises OSError when the plane does not run."""
        self._peers.hand_off(connection, hello)

    # ----------------------------------------------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish until cancelled; `started()` once the documents were read for the first time. Cancelled, it ends every session and
        leaves what it published."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self._trust.run)
            await nursery.start(self._places.run)
            own = (self._registries.run, self._publishing.run, self._peers.run, self._files.run, self._retiring.run)
            for run in (*(follower.run for follower in self._followers), *own, self._follow_catalog):
                nursery.start_soon(run)
            slots: list[tuple[Watchable[Any], str]] = [(self._places.changed, "documents")]
            if self._vips is not None:
                nursery.start_soon(self._vips.run)
                slots.append((self._vips.assigned, "vips"))
            slots += [(self._files.contents, "setup"), (self._trust.credential, "setup"), (self._trust.bundle, "setup")]
            slots += [(self._peers.addresses, "verdicts"), (self._health.results, "verdicts")]
            nursery.start_soon(self._health.run, self.snapshots)
            for slot, what in slots:
                nursery.start_soon(self._mark, slot, slot.version, what)  # the version of now: the task itself begins later
            task_status.started()
            await self._decide()

    async def _mark(self, slot: Watchable[Any], seen: int, what: str) -> None:
        """What depends on this slot is stale whenever it changes."""
        while True:
            seen, _ = await slot.newer_than(seen)
            self._stale.add(what)
            self._awake.set()

    async def _follow_catalog(self) -> None:
        reader = self._feed.reader()
        while True:
            change = await reader.wait_changed()
            # Not `|= (await …)`: that takes the set of before the wait, which a round has taken away since, with all its names.
            self._touched |= change.touched
            self._awake.set()

    async def _decide(self) -> None:
        """The one task that compiles and publishes."""
        until = trio.current_time() + READY_WITHIN
        while True:
            with trio.move_on_after(STORM):  # a registry that says everything is compiled once and not piece by piece
                await self._feed.wait_finished()
            self._awake = trio.Event()
            await self._round(ready=trio.current_time() >= until)
            await trio.sleep(COALESCE)
            with trio.move_on_at(until if self.compiled is None else self._publishing.until):
                await self._awake.wait()

    async def _round(self, *, ready: bool) -> None:
        """Take in what changed and publish what comes of it. ready: do not wait for sources that have said nothing yet."""
        stale, self._stale = self._stale, set()
        try:
            if self._setup is not None and not self._setup.synced and self._all_spoke():
                stale.add("setup")  # from now on the nameserver may say of a name that there is none
            if "documents" in stale:
                await self._take_documents()
            if stale & {"documents", "setup"}:
                await self._take_setup()
            if self.compiled is not None or ready or self._all_spoke():
                await self._publish()
            self.fault = ""
        except Exception as error:  # ours: what serves goes on serving, and the next change is compiled from the ground
            self.fault = (
                f"compiling failed, the last good configuration goes on: {describe(error)}; this is a bug, please report it"
            )
            self._stale |= stale
            self._made_from = None
            _log.error("plane.bug", error=describe(error), exc_info=error)
        self.rounds.set(self.rounds.value + 1)

    # ------------------------------------------------------------------------------------------------------ taking in

    async def _take_documents(self) -> None:
        reading = await sliced(self._reader.read(self._places.documents()))
        if self._office is not None:
            before = self._office.documents.value
            self._office.agree(reading.resources.workload_groups)
            if self._office.documents.value is not before:  # who registered with a group that has just become known
                reading = await sliced(self._reader.read(self._places.documents()))
        self.reading = reading
        self._node, problems = node_of(reading.resources, self._node)
        await self._want(self._node)
        found = await sliced(describing(reading.resources, self._node))
        self._described = (*problems, *found.problems)
        self._static.set(found.static)
        self._dns.set(found.dns)
        self._files.want(files_named(reading.resources))
        await self._settled(found.static)

    async def _want(self, node: Document[Node]) -> None:
        """What the Node asks to be read and written."""
        folder = posixpath.dirname(node.origin.file)
        self._places.want([Place(written, folder, node.spec.cluster) for written in node.spec.resources])
        self._registries.want(registries(node.spec, folder))
        self._publishing.want(outlets(node.spec, node.name, folder))
        if self._vips is not None:
            self._vips.configure(ranges_of(node.spec), own_addresses(node.spec), add_route=node.spec.vips.add_route)
        self._nameservers.set(asked(node.spec))
        known = {STATIC, DNS, PEER, *(key.source for key in self._registries.keys)}
        for key in [key for key in self._recalled if key.source not in known]:
            self._recalled.discard(key)  # it was taken out of the Node while no process ran
            await self._feed.drop_slowly(key)

    async def _take_setup(self) -> None:
        if self.reading is None:
            return
        resources, files = self.reading.resources, self._files.contents.value
        before = self._setup.bundles if self._setup else {}
        bundles, problems = bundles_of(resources, files, before, self._around.wall())
        own = self._trust.credential.value
        identity = Identity(own.chain, own.key, self._trust.bundle.value) if own else None
        synced = (self._setup is not None and self._setup.synced) or self._all_spoke()
        self._setup = Setup(self._node, resources, (*self._described, *problems), identity, bundles, files, synced)
        terms = peer_terms(resources, bundles)
        self._peers.agree(terms)
        for key in [key for key in self._recalled if key.source == PEER and key.cluster not in terms]:
            self._recalled.discard(key)  # its Peer document went while no process ran
            await self._feed.drop_slowly(key)
        if self._offering.agree(terms, export_terms(resources)):
            self._touched |= self.catalog.services.keys()

    async def _settled(self, services: Sequence[Service]) -> None:
        """Wait until the catalog has what the documents say."""
        key, left = ShardKey(self._node.spec.cluster, STATIC), list(services)
        seen = -1
        with trio.move_on_after(SETTLE):
            while True:
                seen, catalog = await self._feed.catalog.newer_than(seen)
                shard = catalog.shards.get(key)
                while shard is not None and left and shard.get(left[-1].hostname) == left[-1]:
                    left.pop()
                if shard is not None and not left and len(shard) == len(services):
                    return

    def _all_spoke(self) -> bool:
        keys = (*(follower.key for follower in self._followers), *self._registries.keys)
        return self._places.ready and all(self._feed.whole(key) for key in keys)

    # ------------------------------------------------------------------------------------------------------ publishing

    async def _publish(self) -> None:
        setup, services = self._setup, self.catalog.services
        if setup is None:
            return
        touched, self._touched = self._touched, set()
        if self._vips is not None:
            touched |= await sliced(self._vips.wanting(services, touched))
        before, self._checks = self._checks, self._health.results.value
        previous = self.compiled
        if touched or self._made_from is not setup:
            self.compiled = await make(previous, self._made_from, setup, services, touched, self._around.wall(), self._assigned)
            await self._retiring.keep(previous, touched if self._made_from is setup else None)
            self._made_from = setup
        made = self.compiled
        assert made is not None
        backends = await sliced(changed_backends(previous, made)) if made is not previous else set()
        backends |= {name for name in before.keys() | self._checks.keys() if before.get(name) is not self._checks.get(name)}
        verdicts = await sliced(
            with_verdicts(
                self.verdicts.value, made, services, checks=self._checks, addresses=self._peers.addresses.value, touched=backends
            )
        )
        if made.secrets != self.secrets.value:
            # The running Snapshot's keys stay one round.
            self.secrets.set({**(previous.secrets if previous else {}), **made.secrets})
        self.verdicts.set(verdicts)
        if made.snapshot != self.snapshots.value or not self.snapshots.value.parts:
            self.snapshots.set(made.snapshot)
        touched |= {name.rpartition("|")[2] for name in backends}
        await sliced(self._offering.offering(services, verdicts, touched))
        if setup.synced:  # before, what a source has not said yet would be taken for gone, and be taken back outside
            publications = self._publishing.offering(
                self.catalog,
                verdicts,
                touched,
                addresses=self._assigned.addresses,
                backends=made.backends_of,
                cluster_domain=self._node.spec.cluster_domain,
                unheard=self._peers.unheard(),
            )
            await sliced(publications)
        self._registries.report(self.catalog.findings)
        if made is not previous:
            await self._tell(made)

    async def _tell(self, made: Compiled) -> None:
        """Say what is wrong, once each, in the log, and to the documents' sources."""
        every = frozenset((*self.problems, *await sliced(made.finding())))
        for each in sorted(every - self._said, key=str):
            _log.warning("document.problem", problem=str(each))
        self._said = every
        if self._places.shown and self.reading is not None:
            self._places.report(outcomes(self.reading, made.statuses))

    @property
    def _assigned(self) -> Assigned:
        return self._vips.assigned.value if self._vips is not None else NO_VIPS

    def __repr__(self) -> str:
        return f"<Plane {self._node.name} {self.snapshots.value!r}>"
