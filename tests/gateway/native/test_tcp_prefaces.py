"""What comes before relayed bytes, end to end: PROXY headers in and out, tunnels through HTTP proxies; unix sockets."""

import contextlib
import os
import socket

import msgspec
import pytest
import trio
import trio.testing
from native_engine import Workload, endpoint, forward, host, listening, running
from relaying import (
    NAME,
    Echo,
    ask,
    backend,
    client_context,
    counted,
    parts,
    passing,
    plain,
    server_context,
    settled,
)

from gateway.native.codec.proxy_protocol import header
from gateway.snapshot import (
    AccessLog,
    EndpointSet,
    FilterChain,
    Keepalive,
    LbEndpoint,
    Listener,
    ListenerKind,
    Node,
    Tunnel,
)


async def test_a_proxy_header_says_who_the_client_is(tmp_path):
    log = tmp_path / "access.log"
    node = Node("gw", "east", access_log=AccessLog(str(log), "json"))
    echo = Echo()
    async with running(*parts(echo, proxy_protocol="V2"), workloads=[echo], chain=plain(), node=node) as gateway:
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (plain(),), proxy_protocol=True)
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        sent = header("V1", ("192.0.2.1", 1234), ("192.0.2.9", 443))
        async with await gateway.connect() as stream:
            assert await ask(stream, sent + b"hello") == header("V2", ("192.0.2.1", 1234), ("192.0.2.9", 443)) + b"hello"
        assert await gateway.ask(b"hello") == b""
        async with await gateway.connect() as stream:
            client, here = stream.socket.getsockname(), stream.socket.getpeername()
            assert await ask(stream, b"PROXY UNKNOWN\r\nhello") == header("V2", client, here) + b"hello"
        await settled(gateway)
        assert dict(gateway.engine.statistics().refused) == {"not-proxy": 1}
    lines = [msgspec.json.decode(line) for line in log.read_text().splitlines()]
    assert [line["downstream_remote_address"] for line in lines] == ["192.0.2.1:1234", "{}:{}".format(*client)]
    assert lines[0]["downstream_local_address"] == "192.0.2.9:443"
    assert lines[0]["upstream_cluster"] == NAME
    assert len(lines[0]) == 24
    assert (lines[0]["response_code"], lines[0]["method"], lines[0]["bytes_received"]) == (0, None, 5)


async def test_a_proxy_header_comes_before_tls_and_http():
    echo = Echo(secure=server_context())
    work = Workload()
    web = backend("outbound|80||web.test")
    endpoints = EndpointSet(web.name, (endpoint(work.port),))
    chain = passing("a.test")
    async with running(*parts(echo), web, endpoints, host(forward(web.name)), workloads=[echo, work], chain=chain) as gateway:
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (chain,), proxy_protocol=True)
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        async with await gateway.connect() as plain_stream:
            await plain_stream.send_all(header("V2", ("192.0.2.1", 1234), ("192.0.2.9", 443)))
            stream = trio.SSLStream(plain_stream, client_context(), server_hostname="a.test")
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"hello"
        http = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (FilterChain("http", "t"),), proxy_protocol=True)
        gateway.snapshots.set(gateway.snapshots.value.changed([http]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        answer = await gateway.ask(header("V2", ("192.0.2.1", 1234), ("192.0.2.9", 443)) + request)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"x-forwarded-for: 192.0.2.1\r\n" in work.requests[0]


async def test_a_unix_socket_takes_connections(tmp_path):
    echo = Echo()
    path = str(tmp_path / "gw.sock")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    sock.setblocking(False)
    with sock:
        async with running(*parts(echo), workloads=[echo], chain=plain()) as gateway:
            listener = Listener(path, 9000, ListenerKind.GATEWAY, (plain(),))
            gateway.engine._sockets.set({**gateway.engine._sockets.value, listener.key: (sock,)})
            gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
            async with await trio.open_unix_socket(path) as stream:
                assert await ask(stream, b"hello") == b"hello"


async def test_an_endpoint_may_be_a_unix_socket(tmp_path):
    echo = Echo()
    path = str(tmp_path / "echo.sock")
    echo.sock.close()
    echo.sock = socket.socket(socket.AF_UNIX)
    echo.sock.bind(path)
    echo.sock.listen()
    echo.sock.setblocking(False)
    data = os.urandom(2_000_000)
    unix = LbEndpoint(id=path, address=path, port=0)
    async with (
        running(backend(keepalive=Keepalive(3, 60_000, 1)), EndpointSet(NAME, (unix,)), workloads=[echo], chain=plain()) as gateway,
        await gateway.connect() as stream,
    ):
        assert await ask(stream, data) == data


class HttpProxy:
    """An HTTP proxy for tunnels. answer: its head; then bytes are echoed, in chunks for POST."""

    def __init__(self, answer):
        self.answer = answer
        self.heads = []
        self.sock = listening()
        self.port = self.sock.getsockname()[1]

    async def run(self):
        await trio.serve_listeners(self._serve, [trio.SocketListener(trio.socket.from_stdlib_socket(self.sock))])

    async def _serve(self, stream):
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive_some()
            self.heads.append(data)
            await stream.send_all(self.answer)
            with contextlib.suppress(trio.BrokenResourceError):
                async for data in stream:
                    await stream.send_all(data)
                await stream.send_eof()


@pytest.mark.parametrize("method", ["CONNECT", "POST"])
async def test_a_tunnel_through_an_http_proxy(method):
    answer = b"HTTP/1.1 200 OK\r\n\r\nahead "
    if method == "POST":
        answer = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nahead \r\n"
    proxy = HttpProxy(answer)
    tunnel = Tunnel(method, "db.test", 5432)
    options = {"tunnel": tunnel, "keepalive": Keepalive(3, 60_000, 5_000)}
    data = os.urandom(700_000)
    async with running(*parts(proxy, **options), workloads=[proxy], chain=plain()) as gateway:
        async with await gateway.connect() as stream:
            assert await ask(stream, data) == b"ahead " + data
        await settled(gateway)
        assert counted(gateway) == [1, 1, len(data) + 6, len(data)]
    start = b"CONNECT db.test:5432 HTTP/1.1" if method == "CONNECT" else b"POST / HTTP/1.1"
    assert proxy.heads[0].startswith(start + b"\r\nhost: db.test:5432\r\n")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 No\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 302 Else\r\n\r\n"])
@pytest.mark.parametrize("method", ["CONNECT", "POST"])
async def test_a_tunnel_that_is_refused_is_a_connection_that_failed(answer, method):
    proxy = HttpProxy(answer)
    async with running(*parts(proxy, tunnel=Tunnel(method, "db.test", 5432)), workloads=[proxy], chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b""
        await settled(gateway)
        assert counted(gateway, "UF,URX")[:2] == [1, 1]
