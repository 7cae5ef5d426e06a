"""From an accepted socket to a connection that carries HTTP or is relayed: what a listener does with the first bytes.

Theory of operation. A `Door` is one Listener made ready. Where the clients come through a proxy that says so, its PROXY header comes
first and is required. Plain listeners then let everybody in. A listener with TLS reads the client hello and chooses by its server
name alone:
- the chain with that exact name, else the one with the longest wildcard `*.suffix`, else the one without names;
  among the chains that are for the address it came to, where a listener has chains for some addresses only (`destinations`);
- on the east-west port the Inbound of that name, or `peering.TRUSTDOMAIN`, whose socket goes to control with the bytes read.
What no choice fits is closed without a byte, plain HTTP on a TLS port included: an answer would tell a scanner what is here.
A chain or an Inbound that passes TLS through is relayed from here on, hello first: nothing is decrypted (`tcp`). AUTO_PASSTHROUGH takes
the backend out of the name, if the chain's hosts allow it and this Snapshot has it.
Else TLS is begun, in the context of that choice, and after the handshake the client's certificate is proven (`tls`). On the
east-west port the identity must also be one that the Inbound names; a service that exists but is not for this peer is closed the
same way as one that does not exist, right after the handshake that told who asks.

One deadline covers all of it, from accept to the proof, so slowness in any step gains nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from gateway.native.chains import Chain, Names
from gateway.native.codec.hello import Hello, NotTls, read_hello
from gateway.native.codec.proxy_protocol import Address, NotProxy, Proxied, read_header
from gateway.native.connection import ConnectionContext
from gateway.native.destinations import Destinations, Group
from gateway.native.identity import PeerRefused, Proof, trust_domain
from gateway.native.reactor import NEVER, DeadlineExceeded, Strand
from gateway.native.sockets import Handoff
from gateway.native.stream import Stream, TlsStream
from gateway.native.targets import Targets, automatic, host_allowed
from gateway.native.tls import Contexts, ServerTls, TlsFault
from gateway.snapshot import FilterChain, Inbound, Listener, ListenerKind, Part

# From accept to the end of the handshake. A handshake over a bad mobile line (three round trips of 1 s, one segment lost) takes about
# 5 s. Envoy gives 15 s for the hello alone and nothing bounds the rest by default; nginx gives 60 s.
GREETING_S = 10.0

_ISTIO = "istio"  # ALPN of TCP between gateways (DESIGN section 5)
_NO_PARTS: Mapping[str, Part] = {}


class Refused(Exception):
    """The connection is to be closed without another byte. reason: a word for counters; detail: for the log."""

    def __init__(self, reason: str, detail: str = "", *, in_tls: bool = False) -> None:
        super().__init__(detail or reason)
        self.reason = reason
        self.detail = detail
        self.in_tls = in_tls


class HandedOff(Exception):
    """The socket belongs to control now."""


def admits(inbound: Inbound, identity: str, trust_domain: str) -> bool:
    """True if a gateway that proved this identity may reach this service. Also for each request of a connection that stands,
    against the Inbound of the Snapshot that runs by then: an export that is withdrawn ends there."""
    return identity in inbound.identities and trust_domain in inbound.trust_domains


class Door:
    """One Listener of a Snapshot made ready. `faults`: what of it does not load. greets: connections begin with something to read before
    they are served."""

    def __init__(
        self,
        listener: Listener,
        contexts: Contexts,
        inbounds: Mapping[str, Inbound],
        parts: Mapping[str, Part] = _NO_PARTS,
        *,
        before: Door | None = None,
        chains: Group | None = None,
    ) -> None:
        """parts: of the Snapshot, for AUTO_PASSTHROUGH. before: this listener's Door so far. chains: those that it is for, None = all."""
        self.listener = listener
        self.faults: list[str] = []
        self.places: Places | None = None
        if chains is None:
            chains = listener.chains
            if listener.unix:
                chains = tuple(chain for chain in chains if not chain.destinations)
            elif any(chain.destinations for chain in chains):
                known = before.places if before is not None and before.listener is listener else None
                destinations = known.destinations if known is not None else Destinations(chains)
                self.places = Places(destinations, lambda group: Door(listener, contexts, inbounds, parts, chains=group))
                self.faults += [*(f"listener {listener.key}: {fault}" for fault in destinations.faults), *self.places.faults()]
                chains = ()
        self.east_west = listener.kind is ListenerKind.EAST_WEST
        self.tls = self.east_west or any(chain.tls is not None or chain.passthrough for chain in chains)
        self.greets = self.tls or listener.proxy_protocol
        self._names = Names()
        self._inbounds = inbounds
        self._parts = parts
        # An address given in full is what every accepted socket has; of `0.0.0.0` each must be asked.
        self._local: Address | None = None
        if listener.unix:
            self._local = ("", 0)
        elif listener.address not in ("0.0.0.0", "::"):
            self._local = (listener.address, listener.port)
        ready = [Chain(chain, self._ready(chain, contexts), self._targets(chain)) for chain in chains]
        self._single = ready[0] if ready else None
        self._plain = None if self.tls else self._single
        for each in ready:
            self._names.add(each.filters.server_names, each)

    def _targets(self, chain: FilterChain) -> Targets | None:
        if chain.table or chain.auto or not (chain.tcp or chain.passthrough):
            return None
        try:
            return Targets(chain.tcp)
        except ValueError as error:
            self.faults.append(
                f"listener {self.listener.key}, chain {chain.name} is closed: {error}; write subnets as CIDR, 10.0.0.0/8"
            )
            return Targets(())

    def _ready(self, chain: FilterChain, contexts: Contexts) -> ServerTls | None:
        if chain.tls is None:
            return None
        where = f"listener {self.listener.key}, chain {chain.name}"
        try:
            server = contexts.server(chain.tls, east_west=self.east_west)
        except TlsFault as fault:
            self.faults.append(f"{where} is closed: {fault}")
            return None
        self.faults += [f"{where}: {fault}" for fault in server.faults]
        return server

    # ------------------------------------------------------------------------------------------------------- meeting

    def open(self, stream: Stream, peer: Address, local: Address | None = None) -> ConnectionContext:
        """The context of a plain connection. local: where it came to, when a proxy said so."""
        chain = self._plain
        if chain is None:
            return self._context(stream, peer, local)
        return self._context(stream, peer, local, chain=chain.filters, table=chain.filters.table, tcp=chain.targets)

    async def greet(
        self, strand: Strand, stream: Stream, peer: Address, handoff: Handoff
    ) -> tuple[Stream, ConnectionContext, bytes]:
        """Read the PROXY header and the hello, choose, end the TLS. The returned stream replaces `stream`; the bytes were read of it
        already and come first.

        Raises Refused, then `stream` is for the caller to close; or HandedOff, then it is gone. Interrupted: as Refused."""
        strand.until(strand.reactor.now + GREETING_S)
        local, data = None, b""
        try:
            if self.listener.proxy_protocol:
                proxied, data = await _read_proxy(strand, stream)
                peer, local = proxied.source or peer, proxied.destination
            if not self.tls:
                strand.until(NEVER)
                return stream, self.open(stream, peer, local), data
            data, hello = await _read_hello(strand, stream, data)
            if self.east_west and hello.server_name and hello.server_name == self.listener.peering_name:
                raise _hand_off(stream, data, handoff)
            chain, inbound = self._choose(hello.server_name)
            targets = self._passing(chain, inbound, hello.server_name)
            if targets is not None:
                strand.until(NEVER)
                context = self._context(
                    stream, peer, local, chain=chain.filters, inbound=inbound, sni=hello.server_name, tcp=targets
                )
                return stream, context, data
            tls, proof = await _shake(strand, stream, _server(chain), hello=hello, data=data)
        except DeadlineExceeded:
            raise Refused("greeting-timeout", f"no handshake in {GREETING_S:.0f} s") from None
        strand.until(NEVER)
        if inbound is not None and not admits(inbound, proof.identity, proof.trust_domain):
            # It is a gateway we know, and learns that this one is alive (close_notify), only not whether the service exists.
            tls.close()
            stream.closed = True
            raise Refused("not-exported", f"{proof.identity} asked for {inbound.sni}")
        alpn = tls.tls.selected_alpn_protocol() or ""
        context = self._context(
            stream,
            peer,
            local,
            scheme="https",
            chain=chain.filters,
            table="" if inbound else chain.filters.table,
            inbound=inbound,
            identity=proof.identity,
            certificate=proof.certificate,
            sni=hello.server_name,
            tls_version=tls.tls.version() or "",
            alpn=alpn,
            tcp=chain.targets if inbound is None else _carried(inbound, alpn, hello),
        )
        return tls, context, b""

    def _choose(self, name: str) -> tuple[Chain, Inbound | None]:
        inbound = None
        if self.east_west:
            inbound = self._inbounds.get(name)
            if inbound is None:
                raise Refused("unknown-name", f"nothing is exported as {name!r}")
            chain = self._single
        else:
            chain = self._names.find(name)
        if chain is None:
            raise Refused("unknown-name", f"no chain has the name {name!r}")
        return chain, inbound

    def _passing(self, chain: Chain, inbound: Inbound | None, name: str) -> Targets | None:
        """Where a connection goes that is not decrypted here; None = it is."""
        if inbound is not None:
            return Targets.one(inbound.backend) if inbound.passthrough else None
        filters = chain.filters
        if filters.auto:
            backend, host = automatic(name)
            if not backend or not host_allowed(host, filters.auto_hosts) or f"backend/{backend}" not in self._parts:
                raise Refused("unknown-name", f"chain {filters.name} passes nothing through as {name!r}")
            return Targets.one(backend)
        return chain.targets if filters.passthrough else None

    def _context(self, stream: Stream, peer: Address, local: Address | None, **known: object) -> ConnectionContext:
        if local is None:
            local = self._local or stream.sock.getsockname()[:2]
        return ConnectionContext(
            listener=self.listener,
            peer=self._join(peer),
            peer_address=peer[0],
            local=self._join(local),
            local_address=local[0],
            **known,  # type: ignore[arg-type]
        )

    def _join(self, address: Address) -> str:
        host, port = address
        if not host:
            return self.listener.address  # a unix socket's client has no name of its own
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def offers(self, context: ConnectionContext, backend: str) -> bool:
        """Whether a relayed connection like this one, were it new, might go to this backend. For a Door of its address (`at`)."""
        if f"backend/{backend}" not in self._parts:
            return False
        if not self.tls:
            return self._plain is not None and self._plain.targets is not None and backend in self._plain.targets.backends
        if context.chain is not None and context.chain.tls is None and not context.chain.passthrough:
            return False  # it came in clear text
        try:
            chain, inbound = self._choose(context.sni)
            if inbound is not None:
                known = inbound.passthrough or admits(inbound, context.identity, trust_domain(context.identity))
                return inbound.backend == backend and known
            targets = self._passing(chain, None, context.sni) or chain.targets
        except Refused:
            return False
        return targets is not None and backend in targets.backends

    def at(self, local: str) -> Door | None:
        """Who serves connections that came to this IP; None: nobody does."""
        return self if self.places is None else self.places.door(local)

    def __repr__(self) -> str:
        return f"<Door {self.listener.kind.value} {self.listener.key}{' TLS' if self.tls else ''}>"


