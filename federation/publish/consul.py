"""A Publisher to Consul: the merged catalog as services of a node of our own. `consul_entries` decides what, here it is written.

Theory of operation. What stands there is read once, then every RESYNC and after each failure; between that our own writes are noted, so a
change costs one write. Writes go in transactions, spaced to `writes_per_second` entries; each is planned from the latest Publications. What
somebody else takes away or changes is so put right once a minute at most: two who want different things do not fight.
"""

from __future__ import annotations

import random

import msgspec
import structlog
import trio

from discovery.backoff import DEFAULT, Backoff, Random
from discovery.clients.consul import MOST_OPERATIONS, ConsulClient, ConsulConnection, Failed, Refused
from discovery.clients.consul_entries import PUBLISHED, PUBLISHED_BY
from discovery.watch import Watchable
from federation.publish.consul_entries import (
    Entry,
    Operation,
    Standing,
    Wish,
    node_name,
    node_operation,
    operations,
    removal,
    standing,
    wished,
)
from federation.publish.publication import Publications, PublisherStatus

RESYNC = 60.0  # seconds: as often as Consul's agents compare what they have with the catalog
CONNECTIONS = 2
MOST_ENTRIES = MOST_OPERATIONS // 2 - 1  # of a transaction: each is two operations, and one is the node's
_log = structlog.get_logger("publish")


class ConsulPublishOptions(msgspec.Struct, frozen=True):
    """owner: marks what this gateway wrote, `cluster/gateway`. sources: names of this gateway's sources that read the same Consul: what they
    say is not written back. writes_per_second: entries, at most."""

    owner: str
    connection: ConsulConnection = ConsulConnection()
    prefix: str = "fed-"
    sources: frozenset[str] = frozenset()
    writes_per_second: float = 50.0


