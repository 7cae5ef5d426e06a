"""A request's body on its way up while the answer may already be coming down: a strand of its own, which reads the client and
writes the endpoint. The exchange's strand reads the endpoint and writes the client, so each stream has one writer.

What passes is also held, up to HELD bytes, so that the request can be sent again; a longer body flows and is then not repeatable.
A body that stands still for STALL seconds ends the exchange. An endpoint that takes no more has either answered already or is about
to end; the exchange's strand sees which, so the upload only stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.errors import DownstreamClosed, GatewayError, RequestTimeout
from gateway.native.codec.events import END, Trailers
from gateway.native.reactor import DeadlineExceeded, Strand

if TYPE_CHECKING:
    from gateway.native.exchange import Exchange
    from gateway.native.http2_client import AnyUpstream

HELD = 64 * 1024
"""Bytes of a body that are kept for another attempt (Linkerd's bound; Envoy's is its buffer limit, 1 MiB)."""

STALL = 300.0
"""Seconds without a byte in either direction: Envoy's stream_idle_timeout default."""


def framed(data: bytes, *, chunked: bool) -> bytes:
    """A piece of a body as it goes out."""
    return b"%x\r\n%b\r\n" % (len(data), data) if chunked else data


def last_chunk(trailers: list[bytes]) -> bytes:
    """The end of a body in chunks."""
    return b"0\r\n%b\r\n\r\n" % b"\r\n".join(trailers) if trailers else b"0\r\n\r\n"


class Body:
    """A request's body: how much of it is held, whether it is complete. chunked: in HTTP/1, where its length is not known."""

    __slots__ = ("chunked", "complete", "held", "pieces", "size", "trailers")

    def __init__(self, *, chunked: bool) -> None:
        self.chunked = chunked
        self.trailers: list[bytes] = []
        self.complete = False
        self.held = True
        self.size = 0
        self.pieces: list[bytes] = []

    def hold(self, data: bytes) -> None:
        self.size += len(data)
        if self.held:
            if self.size > HELD:
                self.held = False
                self.pieces.clear()
            else:
                self.pieces.append(data)

    def so_far(self) -> bytes:
        """What is held, as it goes out over HTTP/1."""
        data = b"".join(self.pieces)
        if not self.chunked:
            return data
        return (framed(data, chunked=True) if data else b"") + (last_chunk(self.trailers) if self.complete else b"")


class Upload:
    """Carries the rest of a body to one endpoint's connection. `cancel` it when the attempt is over."""

    __slots__ = ("_body", "_exchange", "_strand", "_to")

    def __init__(self, exchange: Exchange, body: Body, to: AnyUpstream) -> None:
        self._exchange = exchange
        self._body = body
        self._to = to
        self._strand: Strand | None = None
        self._strand = exchange.stream.reactor.spawn(self._run, name="upload")

    def cancel(self) -> None:
        """Stop here: what was read is held or gone, nothing is half read. Not from the upload itself."""
        if self._strand is not None and not self._strand.finished:
            self._strand.cancel()

    async def _run(self, strand: Strand) -> None:
        try:
            await self._carry(strand)
        except GatewayError as error:
            self._tell(error)
        except DeadlineExceeded:
            self._tell(RequestTimeout("request_body_timeout"))
        except OSError:
            self._tell(DownstreamClosed())
        finally:
            if not self._exchange.stream.closed:
                self._exchange.watch()  # what the client says is not for a strand that is no more

    async def _carry(self, strand: Strand) -> None:
        exchange, body = self._exchange, self._body
        to: Any = self._to.stream
        source, codec, reactor = exchange.stream, exchange.codec, exchange.stream.reactor
        multiplexed = self._to.multiplexed
        chunked = body.chunked and not multiplexed
        while not body.complete:
            event = codec.next_event()
            if event is None:
                strand.until(reactor.now + STALL)
                data = await source.recv(strand)
                if not data:
                    raise DownstreamClosed
                codec.receive(data)
                continue
            if exchange.tees is not None:
                for tee in exchange.tees:
                    tee.put(event)
            if type(event) is Trailers:
                body.trailers = event.lines
                continue
            try:
                if event is END:
                    body.complete = True
                    trailers = body.trailers
                    done = to.end(trailers) if multiplexed else not chunked or to.write(last_chunk(trailers))
                else:
                    exchange.received += len(event)
                    body.hold(event)
                    done = to.write(framed(event, chunked=chunked))
                if not done:
                    source.pause()
                    strand.until(reactor.now + STALL)
                    await to.drain(strand)
            except OSError:
                return
        source.resume()

    def _tell(self, error: GatewayError) -> None:
        self._exchange.stream.reactor.soon(lambda: self._exchange.upload_failed(self, error))
