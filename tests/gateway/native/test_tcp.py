"""Relayed connections end to end: a native engine on real sockets, from the client's first byte to what metrics and log say."""

import contextlib
import os
import socket
import ssl
import struct

import certs
import pytest
import trio
from native_engine import endpoint, listening, read_all, running

from gateway.native import splice
from gateway.snapshot import (
    Backend,
    DownstreamTls,
    EndpointSet,
    FilterChain,
    Inbound,
    Keepalive,
    Limits,
    Listener,
    ListenerKind,
    Node,
    TcpRoute,
    TcpSplit,
    TlsMode,
    Tunnel,
    UpstreamTls,
    UpstreamTlsMode,
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


async def settled(gateway):
    """Until no connection is left, and what they left is recorded."""
    while gateway.engine.statistics().downstream_connections:
        await trio.sleep(0.005)
    await trio.sleep(0.01)


async def test_bytes_both_ways_half_close_metrics_and_log(tmp_path):
    log = tmp_path / "access.log"
    from gateway.snapshot import AccessLog

    node = Node("gw", "east", access_log=AccessLog(str(log)))
    echo = Echo(b"hello ")
    async with running(*parts(echo), workloads=[echo], chain=plain(), node=node) as gateway:
        async with await gateway.connect() as stream:
            assert await ask(stream, b"world") == b"hello world"
            client = "{}:{}".format(*stream.socket.getsockname())
        await settled(gateway)
        assert counted(gateway) == [1, 1, 11, 5]
        state = gateway.engine.runtime.states[NAME]
        assert state.active == 0
        (statistics,) = gateway.engine.statistics().endpoints
        assert (statistics.connections, statistics.active, statistics.requests) == (0, 0, 1)
        labels = dict(gateway.engine.statistics().tcp[0].labels)
        assert labels["request_protocol"] == "tcp"
        assert labels["destination_service"] == "tcp.test"
        assert labels["reporter"] == "source"
    line = log.read_text()
    assert f'"- - -" 0 - - - "-" 5 11 ' in line
    assert f'- "-" "-" "-" "-" "127.0.0.1:{echo.port}" {NAME} 127.0.0.1:' in line
    assert line.endswith(f" 127.0.0.1:{gateway.port} {client} - -\n")


async def test_megabytes_are_the_same_bytes_and_leave_no_descriptor():
    echo = Echo()
    data = os.urandom(6_000_000)
    splice.close_free()
    async with running(*parts(echo), workloads=[echo], chain=plain()) as gateway:

        async def once():
            async with await gateway.connect() as stream:
                assert await ask(stream, data) == data

        await once()
        await settled(gateway)
        splice.close_free()
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(once)
        await settled(gateway)
        assert counted(gateway)[2:] == [5 * len(data)] * 2
        splice.close_free()
        assert len(os.listdir("/proc/self/fd")) == before
