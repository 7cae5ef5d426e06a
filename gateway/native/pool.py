"""Connections to endpoints: dialled, lent to one exchange at a time, kept while idle.

One pool per Host, so per endpoint and backend (a peer's endpoint has another SNI in each backend). Last in, first out: the busy few
stay warm, the rest run into their idle timeout. An idle connection that becomes readable is closed: whatever its server says without
being asked is an end, or nothing that could be an answer.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.native.accesslog import upstream_json, upstream_text
from gateway.native.backend import BackendState
from gateway.native.codec.h1 import ClientCodec
from gateway.native.host import Host
from gateway.native.identity import PeerRefused
from gateway.native.limits import Line
from gateway.native.off_limits import check_reached
from gateway.native.preface import Proxy, TunnelRefused, open_tunnel, say_proxy, set_keepalive
from gateway.native.reactor import NEVER, READ, WRITE, DeadlineExceeded, Reactor, Strand, suspend
from gateway.native.stream import Stream, TlsStream
from gateway.native.tls import ClientTls, Contexts, TlsFault
from gateway.native.tunnel import ByteStream
from gateway.policy.failure import Failure
from gateway.snapshot import Backend, UpstreamTls

_KEPT = 1024  # idle connections a host may hold: twice what Envoy's drill of 500 streams needs; more are closed when given back
_CONNECTED = frozenset((0, errno.EISCONN))
_UNDER_WAY = frozenset((*_CONNECTED, errno.EINPROGRESS, errno.EALREADY))
_NON_BLOCKING = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
_BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT of linux/in.h, which Python 3.11 has no name for
_TCP_TO_PEERS = ("istio",)  # what Istio's gateways offer for TCP inside mutual TLS (DESIGN section 5)


class AttemptFailed(Exception):
    """An attempt ended without an answer. reason: for UPSTREAM_TRANSPORT_FAILURE_REASON. stale: on a kept connection that had
    ended before its server said anything to this request."""

    def __init__(self, failure: Failure, reason: str = "", *, stale: bool = False) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.reason = reason
        self.stale = stale


class Pool(list["Upstream"]):
    """Idle connections of one Host, the last used at the end. opened: those that exist, lent ones too. closed: nothing is kept
    any more.

    shared: connections of HTTP/2, each for many exchanges at once. connecting: one of those is being dialled, and `waiting` wait for
    it. only_http1: what TLS agreed on with this endpoint. line: who waits because no more connections may be opened.
    """

    __slots__ = ("closed", "connecting", "line", "multiplexed", "only_http1", "opened", "shared", "waiting")

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.closed = self.connecting = self.only_http1 = False
        self.shared: list[Any] = []
        self.multiplexed: set[Any] = set()  # all of HTTP/2, those too that take no more requests
        self.waiting: list[Strand] = []
        self.line: Line[Upstream] | None = None

    def available(self, server_name: str | None = None) -> Any:
        """A shared connection with room for another request, or None. server_name: only one that was opened for this name."""
        for connection in self.shared:
            if connection.available() and (server_name is None or connection.server_name == server_name):
                return connection
        return None

    def make_room(self) -> bool:
        """Close an idle connection, the longest unused, so that another may be opened in its place; False when none idles."""
        idle: Any = self[0] if self else next((each for each in self.shared if each.idle), None)
        if idle is None:
            return False
        idle.close()
        return True

    def close(self) -> None:
        """The host is no more: close what is idle; what is lent is closed when it is given back."""
        self.closed = True
        for upstream in list(self):
            upstream.close()
        for connection in list(self.shared):
            connection.leave()

    def end(self) -> None:
        """The worker ends: close everything that is idle or shared, at once."""
        self.close()
        for connection in list(self.multiplexed):
            connection.close()


class Upstream:
    """One connection of HTTP/1, lent to one exchange at a time. inbox: always empty here; what a multiplexed one has ready."""

    multiplexed = False
    trailers: list[bytes] = []  # noqa: RUF012  of an answer that came whole: over HTTP/1 they come apart
    inbox: Sequence[object] = ()

    __slots__ = (
        "armed",
        "born",
        "codec",
        "deadline",
        "gone",
        "interim",
        "log_json",
        "log_text",
        "on_idle",
        "pool",
        "requests",
        "server_name",
        "stream",
    )

    def __init__(self, stream: Stream, pool: Pool, backend: str, host: Host, server_name: str) -> None:
        self.stream = stream
        self.codec = ClientCodec()
        self.pool = pool
        self.requests = 0
        self.interim = 0  # 1xx answers on this connection
        self.server_name = server_name
        self.deadline = self.armed = NEVER
        self.on_idle: Callable[[int], None] = self._idle
        self.gone: Callable[[], None] | None = None  # told once, when it is closed
        self.born = stream.reactor.now
        where, local, name = host.key.encode(), local_of(stream.sock), backend.encode()
        self.log_text = upstream_text(where, name, local)
        self.log_json = upstream_json(where, name, local)
        pool.opened += 1

    def release(self, backend: Backend) -> None:
        """Keep it for the next exchange. Only after a whole answer that leaves it open."""
        limit = backend.max_requests_per_connection
        pool, stream = self.pool, self.stream
        used_up = pool.closed or (limit and self.requests >= limit) or backend.proxy_protocol
        if backend.max_connection_ms and stream.reactor.now - self.born >= backend.max_connection_ms / 1000:
            used_up = True
        if used_up or self.codec.buffer or len(pool) >= _KEPT:
            self.close()
            return
        if pool.line is not None and pool.line.offer(self):
            return
        pool.append(self)
        stream.listen(self.on_idle)
        reactor = stream.reactor
        idle = backend.idle_timeout_ms
        self.deadline = reactor.now + idle / 1000 if idle else NEVER
        if self.deadline < self.armed:
            reactor.arm(self)

    def alive(self) -> bool:
        """Whether an idle connection has not ended yet, as far as this end knows: one system call."""
        try:
            self.stream.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def expired(self) -> None:
        if self in self.pool:
            self.close()

    def _idle(self, events: int) -> None:
        self.close()

    def close(self) -> None:
        """Close it, idle or lent. Any number of times."""
        if not self.stream.closed:
            self.pool.opened -= 1
            if self in self.pool:
                self.pool.remove(self)
            self.deadline = NEVER
            self.stream.close()
            self.on_idle = _closed  # breaks the cycle, so no collection is needed
            if self.gone is not None:
                self.gone()
                self.gone = None

    def __repr__(self) -> str:
        return f"<Upstream {self.log_text!r} requests={self.requests} {self.stream!r}>"


def _closed(events: int) -> None:
    """The handler of a connection that is no more."""


def local_of(sock: socket.socket) -> bytes:
    try:
        name = sock.getsockname()
    except OSError:
        return b""
    if not isinstance(name, tuple):
        return b""
    return f"[{name[0]}]:{name[1]}".encode() if ":" in name[0] else f"{name[0]}:{name[1]}".encode()


def tls_of(backend: Backend, host: Host) -> UpstreamTls | None:
    """How this endpoint is spoken to: a peer's gateway as that peer, a workload as the backend says."""
    peer = host.endpoint.peer
    if peer:
        for name, tls in backend.peer_tls:
            if name == peer:
                return tls
    return backend.tls


