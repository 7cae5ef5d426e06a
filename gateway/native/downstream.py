"""A downstream connection's HTTP from its first request to its last. Also the readiness port.

Waits and what bounds them: for a request to begin, IDLE; for its head to be complete once it has begun, HEAD; for the rest, see
exchange and upload. When the worker drains, a connection that waits for a request is closed, others say `connection: close`.
"""

from __future__ import annotations

from gateway.errors import GatewayError, RequestTimeout
from gateway.native import http2_server
from gateway.native.codec.events import RequestHead
from gateway.native.codec.h1 import ServerCodec
from gateway.native.connection import ConnectionContext
from gateway.native.exchange import NO_HEAD
from gateway.native.http1 import Http1Exchange
from gateway.native.reactor import DeadlineExceeded, Strand, suspend
from gateway.native.replies import TEXT, refusal, reply
from gateway.native.runtime import Runtime
from gateway.native.stream import LINGER, Stream
from gateway.snapshot import ListenerKind

# What no HTTP/1 parser takes: the client knows that HTTP/2 is spoken here (RFC 9113 section 3.3). On every port in clear text, as Envoy's
# codec_type AUTO.
_PRIOR_KNOWLEDGE = http2_server.PREFACE[:18]
IDLE = 3600.0  # seconds between requests: Envoy's and Istio's HTTP idle timeout
HEAD = 60.0  # seconds from a head's first byte to its last: nginx's client_header_timeout


async def serve(strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime, data: bytes = b"") -> None:
    """Carry HTTP over a connection to its end; the caller closes the stream. data: bytes already read.

    Raises OSError and DeadlineExceeded when the connection ends so. Interrupted at any wait, nothing is left behind."""
    if context.listener.kind is ListenerKind.HEALTH:
        await _readiness(strand, stream, runtime)
        return
    if context.alpn == "h2":
        await http2_server.serve(strand, stream, context, runtime, data)
        return
    exchange = Http1Exchange(strand, stream, context, runtime)
    runtime.connections.add(exchange)
    if data := data + stream.early():
        exchange.codec.receive(data)
    codec, reactor = exchange.codec, strand.reactor
    handlers, read = reactor.handlers, stream.read
    try:
        while True:
            try:
                head = codec.next_event() if codec.buffer else None
                if head is None:
                    if runtime.draining and not codec.buffer:
                        return
                    if stream.paused:
                        stream.resume()
                    stream.input = handlers[stream.fd] = strand.wake
                    strand.deadline = reactor.now + (HEAD if codec.buffer else IDLE)
                    if strand.deadline < strand.armed:
                        reactor.arm(strand)
                while head is None:
                    await suspend()
                    came = read()
                    if came:
                        head = codec.next_event(came)
                        if head is None and len(codec.buffer) == len(came):
                            strand.until(reactor.now + HEAD)
                    elif came is not None:
                        return
            except (GatewayError, DeadlineExceeded) as error:
                if exchange.head is NO_HEAD and codec.buffer.startswith(_PRIOR_KNOWLEDGE) and not context.alpn:
                    break
                await _refuse(exchange, error)
                return
            if not await exchange.run(head):
                await exchange.stream.linger(strand)
                return
    finally:
        runtime.connections.discard(exchange)
        exchange.close()
    await http2_server.serve(strand, stream, context, runtime, codec.buffer)


async def _refuse(exchange: Http1Exchange, error: GatewayError | DeadlineExceeded) -> None:
    """What came is not a request, or only half of one: say so and close. A connection that idled too long is just closed."""
    if isinstance(error, DeadlineExceeded):
        if not exchange.codec.buffer:
            return
        error = RequestTimeout()
    exchange.runtime.observer.refuse(error.detail)
    strand = exchange.strand
    strand.until(strand.reactor.now + LINGER)
    exchange.record_refusal(error)
    await exchange.stream.sendall(strand, refusal(error.status, error.body))
    await exchange.stream.linger(strand)


async def _readiness(strand: Strand, stream: Stream, runtime: Runtime) -> None:
    """GET /healthz/ready: 200 while this worker takes traffic. GET /healthz/live: 200 while it turns."""
    codec = ServerCodec()
    strand.until(strand.reactor.now + HEAD)
    runtime.checks.add(strand)
    try:
        await _answer_checks(strand, stream, runtime, codec)
    finally:
        runtime.checks.discard(strand)


async def _answer_checks(strand: Strand, stream: Stream, runtime: Runtime, codec: ServerCodec) -> None:
    while True:
        try:
            head = codec.next_event()
        except GatewayError as error:
            await stream.sendall(strand, refusal(error.status, error.body))
            return
        if head is None:
            data = await stream.recv(strand)
            if not data:
                return
            codec.receive(data)
            continue
        if not isinstance(head, RequestHead):
            continue
        if head.path == b"/healthz/live":
            status, body = 200, b"live\n"
        elif head.path == b"/healthz/ready":
            ready = runtime.ready and not runtime.draining
            status, body = (200, b"ready\n") if ready else (503, b"draining\n" if runtime.draining else b"no configuration yet\n")
        else:
            status, body = 404, b"ask /healthz/ready or /healthz/live\n"
        keep = head.keep_alive and head.end
        await stream.sendall(strand, reply(status, body, headers=(TEXT,), method=head.method, close=not keep, minor=head.minor))
        if not keep:
            return