class Places:
    """The Doors of a listener whose chains are for some addresses only, one for each group of chains, made when its first connection
    comes: there may be thousands, and a Snapshot comes with every change."""

    def __init__(self, destinations: Destinations, make: Callable[[Group], Door]) -> None:
        self.destinations = destinations
        self._make = make
        self._doors: dict[int, Door] = {}

    def door(self, local: str) -> Door | None:
        """Who serves connections to this IP; None: nobody."""
        group = self.destinations.find(local)
        return self._of(group) if group else None

    def faults(self) -> list[str]:
        """Of the groups with something that may not load; these are made at once."""
        risky = [group for group in self.destinations.groups() if any(_risky(chain) for chain in group)]
        return [fault for group in {id(group): group for group in risky}.values() for fault in self._of(group).faults]

    def _of(self, group: Group) -> Door:
        door = self._doors.get(id(group))  # a group lives as long as `destinations`
        if door is None:
            door = self._doors[id(group)] = self._make(group)
        return door


def _risky(chain: FilterChain) -> bool:
    return chain.tls is not None or any(route.destination_subnets for route in chain.tcp)


def _server(chain: Chain) -> ServerTls:
    if chain.server is None:
        raise Refused("no-certificate", f"the certificate of chain {chain.filters.name} does not load")
    return chain.server


