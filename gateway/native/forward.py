"""Attempts at endpoints until one answers: the middle of an exchange.

What becomes of one that failed is `attempts`'.

A body that did not come with the head goes up in a strand of its own (`upload`), and again from what is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import (
    DownstreamClosed,
    GatewayError,
    NoBackend,
    NoHealthyEndpoint,
    Overflow,
    UpstreamProtocolError,
)
from gateway.native.attempts import (
    IDEMPOTENT,
    Evicted,
    decide_on,
    failed_attempt,
    is_stale,
    may_leave,
    next_host,
    outcome_of,
    reason_of,
    weighed,
)
from gateway.native.backend import BackendState
from gateway.native.calls import judge
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.connecting import connect
from gateway.native.filters import admitted, limited, limits, operations, pick, says_timeouts
from gateway.native.heads import request_lines
from gateway.native.host import Host
from gateway.native.http2_client import Http2Client, Http2Upstream
from gateway.native.meant import for_request
from gateway.native.pool import AttemptFailed, Pool, Upstream, take, tls_of
from gateway.native.reactor import DeadlineExceeded, suspend
from gateway.native.relay import Broken, drained, stream_answer, whole_answer
from gateway.native.upgrade import agreed, refuse_unable, tunnel, upgrade_lines, wants_tunnel
from gateway.native.upload import Body, Upload
from gateway.policy.failure import Failure
from gateway.policy.retry import Outcome
from gateway.snapshot import Balance
from gateway.table import Destination, Forwarding

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

__all__ = ["Broken", "Evicted", "forward", "may_leave"]

_LONGEST = 3600.0  # seconds that an answer may take where no route timeout says less: every wait has a deadline
_INTERIM = 16  # 1xx answers to one request; more is a server that never comes to the point
_SAFE = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_ENDS = [b"\r\nx-envoy-attempt-count: %d\r\n\r\n" % number for number in range(1, 17)]
"""The end of a request's head, by the number of attempts before: Istio's gateways count them (include_request_attempt_count)."""

_PASSTHROUGH = Balance.PASSTHROUGH


async def forward(x: Exchange, head: RequestHead, action: Forwarding) -> bool:
    """Make attempts until one answers, and relay that answer. True if the client's connection can carry another request.

    Raises GatewayError, Broken. One coroutine for all of the usual way: each more would be passed through at every step."""
    strand = x.strand
    reactor = strand.reactor
    destination = action.only or action.choose(x.runtime.random)
    state = x.state = x.runtime.states.get(destination.backend)
    if state is None:
        raise NoBackend
    if state.access is not None:
        admitted(x, head, state)
    if state.limiter is not None:
        limited(x, head, state)
    if not state.admits():
        state.overflow += 1
        raise Overflow
    now = reactor.now
    x.policy = policy = action.retry
    timeout, per_try = action.timeout, action.per_try
    lines = _request(x, head, destination, action)
    if timeout or per_try or x.grpc or (head.rewrite and says_timeouts(head)):
        (timeout, per_try), told_of_it = limits(x, head, action)
        lines += told_of_it
    x.limit = now + (timeout or _LONGEST)
    if not head.end and not wants_tunnel(head):
        x.unusual = True
        x.body = Body(chunked=head.length < 0)
    backend = state.backend
    if backend.hash is None and backend.balance is not _PASSTHROUGH:
        host = state.pick(now, repeatable=head.method in _SAFE)
    else:
        host = await _pick_by_request(x, head, state)
    x.operations = destination.response if x.cors is None and not x.cookie else operations(x, destination)
    if action.mirrors:
        x.runtime.mirror(x, head, action, destination)
    if host is None:
        raise NoHealthyEndpoint
    while True:
        x.host = x.given = host
        x.attempt_began = reactor.now
        state.started(host, x, x.attempt_began)
        error: GatewayError | None = None
        try:
            channel = _kept(x, head, state, host) or await _dial(x, state, host, per_try)
            upstream: Any = channel
            if isinstance(channel, Http2Client):
                if head.upgrade and not channel.codec.settled:
                    strand.until(x.limit if not per_try else min(x.limit, x.attempt_began + per_try))
                    await channel.greeted(strand)
                upstream = _begin(x, head, channel, lines, per_try)
                _send_on(x, head, upstream)
            else:
                x.upstream = channel
                if not _send(x, head, host, channel, lines, per_try):
                    await channel.stream.drain(strand)
            if x.body is not None and not x.body.complete:
                x.upload = Upload(x, x.body, upstream)
            read, next_event = upstream.stream.read, upstream.codec.next_event
            response: ResponseHead | None = None
            while response is None:
                if not upstream.inbox:
                    await suspend()
                data = read()
                if data:
                    response = next_event(data)  # a head comes first
                    if response is not None and response.interim:
                        response = await _interim(x, head, upstream, response)
                elif data is not None:
                    raise OSError("remote_close")
            # Chunks that are none, right behind the head: nothing was said yet, so it is an error like any other.
            first = upstream.codec.next_event() if response.length == -1 else None
            # A status of gRPC in the head decides; one in the trailers comes too late for another attempt.
            told = x.grpc and judge(x, response.lines)
            state.answered(host, x, response.status if not told else weighed(response), reactor.now)
            if (response.status < 400 and not told) or policy is None:
                break
            outcome = outcome_of(response, host)
        except (AttemptFailed, Evicted, DeadlineExceeded, UpstreamProtocolError, OSError) as failed:
            if is_stale(x, head, failed):
                x.give_up()
                continue
            outcome, error = failed_attempt(x, state, host, failed)
        next_one = await _again(x, head, state, host, outcome, error)
        if next_one is None:
            break
        host = next_one
    assert response is not None
    if head.rewrite and agreed(head, response, multiplexed=upstream.multiplexed):
        return await tunnel(x, head, response, upstream)
    if not response.end:
        return await stream_answer(x, head, response, first)
    if not whole_answer(x, head, response, upstream, state, host):
        await drained(x)
    return x.keep


async def _pick_by_request(x: Exchange, head: RequestHead, state: BackendState) -> Host | None:
    """The endpoint, where something of the request chooses it. Raises GatewayError."""
    repeatable = head.method in _SAFE
    if state.backend.hash is None:
        return await for_request(x, head, state, repeatable=repeatable)
    return pick(x, head, state, x.strand.reactor.now, repeatable=repeatable)


async def _again(
    x: Exchange, head: RequestHead, state: BackendState, host: Host, outcome: Outcome, error: GatewayError | None
) -> Host | None:
    """After an attempt that was not the last word: the endpoint of the next one, once its back-off is over; None: the answer that is here
    stands. Raises the error, or another, where there is no answer."""
    decision = decide_on(x, head, state, host, outcome)
    if not decision.retry:
        used_up = decision.reason == "attempts used up"
        if error is None:
            if used_up and x.retries:
                x.flag = b"URX" if x.flag == b"-" else x.flag + b",URX"
            return None
        if used_up:
            error.flag += ",URX"
        raise error
    x.give_up()
    found = await next_host(x, state, decision)
    if found is None:
        raise error or NoHealthyEndpoint()
    return found


def _kept(x: Exchange, head: RequestHead, state: BackendState, host: Host) -> Upstream | Http2Client | None:
    """A kept connection, the last used first, or one that is shared; None when a new one is needed."""
    pool: Pool | None = host.pool
    if pool is None or x.fresh_only:
        return None
    http2 = state.backend.http2
    if pool.shared and (http2 is None or not http2.client or head.minor == 2):
        tls = tls_of(state.backend, host)
        name = None  # a connection whose certificate was proven for one host is not used for another
        if tls is not None and not tls.sni:
            name = x.runtime.dialer.name_for(tls, x.authority.decode("latin-1"))
        shared: Http2Client | None = pool.available(name)
        return shared
    if not pool or (http2 is not None and (http2.always or (http2.client and head.minor == 2))):
        return None
    if state.backend.tls is None and not host.endpoint.peer and head.method in IDEMPOTENT:
        return pool.pop()
    tls = tls_of(state.backend, host)
    server_name = None
    if tls is not None and not tls.sni:
        server_name = x.runtime.dialer.name_for(tls, x.authority.decode("latin-1"))
    return take(host, careful=head.method not in IDEMPOTENT, server_name=server_name)


async def _dial(x: Exchange, state: BackendState, host: Host, per_try: float) -> Upstream | Http2Client:
    x.fresh_only = False
    x.watch()
    limit = x.limit if not per_try else min(x.limit, x.attempt_began + per_try)
    return await connect(x, state, host, limit)


def _begin(x: Exchange, head: RequestHead, client: Http2Client, lines: bytes, per_try: float) -> Http2Upstream:
    """Begin the request on a connection of HTTP/2, and set up waiting for the answer."""
    strand = x.strand
    strand.until(x.limit if not per_try else min(x.limit, x.attempt_began + per_try))
    if head.upgrade:
        refuse_unable(client, head)
    if client.peer:
        lines = b"%b\r\nx-fedgate-hops: %d" % (lines, x.hops + 1)
    attempt = x.retries + x.elsewhere
    lines += (_ENDS[attempt] if attempt < len(_ENDS) else _ENDS[-1])[:-4]
    if x.grpc:
        lines += b"\r\nte: trailers"  # without it gRPC servers refuse the call
    body = x.body
    complete = head.end or (body is not None and body.complete)
    bare = not head.body and (body is None or not (body.pieces or body.trailers))
    end = complete and bare and not wants_tunnel(head)
    upstream = x.upstream = client.request(lines, scheme=x.scheme, end=end, protocol=head.upgrade, repeats=x.grpc)
    upstream.expect = head.method
    upstream.to_http2 = head.minor == 2
    upstream.input = strand.wake
    x.watch()
    x.exposed = True
    return upstream


def _send_on(x: Exchange, head: RequestHead, upstream: Http2Upstream) -> None:
    """As much of the body as is here. What the endpoint's windows do not take waits in the codec, not here: the answer may come first."""
    if upstream.sent_end or wants_tunnel(head):
        return
    body = x.body
    data = head.body if body is None else b"".join(body.pieces)
    if head.end or (body is not None and body.complete):
        upstream.end(body.trailers if body is not None else [], data)
    elif data:
        upstream.write(data)


