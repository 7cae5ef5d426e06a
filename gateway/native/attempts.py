"""What becomes of an attempt that failed: what it counts as, whether another is made, where and when.

Who is asked again, and when: `policy/retry`, plus one rule of ours. A kept connection whose server closed it just when the request
went out says nothing about the endpoint: an idempotent request is sent again at once, on a new connection to the same endpoint,
once, and no fault is counted. A POST is not (it may have been done): before it is sent on a kept connection that connection is looked
at, and if it breaks all the same the client gets 503 UC, as from Envoy, unless the route's policy says `reset`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.errors import (
    ConnectFailed,
    GatewayError,
    PerTryTimeout,
    UpstreamProtocolError,
    UpstreamReset,
    UpstreamTimeout,
    to_http,
)
from gateway.native.backend import BackendState
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.codec.fields import UNSENT
from gateway.native.host import Host
from gateway.native.http2_client import Http2Upstream
from gateway.native.pool import AttemptFailed
from gateway.native.reactor import DeadlineExceeded, suspend
from gateway.policy.failure import Failure
from gateway.policy.retry import Decision, Outcome, Request, decide

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"))
"""RFC 9110 section 9.2.2."""


class Evicted(Exception):
    """Thrown into an exchange that waits on an endpoint which was found silent or gone, when it may go elsewhere."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure


def reason_of(error: OSError) -> str:
    return f"remote_reset:_{error.errno}" if error.errno else "remote_close"


def is_stale(x: Exchange, head: RequestHead, failed: Exception) -> bool:
    """A kept connection that had ended: once more, on a new one, if nothing can be done twice."""
    x.unusual = True
    unsent = isinstance(failed, AttemptFailed) and failed.stale
    upstream = x.upstream
    ended = isinstance(failed, OSError) and upstream is not None and upstream.requests > 1 and not upstream.codec.buffer
    if isinstance(upstream, Http2Upstream) and not upstream.connection.closed:
        ended = False  # this stream only: the endpoint's doing
    if not (unsent or ended) or x.stale_once:
        return False
    if not (unsent or head.method in IDEMPOTENT) or not (x.body is None or x.body.held):
        return False
    x.stale_once = x.fresh_only = True
    return True


def failed_attempt(x: Exchange, state: BackendState, host: Host, failed: Exception) -> tuple[Outcome, GatewayError]:
    """Count it. Raises UpstreamTimeout when it was the route's own time that ran out."""
    now = x.strand.reactor.now
    error: GatewayError
    if isinstance(failed, AttemptFailed):
        failure = failed.failure
        x.transport_failure = failed.reason.encode() or b"-"
        if failure is Failure.CONNECT:
            error = ConnectFailed()
        elif failure is Failure.CONNECT_TIMEOUT:
            error = ConnectFailed("upstream_reset_before_response_started{connection_timeout}")
        else:
            error = UpstreamReset()
    elif isinstance(failed, OSError):
        failure, error = Failure.RESET, UpstreamReset()
        x.transport_failure = reason_of(failed).encode()
    elif isinstance(failed, Evicted):
        failure, error = failed.failure, UpstreamTimeout("upstream_silent")
    elif isinstance(failed, UpstreamProtocolError):
        failure, error = Failure.PROTOCOL, failed
    else:
        failure, error = Failure.TIMEOUT, PerTryTimeout()
        if now >= x.limit:
            error = UpstreamTimeout()
    state.failed(host, x, failure, now)
    if isinstance(error, UpstreamTimeout) and failure is Failure.TIMEOUT:
        raise error
    return Outcome(failure=failure), error


def weighed(response: ResponseHead) -> int:
    """The status that outlier detection counts for a gRPC call: what a grpc-status in the head stands for. One in the trailers is not
    looked at, as in Envoy: there it is the end of a call that went well for a while."""
    said = response.values(b"grpc-status")
    return to_http(int(said[0])) if said and said[0].isdigit() else response.status


def outcome_of(response: ResponseHead, host: Host) -> Outcome:
    unsent = bool(host.endpoint.peer) and bool(response.values(UNSENT))
    grpc = response.values(b"grpc-status")
    return Outcome(
        status=response.status,
        grpc=int(grpc[0]) if grpc and grpc[0].isdigit() else None,
        ratelimited=bool(response.values(b"x-envoy-ratelimited")),
        unsent=unsent,
    )


def _judge(x: Exchange, head: RequestHead, state: BackendState, tried: list[Host], outcome: Outcome) -> Decision:
    request = Request(
        head.method.decode(), retries=x.retries, elsewhere=x.elsewhere, held=x.body is None or x.body.held, begun=x.begun
    )
    return decide(x.policy, request, outcome, untried=state.untried(tried), random=x.runtime.random)


def decide_on(x: Exchange, head: RequestHead, state: BackendState, host: Host, outcome: Outcome) -> Decision:
    """Whether there is another attempt; counts it if so."""
    x.tried.append(host)
    decision = _judge(x, head, state, x.tried, outcome)
    if not decision.retry:
        return decision
    if not state.may_retry(again=x.retries + x.elsewhere > 0):
        state.overflow += 1
        x.flag = b"UO" if x.flag == b"-" else x.flag + b",UO"
        return Decision(False, "too many retries at once")
    if not x.retries + x.elsewhere:
        state.retry_began()
    state.retries += 1
    if decision.elsewhere:
        x.elsewhere += 1
    else:
        x.retries += 1
    return decision


def may_leave(x: Exchange, head: RequestHead, state: BackendState, host: Host, failure: Failure) -> bool:
    """Whether an exchange that waits on this endpoint may, and can, go elsewhere."""
    return _judge(x, head, state, [*x.tried, host], Outcome(failure=failure)).retry


async def next_host(x: Exchange, state: BackendState, decision: Decision) -> Host | None:
    """The endpoint of the next attempt, after the back-off. Raises UpstreamTimeout when the route's time ends before."""
    strand = x.strand
    reactor = strand.reactor
    if decision.wait:
        until = reactor.now + decision.wait
        strand.until(min(until, x.limit))
        x.watch()
        try:
            while True:
                await suspend()
        except DeadlineExceeded:
            pass
        if reactor.now >= x.limit:
            raise UpstreamTimeout
    assert x.policy is not None
    return state.pick_again(reactor.now, x.tried, x.policy, elsewhere=decision.elsewhere, key=x.key)
