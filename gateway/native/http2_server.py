"""The client's side of exchanges over HTTP/2: a connection that carries many, each with a stream and a strand of its own.

Theory of operation. `serve` is the connection's strand: it waits for the end, or for the idle timeout. Requests begin in the
connection's read handler (`http2.Connection`): a head starts a strand that runs one Exchange. Exchanges are used again by later
streams of their connection, oldest first, so that what they are made of is made once. A request whose body is here already is
given to the exchange as one piece, as HTTP/1 does. Heads get the form that HTTP/1 needs (a length, or chunks), since they may go there.

When the worker drains, a client is told first that no new streams are wanted, and only a round trip later which one was the last (RFC 9113
section 6.8): what it sent before it heard of it is answered. After the last answer the connection is closed from here.
"""

from __future__ import annotations

import copy
from collections import deque
from typing import Any

from gateway.errors import DownstreamClosed, GatewayError, HeadersTooLarge
from gateway.native.calls import CALL, judge, told
from gateway.native.codec.events import END, RequestHead, ResponseHead
from gateway.native.codec.http2 import Http2Codec
from gateway.native.codec.http2_events import ConnectionFault, Pong, Reset, TooLarge
from gateway.native.connection import ConnectionContext
from gateway.native.exchange import NO_HEAD, Exchange
from gateway.native.heads import response_list
from gateway.native.http2 import STALL, Connection
from gateway.native.http2_stream import CANCEL, INTERNAL_ERROR, NO_ERROR, Http2Stream, Http2Tunnel
from gateway.native.reactor import NEVER, DeadlineExceeded, Strand, suspend
from gateway.native.runtime import Runtime
from gateway.native.stream import RECEIVE, Stream
from gateway.native.tunnel import ByteStream
from gateway.native.upgrade import wants_tunnel

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113 section 3.4."""

HEAD = 60.0
"""Seconds from a head's first byte to its last, where no request runs meanwhile: as `downstream.HEAD`."""

IDLE = 3600.0  # seconds without a request: Envoy's and Istio's HTTP idle timeout
# Frames that wait for a client that reads nothing, before nothing more is read of it: about 4 MB of bodies. Else requests without number
# could be made whose answers nobody takes (Envoy: max_outbound_frames).
_MOST_QUEUED = 512
_GOING = 10.0  # seconds between saying that no new streams are wanted and closing with those that stand, when the client idles
# Seconds for the round trip after which GOAWAY names the last stream, of a client that answers no PING: a bad mobile line's. Envoy gives 5
# (drain_timeout); but Kubernetes gives 30 for all of a drain, and requests go on meanwhile.
_ROUND_TRIP = 1.0
_LEAVING = b"fedgate."  # eight bytes, of the PING that tells when the round trip is over


NO_HEAD2 = copy.copy(NO_HEAD)
"""Of what is not a request, for the log."""
NO_HEAD2.line = b"- - HTTP/2"
NO_HEAD2.minor = 2


class _Left(Exception):
    """Nothing more comes on the connection, and the client knows."""


