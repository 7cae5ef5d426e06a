"""The client's side of exchanges over HTTP/1: one Exchange for all requests of a connection, in the connection's strand."""

from __future__ import annotations

from gateway.errors import DownstreamClosed
from gateway.native.calls import judge, told
from gateway.native.codec.events import RequestHead, ResponseHead
from gateway.native.codec.h1 import ServerCodec
from gateway.native.connection import ConnectionContext
from gateway.native.exchange import Exchange
from gateway.native.heads import response_lines, response_list
from gateway.native.reactor import Handler, Strand, nobody
from gateway.native.replies import reply
from gateway.native.runtime import Runtime
from gateway.native.stream import RECEIVE, Stream
from gateway.native.tunnel import ByteStream
from gateway.native.upload import STALL, last_chunk

_IDLE_IN_DRAIN = 1.0  # seconds a kept connection may go on idling once the worker drains: who has more to say says it by then


class Http1Exchange(Exchange):
    """See the module. on_early: the handler of what the client says while it waits for its answer."""

    __slots__ = ("on_early",)

    def __init__(self, strand: Strand, stream: Stream, context: ConnectionContext, runtime: Runtime) -> None:
        super().__init__(strand, stream, ServerCodec(), context, runtime)
        self.codec.secure = context.scheme == "https"
        self.on_early: Handler = self._early

    def leave(self, since: float, now: float) -> None:
        """The worker drains, since then: called every now and then until the connection is closed. Between turns only."""
        if not self.busy and not self.codec.buffer and now - max(since, self.began) >= _IDLE_IN_DRAIN:
            self.strand.cancel()

    def close(self) -> None:
        """The connection is over: break the cycles, so that no collection is needed."""
        self.on_early = nobody

    def _forget(self) -> None:
        super()._forget()
        self.grpc = False

    def watch(self) -> None:
        self.stream.listen(self.on_early)

    def _early(self, events: int) -> None:
        """The client says something while it waits for its answer: the next request, which has to wait, or good-bye."""
        if len(self.codec.buffer) >= RECEIVE:
            self.stream.pause()
            return
        try:
            data = self.stream.read()
        except OSError:
            data = b""
        if data:
            self.codec.receive(data)
        elif data is not None:
            self.stream.pause()
            self.strand.throw(DownstreamClosed())

    # ------------------------------------------------------------------------------------------------------ answers

    def put(self, head: RequestHead, response: ResponseHead, data: bytes) -> bool:
        if self.keep and not response.rewrite and response.minor and head.minor and not self.operations.steps and response.raw:
            out = b"%b\r\n%b\r\n\r\n%b" % (response.start, response.raw, data)
        else:
            out = self._head(head, response) + data
        written: bool = self.stream.write(out)
        return written

    def open_answer(self, head: RequestHead, response: ResponseHead) -> bytes:
        unknown = response.length < 0
        self.chunked = unknown and head.minor == 1
        if unknown and not head.minor:
            self.keep = False  # HTTP/1.0: the end of the connection ends the body
        return self._head(head, response, unchunked=unknown and not self.chunked, chunk=self.chunked and response.length == -2)

    def close_answer(self, out: bytes, trailers: list[bytes]) -> bool:
        if self.chunked:
            if self.grpc and trailers:
                judge(self, trailers)
            out += last_chunk(trailers)
            self.chunked = False
        written: bool = not out or self.stream.write(out)
        return written

    def _head(self, head: RequestHead, response: ResponseHead, *, unchunked: bool = False, chunk: bool = False) -> bytes:
        """chunk: the answer came without chunks and without a length, and goes on in chunks."""
        added: tuple[bytes, ...] = ()
        if chunk:
            added = (b"transfer-encoding: chunked",)
        if not self.keep:
            added += (b"connection: close",)
        elif not head.minor:
            added += (b"connection: keep-alive",)
        bodiless = response.status == 204
        start = response.start if response.minor else b"HTTP/1.1" + response.start[8:]
        lines = response_lines(response, self.operations, self, unchunked=unchunked or bodiless, added=added)
        return start + b"\r\n" + lines + b"\r\n"

    async def interim(self, head: RequestHead, response: ResponseHead) -> None:
        if head.minor:
            out = response.start + b"\r\n" + response_lines(response, None) + b"\r\n"
            await self.stream.sendall(self.strand, out)

    async def reply(self, head: RequestHead, status: int, body: bytes, headers: tuple[bytes, ...], grpc: int | None = None) -> bool:
        if self.grpc:
            headers = tuple(told(self, status, body, headers, grpc))
            status, body = 200, b""
        self.status = status
        self.sent = 0 if head.method == b"HEAD" else len(body)
        whole = head.end or (self.body is not None and self.body.complete)
        keep = whole and head.keep_alive and not self.runtime.draining
        out = reply(status, body, headers=headers, method=head.method, close=not keep, minor=head.minor)
        strand = self.strand
        strand.until(strand.reactor.now + STALL)
        await self.stream.sendall(strand, out)
        return keep

    async def open_tunnel(self, head: RequestHead, response: ResponseHead, lines: list[bytes]) -> tuple[ByteStream, bytes]:
        kept = response_list(response, self.operations, self) + lines
        if head.upgrade:
            kept = [b"connection: Upgrade", b"upgrade: " + head.upgrade, *kept]
            start = b"HTTP/1.1 101 Switching Protocols"
        else:
            kept = [line for line in kept if not line.lower().startswith(b"content-length:")]  # RFC 9110 section 9.3.6
            start = b"HTTP/1.1 200 OK"
        self.strand.until(self.strand.reactor.now + STALL)
        await self.stream.sendall(self.strand, b"\r\n".join([start, *kept, b"", b""]))
        ahead, self.codec.buffer = self.codec.buffer, b""
        self.stream.resume()
        return self.stream, ahead

    def abort(self) -> None:
        self.stream.abort()