def _send(x: Exchange, head: RequestHead, host: Host, upstream: Upstream, lines: bytes, per_try: float) -> bool:
    """Send the head, and as much of the body as is here; False if it has to be drained. Waits for the answer are set up."""
    strand, stream = x.strand, upstream.stream
    reactor = strand.reactor
    handlers = reactor.handlers
    limit = strand.deadline = x.limit if not per_try else min(x.limit, x.attempt_began + per_try)
    if limit < strand.armed:
        reactor.arm(strand)
    codec = upstream.codec
    codec.expect = head.method
    codec.upgrade = head.upgrade != b""
    upstream.requests += 1
    upstream.interim = 0
    stream.input = handlers[stream.fd] = strand.wake
    x.watch()
    if head.upgrade:
        lines += upgrade_lines(head)
    attempt = x.retries + x.elsewhere
    end = _ENDS[attempt] if attempt < len(_ENDS) else _ENDS[-1]
    out = lines + end if not host.endpoint.peer else b"%b\r\nx-fedgate-hops: %d%b" % (lines, x.hops + 1, end)
    if head.body:
        out += head.body
    elif x.body is not None:
        out += x.body.so_far()
    try:
        whole = stream.write(out)
    except OSError as error:
        raise AttemptFailed(Failure.RESET_UNSENT, reason_of(error), stale=upstream.requests > 1) from None
    x.exposed = True
    return whole