def _carried(inbound: Inbound, alpn: str, hello: Hello) -> Targets | None:
    """Where a peer's connection is relayed that carries TCP: it agreed on `istio`, or offered nothing (or nothing else) to agree on."""
    if alpn == _ISTIO or (not alpn and (not hello.alpn or _ISTIO in hello.alpn)):
        return Targets.one(inbound.backend)
    return None


async def _more(strand: Strand, stream: Stream, what: str, size: int) -> bytes:
    try:
        more = await stream.recv(strand)
    except OSError as error:
        raise Refused("closed-early", str(error)) from None
    if not more:
        raise Refused("closed-early", f"closed after {size} bytes of {what}")
    return more


async def _read_proxy(strand: Strand, stream: Stream) -> tuple[Proxied, bytes]:
    """The header, and what came after it."""
    data = b""
    while True:
        data += await _more(strand, stream, "a PROXY header", len(data))
        answer = read_header(data)
        if isinstance(answer, Proxied):
            return answer, data[answer.size :]
        if isinstance(answer, NotProxy):
            raise Refused("not-proxy", answer.reason)


async def _read_hello(strand: Strand, stream: Stream, data: bytes) -> tuple[bytes, Hello]:
    data = data or await _more(strand, stream, "a client hello", 0)
    while True:
        answer = read_hello(data)
        if isinstance(answer, Hello):
            return data, answer
        if isinstance(answer, NotTls):
            raise Refused("not-tls", answer.reason)
        data += await _more(strand, stream, "a client hello", len(data))


def _hand_off(stream: Stream, data: bytes, handoff: Handoff) -> HandedOff:
    stream.reactor.unregister(stream.fd)
    try:
        handoff(stream.sock, data)
    except OSError as error:
        raise Refused("no-control", f"the control process did not take a peering connection: {error}") from None
    stream.closed = True
    return HandedOff()


async def _shake(strand: Strand, stream: Stream, server: ServerTls, *, hello: Hello, data: bytes) -> tuple[TlsStream, Proof]:
    tls = TlsStream(stream, server.context(hello), server_side=True, data=data)
    try:
        await tls.handshake(strand)
        return tls, server.prove(tls.tls)
    except PeerRefused as error:
        raise Refused("identity", error.reason, in_tls=True) from None
    except ssl.SSLError as error:
        ended = isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
        raise Refused("closed-early" if ended else "handshake", error.reason or str(error), in_tls=True) from None
    except OSError as error:
        raise Refused("closed-early", str(error), in_tls=True) from None
