"""Reads the instances of many Consul services, each as soon as it changes, over a bounded number of connections.

Theory of operation. A service that is wanted gets a blocking query of its own as long as there are fewer than `most` of them. The others are
*swept*: two queries say when to read them. That of all checks says whose check changed, which is known at once; the list's (our caller calls
`sweep`) says that some instance came or went, and then all of them are read in turn at SWEEP_RATE. An instance with a check, which
is nearly every instance, is so seen at once however many services there are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from discovery.clients.consul import Answer, ConsulClient, Refused
from discovery.clients.consul_checks import Check
from discovery.sources.consul_services import Key
from discovery.supervise import TaskSet
from discovery.watch import Watchable

AT_ONCE = 16  # first reads at a time: they are consistent, so each costs the leader a round
SWEEP_RATE = 100.0  # reads a second of services without a query of their own: a few per cent of what a server answers
UNTOLD_EVERY = 30.0  # seconds after which swept services of a cluster peer are read again: no query says when they change
PROMOTE_EVERY = (
    0.2  # seconds at least: each closes a connection and opens one, and a node that fails changes a thousand services at once
)
COMPARED = 1_000  # checks compared without letting others run: a millisecond or two
FAILED_FOR = 1.0  # seconds until a swept service that could not be read is read again
# A service that flaps is answered 20 times at once, then 10 times a second: faster is a load and helps nobody.
_BURST, _RATE = 20.0, 10.0

Instances = Answer[Sequence[Mapping[str, Any]]]


class Pace:
    """Bounds how often something is asked: `burst` times at once, then `rate` times a second."""

    def __init__(self, burst: float = _BURST, rate: float = _RATE) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._at = burst, trio.current_time()

    async def wait(self) -> None:
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - 1
        self._at = now
        if self._left < 0:
            await trio.sleep(-self._left / self._rate)


class Asking:
    """`run` it, and say what is wanted. take: told each answer. failed: told each failure, after which the service is asked again; both must
    not block nor raise."""

    def __init__(
        self,
        client: ConsulClient,
        *,
        most: int,
        take: Callable[[Key, Instances], None],
        failed: Callable[[Key, Exception], None],
    ) -> None:
        self._client = client
        self._most = most
        self._take = take
        self._failed = failed
        self._watched: Watchable[Mapping[Key, None]] = Watchable({})
        self._quiet: dict[Key, None] = {}  # the same, what has been quiet for longest first
        self._swept: dict[Key, None] = {}  # in the order of their turn
        self._seen: dict[Key, tuple[int, frozenset[str]]] = {}  # the last answer's index, and the nodes its instances are on
        self._promoted = float("-inf")
        self._urgent: dict[Key, None] = {}  # of those: what is known to have changed
        self._turns = 0  # how many of the swept are still to be read in this round
        self._awake, self._some = trio.Event(), trio.Event()
        self._reading = trio.CapacityLimiter(AT_ONCE)

    def want(self, keys: Sequence[Key]) -> None:
        """Ask for these besides those that are asked for already."""
        watched = dict(self._watched.value)
        for key in keys:
            if key in watched or key in self._swept:
                continue
            if len(watched) < self._most:
                watched[key] = self._quiet[key] = None
            else:
                self._swept[key] = self._urgent[key] = None
        if len(watched) != len(self._watched.value):
            self._watched.set(watched)
        if self._swept:
            self._some.set()
        self._awake.set()

    def forget(self, key: Key) -> None:
        """Ask for it no more."""
        for of in (self._swept, self._urgent, self._quiet, self._seen):
            of.pop(key, None)
        if key in self._watched.value:
            self._watched.set({other: None for other in self._watched.value if other != key})

    def sweep(self) -> None:
        """Some instance came or went somewhere."""
        self._turns = len(self._swept)
        self._awake.set()

    async def run(self) -> None:
        """Until cancelled. Raises what the client raises for the checks' query."""
        tasks = TaskSet(self._follow, rng=random.random, report=self._failed)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks.run, self._watched)
            nursery.start_soon(self._follow_checks)
            await self._read_swept(nursery)

    async def _follow(self, key: Key, _: None) -> None:
        pace = Pace()
        async with self._reading:
            answer = await self._client.instances(key[1], peer=key[0])
        while True:
            self._note(key, answer)
            self._quiet[key] = self._quiet.pop(key, None)
            self._take(key, answer)
            await pace.wait()
            answer = await self._client.instances(key[1], peer=key[0], index=answer.index)

    async def _read_swept(self, nursery: trio.Nursery) -> None:
        while True:
            if self._urgent:
                key = next(iter(self._urgent))
                del self._urgent[key]
                await self._begin(nursery, key)
            elif self._turns > 0 and self._swept:
                self._turns -= 1
                key = next(iter(self._swept))
                self._swept[key] = self._swept.pop(key)  # to the end of the line
                await self._begin(nursery, key)
                await trio.sleep(1 / SWEEP_RATE)
            else:
                await self._rest()

    async def _begin(self, nursery: trio.Nursery, key: Key) -> None:
        await self._reading.acquire_on_behalf_of(token := object())
        nursery.start_soon(self._read, key, token)

    async def _rest(self) -> None:
        self._awake = trio.Event()
        abroad = [key for key in self._swept if key[0]]
        with trio.move_on_after(UNTOLD_EVERY if abroad else float("inf")) as untold:
            await self._awake.wait()
        if untold.cancelled_caught:
            self._urgent.update(dict.fromkeys(key for key in abroad if key in self._swept))

    async def _read(self, key: Key, token: object) -> None:
        try:
            answer = await self._client.instances(key[1], peer=key[0])
        except (OSError, Refused) as error:
            self._reading.release_on_behalf_of(token)
            self._failed(key, error)
            await trio.sleep(FAILED_FOR)
            if key in self._swept:
                self._urgent[key] = None
                self._awake.set()
            return
        self._reading.release_on_behalf_of(token)
        if key in self._swept:
            changed = self._note(key, answer)
            self._take(key, answer)
            if changed and key in self._swept:
                self._promote(key)

    def _note(self, key: Key, answer: Instances) -> bool:
        """Whether it is another answer than the last."""
        before = self._seen.get(key)
        self._seen[key] = (answer.index, frozenset(map(_node, answer.data)))
        return before is not None and before[0] != answer.index

    def _promote(self, key: Key) -> None:
        """Give it a query of its own in place of the quietest one's."""
        now = trio.current_time()
        if not self._quiet or now < self._promoted + PROMOTE_EVERY:
            return
        self._promoted = now
        quietest = next(iter(self._quiet))
        del self._quiet[quietest]
        self._swept[quietest] = self._urgent[quietest] = None
        self._swept.pop(key)
        self._urgent.pop(key, None)
        self._quiet[key] = None
        self._watched.set({**{other: None for other in self._watched.value if other != quietest}, key: None})
        self._awake.set()

    async def _follow_checks(self) -> None:
        """Asked only while something is swept."""
        while True:
            while not self._swept:
                self._some = trio.Event()
                await self._some.wait()
            index, pace = 0, Pace()
            known: set[Check] = set()
            while self._swept:
                first, answer = not index, await self._client.checks(index)
                index = answer.index
                changed, known = await differing(known, answer.data)
                del answer
                if not first:
                    self._urge(changed)
                await pace.wait()

    def _urge(self, changed: set[Check]) -> None:
        """Read at once the services of these checks; one of a node is one of all services there."""
        if not changed:
            return
        names = {check.service_name for check in changed if check.service_name}
        nodes = {check.node for check in changed if not check.service_name}
        urgent = [key for key in self._swept if not key[0] and (key[1] in names or not nodes.isdisjoint(self._nodes(key)))]
        self._urgent.update(dict.fromkeys(urgent))
        if urgent:
            self._awake.set()

    def _nodes(self, key: Key) -> frozenset[str]:
        return self._seen[key][1] if key in self._seen else frozenset()


async def differing(before: set[Check], now: Sequence[Check]) -> tuple[set[Check], set[Check]]:
    """(what is in one of the two only, `now` as a set), with other tasks in between. `before` is used up: to free twenty thousand at once
    takes its time too."""
    found: set[Check] = set()
    changed: set[Check] = set()
    for begin in range(0, len(now), COMPARED):
        some = set(now[begin : begin + COMPARED]) - found
        changed |= some - before
        before -= some
        found |= some
        await trio.lowlevel.checkpoint()
    return changed | before, found


def _node(entry: object) -> str:
    """The node that an instance is on; "" if it is no instance, which whoever reads it will say."""
    node = entry.get("Node") if isinstance(entry, Mapping) else None
    return str(node.get("Node")) if isinstance(node, Mapping) else ""
