"""Relayed connections in a native engine: endpoints that echo, chains that relay, and what is counted of them."""

import contextlib
import ssl

import certs
import trio
import trio.testing
from native_engine import endpoint, listening, read_all

from gateway.snapshot import (
    Backend,
    EndpointSet,
    FilterChain,
    TcpRoute,
    TcpSplit,
)

NAME = "outbound|9000||tcp.test"


def backend(name=NAME, **options):
    _, port, subset, host = name.split("|")
    options.setdefault("connect_timeout_ms", 1000)
    return Backend(name=name, host=host, port=int(port), subset=subset, **options)


def plain(*splits, subnets=()):
    """A chain that relays to these (backend, weight)."""
    splits = splits or ((NAME, 1),)
    return FilterChain("tcp", tcp=(TcpRoute("tcp", tuple(TcpSplit(*split) for split in splits), tuple(subnets)),))


class Echo:
    """A TCP endpoint that sends back what it gets, after `greeting`; `saw` is what came. secure: a server context."""

    def __init__(self, greeting=b"", secure=None):
        self.greeting, self.secure = greeting, secure
        self.sock = listening()
        self.port = self.sock.getsockname()[1]
        self.connections = 0
        self.saw = []

    async def run(self):
        await trio.serve_listeners(self._serve, [trio.SocketListener(trio.socket.from_stdlib_socket(self.sock))])

    async def _serve(self, stream):
        self.connections += 1
        saw = bytearray()
        self.saw.append(saw)
        if self.secure is not None:
            stream = trio.SSLStream(stream, self.secure, server_side=True)
        try:
            with contextlib.suppress(trio.BrokenResourceError, ConnectionError):
                if self.greeting:
                    await stream.send_all(self.greeting)
                async for data in stream:
                    saw += data
                    await stream.send_all(data)
                if self.secure is None:
                    await stream.send_eof()
        finally:
            await trio.aclose_forcefully(stream)


def parts(*echoes, name=NAME, **options):
    return backend(name, **options), EndpointSet(name, tuple(endpoint(each.port) for each in echoes))


async def ask(stream, data):
    """Send, say that this is all, and read all."""
    async with trio.open_nursery() as nursery:

        async def send():
            await stream.send_all(data)
            await stream.send_eof()

        nursery.start_soon(send)
        return await read_all(stream)


def counted(gateway, flag="-"):
    """(opened, closed, sent, received) of the series with this flag."""
    found = [each for each in gateway.engine.statistics().tcp if dict(each.labels)["response_flags"] == flag]
    return [sum(values) for values in zip(*((s.opened, s.closed, s.sent_bytes, s.received_bytes) for s in found), strict=True)] or [
        0,
        0,
        0,
        0,
    ]


async def until(condition):
    """Look until it is so; what happens in the kernel and the reactor tells nobody."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.005)


async def settled(gateway):
    """Until no connection is left, and what they left is recorded."""
    await until(lambda: not gateway.engine.statistics().downstream_connections)
    await trio.sleep(0.01)


AUTHORITY = certs.Authority("workloads")
WORKLOAD = AUTHORITY.leaf("a.test", "*.auto.test", "outbound_.9000_._.tcp.test")


def server_context(leaf=WORKLOAD):
    return leaf.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))


def client_context(authority=AUTHORITY):
    context = ssl.create_default_context(cadata=authority.pem)
    context.hostname_checks_common_name = False
    return context


async def secure(gateway, name, data, *, context=None, size=1 << 20):
    """Over TLS by this name; None when it is closed without a byte."""
    async with await gateway.connect() as plain_stream:
        stream = trio.SSLStream(plain_stream, context or client_context(), server_hostname=name, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            if "EOF" in str(error.__cause__):
                return None
            raise
        await stream.send_all(data)
        got = b""
        while len(got) < min(size, len(data)):
            got += await stream.receive_some()
        return got


def passing(*names, name=NAME):
    return FilterChain("pass", server_names=names, passthrough=True, tcp=(TcpRoute("tls", (TcpSplit(name),)),))
