"""A peer as a source: sessions dialled to each of its gateways, one shard of services, and who of them can be reached.

Theory of operation. `run` keeps one task per address of the peer (names are looked up again and again; each IP is one) that dials,
talks until the session ends, and dials again. What the sessions learn goes into the Shard, what they suffer into Reach; both are
handed on by slots: `watch()` (Reset, then what differs; it raises when the last session is lost, as of any source), `addresses`, `status`.
Nothing that a peer does raises out of `run`: unreachable, a wrong CA, an expired certificate are words in `status`, logged when they change.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence

import msgspec
import structlog
import trio

from discovery.backoff import BackoffPolicy, delay
from discovery.source import SourceLost
from discovery.supervise import TaskSet
from discovery.update import Remove, Reset, Update, Upsert
from discovery.watch import Watchable
from federation.peering import session as s
from federation.peering.accept import Address
from federation.peering.carrier import Carrier
from federation.peering.conversation import Conversation
from federation.peering.dial import LinkError, connect, peering_name, secure
from federation.peering.names import NameLookup, joined
from federation.peering.reach import Reach
from federation.peering.shard import Shard, View
from federation.peering.status import AddressStatus, LinkState, PeerStatus, of_addresses
from federation.peering.terms import PeerTerms
from federation.peering.wire import Hello
from federation.trust.authority import Issued
from gateway.engine import Confirmed
from gateway.verdicts import AddressState

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""host → IP addresses. Raises OSError."""

Dial = Callable[[str, int], Awaitable[trio.abc.Stream]]
"""IP and port → a connection. Raises LinkError."""

PEER = "peer"
"""The source's name in shard keys; their cluster is the Peer document's name."""

# A refused connection costs nothing, so a gateway that comes back is found within a second however long it was away; what costs a
# handshake on either side is tried less often.
CHEAP = BackoffPolicy(base=0.1, cap=1.0)
FAILED = BackoffPolicy(base=0.1, cap=5.0)
SAY_RTT = 1.0  # seconds between looks at the round-trip times, which change all the time

_log = structlog.get_logger("peering")


