"""The virtual addresses of this gateway: claimed as services come, kept on disk, agreed on through a shared store where there is one.

Theory of operation. `want` is called with each change of the catalog and never waits. Without a store an address is there at once, and the
file follows within WRITE_S. With one, a new name is written to the store first (check-and-set; who is slower reads and looks again, in
`vip_agreement`) and has its address when that succeeded: `assigned` changes then. What is known already stands while the store
is gone, after a restart too; new names have no address until it is back, because a name without one is better than one that means
different services at two gateways. What was kept by this node alone is offered to a store that is empty.

Addresses in the range that somebody else has (written in a ServiceEntry, an endpoint, this node's own) are never given away; a service that
has one when that is learnt gets another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import random

import structlog
import trio

from discovery.backoff import DEFAULT, Backoff
from discovery.model import Service
from discovery.watch import Watchable
from federation.store import SharedStore, StoreLost
from federation.trust.identity import TrustError
from federation.vip_agreement import Agreement
from federation.vip_file import FILE, load, save
from federation.vips import LEAST_S, Assigned, Ranges, Reach, Row, Table, needs_address, written_addresses

REFRESH_S = 900.0
"""How far behind the time may be that a row says its name was last wanted. Four rewrites an hour cost nothing, and it is a quarter of the
least time that an address is kept (vips.LEAST_S)."""

WRITE_S = 1.0
"""A rollout of a thousand services costs one write a second; what is lost with the process is found again by the names' hashes."""

BATCH = 200  # hostnames between two yields: 10 to 20 µs each

AGAIN_S = 30.0
"""After a write that failed: a disk that is full is full for a while, and each failure is a line in the log."""

log = structlog.get_logger("vips")