def take(host: Host, *, careful: bool, server_name: str | None) -> Upstream | None:
    """An idle connection, the last used first. careful: make sure that its server has not closed it, for requests that cannot be
    repeated. server_name: only one that was opened for this name; None = any."""
    pool: Pool | None = host.pool
    while pool:
        if server_name is None:
            upstream = pool.pop()
        else:
            found = next((each for each in reversed(pool) if each.server_name == server_name), None)
            if found is None:
                return None
            pool.remove(found)
            upstream = found
        if not careful or upstream.alive():
            return upstream
        upstream.close()
    return None


class Opened(NamedTuple):
    """A new connection. name: the server name it was opened with. carrier: what carries a relay's bytes, `stream` itself but for tunnels
    by POST. ahead: what the endpoint's side said already, to go first."""

    stream: Stream
    name: str
    carrier: ByteStream
    ahead: bytes


class Dialer:
    """Opens connections. `contexts` makes TLS contexts."""

    def __init__(self, reactor: Reactor, contexts: Contexts) -> None:
        self.reactor = reactor
        self.contexts = contexts

    def name_for(self, tls: UpstreamTls, authority: str) -> str:
        """The server name that a connection for this authority must have been opened with. Raises AttemptFailed."""
        try:
            return self.contexts.client(tls).hostname(authority) or ""
        except (TlsFault, PeerRefused) as error:
            raise AttemptFailed(Failure.CONNECT, _transport_reason(error)) from None

    async def dial(
        self,
        strand: Strand,
        state: BackendState,
        host: Host,
        *,
        authority: str,
        limit: float,
        proxy: Proxy | None = None,
        alpn: tuple[str, ...] | None = None,
    ) -> Upstream:
        """A new connection for HTTP within the backend's connect timeout and `limit`, TLS done and the peer proven. proxy: whom a PROXY
        header speaks of, where the backend wants one; such a connection is never kept. alpn: offered in place of what its TLS says.

        Raises AttemptFailed (CONNECT, CONNECT_TIMEOUT), DeadlineExceeded when `limit` passed. Interrupted, the socket is closed."""
        opened = await self.open(strand, state, host, authority=authority, limit=limit, proxy=proxy, alpn=alpn)
        return Upstream(opened.stream, host.pool, state.backend.name, host, opened.name)

    async def open(
        self,
        strand: Strand,
        state: BackendState,
        host: Host,
        *,
        authority: str,
        limit: float,
        proxy: Proxy | None = None,
        tcp: bool = False,
        alpn: tuple[str, ...] | None = None,
    ) -> Opened:
        """A new connection for anything; as `dial`. tcp: it will not carry HTTP: ALPN `istio` to peers and none elsewhere, and through
        the backend's tunnel. Its owner counts it in `host.pool.opened`."""
        backend = state.backend
        if host.pool is None:
            host.pool = Pool()
        tls = tls_of(backend, host)
        if tcp and tls is not None:
            alpn = _TCP_TO_PEERS if tls.peer else ()
        if alpn is not None and tls is not None and tls.alpn != alpn:
            tls = msgspec.structs.replace(tls, alpn=alpn)
        connect_by = self.reactor.now + backend.connect_timeout_ms / 1000
        strand.until(min(limit, connect_by))
        stream: Stream | None = None
        try:
            stream = await self._connect(strand, host, backend.source_address)
            if backend.keepalive is not None:
                set_keepalive(stream.sock, backend.keepalive)
            if backend.proxy_protocol and not host.endpoint.peer:
                await say_proxy(strand, stream, backend.proxy_protocol, proxy or ("", ""))
            name = ""
            if tls is not None:
                client = self.contexts.client(tls)
                name = client.hostname(authority) or ""
                stream = await self._secure(strand, stream, client, name)
            carrier: ByteStream = stream
            ahead = b""
            if tcp and backend.tunnel is not None and not host.endpoint.peer:
                carrier, ahead = await open_tunnel(strand, stream, backend.tunnel)
            return Opened(stream, name, carrier, ahead)
        except BaseException as error:
            if stream is not None:
                stream.close()
            failed = self._failed(error, limit)
            if failed is None:
                raise
            raise failed from None

    def _failed(self, error: BaseException, limit: float) -> AttemptFailed | None:
        """What an attempt to connect failed of; None if it was interrupted."""
        if isinstance(error, DeadlineExceeded):
            timely = self.reactor.now >= limit
            return None if timely else AttemptFailed(Failure.CONNECT_TIMEOUT, "connection_timeout")
        if isinstance(error, TlsFault | ssl.SSLError | PeerRefused):
            return AttemptFailed(Failure.CONNECT, _transport_reason(error))
        if isinstance(error, TunnelRefused):
            return AttemptFailed(Failure.CONNECT, str(error))
        if isinstance(error, OSError):
            return AttemptFailed(Failure.CONNECT, f"delayed_connect_error:_{error.errno}")
        return None

    async def _connect(self, strand: Strand, host: Host, source: str) -> Stream:
        endpoint = host.endpoint
        sock, address = _socket(endpoint.address, endpoint.port)
        try:
            if source and sock.family != socket.AF_UNIX:
                # Its port is chosen when the socket connects, so that ports are shared by all endpoints (ip(7)). An endpoint of the other
                # IP version fails: connections leave from this address or not at all.
                sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((source, 0))
            code = sock.connect_ex(address)
            if code == errno.EINPROGRESS:
                # On this machine the other side has answered by now. Asking costs 0.3 µs; if it is so, a turn of the loop is saved.
                code = sock.connect_ex(address)
            if code not in _UNDER_WAY:
                raise OSError(code, os.strerror(code))
            if code in _CONNECTED:
                check_reached(sock)
                return Stream(self.reactor, sock, strand.wake)
            stream = Stream(self.reactor, sock, strand.wake, events=WRITE)
        except BaseException:
            sock.close()
            raise
        try:
            while code not in _CONNECTED:
                await suspend()
                # Asking again tells whether it is connected, what it failed of, or that this strand was woken without reason (a
                # reused descriptor's event).
                code = sock.connect_ex(address)
                if code not in _UNDER_WAY:
                    raise OSError(code, os.strerror(code))
            check_reached(sock)
            self.reactor.modify(stream.fd, READ)
        except BaseException:
            stream.close()
            raise
        return stream

    async def _secure(self, strand: Strand, plain: Stream, client: ClientTls, name: str) -> Stream:
        try:
            stream = TlsStream(plain, client.context, server_side=False, server_hostname=name or None)
            await stream.handshake(strand)
            client.prove(stream.tls)
        except BaseException:
            plain.close()
            raise
        return stream


def _socket(address: str, port: int) -> tuple[socket.socket, str | tuple[str, int]]:
    if address[0] in "/@":
        return socket.socket(socket.AF_UNIX, _NON_BLOCKING), address.replace("@", "\0", 1) if address[0] == "@" else address
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, _NON_BLOCKING)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock, (address, port)


def _transport_reason(error: Exception) -> str:
    """One word, as access logs are split at spaces."""
    return "TLS_error:_" + (getattr(error, "reason", "") or str(error)).replace(" ", "_")