class PeerLink:
    """A discovery Source (`name`, `cluster`, `watch`). `run` it; read `addresses` (`IP:PORT` → suspect or down) and `status`; tell it
    what workers find, by `confirmed`."""

    def __init__(
        self,
        terms: PeerTerms,
        *,
        hello: Hello,
        credential: Watchable[Issued | None],
        lookup: Lookup,
        dial: Dial = connect,
        rng: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """hello: what we say of ourselves; credential: our certificate, None while there is none (trust.keeper)."""
        self.terms, self.name, self.cluster = terms, PEER, terms.name
        self.addresses: Watchable[Mapping[str, AddressState]] = Watchable({})
        self.status: Watchable[PeerStatus] = Watchable(PeerStatus(terms.name, terms.trust_domain, since=wall()))
        self._hello, self._credential, self._dial = hello, credential, dial
        self._names, self._rng, self._wall = NameLookup(terms.addresses, lookup), rng, wall
        self._reach, self._shard = Reach(), Shard(terms)
        self._view: Watchable[View | None] = Watchable(None)
        self._states: dict[str, AddressStatus] = {}
        self._desired: Watchable[Mapping[str, Address]] = Watchable({})
        self._talks: dict[str, Conversation] = {}
        self._told: frozenset[str] = frozenset()  # addresses of the endpoints that the catalog has

    # ------------------------------------------------------------------------------------------------ what others read

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        """`async with link.watch() as updates: async for update in updates`: a Reset once the peer has said everything, and after each
        reconnect; in between what changed, the latest only for a slow reader. Raises SourceLost when no session is left. Leaving it
        leaves nothing behind."""
        seen, view = self._view.version, self._view.value
        before: View | None = None
        while True:
            if view is not None and (view.live or before is not None):
                for update in _difference(before, view):
                    yield update
                before = view
            if before is not None and not before.live:
                raise SourceLost(f"no session with any gateway of peer {self.cluster}; see `fedgate get peers`")
            seen, view = await self._view.newer_than(seen)

    def confirmed(self, report: Confirmed) -> None:
        """What a worker found of an address that was SUSPECT. Other peers' addresses are passed over."""
        if report.address in self._reach.states:
            self._reach.confirmed(report.address, alive=report.alive)
            self._say()

    # ----------------------------------------------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep a session with every address until cancelled; then the sessions end and what was learned stands."""
        tasks: TaskSet[str, Address] = TaskSet(self._keep, rng=self._rng, report=self._bug)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tasks.run, self._desired)
            nursery.start_soon(self._say_now_and_then)
            task_status.started()
            async for found in self._names.addresses():
                self._readdress(found)

    def _readdress(self, found: frozenset[Address]) -> None:
        keys = {joined(*each): each for each in sorted(found)}
        self._states = {key: self._states.get(key) or AddressStatus(key, since=self._wall()) for key in keys}
        self._catalogued(keys)
        if self._shard.readdress(found):
            self._view.set(self._shard.view())
        self._desired.set(keys)
        self._say()

    def _catalogued(self, keys: Collection[str]) -> None:
        """The peer's addresses are these. Without a session the catalog goes on with those that it was told last: what is known of them
        must not be forgotten, since an address of which nothing is known is up."""
        if self._shard.live:
            self._told = frozenset(keys)
        self._reach.keep({*keys, *self._told})

    async def _keep(self, key: str, address: Address) -> None:
        """One address: dial, talk, again."""
        failures = 0
        while True:
            own = self._credential.value
            if own is None:
                self._failed(key, LinkError("this gateway has no certificate yet; see `fedgate get certs`"), 0)
                await self._credential.newer_than(self._credential.version)
                continue
            try:
                close, lived = await self._session(key, address, own)
                failures = 0 if lived else failures
                error = LinkError(close.reason, closed=not close.silent)
            except LinkError as caught:
                error = caught
            failures += 1
            self._failed(key, error, failures)
            await trio.sleep(delay(failures, CHEAP if error.cheap else FAILED, self._rng))

    async def _session(self, key: str, address: Address, own: Issued) -> tuple[s.Close, bool]:
        """One connection to its end: why it ended, and whether everything was learned over it. Raises LinkError when there was none."""
        transport = await self._dial(*address)
        began = trio.current_time()
        stream = await secure(transport, self.terms, own)
        rtt = (trio.current_time() - began) / 2  # TLS 1.3 takes one round trip and some arithmetic: an upper bound to begin with
        importer = s.Importer(self._hello, self.terms.trust_domain, trio.current_time(), rtt)
        carrier = Carrier(client=True, authority=peering_name(self.terms.trust_domain))
        lived = False

        def learn(actions: list[s.Action]) -> None:
            nonlocal lived
            assert importer.peer is not None
            changed = [self._shard.learn(key, importer.peer, action) for action in actions]
            if any(changed):
                self._view.set(self._shard.view())
            if not lived:
                lived = True
                self._catalogued(self._states)
                self._connected(key, importer.peer)

        talk = self._talks[key] = Conversation(stream, importer, carrier, learn)
        try:
            close = await talk.run()
        finally:
            del self._talks[key]
            if self._shard.lost(key):
                self._view.set(self._shard.view())
            if lived:
                self._reach.lost(key)
                self._say()
        return close, lived

    # ------------------------------------------------------------------------------------------------ what is said

    def _connected(self, key: str, peer: Hello) -> None:
        self._reach.connected(key)
        _log.info("peer.connected", peer=self.terms.name, address=key, cluster=peer.cluster, gateway=peer.gateway)
        self._states[key] = AddressStatus(key, LinkState.CONNECTED, self._wall(), gateway=peer.gateway)
        self._say()

    def _failed(self, key: str, error: LinkError, attempts: int) -> None:
        old = self._states.get(key)
        if old is None:
            return  # the address was taken away meanwhile
        was = old.state in (LinkState.CONNECTED, LinkState.LOST)
        if old.state is not LinkState.CONNECTED:
            self._reach.failed(key, closed=error.closed)
        state = LinkState.LOST if was else LinkState.FAILING
        if (old.state, old.error) != (state, str(error)):
            _log.warning("peer.lost" if was else "peer.failing", peer=self.terms.name, address=key, reason=str(error))
        since = old.since if old.state is state else self._wall()
        self._states[key] = AddressStatus(key, state, since, attempts=attempts, gateway=old.gateway, error=str(error))
        self._say()

    def _bug(self, key: str, error: Exception) -> None:
        _log.error("peer.bug", peer=self.terms.name, address=key, exc_info=error)

    async def _say_now_and_then(self) -> None:
        while True:
            await trio.sleep(SAY_RTT)
            self._say()

    def _say(self) -> None:
        if self._reach.states is not self.addresses.value:
            self.addresses.set(self._reach.states)
        described = {key: self._described(key, state) for key, state in self._states.items()}
        state, since, error, rtt = of_addresses(described)
        view, hello = self._view.value, self._shard.hello
        new = PeerStatus(
            name=self.terms.name,
            trust_domain=self.terms.trust_domain,
            state=state,
            since=since or self.status.value.since,
            cluster=hello.cluster if hello else "",
            rtt_ms=rtt,
            imported=len(view.services) if view else 0,
            error=error or self._names.problem,
            addresses=tuple(described.values()),
            findings=view.findings if view else (),
        )
        if new != self.status.value:
            self.status.set(new)

    def _described(self, key: str, status: AddressStatus) -> AddressStatus:
        talk, verdict = self._talks.get(key), self._reach.states.get(key)
        rtt = talk.session.keepalive.rtt if talk is not None else None
        return msgspec.structs.replace(status, verdict=verdict.value if verdict else "", rtt_ms=round((rtt or 0.0) * 1000, 1))

    def __repr__(self) -> str:
        return f"<PeerLink {self.terms.name} {self.status.value.state.value} {len(self._talks)}/{len(self._states)} sessions>"


def _difference(before: View | None, view: View) -> list[Update]:
    if before is None or before.epoch != view.epoch:
        return [Reset(tuple(view.services.values()))]
    gone: list[Update] = [Remove(name) for name in before.services if name not in view.services]
    return gone + [Upsert(each) for name, each in view.services.items() if before.services.get(name) is not each]
