"""What must be asked for besides Nomad's registrations: the checks of their allocations, and their nodes.

Theory of operation. A heap says when which allocation or node is due; at most AT_ONCE of them are asked for. A new allocation is asked for
itself (does it run, how many checks has it) and for its checks' results at once, because its traffic waits for both; later for the results
alone: every CHECK_EVERY while it has checks, sooner while one has not run yet, hardly ever when it has none. A node is asked for when it is
first seen and when the list of nodes says that it changed. An answer that fails leaves what was known before.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog
import trio

from discovery.clients.nomad import NomadClient, NomadRefused, NomadUnreachable, part
from discovery.nomad import Allocation, CheckResult, Node, NodeStub, Registration, Seen, seen

AT_ONCE = 12  # short questions under way: they are answered in milliseconds, and an agent serves others too
# Nomad runs no check more often than once a second, so a result is seen one such interval late at most.
CHECK_EVERY = 1.0
# A check that has not run yet is what stands between a new endpoint and its traffic.
PENDING_EVERY = 0.25
# Many allocations stretch both: an answer costs the agent, and often a server and another client, a few hundred microseconds each.
QUESTIONS_PER_SECOND = 100
# An allocation without checks has only its status to ask for, and its registration goes with it: this finds one whose client was lost.
STATUS_EVERY = 60.0
_RETRY = 1.0  # after a question that failed: the agent may restart, the allocation's client may be away
_NODES_APART = 0.2  # a large cluster's nodes change all the time
_NODES_RETRY = 10.0  # what nodes say of themselves decides labels and localities only

_log = structlog.get_logger("nomad")

_CHECKS = msgspec.json.Decoder(dict[str, CheckResult] | None)
_ALLOCATION = msgspec.json.Decoder(Allocation)
_NODE = msgspec.json.Decoder(Node)
_NODES = msgspec.json.Decoder(tuple[NodeStub, ...] | None)

_UNASKED: Mapping[str, CheckResult] = {}


class _Item(NamedTuple):
    kind: str  # "allocation" or "node"
    id: str


class Asking:
    """`run` it; `want` says what is registered. allocations and nodes: what is known, kept up to date, by id. changed: told of registrations
    whose allocation or node is known differently now; must not block."""

    def __init__(
        self,
        client: NomadClient,
        allocations: dict[str, Seen],
        nodes: dict[str, Node],
        changed: Callable[[Iterable[Registration]], None],
    ) -> None:
        self._client, self._changed = client, changed
        self._allocations, self._nodes = allocations, nodes
        self._users: dict[_Item, dict[str, Registration]] = {}
        self._waiting: dict[_Item, set[str]] = {}  # registrations for whose sake it has to be asked for first
        self._fresh: set[_Item] = set()  # to be read whole: allocations whose registration changed
        self._found: dict[str, Allocation] = {}
        self._versions: dict[str, int] = {}  # of every node, as the list said last
        self._due: dict[_Item, float] = {}
        self._heap: list[tuple[float, _Item]] = []
        self._busy: set[_Item] = set()
        self._woken = trio.Event()
        self._limit = trio.CapacityLimiter(AT_ONCE)
        self._nodes_refused = False

    @property
    def idle(self) -> bool:
        """Everything that is wanted was asked for once."""
        return not self._waiting

    def is_known(self, registration: Registration) -> bool:
        return not any(registration.id in self._waiting.get(item, ()) for item in _items(registration))

    def want(self, now: Iterable[Registration], before: Iterable[Registration]) -> None:
        """A service's registrations are these, and were those."""
        new, old = {each.id: each for each in now}, {each.id: each for each in before}
        for each in old.values():
            for item in _items(each):
                if each.id not in new or item not in _items(new[each.id]):
                    self._leave(item, each)
        for each in new.values():
            if old.get(each.id) != each:
                for item in _items(each):
                    self._take(item, each)

    def forget_unwanted(self) -> None:
        """What an earlier watch knew and nothing needs any more."""
        for kind, known in (("allocation", self._allocations), ("node", self._nodes)):
            for gone in [each for each in known if _Item(kind, each) not in self._users]:
                del known[gone]

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow_nodes)
            while True:
                now = trio.current_time()
                while self._heap and self._heap[0][0] <= now:
                    due, item = heapq.heappop(self._heap)
                    if self._due.get(item) == due:
                        del self._due[item]
                        self._busy.add(item)
                        nursery.start_soon(self._one, item)
                self._woken = trio.Event()
                with trio.move_on_at(self._heap[0][0] if self._heap else float("inf")):
                    await self._woken.wait()

    # ------------------------------------------------------------------------------------------------ what is wanted

    def _take(self, item: _Item, registration: Registration) -> None:
        users = self._users.setdefault(item, {})
        new = registration.id not in users
        users[registration.id] = registration
        if item.kind == "node" and self._is_read(item):
            return
        if new:  # also of an allocation that is known: a job may get services, with checks, while it runs
            self._waiting.setdefault(item, set()).add(registration.id)
        self._fresh.add(item)
        self._schedule(item, 0.0)

    def _leave(self, item: _Item, registration: Registration) -> None:
        users = self._users.get(item, {})
        users.pop(registration.id, None)
        self._served(item, {registration.id})
        if users:
            return
        self._users.pop(item, None)
        self._due.pop(item, None)
        self._fresh.discard(item)
        self._found.pop(item.id, None)
        if item.kind == "allocation":
            self._allocations.pop(item.id, None)
        elif item.id not in self._versions:  # a node that is listed is kept for the next that runs there
            self._nodes.pop(item.id, None)

    def _served(self, item: _Item, registrations: set[str]) -> None:
        """These do not wait any more."""
        waiting = self._waiting.get(item, set())
        waiting -= registrations
        if not waiting:
            self._waiting.pop(item, None)

    def _is_read(self, item: _Item) -> bool:
        return item.id in self._nodes and item.id in self._versions

    def _schedule(self, item: _Item, after: float) -> None:
        if item in self._busy:
            return  # its end schedules it again, at once if it is in `fresh`
        due = trio.current_time() + after
        if self._due.get(item, float("inf")) > due:
            self._due[item] = due
            heapq.heappush(self._heap, (due, item))
            self._woken.set()

    # -------------------------------------------------------------------------------------------------------- asking

    async def _one(self, item: _Item) -> None:
        pause, failed = _RETRY, False
        waiting = set(self._waiting.get(item, ()))
        before = (self._allocations.get(item.id), self._nodes.get(item.id))
        try:
            async with self._limit:
                if item in self._users:
                    pause = await (self._ask_allocation(item) if item.kind == "allocation" else self._ask_node(item))
        except (NomadRefused, NomadUnreachable) as error:
            failed = True
            self._fresh.add(item)
            _log.info("nomad.unanswered", kind=item.kind, id=item.id, error=str(error))
        finally:
            self._busy.discard(item)
        if item not in self._users:
            self._fresh.discard(item)
            return
        self._served(item, waiting)
        if waiting or before != (self._allocations.get(item.id), self._nodes.get(item.id)):
            self._changed(tuple(self._users[item].values()))
        if pause < float("inf") or item in self._fresh:
            self._schedule(item, 0.0 if item in self._fresh and not failed else pause)

    async def _ask_allocation(self, item: _Item) -> float:
        """Seconds to the next question."""
        found, results = self._found.get(item.id), _UNASKED
        if found is None or item in self._fresh:
            self._fresh.discard(item)
            found, results = await self._ask_both(item)
        elif not found.checks:
            found = await self._ask_itself(item)
        before = self._allocations.get(item.id)
        if not found.checks:
            self._allocations[item.id] = seen(found, {}, before)
            return STATUS_EVERY
        if results is _UNASKED:
            results = await self._ask_checks(item)
        state = self._allocations[item.id] = seen(found, results, before)
        pending = state.results < state.declared or any(each.status == "pending" for each in results.values())
        return self._interval(PENDING_EVERY if pending else CHECK_EVERY)

    async def _ask_both(self, item: _Item) -> tuple[Allocation, Mapping[str, CheckResult]]:
        """The allocation and its checks at once, because what is new waits for both. Raises what the client raises."""
        failed: NomadRefused | NomadUnreachable | None = None
        async with trio.open_nursery() as nursery:
            results = [_UNASKED]

            async def checks() -> None:
                with contextlib.suppress(NomadRefused, NomadUnreachable):  # asked again, if it has checks at all
                    results[0] = await self._ask_checks(item)

            nursery.start_soon(checks)
            try:
                found = await self._ask_itself(item)
            except (NomadRefused, NomadUnreachable) as error:
                failed = error
                nursery.cancel_scope.cancel()
            else:
                if not found.checks:
                    nursery.cancel_scope.cancel()  # there is nothing to wait for
                    return found, _UNASKED
        if failed is not None:
            raise failed
        return found, results[0]

    async def _ask_itself(self, item: _Item) -> Allocation:
        found = self._found[item.id] = (await self._client.get(f"/v1/allocation/{part(item.id)}", _ALLOCATION, stale=True)).value
        return found

    async def _ask_checks(self, item: _Item) -> Mapping[str, CheckResult]:
        return (await self._client.get(f"/v1/client/allocation/{part(item.id)}/checks", _CHECKS)).value or {}

    def _interval(self, wanted: float) -> float:
        checked = sum(1 for found in self._found.values() if found.checks)
        return max(wanted, checked / QUESTIONS_PER_SECOND)

    async def _ask_node(self, item: _Item) -> float:
        self._fresh.discard(item)
        if self._nodes_refused:
            return float("inf")
        try:
            self._nodes[item.id] = (await self._client.get(f"/v1/node/{part(item.id)}", _NODE, stale=True)).value
        except NomadRefused as error:
            if error.status != 403:
                raise
            self._nodes_refused = True
            _log.warning("nomad.nodes_refused", error=str(error), effect="localities come from datacenters alone")
        return float("inf")

    async def _follow_nodes(self) -> None:
        """Ask for a node again when the list says that it changed."""
        index = 0
        while not self._nodes_refused:
            try:
                answer = await self._client.get("/v1/nodes", _NODES, index=index, stale=index > 0)
            except NomadRefused as error:
                if error.status == 403:
                    return
                await trio.sleep(_NODES_RETRY)
                continue
            except NomadUnreachable:
                await trio.sleep(_NODES_RETRY)
                continue
            index = answer.index if answer.index >= index else 0
            latest = {stub.id: stub.modify_index for stub in answer.value or ()}
            before, self._versions = self._versions, latest
            for node in {*before, *latest}:
                if before.get(node, latest.get(node)) != latest.get(node):
                    self._renew(_Item("node", node))
            await trio.sleep(_NODES_APART)

    def _renew(self, item: _Item) -> None:
        """A node changed or went: read it anew if it is needed, and otherwise when it is."""
        if item in self._users:
            self._fresh.add(item)
            self._schedule(item, 0.0)
        else:
            self._nodes.pop(item.id, None)


def _items(registration: Registration) -> list[_Item]:
    found = []
    if registration.alloc_id:
        found.append(_Item("allocation", registration.alloc_id))
    if registration.node_id:
        found.append(_Item("node", registration.node_id))
    return found
