"""The native engine: one worker's data plane, on the reactor.

Theory of operation. `run` starts the reactor, applies the first Snapshot, lets the listeners accept, and then follows its three
Watchables, one change at a time. A Snapshot is compiled in slices between which traffic runs; what is replaced is replaced at once,
between two turns: tables, states, listeners. An exchange keeps what it took at its beginning, so none is dropped by a change.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog
import trio

from discovery.watch import Watchable
from gateway.engine import Applied, Confirmed, Report, Statistics
from gateway.faults import validating
from gateway.native import tcp
from gateway.native.accesslog import FLUSH
from gateway.native.confirm import Confirmations
from gateway.native.connection import ConnectionContext
from gateway.native.downstream import serve
from gateway.native.host import Host
from gateway.native.listener import Listeners
from gateway.native.mirror import mirror
from gateway.native.nameserver import Nameserver
from gateway.native.observe import BOUNDS, Observer
from gateway.native.overload import OverloadMonitor
from gateway.native.pool import Dialer
from gateway.native.reactor import NEVER, Reactor, Strand
from gateway.native.runtime import Runtime
from gateway.native.shared import Shared
from gateway.native.sockets import Handoff, Sockets
from gateway.native.stream import Stream
from gateway.native.tls import Contexts
from gateway.native.upstream import TICK, Upstreams
from gateway.native.withdrawn import Withdrawn
from gateway.secret import Secrets
from gateway.snapshot import Inbound, ListenerKind, Snapshot
from gateway.table import Tables
from gateway.verdicts import Verdicts

log = structlog.get_logger("gateway.engine")

_SLICE = 0.005  # seconds of compiling before traffic has its turn (DATAPLANE: no turn over 5 ms)
_DRAIN_LOOK = 0.05
# Requests free what they allocate by reference counting; cycles are few (a connection's, broken by hand). A young collection every
# 50,000 net allocations instead of 700 keeps the collector's pauses off the p99; DATAPLANE "what to watch".
_GC = (50_000, 20, 50)


class NativeEngine:
    """gateway.engine.Engine. One a process."""

    def __init__(
        self,
        *,
        worker: int,
        sockets: Watchable[Sockets],
        shared: Shared | None = None,
        handoff: Handoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """shared None: this worker is alone. handoff None: peering connections are closed. clock must be that of `shared`."""
        self._sockets = sockets
        self._shared = shared if shared is not None else _alone(worker)
        self._worker = worker
        self._snapshot = Snapshot()
        self._trouble: tuple[str, ...] = ()  # what of the listeners does not load
        self._secrets: Secrets = {}
        self._reports: trio.MemorySendChannel[Report] | None = None
        self.reactor = Reactor(clock)
        self._contexts = Contexts(clock=wall)
        self._observer = Observer(wall)
        self._upstreams = Upstreams(random=rng, shared=self._shared)
        self._tables = Tables()
        dialer = Dialer(self.reactor, self._contexts)
        self.runtime = Runtime(self.reactor, dialer, self._observer, states=self._upstreams.states, random=rng)
        self.overload = self.runtime.overload = OverloadMonitor(self.reactor, workers=self._shared.workers)
        self.runtime.mirror = mirror
        self._confirmations = Confirmations(dialer, self._confirmed, self._upstreams.alone)
        self.nameserver = Nameserver(self.reactor, self._upstreams.states, random=rng, entropy=os.urandom)
        self._listeners = Listeners(
            self.reactor, self._shared, serve=self._serve, handoff=handoff or _nobody, datagrams=self.nameserver.datagrams
        )
        self._withdrawn = Withdrawn(self.runtime.relays, self._listeners.offers)

    # ---------------------------------------------------------------------------------------------------------- running

    async def run(
        self,
        snapshots: Watchable[Snapshot],
        verdicts: Watchable[Verdicts],
        secrets: Watchable[Secrets],
        reports: trio.MemorySendChannel[Report],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """See gateway.engine.Engine."""
        self._reports = reports
        gc.set_threshold(*_GC)
        reactor = self.reactor
        seen = snapshots.version, verdicts.version, secrets.version
        self._secrets = secrets.value
        self._upstreams.assess(verdicts.value)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(reactor.run)
                reactor.at_turn_end += [self.runtime.unflushed.flush, self._observer.turn_ended, self._sync]
                _Repeated(reactor, TICK, self._tick)
                self.overload.start()
                _Repeated(reactor, FLUSH, lambda: self._observer.tick(reactor.now))
                self._observer.tick(reactor.clock())
                await self._apply(snapshots.value)
                await nursery.start(self._listeners.run, self._sockets)
                task_status.started()
                nursery.start_soon(self._follow_snapshots, snapshots, seen[0])
                nursery.start_soon(self._follow_verdicts, verdicts, seen[1])
                nursery.start_soon(self._follow_secrets, secrets, seen[2])
        finally:
            self.runtime.ready = False
            for state in self._upstreams.states.values():
                for host in state.reached():
                    if host.pool is not None:
                        host.pool.end()
            self._observer.close()
            self._report_all()

    def _serve(self, strand: Strand, stream: Stream, context: ConnectionContext, data: bytes) -> Coroutine[None, Any, None]:
        # Not async itself: each coroutine in the chain is passed through at every step of the connection.
        if context.tcp is not None:
            return tcp.serve(strand, stream, context, self.runtime, data)
        if context.listener.kind is ListenerKind.DNS:
            return self.nameserver.serve(strand, stream, context, data)
        return serve(strand, stream, context, self.runtime, data)

    async def _follow_snapshots(self, snapshots: Watchable[Snapshot], seen: int) -> None:
        while True:
            seen, snapshot = await snapshots.newer_than(seen)
            await self._apply(snapshot)

    async def _follow_verdicts(self, verdicts: Watchable[Verdicts], seen: int) -> None:
        while True:
            seen, value = await verdicts.newer_than(seen)
            self._upstreams.assess(value)
            self._tick()

    async def _follow_secrets(self, secrets: Watchable[Secrets], seen: int) -> None:
        while True:
            seen, self._secrets = await secrets.newer_than(seen)
            self._trouble = self._listen(self._snapshot)
            self._say(Applied(self._snapshot.version, self._trouble))

    # --------------------------------------------------------------------------------------------------------- applying

    async def _apply(self, snapshot: Snapshot) -> None:
        """Run this Snapshot from now on, or say why not and change nothing. What a small change does not reach is not looked at."""
        names = snapshot.differing(self._snapshot) if self.runtime.ready else None
        faults: list[str] = []
        began = self.reactor.clock()
        for found in validating(snapshot, self._snapshot if self.runtime.ready else None):
            faults += found
            if self.reactor.clock() - began > _SLICE:
                await trio.lowlevel.checkpoint()
                began = self.reactor.clock()
        if not faults:
            try:
                for _ in self._tables.build(snapshot, names):
                    if self.reactor.clock() - began > _SLICE:
                        await trio.lowlevel.checkpoint()
                        began = self.reactor.clock()
            except ValueError as error:
                faults = [str(error)]
        if faults:
            self._say(Applied(self._snapshot.version if self.runtime.ready else "", tuple(faults)))
            return
        # Backends first: a table must not name one that has no state yet. In slices too: 5,000 backends take 0.3 s.
        began = self.reactor.clock()
        for hosts in self._upstreams.prepare(snapshot, began):
            _close_pools(hosts)
            if self.reactor.clock() - began > _SLICE:
                await trio.lowlevel.checkpoint()
                began = self.reactor.clock()
        began = self.reactor.clock()
        dns = snapshot.node.dns if snapshot.node is not None else None
        for _ in self.nameserver.apply(dns, snapshot.parts, names):
            if self.reactor.clock() - began > _SLICE:
                await trio.lowlevel.checkpoint()
                began = self.reactor.clock()
        _close_pools(self._upstreams.finish(snapshot, self.reactor.clock()))
        self.runtime.tables = self._tables.tables
        if names is None or any(name.startswith("inbound/") for name in names):
            self.runtime.inbounds = {part.sni: part for part in snapshot.parts.values() if isinstance(part, Inbound)}
        before, self._snapshot = self._snapshot, snapshot
        if names is None or any(_is_listeners(name, before, snapshot) for name in names):
            self._trouble = self._listen(snapshot)
            await self._look_at_relays(snapshot)
        trouble = list(self._trouble)
        if snapshot.node is not None:
            self.runtime.trusted_proxies = snapshot.node.trusted_proxies
            self.runtime.client_cert = snapshot.node.client_cert
            self.runtime.resolver.configure(snapshot.node.dns.upstreams if snapshot.node.dns is not None else ())
            trouble += self._observer.configure(snapshot.node)
            self.overload.configure(snapshot.node.overload)
            self._listeners.limit(snapshot.node.overload.connections)
        self.runtime.ready = True
        self._say(Applied(snapshot.version, tuple(trouble)))

    def _listen(self, snapshot: Snapshot) -> tuple[str, ...]:
        self._contexts.renew(self._secrets)
        return self._listeners.apply(snapshot, self._contexts)

    async def _look_at_relays(self, snapshot: Snapshot) -> None:
        """Give those that are not offered any more their time to end. In slices: there may be ten thousands."""
        began = self.reactor.clock()
        patience = (snapshot.node.drain_ms if snapshot.node is not None else 0) / 1000
        for _ in self._withdrawn.look(began + patience):
            if self.reactor.clock() - began > _SLICE:
                await trio.lowlevel.checkpoint()
                began = self.reactor.clock()

    # ------------------------------------------------------------------------------------------------------ time passes

    def _sync(self) -> None:
        self._upstreams.sync(self.reactor.now)

    def _tick(self) -> None:
        """Every upstream.TICK. Between two turns."""
        upstreams = self._upstreams
        upstreams.tick(self.reactor.now)
        self.nameserver.tick(self.reactor.now)
        self._withdrawn.tick(self.reactor.now)
        for address in upstreams.take_suspects():
            for state in upstreams.states.values():
                host = next((host for host in state.hosts.values() if host.key == address), None)
                if host is not None:
                    self._confirmations.confirm(address, state, host)
                    break
        self._report_all()

    def _confirmed(self, confirmed: Confirmed) -> None:
        self._upstreams.confirmed(confirmed.address, alive=confirmed.alive)
        self._say(confirmed)

    def _report_all(self) -> None:
        for report in self._upstreams.take_reports():
            self._say(report)

    def _say(self, report: Report) -> None:
        """Tell control; dropped when nobody reads."""
        if self._reports is not None:
            try:
                self._reports.send_nowait(report)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                log.debug("report.dropped", report=report)

    # --------------------------------------------------------------------------------------------------------- draining

    async def drain(self, deadline: float) -> None:
        """See gateway.engine.Engine. Connections that idle are closed after a second of it, those that work after their answer."""
        runtime, reactor = self.runtime, self.reactor
        self._listeners.drain()  # first: it takes what waits in the queue, and that may still ask once
        runtime.draining = True
        began = reactor.clock()
        with trio.move_on_at(deadline):
            while self._listeners.connections:
                self._leave(began)
                await trio.sleep(_DRAIN_LOOK)
        for strand in list(reactor.strands):
            strand.cancel()

    def _leave(self, since: float) -> None:
        now = self.reactor.clock()
        for connection in list(self.runtime.connections):
            connection.leave(since, now)
        self.nameserver.close_idle()
        if not self.runtime.connections:
            for strand in list(self.runtime.checks):
                strand.cancel()

    # ------------------------------------------------------------------------------------------------------- statistics

    def statistics(self) -> Statistics:
        """See gateway.engine.Engine."""
        listeners = self._listeners
        refused = dict(listeners.refused)
        for reason, count in (*self._observer.refused.items(), *self.overload.shed.items()):
            refused[reason] = refused.get(reason, 0) + count
        return Statistics(
            version=self._snapshot.version,
            worker=self._worker,
            duration_bounds=BOUNDS,
            size_bounds=BOUNDS,
            requests=tuple(self._observer.series()),
            routes=tuple(sorted(self._observer.routes.items())),
            backends=self._upstreams.backend_statistics(),
            endpoints=self._upstreams.endpoint_statistics(self.reactor.clock(), _connections),
            downstream_connections=listeners.connections,
            downstream_connections_total=listeners.connections_total,
            tls_handshakes=listeners.handshakes,
            tls_failures=listeners.handshake_failures,
            refused=tuple(sorted(refused.items())),
            draining=self.runtime.draining,
            tcp=tuple(self._observer.tcp.statistics()),
            dns=self.nameserver.statistics(),
        )

    def __repr__(self) -> str:
        return f"<NativeEngine worker={self._worker} {self._snapshot!r} {self._listeners!r}>"


def _is_listeners(name: str, before: Snapshot, after: Snapshot) -> bool:
    """Whether the listeners must be told of this part's change: it is one, or what peers reach, or it is there and was not, or the
    other way round (an SNI that names a backend which does not exist is refused)."""
    if name.startswith("backend/"):
        return (name in before.parts) is not (name in after.parts)
    return not name.startswith(("endpoints/", "host/", "name/"))


class _Repeated:
    """A function called every so many seconds, by the reactor, between turns."""

    __slots__ = ("_every", "_function", "_reactor", "armed", "deadline")

    def __init__(self, reactor: Reactor, every: float, function: Callable[[], object]) -> None:
        self._reactor = reactor
        self._every = every
        self._function = function
        self.armed = NEVER
        self.deadline = reactor.clock() + every
        reactor.arm(self)

    def expired(self) -> None:
        self.deadline = self._reactor.now + self._every
        self._function()


def _close_pools(hosts: Iterable[Host]) -> None:
    for host in hosts:
        if host.pool is not None:
            host.pool.close()


def _connections(host: Host) -> int:
    return host.pool.opened if host.pool is not None else 0


def _alone(worker: int) -> Shared:
    memory = Shared.create(worker + 1)
    return Shared.attach(memory.fd, worker)


def _nobody(connection: object, data: bytes) -> None:
    raise ConnectionRefusedError("this worker has no control process to give peering connections to")
