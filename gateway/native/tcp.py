"""A connection that is relayed and not read: from its target to its last byte (Istio tcp[], tls[], AUTO_PASSTHROUGH; DESIGN section 5).

The backend is drawn once for a connection; then endpoints are tried until one takes it. Nothing was sent while none has, so under
`defaults: fedgate` a connection that fails goes to another endpoint, the next priority included, as a request does; under `defaults:
istio` there is one attempt, Envoy's max_connect_attempts. What the client sends meanwhile waits in its socket.

For the balance a connection is one request that is answered when it is connected, and that is over when it ends. When there is nowhere
to go the client is closed without a byte. Response flags as Envoy's: NR no route, NC no such backend, UH no endpoint in service, UO too many
connections, UF,URX none took it, DC the client went away, UC the endpoint broke off, DT longer than max_connection_ms. One that is not
offered any more is ended after a while (`withdrawn`).
"""

from __future__ import annotations

import select

from gateway.errors import AccessDenied, GatewayError
from gateway.native.backend import BackendState
from gateway.native.connection import ConnectionContext
from gateway.native.host import Host
from gateway.native.meant import for_connection, redirected
from gateway.native.pool import AttemptFailed, Opened, local_of
from gateway.native.reactor import NEVER, Strand, nobody
from gateway.native.runtime import Runtime
from gateway.native.stream import Stream
from gateway.native.tunnel import Counts, Ended, relay
from gateway.policy.access import Access
from gateway.policy.failure import Failure
from gateway.policy.hashing import xxh64
from gateway.policy.retry import ELSEWHERE
from gateway.snapshot import RetryPolicy

_GONE = select.EPOLLERR | select.EPOLLHUP
_ELSEWHERE = RetryPolicy(immediate=True)
_OK = 200  # for outlier detection a connection made is a good answer, as in Envoy
_FLAGS = {Ended.RESET_BY_A: b"DC", Ended.RESET_BY_B: b"UC", Ended.LIMIT: b"DT"}
_DETAILS = {Ended.IDLE: b"tcp_session_idle_timeout", Ended.LIMIT: b"max_connection_duration_reached"}


async def serve(strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime, data: bytes = b"") -> None:
    """Relay a connection to its end; `context.tcp` says where. The caller closes the stream. data: bytes already read, to go first.

    Raises nothing of its own. Interrupted at any wait, the endpoint's connection is closed and the connection recorded."""
    connection = Connection(strand, stream, context, runtime)
    runtime.relays.add(connection)
    try:
        opened = await connection.connect()
        if opened is not None:
            await connection.carry(opened, data)
    except _ClientGone:
        connection.flag = b"DC"
    except _NotOffered:
        connection.termination = b"no_longer_offered"
    except GeneratorExit:
        connection.flag = b"DC"
        raise
    finally:
        runtime.relays.discard(connection)
        connection.end()


class _NotOffered(Exception):
    """Thrown into a connection that was to end because it is not offered any more (native/withdrawn)."""


class _ClientGone(Exception):
    """Thrown into a connection whose client reset it before it was connected."""


class _Evicted(Exception):
    """Thrown into a connection that waits on an endpoint which was found silent or gone, and that can go elsewhere."""