class VipKeeper:
    """`run` it; `want` works without, too. assigned: what compile is given. saved: how often the file was written.
    fault: why the store cannot be agreed with, "" = it can."""

    def __init__(
        self,
        ranges: Ranges,
        directory: Path | None = None,
        *,
        store: SharedStore | None = None,
        prefix: str = "vips",
        reach: Reach | None = None,
        add_route: bool = False,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random,
    ) -> None:
        """directory: the state directory, None = nothing is kept. prefix: of the store's keys, the same on all gateways of the cluster and
        no other's. reach: what comes to this machine's sockets; None = nothing does. add_route: as for
        `configure`. clock: seconds of the epoch."""
        self.assigned: Watchable[Assigned] = Watchable(Assigned())
        self.saved: Watchable[int] = Watchable(0)
        self.fault = ""
        self._path = directory / FILE if directory is not None else None
        self._store, self._prefix, self._reach, self._clock, self._rng = store, prefix, reach, clock, rng
        self._add_route = add_route
        self._wanted: set[str] = set()
        self._foreign: dict[str, frozenset[str]] = {}  # hostname → addresses in the range that it brings itself
        self._written: dict[str, tuple[str, ...]] = {}  # hostname → its own addresses, wherever they are
        self._own: frozenset[str] = frozenset()
        self._changed: set[str] = set()
        self._awake, self._unsaved = trio.Event(), trio.Event()
        self._started = int(clock())
        self._begin(ranges, _as_of(self._started, load(self._path, ranges)))

    def _begin(self, ranges: Ranges, rows: Iterable[Row]) -> None:
        self.ranges = ranges
        self._ask_networks()
        self._table = Table(ranges.size, rows)
        self._taken: set[int] = set()
        self._blocks: list[range] = []
        self._agreement = Agreement(self._table, self._wanted, self._is_taken) if self._store is not None else None

    # ------------------------------------------------------------------------------------------------- what others call

    def configure(self, ranges: Ranges, own: Iterable[str] = (), *, add_route: bool = False) -> None:
        """Use these ranges from now on; own: addresses of this node, which no service gets; add_route: make the ranges this machine's own
        (a route that was added stays). What changed is told by the next `want`."""
        mine, other = frozenset(own), add_route != self._add_route
        self._add_route = add_route
        if ranges != self.ranges:
            log.info("vips.range", range=ranges.networks, before=self.ranges.networks)
            self._begin(ranges, ())
            self._changed |= self.assigned.value.addresses.keys()
        elif other:
            self._ask_networks()
        elif mine == self._own:
            return
        self._own = mine
        self._learn_taken()
        self._settle(frozenset(self._wanted))
        self._learn_local(frozenset(self._written))
        self._awake.set()

    def want(self, services: Mapping[str, Service], touched: Iterable[str]) -> frozenset[str]:
        """Take in these hostnames as they are now in the catalog. Returns those whose addresses changed since the last call, for compile to
        make again; call it too when `assigned` changed by itself. Never blocks or raises."""
        steps = self.wanting(services, touched)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                changed: frozenset[str] = end.value
                return changed

    def wanting(self, services: Mapping[str, Service], touched: Iterable[str]) -> Generator[None, None, frozenset[str]]:
        """`want` in steps of a few milliseconds; one at a time."""
        foreign = False
        names = sorted(set(touched))
        for some in _batches(names):
            for host in some:
                foreign |= self._note(host, services.get(host))
            yield
        if foreign:
            self._learn_taken()
        for some in _batches(names):  # in the order of all names, so that it does not matter which of them came first
            self._settle(some)
            yield
        self._learn_local(self._written.keys() & set(names))
        changed, self._changed = frozenset(self._changed), set()
        return changed

    def _note(self, host: str, service: Service | None) -> bool:
        """Who wants an address, who brings some; whether those in the range are others than before."""
        if service is not None and needs_address(service):
            self._wanted.add(host)
            self._use(host, int(self._clock()))  # before anybody else looks for a place: it is taken, however long it was unused
        else:
            self._wanted.discard(host)
        written = written_addresses(service) if service is not None else ()
        if written:
            self._written[host] = written
        else:
            self._written.pop(host, None)
        return self._note_foreign(host, service)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the file, and agree with the store, until cancelled; what was not written by then is lost, and found again by hash."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._refresh)
            if self._path is not None:
                nursery.start_soon(self._save, self._path)
            if self._store is not None:
                nursery.start_soon(self._agree, self._store)
            task_status.started()

    # ------------------------------------------------------------------------------------------------ whose addresses

    def _note_foreign(self, host: str, service: Service | None) -> bool:
        """Whether the addresses in the range that this service brings itself are others than before."""
        found: frozenset[str] = frozenset()
        if service is not None:
            named = (*service.addresses, *(endpoint.address for endpoint in service.endpoints))
            found = frozenset(address for address in named if self.ranges.slots(address))
        if found == self._foreign.get(host, frozenset()):
            return False
        self._foreign[host] = found
        if not found:
            del self._foreign[host]
        return True

    def _learn_taken(self) -> None:
        """Which slots are somebody else's, and that no service of ours stays in one."""
        self._taken, self._blocks = set(), []
        for address in {*self._own, *(each for several in self._foreign.values() for each in several)}:
            slots = self.ranges.slots(address)
            if len(slots) == 1:
                self._taken.add(slots[0])
            elif slots:
                self._blocks.append(slots)
        for row in [row for row in self._table.rows.values() if self._is_taken(row.slot)]:
            host = row.host
            self._table.drop(host)
            self._touched(row)
            self._settle({host} & self._wanted)
            log.warning("vips.moved", service=host, reason="another service or this node has its address in the range of VIPs")

    def _is_taken(self, slot: int) -> bool:
        return slot in self._taken or any(slot in block for block in self._blocks)

    def _ask_networks(self) -> None:
        reach = self._reach
        self._networks = frozenset(
            each for each in self.ranges.networks if reach is not None and reach.claim(each, add_route=self._add_route)
        )

    def _learn_local(self, hosts: Iterable[str], *, again: bool = False) -> None:
        """Which of the addresses that these services bring come to this machine; others stay as they are known, unless `again`."""
        before = self.assigned.value
        local = (frozenset() if again else before.local) | self._networks
        for host in hosts:
            for address in self._written[host]:
                if address not in local and self._reach is not None and self._reach.has(_first(address)):
                    local |= {address}
        if local != before.local:
            self.assigned.set(Assigned(before.addresses, before.lacking, local))

    # ------------------------------------------------------------------------------------------------------- assigning

    def _settle(self, touched: Iterable[str]) -> None:
        """Names that have no row get one, now or when the store has agreed; and what changed is published."""
        missing = [host for host in touched if host in self._wanted and host not in self._table.rows]
        if self._agreement is None and self._table.claim(missing, int(self._clock()), self._is_taken):
            self._unsaved.set()
        if missing:
            self._awake.set()
        self._publish(touched)

    def _publish(self, touched: Iterable[str]) -> None:
        before = self.assigned.value
        addresses: dict[str, tuple[str, ...]] | None = None
        lacking: dict[str, str] | None = None
        for host in touched:
            now = self._addresses(host)
            why = self._why(host) if host in self._wanted and not now else ""
            if now != before.addresses.get(host, ()):
                addresses = dict(before.addresses) if addresses is None else addresses
                _set(addresses, host, now)
                self._changed.add(host)
            if why != before.lacking.get(host, ""):
                lacking = dict(before.lacking) if lacking is None else lacking
                _set(lacking, host, why)
                self._changed.add(host)
        if addresses is not None or lacking is not None:
            self.assigned.set(
                Assigned(
                    before.addresses if addresses is None else addresses,
                    before.lacking if lacking is None else lacking,
                    before.local,
                )
            )

    def _addresses(self, host: str) -> tuple[str, ...]:
        row = self._table.rows.get(host) if host in self._wanted else None
        if row is None or (self._agreement is not None and host in self._agreement.proposed):
            return ()
        return self.ranges.addresses(row.slot)

    def _why(self, host: str) -> str:
        if self._agreement is not None and host not in self._agreement.crowded:
            return self.fault or "the gateways of this cluster have not agreed on its address yet"
        return (
            f"the range {self.ranges.v4} is used up: all of its {self.ranges.size - 2} addresses are given away, or kept for services that "
            "went within the last hour; write a larger vips.range in the Node"
        )

    # ------------------------------------------------------------------------------------------------------------ tasks

    async def _refresh(self) -> None:
        """Say of every row in use that it is, forget the others in time, and give those a try that found no room."""
        while True:
            now = int(self._clock())
            for host in self._wanted:
                self._use(host, now)
            if now > self._started + LEAST_S:  # by then every source has said what it has
                for row in self._table.forget(now):
                    self._touched(row)
            self._settle(tuple(self.assigned.value.lacking))
            self._ask_networks()
            self._learn_local(frozenset(self._written), again=True)
            self._awake.set()
            await trio.sleep(REFRESH_S / 4)

    def _use(self, host: str, now: int) -> None:
        """Its row, if it has one, is in use now."""
        row = self._table.rows.get(host)
        if row is not None and row.seen < now - REFRESH_S:
            self._table.put(Row(host, row.slot, now))
            self._touched(row)

    def _touched(self, row: Row) -> None:
        self._unsaved.set()
        if self._agreement is not None:
            self._agreement.touch(row.slot)

    async def _save(self, path: Path) -> None:
        while True:
            await self._unsaved.wait()
            self._unsaved = trio.Event()
            try:
                await trio.to_thread.run_sync(save, path, self.ranges, list(self._table.rows.values()))
                self.saved.set(self.saved.value + 1)
            except TrustError as error:
                self._unsaved.set()
                log.error("vips.unsaved", path=str(path), error=str(error), retry_in_s=AGAIN_S)
                await trio.sleep(AGAIN_S)
            await trio.sleep(WRITE_S)

    async def _agree(self, store: SharedStore) -> None:
        """Follow the store and write to it; when it is lost, begin again with what it says then."""
        backoff = Backoff(DEFAULT, self._rng)
        while True:
            lost: BaseException | None = None
            try:
                await self._follow_store(store, backoff)
            except* StoreLost as group:
                lost = group
            if lost is None:
                continue  # the ranges are others now
            while isinstance(lost, BaseExceptionGroup):
                lost = lost.exceptions[0]
            if not self.fault:  # a line for a loss, not for each try
                action = "addresses stay as they are; new services get none until it is back"
                log.warning("vips.store_lost", error=str(lost), action=action)
            self.fault = f"the shared store is lost: {lost}"
            if self._agreement is not None:
                self._agreement.withdraw()
            self._publish(tuple(self.assigned.value.lacking))
            await trio.sleep(backoff.failed())

    async def _follow_store(self, store: SharedStore, backoff: Backoff) -> None:
        agreement = self._agreement
        assert agreement is not None
        for number in range(agreement.segments):
            self._took(agreement.load(number, await store.get(self._key(number))))
        backoff.succeeded()
        if self.fault:
            self.fault = ""
            self._publish(tuple(self.assigned.value.lacking))
        async with trio.open_nursery() as nursery:
            for number in range(agreement.segments):
                nursery.start_soon(self._watch, store, agreement, number)
            while self._agreement is agreement:
                await self._propose(store, agreement)
            nursery.cancel_scope.cancel()

    async def _watch(self, store: SharedStore, agreement: Agreement, number: int) -> None:
        while True:
            stored = await store.wait_changed(self._key(number), agreement.index(number))
            self._took(agreement.load(number, stored))

    async def _propose(self, store: SharedStore, agreement: Agreement) -> None:
        """Write what is to be written, once; or wait until there is something."""
        self._awake = trio.Event()
        crowded = agreement.propose(int(self._clock()))
        if crowded:
            self._publish(crowded)
        for number in agreement.unwritten():
            await store.put_if(self._key(number), agreement.encoded(number), agreement.index(number))
            # Written or not, what holds is what is there now.
            self._took(agreement.load(number, await store.get(self._key(number))))
        if not agreement.unwritten():
            await self._awake.wait()

    def _took(self, changed: set[str]) -> None:
        if changed:
            self._unsaved.set()
        self._publish(changed)
        self._awake.set()

    def _key(self, number: int) -> str:
        where = "+".join(network.replace("/", "-").replace(":", ".") for network in self.ranges.networks)
        return f"{self._prefix}/{where}/{number}"

    def __repr__(self) -> str:
        return f"<VipKeeper {self.ranges.networks} {self._table!r}{' ' + self.fault if self.fault else ''}>"


def _set(mapping: dict[str, object] | dict[str, str] | dict[str, tuple[str, ...]], key: str, value: object) -> None:
    if value:
        mapping[key] = value  # type: ignore[assignment]
    else:
        mapping.pop(key, None)


def _as_of(now: int, rows: Sequence[Row]) -> list[Row]:
    """Rows as if time had stood still since they were written: while no gateway ran nobody could want an address."""
    passed = max(0, now - max((row.seen for row in rows), default=now))
    return [Row(row.host, row.slot, row.seen + passed) for row in rows]


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BATCH):
        yield names[start : start + BATCH]


def _first(address: str) -> str:
    """An address of a CIDR that can be asked for."""
    return address.partition("/")[0]
