"""The answer on its way down: head rewritten, body passed on with back-pressure, connections given back.

A body's framing follows the client: by length as it came; in chunks where the length is not known; until the end for HTTP/1.0. An
answer that breaks off is never completed by us: the client's connection is reset, so that it sees that something is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import DownstreamClosed, UpstreamProtocolError
from gateway.native.backend import BackendState
from gateway.native.codec.events import END, End, RequestHead, ResponseHead, Trailers
from gateway.native.codec.h1 import ClientCodec
from gateway.native.host import Host
from gateway.native.pool import AttemptFailed, Upstream
from gateway.native.reactor import DeadlineExceeded, suspend
from gateway.native.splice import SPLICE_FROM, SourceEnded, splice_exact
from gateway.native.upload import STALL, framed
from gateway.policy.failure import Failure

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange


class Broken(Exception):
    """The answer had begun and cannot be completed: the client's connection is to be reset."""

    def __init__(self, flag: bytes, detail: bytes) -> None:
        super().__init__(detail)
        self.flag = flag
        self.detail = detail


def whole_answer(
    x: Exchange, head: RequestHead, response: ResponseHead, upstream: Upstream, state: BackendState, host: Host
) -> bool:
    """An answer that is here with all its body: write it, give the endpoint's connection back, say in `x.keep` whether the client's
    can carry another request. False: what could not be written is to be drained. Raises OSError."""
    data = response.body
    x.begun = True
    x.answered_at = x.strand.reactor.now
    x.status = response.status
    x.sent = len(data)
    whole = x.body is None or x.body.complete
    x.keep = head.keep_alive and whole and not x.runtime.draining
    written = x.put(head, response, data)
    if x.upload is not None:
        x.upload.cancel()
        x.upload = None
    if whole and response.keep_alive:
        upstream.release(state.backend)
    else:
        upstream.close()
    x.given = None
    state.finished(host, x)
    return written


async def drained(x: Exchange) -> None:
    """The client takes its time. Raises DownstreamClosed."""
    x.strand.until(x.strand.reactor.now + STALL)
    try:
        await x.stream.drain(x.strand)
    except (OSError, DeadlineExceeded):
        raise DownstreamClosed from None


async def stream_answer(
    x: Exchange, head: RequestHead, response: ResponseHead, first: bytes | Trailers | End | None = None
) -> bool:
    """Pass on an answer as it comes, and give the endpoint's connection back. True if the client's connection can carry another request.
    first: what was taken of the body already.

    Raises Broken, DownstreamClosed. Interrupted, the exchange gives the endpoint's connection up."""
    x.begun = True
    x.answered_at = x.strand.reactor.now
    x.status = response.status
    x.keep = head.keep_alive and not x.runtime.draining and (x.body is None or x.body.complete)
    upstream, state, host = x.upstream, x.state, x.host
    assert upstream is not None
    assert state is not None
    assert host is not None
    codec: Any = upstream.codec
    out = x.open_answer(head, response)
    chunked = x.chunked
    splices = response.length >= SPLICE_FROM and upstream.stream.spliceable and x.stream.spliceable
    trailers: list[bytes] = []
    try:
        while True:
            event, first = first or codec.next_event(), None
            if type(event) is bytes:
                x.sent += len(event)
                out += framed(event, chunked=chunked)
            elif event is END:
                break
            elif type(event) is Trailers:
                trailers = event.lines
            else:
                if out:
                    await _send(x, out)
                    out = b""
                if splices and codec.left >= SPLICE_FROM and not codec.buffer:
                    await _splice(x, codec)
                    continue
                data = await _receive(x)
                if data:
                    codec.receive(data)
                elif codec.ended():
                    break
                else:
                    raise OSError("ended in the middle of an answer")
    except (OSError, UpstreamProtocolError, AttemptFailed):
        state.failed(host, x, Failure.RESET, x.strand.reactor.now)
        raise Broken(b"UC", b"upstream_reset_after_response_started{connection_termination}") from None
    if x.upload is not None:
        x.upload.cancel()
        x.upload = None
    if response.keep_alive and (x.body is None or x.body.complete):
        upstream.release(state.backend)
    else:
        upstream.close()
    x.given = None
    state.finished(host, x)
    try:
        if not x.close_answer(out, trailers):
            await drained(x)
    except OSError:
        raise DownstreamClosed from None
    return x.keep and (x.body is None or x.body.complete)


async def _splice(x: Exchange, codec: ClientCodec) -> None:
    """The rest of a body by length between two plain sockets, without its bytes coming here. Raises OSError, DownstreamClosed, Broken."""
    left, strand = codec.left, x.strand
    stall = min(STALL, x.limit - strand.reactor.now)
    strand.until(strand.reactor.now + stall)
    source: Any = x.upstream.stream if x.upstream is not None else None
    try:
        await splice_exact(strand, source, x.stream, left, stall=stall)
    except DeadlineExceeded:
        raise Broken(b"UT", b"response_timeout") from None
    except SourceEnded:
        raise
    except OSError:
        raise DownstreamClosed from None
    codec.passed(left)
    x.sent += left


async def _receive(x: Exchange) -> bytes:
    """More of the answer; b"" at its end. Raises OSError, Broken."""
    assert x.upstream is not None
    strand, stream = x.strand, x.upstream.stream
    strand.until(min(x.limit, strand.reactor.now + STALL))
    try:
        while True:
            if not x.upstream.inbox:
                await suspend()
            data = stream.read()
            if data is not None:
                return data
    except DeadlineExceeded:
        raise Broken(b"UT", b"response_timeout") from None


async def _send(x: Exchange, out: bytes) -> None:
    """Down to the client; nothing more is read from the endpoint until it has gone. Raises DownstreamClosed."""
    try:
        if x.stream.write(out):
            return
    except OSError:
        raise DownstreamClosed from None
    source = x.upstream.stream if x.given is not None and x.upstream is not None else None
    if source is not None:
        source.pause()
    await drained(x)
    if source is not None:
        source.resume()
