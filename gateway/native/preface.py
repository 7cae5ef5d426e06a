"""What is said on a new connection to an endpoint before it carries anything: keepalive, a PROXY header, a tunnel through a proxy.

The order on the wire: the PROXY header in clear text, first of all; then TLS, if any; then CONNECT or POST inside it.
"""

from __future__ import annotations

import re
import socket

from gateway.errors import UpstreamProtocolError
from gateway.native.codec.events import ResponseHead
from gateway.native.codec.h1 import ClientCodec
from gateway.native.codec.proxy_protocol import Address, header
from gateway.native.reactor import Handler, Strand
from gateway.native.stream import Stream
from gateway.native.tunnel import ByteStream
from gateway.snapshot import Keepalive, Tunnel

# A proxy's answer to CONNECT is a status line and a few fields. The bound is that of any answer's head here.
_MOST_HEAD = 64 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: |$)")

Proxy = tuple[str, str]
"""Whom a PROXY header speaks of: the client and the address it came to, each `IP:PORT` ([v6]:PORT); anything else is unknown."""


class TunnelRefused(Exception):
    """The proxy does not open the tunnel. The text is one word for logs."""


def set_keepalive(sock: socket.socket, keepalive: Keepalive) -> None:
    """Numbers that are 0 stay the system's. Times are whole seconds for the kernel, at least one."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sock.family == socket.AF_UNIX:
        return
    for option, value in (
        (socket.TCP_KEEPCNT, keepalive.probes),
        (socket.TCP_KEEPIDLE, -(-keepalive.time_ms // 1000)),
        (socket.TCP_KEEPINTVL, -(-keepalive.interval_ms // 1000)),
    ):
        if value:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


async def say_proxy(strand: Strand, stream: Stream, version: str, proxy: Proxy) -> None:
    """Send the PROXY header. Raises OSError."""
    await stream.sendall(strand, header(version, _address(proxy[0]), _address(proxy[1])))


def _address(text: str) -> Address | None:
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdigit() else None


async def open_tunnel(strand: Strand, stream: Stream, tunnel: Tunnel) -> tuple[ByteStream, bytes]:
    """Ask the proxy for the tunnel. Returns what carries bytes through it (`stream` stays the one to close) and what came through it
    already. Raises TunnelRefused, OSError; the strand's deadline holds."""
    host = f"[{tunnel.host}]" if ":" in tunnel.host else tunnel.host
    authority = f"{host}:{tunnel.port}".encode()
    if tunnel.method == "POST":
        await stream.sendall(strand, b"POST / HTTP/1.1\r\nhost: %b\r\ntransfer-encoding: chunked\r\n\r\n" % authority)
        carrier = PostStream(stream)
        try:
            status = await carrier.answered(strand)
        except UpstreamProtocolError:
            raise TunnelRefused("tunnel_answer_malformed") from None
        _accept(status)
        return carrier, b""
    await stream.sendall(strand, b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (authority, authority))
    data = b""
    while True:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > _MOST_HEAD:
                raise TunnelRefused("tunnel_answer_too_long")
            data += await _more(strand, stream)
            continue
        found = _STATUS.match(data.partition(b"\r\n")[0])
        if found is None:
            raise TunnelRefused("tunnel_answer_malformed")
        # A 2xx to CONNECT has no body, whatever its fields say (RFC 9110 section 9.3.6): all that follows is the tunnel's.
        data = data[end + 4 :]
        if int(found[1]) >= 200:
            _accept(int(found[1]))
            return stream, data


def _accept(status: int) -> None:
    if status >= 300:
        raise TunnelRefused(f"tunnel_refused:_{status}")


async def _more(strand: Strand, stream: Stream) -> bytes:
    data = await stream.recv(strand)
    if not data:
        raise TunnelRefused("tunnel_closed")
    return data


class PostStream:
    """A tunnel through an HTTP/1.1 POST: each side's bytes are the chunks of a body (Envoy's use_post). A `ByteStream`."""

    spliceable = False

    __slots__ = ("_codec", "_done", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._codec = ClientCodec()
        self._codec.expect = b"POST"
        self._done = False

    async def answered(self, strand: Strand) -> int:
        """Wait for the head of the answer; its status. Raises UpstreamProtocolError, TunnelRefused, OSError."""
        event = None
        while event is None:
            event = self._codec.next_event(await _more(strand, self._stream))
            while isinstance(event, ResponseHead) and event.interim:
                event = self._codec.next_event()
        assert isinstance(event, ResponseHead)
        self._done = event.end
        return event.status

    def listen(self, handler: Handler) -> None:
        self._stream.listen(handler)

    def read(self) -> bytes | None:
        if self._done:
            return b""
        codec = self._codec
        try:
            event = codec.next_event()  # what came with the last bytes
            while not event:
                data = self._stream.read()
                if data is None:
                    return None
                if not data:
                    self._done = True
                    if codec.ended():
                        return b""
                    raise OSError("the proxy ended the tunnel in the middle of a body")
                event = codec.next_event(data)
        except UpstreamProtocolError as error:
            raise OSError(str(error)) from None
        if isinstance(event, bytes):
            return event
        self._done = True
        return b""

    def write(self, data: bytes) -> bool:
        return self._stream.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def drain(self, strand: Strand) -> None:
        await self._stream.drain(strand)

    def pause(self) -> None:
        self._stream.pause()

    def resume(self) -> None:
        self._stream.resume()

    def early(self) -> bytes:
        return b""

    def finish(self) -> None:
        """The body's end; the connection stays, as its answer goes on."""
        self._stream.write(b"0\r\n\r\n")

    def __repr__(self) -> str:
        return f"<PostStream {self._stream!r}>"
