"""Sources: what reads one registry and says what it sees; and leases: what becomes of its shard when it cannot be reached.

Theory of operation. A Source is followed by a Follower, which writes its updates into the catalog, and only into its own
shard. A source that raises or ends has lost its registry: the shard stands as it was (silence is not emptiness), the source
is watched anew after a backoff, and a clock runs: when the lease's time is up before the next Reset, the shard is dropped or
its endpoints are marked degraded, by the LossPolicy. A Reset ends the loss, whatever came of the shard meanwhile.

Between a source and its shard stand two pure filters: `vanishing` doubts a Reset that would empty most of it, `damping` holds back what
comes and goes. Both give way with time, which `_settle` watches.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec
import trio

from discovery.backoff import DEFAULT, Backoff, BackoffPolicy, Random
from discovery.damping import Damper
from discovery.feed import PIECE, CatalogFeed
from discovery.loss import KEEP_FOREVER, LossPolicy, OnLoss
from discovery.model import Service, ShardKey
from discovery.supervise import describe
from discovery.update import Reset, Update
from discovery.vanishing import Vanishing, degraded
from discovery.watch import Watchable


class Source(Protocol):
    """Reads one registry and speaks updates.

    `watch` is written as an async generator under `@trio.as_safe_channel`. Each `watch()` connects anew: its first update is
    a Reset, sent once everything is known, never because the registry was unreachable. It raises when the registry is lost
    (OSError or whatever the client raises, alone or in a group) and never sends anything for it. Leaving the context closes the connection.
    Read it with `async for`: a bare `receive` adds an EndOfChannel to what the source raised.
    """

    @property
    def name(self) -> str: ...

    @property
    def cluster(self) -> str: ...

    def watch(self) -> AbstractAsyncContextManager[trio.abc.ReceiveChannel[Update]]: ...


class SourceLost(Exception):
    """A registry cannot be read: what was tried, why it failed, what to do."""


_LOOK_AGAIN = 1.0  # seconds between looks whether a lost registry is back; what waits for it waited seconds already


class SourceStatus(msgspec.Struct, frozen=True):
    """A source as the admin API shows it.

    connected: since the last Reset nothing failed. updated: when it last said something, in seconds of the follower's
    clock; None before. lost: since when it is not connected; None if it is. error: the last failure, "" while connected.
    shard: "none" (has said nothing), "live", "kept", "expired" or "degraded". damped: endpoints that are used after others because they
    come and go. remark: what is odd about what it says, "" = nothing.
    """

    key: ShardKey
    connected: bool = False
    updated: float | None = None
    lost: float | None = None
    error: str = ""
    failures: int = 0
    shard: str = "none"
    services: int = 0
    damped: int = 0
    remark: str = ""


class Follower:
    """Follows one source into the catalog. `status` is its state, for as many readers as like.

    clock: seconds for the status' times (time.time in the product); leases run on trio's clock. rng: the backoff's jitter.
    """

    def __init__(
        self,
        source: Source,
        feed: CatalogFeed,
        *,
        clock: Callable[[], float],
        rng: Random,
        loss: LossPolicy = KEEP_FOREVER,
        backoff: BackoffPolicy = DEFAULT,
    ) -> None:
        self.key = ShardKey(source.cluster, source.name)
        self.status = Watchable(SourceStatus(self.key, lost=clock()))
        self._source = source
        self._feed = feed
        self._clock = clock
        self._loss = loss
        self._backoff = Backoff(backoff, rng)
        self._damper, self._vanishing = Damper(), Vanishing()
        self._resetting = False
        self._due = trio.Event()  # set when something may be due earlier than before

    async def run(self) -> None:
        """Follow until cancelled; never returns and raises for nothing the source does. Cancellation leaves the shard in the
        catalog as it is: `feed.drop(follower.key)` when the source was taken out of the configuration."""
        lease = _Lease(self._loss, self._expire)
        async with trio.open_nursery() as nursery:
            lease.begin(nursery)
            nursery.start_soon(self._settle)
            while True:
                try:
                    await self._follow(lease)
                    error: Exception = SourceLost(f"source {self.key} ended its updates; it is started again")
                except* Exception as group:
                    error = group.exceptions[0] if len(group.exceptions) == 1 else group
                pause = self._backoff.failed()
                self._lost(error)
                lease.begin(nursery)
                await trio.sleep(pause)

    async def _follow(self, lease: _Lease) -> None:
        """One connection, from its Reset to its end."""
        async with self._source.watch() as updates:
            first = True
            async for update in updates:
                if first and not isinstance(update, Reset):
                    raise SourceLost(f"source {self.key} began with {type(update).__name__}, not Reset: a fault of the source")
                if first:
                    lease.end()
                    self._backoff.succeeded()
                first = False
                await self._take(update)
                self._said()

    async def _take(self, update: Update) -> None:
        if isinstance(update, Reset):
            shard = self._feed.catalog.value.shards.get(self.key, {})
            self._vanishing.begin(shard, update.services, trio.current_time())
        self._resetting = isinstance(update, Reset)
        await self._feed.apply_slowly(self.key, update, self._through)
        self._resetting = False
        if self._damper.held or self._vanishing.remark:
            self._due.set()

    def _through(self, old: Service | None, new: Service | None) -> Service | None:
        believed = self._vanishing.kept(old, new, reset=self._resetting)
        return self._damp(old, believed)

    def _damp(self, old: Service | None, new: Service | None) -> Service | None:
        return self._damper.damped(old, new, trio.current_time())

    async def _settle(self) -> None:
        """Write what was held back when its time has come, unless the registry is lost: then it stands as it is."""
        while True:
            self._due = trio.Event()
            due = [when for when in (self._damper.due(), self._vanishing.due()) if when is not None]
            with trio.move_on_at(max(min(due), trio.current_time())) if due else contextlib.nullcontext():
                await self._due.wait()
            now = trio.current_time()
            if not self.status.value.connected:
                await trio.sleep(_LOOK_AGAIN)
                continue
            shard = self._feed.catalog.value.shards.get(self.key, {})
            released = itertools.islice(self._damper.released(now), PIECE)  # the others at once, after everybody else had a turn
            ready = {name: self._damper.restored(name, shard.get(name), now) for name in released}
            self._feed.write(self.key, {name: service for name, service in ready.items() if service is not shard.get(name)})
            believed = self._vanishing.believed(now, PIECE)
            self._feed.write(self.key, believed, self._damp)
            if ready or believed:
                self._show()

    def _said(self) -> None:
        self.status.set(
            SourceStatus(
                self.key,
                connected=True,
                updated=self._clock(),
                shard="live",
                services=self._size(),
                damped=self._damper.held,
                remark=self._vanishing.remark,
            )
        )

    def _show(self) -> None:
        """What became of the shard without its source saying anything."""
        now = msgspec.structs.replace(
            self.status.value, services=self._size(), damped=self._damper.held, remark=self._vanishing.remark
        )
        self.status.set(now)

    def _lost(self, error: Exception) -> None:
        status = self.status.value
        self.status.set(
            msgspec.structs.replace(
                status,
                connected=False,
                error=describe(error),
                failures=self._backoff.failures,
                lost=self._clock() if status.lost is None else status.lost,
                shard="kept" if status.shard == "live" else status.shard,
            )
        )

    async def _expire(self) -> None:
        """The lease is up. Cancelled by the next Reset, it leaves some of it undone."""
        if self.key not in self._feed.catalog.value.shards:
            return
        if self._loss.action is OnLoss.EXPIRE:
            await self._feed.drop_slowly(self.key)
            word = "expired"
        else:
            await self._feed.change_slowly(self.key, degraded)
            word = "degraded"
        self.status.set(msgspec.structs.replace(self.status.value, shard=word, services=self._size()))

    def _size(self) -> int:
        return len(self._feed.catalog.value.shards.get(self.key, ()))


class _Lease:
    """Runs from a loss to the next Reset; calls `expire` if that takes too long."""

    def __init__(self, policy: LossPolicy, expire: Callable[[], Awaitable[None]]) -> None:
        self._policy = policy
        self._expire = expire
        self._running: trio.CancelScope | None = None

    def begin(self, nursery: trio.Nursery) -> None:
        """Start the time, unless it runs already."""
        if self._running is None and self._policy.action is not OnLoss.KEEP:
            self._running = trio.CancelScope()
            nursery.start_soon(self._run, self._running)

    def end(self) -> None:
        """A Reset has come: the next loss begins a new lease."""
        if self._running is not None:
            self._running.cancel()
            self._running = None

    async def _run(self, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(self._policy.after)
            if not scope.cancel_called:  # a Reset may have come in the very moment the time was up
                await self._expire()