class Http2Exchange(Exchange):
    """See the module."""

    __slots__ = ("grpc_code",)

    def __init__(self, stream: Http2Stream | None, context: ConnectionContext, runtime: Runtime) -> None:
        super().__init__(None, stream, stream, context, runtime)  # type: ignore[arg-type]  # `use` gives the strand

    def use(self, strand: Strand, stream: Http2Stream, head: RequestHead) -> None:
        """Take a new stream."""
        self.strand = strand
        self.stream = self.codec = stream
        stream.owner = self
        if self.unrecorded:
            self.runtime.observer.record_all()  # what follows is of another request
        self.grpc = False
        for field in head.specials:  # as `is_call`, which would cost each request a call and a generator
            if field[0] == CALL:
                self.grpc = True

    def watch(self) -> None:
        self.stream.input = None  # a reset is thrown (`Http2Server.was_reset`); the body waits in the inbox

    # ---------------------------------------------------------------------------------------------------------- answers

    def put(self, head: RequestHead, response: ResponseHead, data: bytes) -> bool:
        stream: Http2Stream = self.stream
        connection = stream.connection
        trailers = self.upstream.trailers if self.upstream is not None else []
        stream.held = not connection.codec.send_answer(stream.sid, response.status, self._lines(response), data, trailers)
        stream.sent_end = True
        if not connection.scheduled:
            connection.schedule()
        if self.grpc:
            judge(self, trailers or response.lines)
        return not stream.held

    def open_answer(self, head: RequestHead, response: ResponseHead) -> bytes:
        stream: Http2Stream = self.stream
        stream.connection.codec.send_head(stream.sid, response.status, self._lines(response), end=False)
        stream.connection.schedule()
        return b""

    def close_answer(self, out: bytes, trailers: list[bytes]) -> bool:
        if self.grpc and trailers:
            judge(self, trailers)
        done: bool = self.stream.end(trailers, out)
        return done

    def _lines(self, response: ResponseHead) -> list[bytes]:
        if response.rewrite or self.operations.steps:
            return response_list(response, self.operations, self, unchunked=True)
        return response.lines

    async def interim(self, head: RequestHead, response: ResponseHead) -> None:
        stream: Http2Stream = self.stream
        stream.connection.codec.send_head(stream.sid, response.status, response_list(response, None), end=False)
        stream.connection.schedule()

    async def reply(self, head: RequestHead, status: int, body: bytes, headers: tuple[bytes, ...], grpc: int | None = None) -> bool:
        stream: Http2Stream = self.stream
        lines = list(headers)
        if self.grpc:
            lines = told(self, status, body, headers, grpc)
            status, body = 200, b""
        elif status not in (204, 304):
            lines.append(b"content-length: %d" % len(body))
        if head.method == b"HEAD" or status in (204, 304):
            body = b""
        self.status, self.sent = status, len(body)
        codec = stream.connection.codec
        codec.send_head(stream.sid, status, lines, end=not body)
        if body and not stream.end([], body):
            self.strand.until(self.strand.reactor.now + STALL)
            await stream.drain(self.strand)
        stream.sent_end = True
        stream.connection.schedule()
        return True

    async def open_tunnel(self, head: RequestHead, response: ResponseHead, lines: list[bytes]) -> tuple[ByteStream, bytes]:
        stream: Http2Stream = self.stream
        kept = [line for line in self._lines(response) if not line.lower().startswith(b"sec-websocket-accept:")]
        stream.connection.codec.send_head(stream.sid, 200, kept, end=False)
        stream.connection.schedule()
        return Http2Tunnel(stream), b""

    def abort(self) -> None:
        self.stream.reset(INTERNAL_ERROR)


class Http2Server(Connection):
    """A client's connection. Looks like an exchange of HTTP/1 to the engine's drain (`leave`)."""

    __slots__ = ("_announced", "_begun", "_free", "_hurried", "_last_said", "context", "runtime", "strand", "why")

    def __init__(self, strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime) -> None:
        super().__init__(stream, Http2Codec(server=True), runtime.unflushed)
        self.strand = strand
        self.context = context
        self.runtime = runtime
        self.why: Exception | None = None
        self._announced = 0.0  # when the client was told that no new streams are wanted
        self._last_said = False  # it knows which one was the last
        self._hurried = False  # something has begun to come, while no request runs
        self._begun: list[tuple[Http2Stream, RequestHead]] = []
        self._free: deque[Http2Exchange] = deque()

    def leave(self, since: float, now: float) -> None:
        """As Http1Exchange.leave."""
        if self.closed:
            return
        if not self._announced:
            self._announced = now
            self.codec.goaway(soon=True)
            self.codec.ping(_LEAVING)
            self.flush()
        elif not self._last_said and now - self._announced >= _ROUND_TRIP:
            self._say_last()

    def _say_last(self) -> None:
        """The client has had its round trip: what comes from now on is not looked at, and it may ask elsewhere."""
        self._last_said = True
        self.codec.goaway()
        self.flush()
        self._end_if_done()

    def _end_if_done(self) -> None:
        """Close it once the last answer is written."""
        if self._last_said and not self.streams and not self.closed:
            self.flush()
            if not self.draining and not self.closed:
                self.lost(_Left())

    def _drained(self) -> None:
        super()._drained()
        self._end_if_done()

    # ---------------------------------------------------------------------------------------------------------- events

    def head(self, sid: int, head: Any) -> None:
        if type(head) is RequestHead:
            stream = self.streams[sid] = Http2Stream(self, sid)
            stream.over = head.end
            self._begun.append((stream, head))
        elif type(head) is TooLarge:
            self._refuse(sid, HeadersTooLarge(head.detail))

    def event(self, event: Any) -> None:
        if type(event) is Pong and event.data == _LEAVING and self._announced and not self._last_said:
            self.reactor.soon(self._say_last)

    def begin(self) -> None:
        if not self._begun:
            return
        begun, self._begun = self._begun, []
        for stream, head in begun:
            if not head.end and not wants_tunnel(head):
                _gather(stream, head)
            self.reactor.spawn(self._exchange, stream, head, name="http2 stream")

    async def _exchange(self, strand: Strand, stream: Http2Stream, head: RequestHead) -> None:
        """One request: the whole life of a stream."""
        exchange = self._free.popleft() if self._free else Http2Exchange(stream, self.context, self.runtime)
        exchange.use(strand, stream, head)
        if self.strand.deadline is not NEVER:
            self.strand.deadline = NEVER
        try:
            await exchange.run(head)
        except (OSError, DeadlineExceeded, DownstreamClosed):
            stream.reset(CANCEL)
        finally:
            if not stream.over or not stream.sent_end or stream.inbox or stream.held:
                # What the client still sends is not wanted (RFC 9113 section 8.1), or it was never answered, or not taken.
                stream.reset(NO_ERROR if stream.sent_end else INTERNAL_ERROR)
            elif self.streams.pop(stream.sid, None) is not None and not self.streams:
                self.gone()
            stream.owner = None
            if not self.closed:
                self._free.append(exchange)

    def release(self) -> None:
        """Forget what knows us: nothing of an ended connection shall wait for the garbage collector, which is rare here."""
        self._free.clear()
        self._begun.clear()

    def was_reset(self, stream: Http2Stream, reset: Reset) -> None:
        self.streams.pop(stream.sid, None)
        stream.error = ConnectionResetError("remote_reset")
        stream.over = stream.sent_end = True
        if stream.owner is not None:
            stream.owner.strand.throw(DownstreamClosed())
        else:  # it came and went in one read: nobody began to serve it
            self._begun = [each for each in self._begun if each[0] is not stream]
        self.gone()

    def receive(self, data: bytes) -> None:
        super().receive(data)
        if not self.streams and self._hurried != self.codec.midway:
            self.gone()

    def gone(self) -> None:
        if not self.streams and not self.closed:
            self._hurried = self.codec.midway  # half a request has less time than there is between two
            self.strand.until(self.reactor.now + (_GOING if self.codec.closing else HEAD if self._hurried else IDLE))
            if self._last_said:
                self.reactor.soon(self._end_if_done)

    def lost(self, error: Exception) -> None:
        """Not from inside a strand of one of the streams."""
        if self.closed:
            return
        self.end()
        self.why = error
        self.stream.listen(self.strand.wake)
        self.stream.pause()
        self.end_streams()
        self.reactor.soon(self._wake)  # it may be this strand that runs: what came with the greeting is read in it

    def _wake(self) -> None:
        self.strand.wake(0)

    def full(self) -> bool:
        return self.codec.queued > _MOST_QUEUED

    def end_streams(self) -> None:
        """Every exchange ends as one whose client went away."""
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.error = ConnectionResetError("remote_close")
            stream.over = stream.sent_end = True
            if stream.owner is not None:
                stream.owner.strand.throw(DownstreamClosed())

    def _refuse(self, sid: int, error: GatewayError) -> None:
        """A request that cannot be read: answered, nothing else."""
        self.runtime.observer.refuse(error.detail)
        exchange = self._free.popleft() if self._free else Http2Exchange(None, self.context, self.runtime)
        exchange.strand, exchange.grpc = self.strand, False
        exchange.record_refusal(error, NO_HEAD2)
        self._free.append(exchange)
        self.codec.send_head(sid, error.status, [b"content-length: 0"], end=True)
        self.codec.reset(sid, NO_ERROR)


