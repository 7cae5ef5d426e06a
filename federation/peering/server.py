"""For the peers that dial us: proof of who they are, then a session that tells them what they are offered, as it changes.

Connections come from the workers, who read the client hello, saw `peering.TRUSTDOMAIN` in it and handed over the socket with those
bytes. Whatever goes wrong with one of them is a log line and a word in `status`, never an exception.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

import msgspec
import structlog
import trio

from discovery.watch import Watchable
from federation.peering import session as s
from federation.peering.carrier import Carrier
from federation.peering.conversation import Conversation
from federation.peering.dial import LinkError, admit
from federation.peering.status import AcceptedStatus
from federation.peering.terms import PeerTerms
from federation.peering.wire import ExportedService, Hello
from federation.trust.authority import Issued

MAX_HANDSHAKES = 64  # at a time; a handshake holds at most 3 s, so this is 20 unproven connections a second at least
MAX_SESSIONS = 64  # of one peer; one for each of its gateways, and those of dead ones for a second

Offers = Callable[[str], Watchable[tuple[ExportedService, ...]]]
"""peer's name → what it is offered, kept current by the plane (peering.offer)"""

_log = structlog.get_logger("peering")


class PeerServer:
    """`await serve(sock, hello)` for each connection. `status`: peer's name → its sessions with us."""

    def __init__(
        self, *, hello: Hello, credential: Watchable[Issued | None], peers: Watchable[Mapping[str, PeerTerms]], offers: Offers
    ) -> None:
        """peers: by name; one that is taken out, or whose trust domain or bundle changes, has its sessions ended."""
        self.status: Watchable[Mapping[str, AcceptedStatus]] = Watchable({})
        self._hello, self._credential, self._peers, self._offers = hello, credential, peers, offers
        self._handshakes = 0
        self._said: dict[str, str] = {}  # who → the last failure that was logged

    async def serve(self, sock: socket.socket | trio.abc.Stream, hello: bytes) -> None:
        """Talk on a connection until it ends, and close it; also when cancelled. hello: bytes already read from it. Raises nothing."""
        stream = _stream(sock)
        if self._handshakes >= MAX_HANDSHAKES:
            await trio.aclose_forcefully(stream)
            self._failed("", f"more than {MAX_HANDSHAKES} handshakes at a time")
            return
        where = _remote(sock)
        try:
            await self._serve(stream, hello, where)
        except LinkError as error:
            self._failed("", str(error), where)
        finally:
            await trio.aclose_forcefully(stream)

    async def _serve(self, stream: trio.abc.Stream, hello: bytes, where: str) -> None:
        own = self._credential.value
        if own is None:
            raise LinkError("this gateway has no certificate yet; see `fedgate get certs`")
        began = trio.current_time()
        self._handshakes += 1
        try:
            bundles = [(peer.trust_domain, peer.bundle) for peer in self._peers.value.values() if peer.bundle]
            secured, proof = await admit(stream, hello, bundles, own)
        finally:
            self._handshakes -= 1
        now = trio.current_time()
        exporter = s.Exporter(self._hello, proof.trust_domain, now, (now - began) / 2)
        talk = Conversation(secured, exporter, Carrier(client=False), lambda actions: None)
        session = _Accepted(self, talk, exporter, proof.trust_domain)
        close = s.Close("this gateway stops")
        try:
            close = await talk.run(session.follow)
        finally:
            session.ended(close)

    def find(self, trust_domain: str, cluster: str) -> PeerTerms | None:
        """The peer of that trust domain; among several, the one named like its cluster."""
        found = [peer for peer in self._peers.value.values() if peer.trust_domain == trust_domain and peer.bundle]
        return next((peer for peer in found if peer.name == cluster), found[0] if found else None)

    def _failed(self, peer: str, reason: str, where: str = "") -> None:
        """One log line per change of reason."""
        key = peer or where.rpartition(":")[0]
        if self._said.get(key) != reason:
            _log.warning("peering.refused", peer=peer, remote=where, reason=reason)
            if len(self._said) > 1024:  # strangers' addresses: forgetting costs a repeated line
                self._said.clear()
            self._said[key] = reason

    def _set(self, peer: str, status: AcceptedStatus) -> None:
        if self.status.value.get(peer) != status:
            self.status.set({**self.status.value, peer: status})


class _Accepted:
    """One accepted session: finds out which peer it is, follows its offers, ends it when the peer is no longer known."""

    def __init__(self, server: PeerServer, talk: Conversation, exporter: s.Exporter, trust_domain: str) -> None:
        self._server, self._talk, self._exporter, self._trust_domain = server, talk, exporter, trust_domain
        self._terms: PeerTerms | None = None

    async def follow(self, talk: Conversation) -> None:
        hello = await talk.greeted()
        terms = self._server.find(self._trust_domain, hello.cluster)
        if terms is None:
            talk.close(f"no Peer document here is of trust domain {self._trust_domain}")
            return
        status = self._server.status.value.get(terms.name, AcceptedStatus())
        if status.sessions >= MAX_SESSIONS:
            talk.close(f"peer {terms.name} has {MAX_SESSIONS} sessions already")
            return
        self._terms = terms
        self._server._set(terms.name, msgspec.structs.replace(status, sessions=status.sessions + 1, error=""))
        self._server._said.pop(terms.name, None)
        _log.info("peering.accepted", peer=terms.name, cluster=hello.cluster, gateway=hello.gateway)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._known, terms)
            offers, seen = self._server._offers(terms.name), -1
            while True:
                seen, services = await offers.newer_than(seen)
                talk.do(self._exporter.offer(services, trio.current_time()))
                self._note(offered=len(services))

    async def _known(self, terms: PeerTerms) -> None:
        seen = -1
        while True:
            seen, peers = await self._server._peers.newer_than(seen)
            now = peers.get(terms.name)
            if now is None or (now.trust_domain, now.bundle) != (terms.trust_domain, terms.bundle):
                self._talk.close(f"the Peer document {terms.name} was {'removed' if now is None else 'changed'} here")

    def _note(self, **changes: object) -> None:
        assert self._terms is not None
        status = self._server.status.value.get(self._terms.name, AcceptedStatus())
        self._server._set(self._terms.name, msgspec.structs.replace(status, **changes))

    def ended(self, close: s.Close) -> None:
        if self._terms is None:
            self._server._failed("", f"{self._trust_domain}: {close.reason}")
            return
        status = self._server.status.value.get(self._terms.name, AcceptedStatus())
        self._note(sessions=max(0, status.sessions - 1), error=close.reason)
        _log.info("peering.ended", peer=self._terms.name, reason=close.reason)


def _stream(sock: socket.socket | trio.abc.Stream) -> trio.abc.Stream:
    if not isinstance(sock, socket.socket):
        return sock
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _remote(sock: socket.socket | trio.abc.Stream) -> str:
    if not isinstance(sock, socket.socket):
        return ""
    try:
        host, port = sock.getpeername()[:2]
    except (OSError, ValueError):
        return ""
    return f"{host}:{port}"
