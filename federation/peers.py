"""All peers of one gateway: a link and a follower for each, the server for those who dial us, and what all of them say together.

Theory of operation. The desired mapping is the Peer documents' terms; a TaskSet keeps a link running for each that has roots. A peer whose
terms change is linked anew, and what it said before stands until its next Reset; the shard of one that was taken out goes. A peer without a
session is a source that is lost: what it said stands for ever, or as `onLoss` of its document says.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Mapping

import msgspec
import structlog
import trio

from discovery.backoff import BackoffPolicy
from discovery.feed import CatalogFeed
from discovery.model import ShardKey
from discovery.source import Follower, SourceStatus
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable
from federation.peering.dial import connect
from federation.peering.link import PEER, Dial, Lookup, PeerLink
from federation.peering.names import system_lookup
from federation.peering.server import Offers, PeerServer
from federation.peering.status import LinkState, PeerStatus, combined
from federation.peering.terms import PeerTerms
from federation.peering.wire import MAJOR, MINOR, Hello
from federation.resources.document import Document
from federation.resources.node import Node
from federation.trust.authority import Issued
from gateway.engine import Confirmed
from gateway.verdicts import AddressState

AT_ONCE = BackoffPolicy(
    base=0.0, cap=0.0
)  # a link that is watched anew dials nobody: it waits for the session that it dials anyway

_log = structlog.get_logger("peers")


class Peers:
    """`run` it. `addresses` is the state of every peer's addresses (`IP:PORT`; what is not named is up)."""

    def __init__(
        self,
        feed: CatalogFeed,
        *,
        hello: Hello,
        credential: Watchable[Issued | None],
        offers: Offers,
        lookup: Lookup = system_lookup,
        dial: Dial = connect,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.addresses: Watchable[Mapping[str, AddressState]] = Watchable({})
        self._feed, self._hello, self._credential = feed, hello, credential
        self._lookup, self._dial, self._rng = lookup, dial, rng
        self._known: Watchable[Mapping[str, PeerTerms]] = Watchable({})
        self._linked: Watchable[Mapping[str, PeerTerms]] = Watchable({})
        self._links: dict[str, tuple[PeerLink, Follower]] = {}
        self._server = PeerServer(hello=hello, credential=credential, peers=self._known, offers=offers)
        self._nursery: trio.Nursery | None = None

    def agree(self, terms: Mapping[str, PeerTerms]) -> None:
        """These are the peers now. Never waits."""
        if terms != self._known.value:
            self._known.set(terms)
            self._linked.set({name: each for name, each in terms.items() if each.bundle})

    def statuses(self) -> tuple[PeerStatus, ...]:
        """Every peer by name, both directions in one."""
        accepted, found = self._server.status.value, []
        for name, terms in sorted(self._known.value.items()):
            status = self._linked_status(name) if name in self._links else _not_linked(terms)
            found.append(combined(status, accepted.get(name)))
        return tuple(found)

    def _linked_status(self, name: str) -> PeerStatus:
        link, follower = self._links[name]
        expired = follower.status.value.shard == "expired"
        return msgspec.structs.replace(link.status.value, imported=0) if expired else link.status.value

    def sources(self) -> tuple[SourceStatus, ...]:
        """The peers as sources of the catalog."""
        return tuple(follower.status.value for _, (_, follower) in sorted(self._links.items()))

    def unheard(self) -> list[str]:
        """Those who are dialled, and of whom the catalog has no whole picture: neither from them nor from an earlier process."""
        dialled = [name for name, terms in self._known.value.items() if terms.addresses]
        return [name for name in dialled if not self._feed.whole(ShardKey(name, PEER))]

    def confirmed(self, report: Confirmed) -> None:
        """What a worker found of a suspect address. Never blocks."""
        for link, _ in self._links.values():
            link.confirmed(report)

    def hand_off(self, connection: socket.socket, hello: bytes) -> None:
        """Take over a connection that was dialled to us, with the bytes already read from it. Never blocks. Raises OSError, the connection
        closed, when `run` does not run."""
        if self._nursery is None:
            connection.close()
            raise ConnectionRefusedError("peering does not run")
        self._nursery.start_soon(self._server.serve, connection, hello)

    async def run(self) -> None:
        """Until cancelled; then every session ends, and what was learned stands in the catalog."""
        links: TaskSet[str, PeerTerms] = TaskSet(self._keep, rng=self._rng, report=self._failed)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                await links.run(self._linked)
        finally:
            self._nursery = None

    async def _keep(self, name: str, terms: PeerTerms) -> None:
        """One peer, until its terms change."""
        link = PeerLink(terms, hello=self._hello, credential=self._credential, lookup=self._lookup, dial=self._dial, rng=self._rng)
        follower = Follower(link, self._feed, clock=time.time, rng=self._rng, loss=terms.loss, backoff=AT_ONCE)
        self._links[name] = link, follower
        seen = link.addresses.version
        try:
            async with trio.open_nursery() as nursery:
                for task in (link.run, follower.run):
                    nursery.start_soon(task)
                nursery.start_soon(_tell, follower, follower.status.version)
                while True:
                    seen, _ = await link.addresses.newer_than(seen)
                    self._gather()
        finally:
            del self._links[name]
            self._gather()
            if name not in self._linked.value:
                with trio.CancelScope(shield=True):  # a second at most, of which each turn is a few milliseconds
                    await self._feed.drop_slowly(ShardKey(link.cluster, link.name))

    def _gather(self) -> None:
        states = {address: state for link, _ in self._links.values() for address, state in link.addresses.value.items()}
        if states != self.addresses.value:
            self.addresses.set(states)

    def _failed(self, name: str, error: Exception) -> None:
        _log.error("peer.bug", peer=name, error=describe(error), exc_info=error)

    def __repr__(self) -> str:
        return f"<Peers {', '.join(sorted(self._links)) or 'none'}>"


async def _tell(follower: Follower, seen: int) -> None:
    """Log the end of a peer's lease. The link logs the rest."""
    before = follower.status.value.shard
    while True:
        seen, now = await follower.status.newer_than(seen)
        if now.shard != before and now.shard in ("expired", "degraded"):
            _log.warning("peer.lease_ended", peer=follower.key.cluster, shard=now.shard, error=now.error)
        before = now.shard


def _not_linked(terms: PeerTerms) -> PeerStatus:
    error = (
        ""
        if terms.bundle
        else f"there are no usable roots for trust domain {terms.trust_domain}; see spec.bundle of its Peer document"
    )
    return PeerStatus(terms.name, terms.trust_domain, state=LinkState.FAILING if error else LinkState.CONNECTING, error=error)


def hello_of(node: Document[Node]) -> Hello:
    """What this gateway says of itself to its peers."""
    spec = node.spec
    return Hello(MAJOR, MINOR, spec.cluster, spec.trust_domain, node.name, str(spec.locality), spec.network or spec.cluster)
