"""Two gateways' control sides to be joined: real TLS, over memory streams (on a clock that jumps) or loopback sockets."""

from __future__ import annotations

from collections.abc import Mapping

import certs
import trio
import trio.testing

from discovery.watch import Watchable
from federation.peering.dial import LinkError
from federation.peering.link import PeerLink
from federation.peering.server import PeerServer
from federation.peering.terms import PeerTerms
from federation.peering.wire import ExportedService, Hello
from federation.trust.authority import Issued
from gateway.native.codec.hello import NeedMore, read_hello


def issued(leaf: certs.Leaf) -> Issued:
    certificate = leaf.certificate
    return Issued(leaf.chain, leaf.key, leaf.name, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


class Wire:
    """A transport that can be cut without a word, like a cable: what is sent then is gone, and nothing comes."""

    def __init__(self) -> None:
        self.cut = False
        self.streams: list[trio.abc.Stream] = []


class CableStream(trio.abc.Stream):
    def __init__(self, inner: trio.abc.Stream, wire: Wire) -> None:
        self._inner, self._wire = inner, wire
        wire.streams.append(self)

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if not self._wire.cut:
            await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = await self._inner.receive_some(max_bytes)
        if self._wire.cut:
            await trio.sleep_forever()
        return bytes(data)

    async def aclose(self) -> None:
        if not self._wire.cut:
            await self._inner.aclose()


class Site:
    """One gateway's control: `offer(...)` to everybody, `accept(stream)` what dials it."""

    def __init__(self, cluster: str, *, root: certs.Authority | None = None, leaf: certs.Leaf | None = None) -> None:
        self.cluster, self.trust_domain = cluster, f"{cluster}.example.com"
        self.authority = root or certs.spiffe(self.trust_domain)
        self.leaf = leaf or certs.gateway_leaf(self.authority, self.trust_domain)
        self.hello = Hello(1, 0, cluster, self.trust_domain, f"gw-{cluster}", "r1/z1", cluster)
        self.credential: Watchable[Issued | None] = Watchable(issued(self.leaf))
        self.peers: Watchable[Mapping[str, PeerTerms]] = Watchable({})
        self.offers: Watchable[tuple[ExportedService, ...]] = Watchable(())
        self.server = PeerServer(hello=self.hello, credential=self.credential, peers=self.peers, offers=lambda peer: self.offers)

    def terms(self, *addresses: str, **changes: object) -> PeerTerms:
        """What another writes in its Peer document about this one."""
        values = {"addresses": addresses, "bundle": self.authority.bundle} | changes
        return PeerTerms(self.cluster, self.trust_domain, **values)  # type: ignore[arg-type]

    def knows(self, *others: Site) -> None:
        self.peers.set({other.cluster: other.terms() for other in others})

    async def accept(self, stream: trio.abc.Stream) -> None:
        """As worker and control do it together: read the hello, hand over."""
        data = b""
        while isinstance(read_hello(data), NeedMore):
            more = await stream.receive_some()
            if not more:
                return
            data += more
        await self.server.serve(stream, data)


class Net:
    """Addresses and who answers there. `down`: connections are refused; `wires`: by address, to cut."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.sites: dict[str, Site] = {}
        self.down: set[str] = set()
        self.wires: dict[str, Wire] = {}
        self.dials: list[tuple[float, str]] = []
        self.names: dict[str, list[str]] = {}

    async def dial(self, address: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.dials.append((trio.current_time(), address))
        if address in self.down:
            raise LinkError("cannot connect: Connection refused", cheap=True)
        wire = self.wires.setdefault(address, Wire())
        if wire.cut:
            await trio.sleep(2.0)
            raise LinkError("no answer to a connection within 2 s", cheap=True)
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.sites[address].accept, CableStream(theirs, wire))
        return CableStream(ours, wire)

    async def lookup(self, host: str) -> list[str]:
        await trio.lowlevel.checkpoint()
        if host not in self.names:
            raise OSError("no such name")
        return self.names[host]

    async def stop(self, address: str) -> None:
        """Its process is killed: the kernel closes what was open and refuses what comes."""
        self.down.add(address)
        for stream in self.wires.pop(address, Wire()).streams:
            await trio.aclose_forcefully(stream)

    def link(self, site: Site, terms: PeerTerms, **options: object) -> PeerLink:
        return PeerLink(
            terms,
            hello=site.hello,
            credential=site.credential,
            lookup=self.lookup,
            dial=self.dial,
            rng=lambda: 0.5,
            wall=trio.current_time,
            **options,  # type: ignore[arg-type]
        )