class ConsulPublisher:
    """See Publisher. `leave` takes back what bears our owner's mark, and the node."""

    def __init__(self, name: str, options: ConsulPublishOptions, *, rng: Random = random.random) -> None:
        self.name = name
        self.status = Watchable(PublisherStatus(name))
        self._options = options
        self._rng = rng
        self._node = node_name(options.prefix, options.owner)
        self._client = ConsulClient(options.connection, stale=False, connections=CONNECTIONS)
        self._there = False  # our node is
        self._standing: dict[str, Standing] = {}
        self._foreign: frozenset[str] = frozenset()
        self._taken: frozenset[str] = frozenset()
        self._conflicts: dict[str, str] = {}

    async def run(
        self, publications: Watchable[Publications], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Write what differs until cancelled. Cancelled, a transaction that is under way may still be done."""
        backoff = Backoff(DEFAULT, self._rng)
        task_status.started()
        read_at = trio.current_time()
        try:
            while True:
                seen = publications.version
                try:
                    if trio.current_time() >= read_at:
                        await self._read()
                        read_at = trio.current_time() + RESYNC
                    await self._write(publications)
                except Failed as error:
                    self._say(error=str(error))
                    read_at = trio.current_time()
                    await trio.sleep(backoff.failed())
                    continue
                backoff.succeeded()
                with trio.move_on_at(read_at):
                    await publications.newer_than(seen)
        finally:
            await self._client.__aexit__(None, None, None)

    async def leave(self) -> None:
        """Take our entries back, and our node if nobody else uses it. Raises Unreachable or Refused; what was not taken back then stands."""
        async with self._client:
            await self._read()
            while self._standing:
                some = [*self._standing.values()][: MOST_OPERATIONS - 1]
                await self._transact([removal(old, self._node) for old in some], {}, [old.entry.ident for old in some])
                await self._spaced(len(some))
            node, services, _ = await self._client.node(self._node)
            if node is not None and not services and (node.get("Meta") or {}).get(PUBLISHED_BY) == self._options.owner:
                wanted = {"Node": self._node, "ModifyIndex": node["ModifyIndex"]}
                await self._client.transact([{"Node": {"Verb": "delete-cas", "Node": wanted}}])
            self._there = False
            self._say()

    # ------------------------------------------------------------------------------------------------------- what stands

    async def _read(self) -> None:
        node, services, checks = await self._client.node(self._node)
        if node is not None and (node.get("Meta") or {}).get(PUBLISHED_BY) != self._options.owner:
            raise Refused(
                0, f"the node {self._node} in Consul is somebody else's; publish with another prefix, or take that node out"
            )
        self._there = node is not None
        self._standing, self._foreign = standing(services, checks, self._options.owner)
        names = (await self._client.names()).data
        self._taken = frozenset(name for name, tags in names.items() if PUBLISHED not in tags)

    # ------------------------------------------------------------------------------------------------------- writing

    async def _write(self, publications: Watchable[Publications]) -> None:
        """Until what stands there is what the latest Publications say."""
        while True:
            wish = self._wish(publications)
            stale = [old for ident, old in self._standing.items() if ident not in wish.entries]
            changed = [entry for entry in wish.entries.values() if entry.ident not in self._foreign and self._plan(entry)]
            self._say(pending=len(stale) + len(changed))
            if not stale and not changed:
                return
            # What is new goes first: a service whose address changes is never without one.
            some = changed[:MOST_ENTRIES]
            plan: list[Operation] = [] if self._there else [node_operation(self._node, self._options.owner)]
            for entry in some:
                plan += self._plan(entry)
            gone = stale[: MOST_ENTRIES - len(some)]
            plan += [removal(old, self._node) for old in gone]
            await self._transact(plan, {entry.ident: entry for entry in some}, [old.entry.ident for old in gone])
            await self._spaced(len(some) + len(gone))

    def _plan(self, entry: Entry) -> list[Operation]:
        return [*operations(entry, self._standing.get(entry.ident), self._node)]

    def _wish(self, publications: Watchable[Publications]) -> Wish:
        options = self._options
        wish = wished(
            publications.value.values(),
            prefix=options.prefix,
            owner=options.owner,
            sources=options.sources,
            taken=self._taken,
        )
        conflicts = {**wish.conflicts, **{i: "is somebody else's there" for i in self._foreign if i in wish.entries}}
        for name in conflicts.keys() - self._conflicts.keys():
            _log.warning("publish.conflict", publisher=self.name, service=name, reason=conflicts[name], action="left alone")
        self._conflicts = conflicts
        return wish

    async def _transact(self, plan: list[Operation], written: dict[str, Entry], gone: list[str]) -> None:
        """Do it and note it. Raises Refused if something stands there otherwise than we knew: it has to be read again."""
        done = await self._client.transact(plan)
        if done.errors:
            raise Refused(
                409, f"Consul took none of {len(plan)} writes: {str(done.errors[0].get('What'))[:200]}; what stands is read again"
            )
        self._there = True
        for ident in gone:
            self._standing.pop(ident, None)
        services = {str(r["Service"]["ID"]): int(r["Service"]["ModifyIndex"]) for r in done.results if "Service" in r}
        checks = {str(r["Check"]["ServiceID"]): int(r["Check"]["ModifyIndex"]) for r in done.results if "Check" in r}
        for ident, entry in written.items():
            old = self._standing.get(ident)
            index = services.get(ident, old.index if old else 0)
            self._standing[ident] = Standing(entry, index, checks.get(ident, old.check if old else 0))

    async def _spaced(self, entries: int) -> None:
        await trio.sleep(entries / self._options.writes_per_second)

    def _say(self, *, pending: int = 0, error: str = "") -> None:
        before = self.status.value
        now = PublisherStatus(
            self.name,
            connected=not error,
            published=len(self._standing),
            pending=before.pending if error else pending,
            conflicts=tuple(sorted(self._conflicts)),
            error=error,
        )
        if error and error != before.error:
            _log.warning("publish.failed", publisher=self.name, error=error, action="tried again; what was written stands")
        if now != before:
            self.status.set(now)

    def __repr__(self) -> str:
        return f"<ConsulPublisher {self._options.connection.address} {self._node} entries={len(self._standing)}>"
