"""What happens to some requests between their route and their backend, in this order: faults, CORS; then, once a backend is chosen: rate
limits, deadlines that the request itself brings, the hash of consistent hashing. Nothing of it is touched by requests without.

The decisions are `policy/*`; this waits, answers and raises for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import AccessDenied, FaultAborted, RateLimited, UpstreamTimeout
from gateway.native.backend import BackendState
from gateway.native.codec.events import RequestHead
from gateway.native.codec.fields import Kind, field_of
from gateway.native.host import Host
from gateway.native.reactor import DeadlineExceeded, suspend
from gateway.policy.deadline import GRPC_TIMEOUT, PER_TRY_TIMEOUT, UPSTREAM_TIMEOUT, Limits, expected, request_limit
from gateway.policy.hashing import HashKey, Peer
from gateway.snapshot import HashPolicy, ListenerKind
from gateway.table import CompiledRoute, Destination, Forwarding, Operations

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

_hash_keys: dict[HashPolicy, HashKey] = {}  # compiled; a Snapshot has a handful, and HashPolicy is data
_MOST_HASH_KEYS = 4096


async def before_routing_on(x: Exchange, head: RequestHead, route: CompiledRoute) -> bool | None:
    """Faults, then CORS, as istiod orders them. None: go on; otherwise the request has been answered, and this is whether the client's
    connection can carry another. Raises FaultAborted, OSError, DeadlineExceeded."""
    x.unusual = True
    if route.fault is not None:
        delay, status, grpc = route.fault.draw(x.runtime.random)
        if delay:
            await _wait(x, delay)
            x.flag = b"DI"
        if status or grpc >= 0:
            raise FaultAborted(status, grpc)
    if route.cors is not None:
        lines = route.cors.preflight(head)
        if lines is not None:
            x.detail = b"cors_response"
            x.operations = _NONE
            return await x.reply(head, 200, b"", lines)
        lines = route.cors.response_lines(head)
        if lines:
            x.cors = (frozenset(route.cors.replaces), lines)
    return None


_NONE = Operations()


async def _wait(x: Exchange, seconds: float) -> None:
    """Raises DownstreamClosed when the client leaves meanwhile."""
    strand = x.strand
    until = strand.reactor.now + seconds
    strand.until(until)
    x.watch()
    try:
        while True:
            await suspend()
    except DeadlineExceeded:
        if strand.reactor.now < until:
            raise UpstreamTimeout from None


def operations(x: Exchange, destination: Destination) -> Operations:
    """What is done to the answer's head, when more than the destination says."""
    found = Operations()
    found.steps = list(destination.response.steps)
    if x.cors is not None:
        found.steps.append(x.cors)
    if x.cookie:
        found.steps.append((frozenset(), (b"set-cookie: " + x.cookie,)))
    return found


def admitted(x: Exchange, head: RequestHead, state: BackendState) -> None:
    """Who may use the backend. Raises AccessDenied."""
    if state.access is not None:
        allowed, why = state.access.decide(x.context.identity, x.client_address(head))
        if not allowed:
            x.unusual = True
            x.runtime.observer.refuse("access-denied")
            raise AccessDenied(f"{AccessDenied.detail}{{{why}}}")


def limited(x: Exchange, head: RequestHead, state: BackendState) -> None:
    """The backend's rate limits. Raises RateLimited."""
    limiter = state.limiter
    if limiter is None:
        return
    if limiter.refuses(head, x.client_address(head), x.context.identity, x.strand.reactor.now) is not None:
        x.runtime.observer.refuse("rate-limited")
        raise RateLimited


_calls: dict[tuple[float, float, bytes], tuple[Limits, bytes]] = {}  # what gRPC calls of one kind all say; bounded
_MOST_CALLS = 1024


def limits(x: Exchange, head: RequestHead, action: Forwarding) -> tuple[Limits, bytes]:
    """Seconds for the whole request and for a try, of a request that may have something to say about it, and what the endpoint is told
    of them, after its CR LF."""
    if x.grpc and not (head.rewrite and says_timeouts(head)):
        asked = head.values(GRPC_TIMEOUT)
        key = (action.timeout, action.per_try, asked[0] if len(asked) == 1 else b"")
        known = _calls.get(key)
        if known is None:
            found = _limits(x, head, action)
            if len(_calls) >= _MOST_CALLS:
                _calls.clear()
            known = _calls[key] = found, _expected_line(found)
        return known
    found = _limits(x, head, action)
    return found, _expected_line(found)


def _limits(x: Exchange, head: RequestHead, action: Forwarding) -> Limits:
    internal = x.context.listener.kind is not ListenerKind.GATEWAY
    return request_limit(
        action.timeout,
        action.per_try,
        grpc=head.values(GRPC_TIMEOUT) if x.grpc else None,
        upstream=head.values(UPSTREAM_TIMEOUT) if internal else (),
        upstream_per_try=head.values(PER_TRY_TIMEOUT) if internal else (),
        internal=internal,
    )


def _expected_line(found: Limits) -> bytes:
    """How long the answer is waited for, told to the endpoint, after its CR LF; b"" for no limit."""
    milliseconds = expected(found)
    return b"\r\nx-envoy-expected-rq-timeout-ms: %d" % milliseconds if milliseconds else b""


def says_timeouts(head: RequestHead) -> bool:
    """Whether a proxy before us gave orders."""
    return bool(head.special(Kind.TIMEOUT))


def pick(x: Exchange, head: RequestHead, state: BackendState, now: float, *, repeatable: bool) -> Host | None:
    """The endpoint, where the balance takes a hash of the request."""
    backend = state.backend
    if backend.hash is None:
        return state.pick(now, repeatable=repeatable)
    compiled = _hash_keys.get(backend.hash)
    if compiled is None:
        if len(_hash_keys) >= _MOST_HASH_KEYS:
            _hash_keys.clear()
        compiled = _hash_keys[backend.hash] = HashKey.of(backend.hash)
    fields = [field_of(line) for line in head.lines]
    target = head.target.decode("latin-1")
    context = x.context
    peer = Peer(x.client_address(head), context.peer + context.local)
    x.key, cookie = compiled.key_and_cookie(fields, target, peer)
    x.unusual = True
    if cookie is not None:
        x.cookie = cookie
    return state.pick(now, repeatable=repeatable, key=x.key)
