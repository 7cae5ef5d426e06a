"""How an exchange comes by a connection to its endpoint: within the backend's limits, and shared where HTTP/2 is spoken.

Theory of operation. A request without a kept connection waits for one: until its own is dialled; until the HTTP/2 connection that another
exchange is just dialling is there, so that a burst does not open a connection each; or, where the backend has as many as it may have,
until one is given back or closed (limits.Line, first come first served). All of them are `pending` to the circuit breaker; over
its limit the request is refused at once. Where TLS negotiates, the pool remembers that an endpoint speaks HTTP/1.1 only, and
everybody then dials for himself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.errors import Overflow
from gateway.native.backend import BackendState
from gateway.native.host import Host
from gateway.native.http2_client import Http2Client
from gateway.native.limits import Line, Place
from gateway.native.pool import AttemptFailed, Pool, Upstream, tls_of
from gateway.native.reactor import DeadlineExceeded, Strand, suspend
from gateway.policy.failure import Failure
from gateway.snapshot import Backend, UpstreamTls

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange


def protocol_of(backend: Backend, tls: UpstreamTls | None, *, client_h2: bool) -> str:
    """How an endpoint is spoken to: "h2" for sure, "http/1.1" for sure, or "" where TLS is to negotiate."""
    http2 = backend.http2
    if http2 is not None:
        if http2.client:
            return "h2" if client_h2 else "http/1.1"
        if http2.always:
            return "h2"
    return "" if tls is not None and "h2" in tls.alpn else "http/1.1"


async def connect(x: Exchange, state: BackendState, host: Host, limit: float) -> Upstream | Http2Client:
    """A connection to this endpoint: one of HTTP/1 for this exchange alone, or one that is shared, just dialled or by another meanwhile.

    Raises Overflow, and as Dialer.dial. Interrupted, nothing is left behind."""
    if not state.may_wait():
        state.overflow += 1
        raise Overflow
    if host.pool is None:
        host.pool = Pool()
    state.waiting(1)
    try:
        wanted = protocol_of(state.backend, tls_of(state.backend, host), client_h2=x.head.minor == 2)
        if wanted == "http/1.1" or (not wanted and host.pool.only_http1):
            own = await _own(x, state, host, limit, _ALPN[wanted])
            assert own is not None  # only who could share comes back without
            return own
        return await _shared(x, state, host, limit, negotiate=not wanted)
    finally:
        state.waiting(-1)


_ALPN = {"http/1.1": ("http/1.1",), "h2": ("h2",), "": None}


async def _own(
    x: Exchange, state: BackendState, host: Host, limit: float, alpn: tuple[str, ...] | None = None, *, shares: bool = False
) -> Upstream | None:
    """One for this exchange alone: dialled, or given back by another where no more may be opened. shares: one that was just dialled is
    wanted; None when meanwhile a shared one has room."""
    pool: Pool = host.pool
    place: Place[Upstream] | None = None
    while not state.may_connect(host):
        if pool.make_room():
            continue  # what was idle could not be used: it was opened for another name, or speaks another version
        if pool.line is None:
            pool.line = Line(x.strand.reactor)
        if place is None:
            place = Place(x.strand, shares=shares)
        x.strand.until(limit)
        given = await pool.line.wait(place)
        if given is not None:
            try:
                if not shares and given.server_name == _name(x, state, host):
                    return given
            except AttemptFailed:  # there is no such name: the place goes to who comes next
                given.close()
                raise
            given.close()  # opened for another name, or spoke HTTP/1 already; another may be opened in its place
        elif shares and pool.available(_wanted_name(x, state, host)) is not None:
            return None
    state.connected(host)

    def gone() -> None:
        state.disconnected(host)
        if pool.line is not None:
            pool.line.freed()

    proxy = (x.context.peer, x.context.local) if state.backend.proxy_protocol else None
    try:
        authority = x.authority.decode("latin-1")
        upstream = await x.runtime.dialer.dial(x.strand, state, host, authority=authority, limit=limit, proxy=proxy, alpn=alpn)
    except BaseException:
        gone()
        raise
    upstream.gone = gone
    return upstream


def _name(x: Exchange, state: BackendState, host: Host) -> str:
    """The server name that a connection for this request must have been opened with."""
    tls = tls_of(state.backend, host)
    return x.runtime.dialer.name_for(tls, x.authority.decode("latin-1")) if tls is not None else ""


def _wanted_name(x: Exchange, state: BackendState, host: Host) -> str | None:
    """What a shared connection must have been opened for; None = any will do, as all are opened for the same name or without TLS."""
    tls = tls_of(state.backend, host)
    return None if tls is None or tls.sni else _name(x, state, host)


async def _shared(x: Exchange, state: BackendState, host: Host, limit: float, *, negotiate: bool) -> Upstream | Http2Client:
    """One of HTTP/2, if the endpoint agrees. negotiate: it may not."""
    pool: Pool = host.pool
    while pool.connecting:
        # Where no more connections may be opened, who dials waits for a place too.
        until = limit if pool.line else min(limit, x.strand.reactor.now + state.backend.connect_timeout_ms / 1000)
        await _wait(x.strand, pool, until, limit)
        found: Http2Client | None = pool.available(_wanted_name(x, state, host))
        if found is not None:
            return found
        if negotiate and pool.only_http1:
            own = await _own(x, state, host, limit)
            assert own is not None
            return own
    pool.connecting = True
    try:
        upstream = await _own(x, state, host, limit, None if negotiate else _ALPN["h2"], shares=True)
        if upstream is None:
            shared: Http2Client = pool.available(_wanted_name(x, state, host))
            return shared
        if negotiate and _negotiated(upstream) != "h2":
            pool.only_http1 = True
            return upstream
        client = Http2Client(upstream, state.backend, x.runtime.unflushed, peer=bool(host.endpoint.peer))
        if pool.closed:
            client.going = True  # for this request only: nobody comes to this host any more
        else:
            pool.shared.append(client)
        return client
    finally:
        pool.connecting = False
        x.strand.reactor.soon(_waker(pool))


def _negotiated(upstream: Upstream) -> str | None:
    tls = getattr(upstream.stream, "tls", None)
    return tls.selected_alpn_protocol() if tls is not None else None


async def _wait(strand: Strand, pool: Pool, until: float, limit: float) -> None:
    """Until somebody's dialling has ended. Raises AttemptFailed, or DeadlineExceeded when `limit` passed."""
    strand.until(until)
    pool.waiting.append(strand)
    try:
        while strand in pool.waiting:
            await suspend()
    except DeadlineExceeded:
        if strand.reactor.now >= limit:
            raise
        raise AttemptFailed(Failure.CONNECT_TIMEOUT, "connection_timeout") from None
    finally:
        if strand in pool.waiting:
            pool.waiting.remove(strand)


def _waker(pool: Pool) -> Callable[[], None]:
    def wake() -> None:
        waiting, pool.waiting = pool.waiting, []
        for strand in waiting:
            strand.wake(0)

    return wake