def _gather(stream: Http2Stream, head: RequestHead) -> None:
    """Give the head the body that is here already, and the form that HTTP/1 needs."""
    inbox = stream.inbox
    if stream.over and len(inbox) == 2 and type(inbox[0]) is bytes and len(inbox[0]) <= RECEIVE:
        head.body = inbox[0]
        head.end = True
        inbox.clear()
    elif stream.over and inbox and inbox[-1] is END and all(type(event) is bytes for event in list(inbox)[:-1]):
        inbox.pop()
        head.body = b"".join(inbox)
        if len(head.body) <= RECEIVE:
            inbox.clear()
            head.end = True
        else:
            inbox.append(END)
            head.body = b""
    if head.length < 0:
        if head.end:
            head.length = len(head.body)
            line = b"content-length: %d" % head.length
        else:
            line = b"transfer-encoding: chunked"
        head.lines.append(line)
        head.block = b"%b\r\n%b" % (head.block, line)


async def serve(strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime, data: bytes = b"") -> None:
    """Carry HTTP/2 over a connection to its end; the caller closes the stream. data: bytes already read.

    Raises OSError and DeadlineExceeded when the connection ends so. Interrupted at any wait, nothing is left behind."""
    connection = Http2Server(strand, stream, context, runtime)
    runtime.connections.add(connection)
    connection.gone()
    try:
        connection.flush()
        stream.listen(connection.readable)
        stream.resume()
        if data := data + stream.early():
            connection.receive(data)
        while not connection.closed:
            await suspend()
        if isinstance(connection.why, ConnectionFault):
            runtime.observer.refuse(connection.why.detail)
        if isinstance(connection.why, ConnectionFault | _Left):
            await stream.linger(strand)
    except DeadlineExceeded:
        connection.codec.goaway()
        connection.flush()
    finally:
        runtime.connections.discard(connection)
        if not connection.closed:
            connection.end()
            connection.end_streams()
        connection.release()