async def _interim(x: Exchange, head: RequestHead, upstream: Upstream, response: ResponseHead) -> ResponseHead | None:
    """Pass 1xx answers on. Returns the final head if it is there already."""
    codec = upstream.codec
    current: ResponseHead | None = response
    while current is not None and current.interim:
        upstream.interim += 1
        if upstream.interim > _INTERIM:
            raise UpstreamProtocolError
        try:
            await x.interim(head, current)
        except OSError:
            raise DownstreamClosed from None
        event = codec.next_event()
        assert event is None or isinstance(event, ResponseHead)
        current = event
    return current


# --------------------------------------------------------------------------------------------------------- the request


def _request(x: Exchange, head: RequestHead, destination: Destination, action: Forwarding) -> bytes:
    """Request line and header lines, without the empty line that ends them."""
    additions = x.additions
    request_id = head.request_id
    if destination.plain and not head.rewrite:
        if request_id:
            return head.block + additions.without_id
        request_id = x.request_id = x.runtime.request_id()
        return b"%b%b%b" % (head.block, additions.with_id, request_id)
    target = head.target if not action.rewrites else action.target(head.target)
    if not request_id:
        request_id = x.request_id = x.runtime.request_id()
    authority = destination.request.authority
    if not authority and not head.authority:
        authority = x.context.local.encode()  # HTTP/1.0 without Host: where it came to, as nothing better is known
    if authority:
        x.authority = authority
    lines = request_lines(head, additions, request_id=request_id, authority=authority, operations=destination.request, x=x)
    if action.rewrites:
        lines += b"\r\nx-envoy-original-path: " + head.target
    asked = b"%b %b HTTP/1.1\r\n%b" % (head.method, target, lines)
    if destination.recalled:
        x.asked, x.unusual = asked, True
    return asked