class Connection:
    """One relayed connection, and what is recorded of it. A `Waiter` while it is not connected. counted: bytes (received, sent) that
    metrics have taken over."""

    __slots__ = (
        "_given",
        "_opened",
        "_runtime",
        "_strand",
        "_stream",
        "_tried",
        "backend_name",
        "began",
        "context",
        "counted",
        "counts",
        "ended",
        "flag",
        "host",
        "local",
        "state",
        "termination",
        "transport_failure",
    )

    def __init__(self, strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime) -> None:
        self._strand, self._stream, self.context, self._runtime = strand, stream, context, runtime
        self.began = self.ended = strand.reactor.now
        self.counts = Counts()
        self.counted = (0, 0)
        self.flag = self.termination = self.transport_failure = b"-"
        self.backend_name = ""
        self.local = b""
        self.state: BackendState | None = None
        self.host: Host | None = None  # the last one tried
        self._given: Host | None = None
        self._opened: Opened | None = None
        self._tried: list[Host] = []

    async def connect(self) -> Opened | None:
        """Choose, and try endpoints until one takes it; None when there is nowhere to go: `flag` says why. Raises _ClientGone."""
        context, runtime = self.context, self._runtime
        assert context.tcp is not None
        self.backend_name = context.tcp.choose(context.local_address, runtime.random)
        if not self.backend_name:
            self.flag = b"NR"
            return None
        state = self.state = runtime.states.get(self.backend_name)
        if state is None:
            self.flag = b"NC"
            return None
        if state.access is not None and not self._admitted(state.access):
            return None
        self._stream.listen(self._early)
        try:
            host = self._pick(state) if state.reach is None else await self._find(state)
        except GatewayError as error:
            self.flag, self.termination = error.flag.encode(), error.detail.encode()
            return None
        if host is None:
            self.flag = b"UH"
        while host is not None:
            if not state.may_connect(host):
                state.overflow += 1
                self.flag = b"UO"
                return None
            opened = await self._try(state, host)
            if opened is not None:
                return opened
            host = self._next(state)
        return None

    def _admitted(self, access: Access) -> bool:
        """As Envoy's network RBAC filter: closed, and why is its termination."""
        allowed, why = access.decide(self.context.identity, self.context.peer_address)
        if not allowed:
            self._runtime.observer.refuse("access-denied")
            self.termination = f"{AccessDenied.detail}{{{why}}}".encode()
        return allowed

    async def _find(self, state: BackendState) -> Host | None:
        """Where the client itself meant, as far as it said so. Raises NotReachable, DnsFailed."""
        context = self.context
        original = context.local if context.listener.proxy_protocol else redirected(self._stream.sock)
        try:
            return await for_connection(self._strand, self._runtime.resolver, state, context.sni, original, NEVER)
        finally:
            self._strand.until(NEVER)

    def _pick(self, state: BackendState) -> Host | None:
        """The first endpoint. A connection has no property to be told apart by but its client's address."""
        context, policy = self.context, state.backend.hash
        key = xxh64(context.peer_address.encode()) if policy is not None and policy.kind == "source-ip" else None
        # Where the client connected to is where this gateway listens: dialling that would only come back, unless a proxy said otherwise.
        original = context.local if context.listener.proxy_protocol else ""
        return state.pick(self._strand.reactor.now, key=key, original=original)

    async def _try(self, state: BackendState, host: Host) -> Opened | None:
        strand, context = self._strand, self.context
        reactor = strand.reactor
        self.host = self._given = host
        state.started(host, self, reactor.now)
        state.connected(host)
        try:
            opened = await self._runtime.dialer.open(
                strand, state, host, authority=context.sni, limit=NEVER, proxy=(context.peer, context.local), tcp=True
            )
        except (AttemptFailed, _Evicted) as error:
            failure = error.failure if isinstance(error, AttemptFailed) else Failure.SILENCE
            self.transport_failure = (error.reason if isinstance(error, AttemptFailed) else "silent").encode() or b"-"
            state.failed(host, self, failure, reactor.now)
            self._give_back(state)
            self._tried.append(host)
            return None
        self.transport_failure = b"-"
        state.answered(host, self, _OK, reactor.now)
        return opened

    def _next(self, state: BackendState) -> Host | None:
        host = None
        if self._runtime.observer.tcp.node.defaults != "istio" and len(self._tried) <= ELSEWHERE:
            host = state.pick_again(self._strand.reactor.now, self._tried, _ELSEWHERE, elsewhere=True)
        if host is None:
            self.flag = b"UF,URX"
        else:
            state.retries += 1
        return host

    async def carry(self, opened: Opened, data: bytes) -> None:
        """Relay until it ends, and pass its end on."""
        state, host = self.state, self.host
        assert state is not None
        assert host is not None
        self._opened = opened
        host.pool.opened += 1
        self.local = local_of(opened.stream.sock)
        self._runtime.observer.tcp.opened(self)
        backend = state.backend
        how = await relay(
            self._strand,
            self._stream,
            opened.carrier,
            idle=backend.tcp_idle_timeout_ms / 1000,
            limit=backend.max_connection_ms / 1000,
            counts=self.counts,
            ahead=(data, opened.ahead),
        )
        if how is Ended.WELL:
            return
        self.flag, self.termination = _FLAGS.get(how, b"-"), _DETAILS.get(how, b"-")
        if how is Ended.RESET_BY_A:
            opened.stream.abort()
        elif how is Ended.RESET_BY_B:
            self._stream.abort()

    def end(self) -> None:
        """Give back what is held, and record. Once."""
        if self._opened is not None:
            self._opened.stream.close()
            assert self.host is not None
            self.host.pool.opened -= 1
        if self._given is not None and self.state is not None:
            self._give_back(self.state)
        self.ended = self._strand.reactor.clock()
        self._runtime.observer.tcp.closed(self)
        self._stream.listen(nobody)  # breaks the cycle, so no collection is needed

    def _give_back(self, state: BackendState) -> None:
        host, self._given = self._given, None
        assert host is not None
        state.disconnected(host)
        state.finished(host, self)

    # --------------------------------------------------------------------------------------------------- interruptions

    def _early(self, events: int) -> None:
        """The client says something before it is connected: it waits in its socket. Or it is gone."""
        if events & _GONE:
            self._stream.pause()
            self._strand.throw(_ClientGone())
        else:
            self._stream.pause()

    @property
    def address(self) -> str:
        """The IP that its socket has here, whatever a PROXY header said; "" for a unix socket's."""
        try:
            name = self._stream.sock.getsockname()
        except OSError:
            return ""
        return name[0] if isinstance(name, tuple) else ""

    def withdraw(self) -> None:
        """End it, unless it has. Between two turns only."""
        if self in self._runtime.relays:
            self._strand.throw(_NotOffered())

    def evict(self, host: Host) -> None:
        """Waiter.evict."""
        if self._given is host and self._opened is None and self.state is not None and self.state.untried([*self._tried, host]):
            self._strand.throw(_Evicted())

    def __repr__(self) -> str:
        return f"<Connection {self.context.peer} {self.backend_name} {self._given!r}>"
