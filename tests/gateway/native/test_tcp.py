"""Relayed connections end to end: a native engine on real sockets, from the client's first byte to what metrics and log say."""

import contextlib
import os
import socket
import ssl
import struct

import certs
import msgspec
import pytest
import trio
import trio.testing
from native_engine import Workload, endpoint, forward, host, listening, read_all, running

from gateway.native import splice
from gateway.native.codec.proxy_protocol import header
from gateway.snapshot import (
    AccessLog,
    Backend,
    DownstreamTls,
    EndpointSet,
    FilterChain,
    Inbound,
    Keepalive,
    LbEndpoint,
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
from gateway.verdicts import AddressState, Verdicts

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


async def test_bytes_both_ways_half_close_metrics_and_log(tmp_path):
    log = tmp_path / "access.log"
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
    assert '"- - -" 0 - - - "-" 5 11 ' in line
    assert f'- "-" "-" "-" "-" "127.0.0.1:{echo.port}" {NAME} 127.0.0.1:' in line
    assert line.endswith(f" 127.0.0.1:{gateway.port} {client} - -\n")


@pytest.mark.slow
async def test_megabytes_are_the_same_bytes_and_leave_no_descriptor():
    echo = Echo()
    data = os.urandom(6_000_000)
    splice.PIPES.close()
    async with running(*parts(echo), workloads=[echo], chain=plain()) as gateway:

        async def once():
            async with await gateway.connect() as stream:
                assert await ask(stream, data) == data

        await once()
        await settled(gateway)
        splice.PIPES.close()
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(once)
        await settled(gateway)
        assert counted(gateway)[2:] == [5 * len(data)] * 2
        splice.PIPES.close()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_shares_are_drawn_once_a_connection():
    near, far = Echo(b"near"), Echo(b"far")
    other = "outbound|9000||far.test"
    draws = iter([0.1, 0.76, 0.74, 0.99, 0.0] * 10)
    chain = plain((NAME, 3), (other, 1))
    both = (*parts(near), *parts(far, name=other))
    async with running(*both, workloads=[near, far], chain=chain) as gateway:
        gateway.engine.runtime.random = lambda: next(draws)
        got = [await gateway.ask(b"", size=1) for _ in range(5)]
    assert got == [b"near", b"far", b"near", b"far", b"near"]


async def test_the_address_that_the_client_connected_to_chooses_the_route():
    near, far = Echo(b"near"), Echo(b"far")
    other = "outbound|9000||far.test"
    routes = (
        TcpRoute("other", (TcpSplit(other),), ("10.0.0.0/8",)),
        TcpRoute("this", (TcpSplit(NAME),), ("127.0.0.0/8",)),
    )
    both = (*parts(near), *parts(far, name=other))
    async with running(*both, workloads=[near, far], chain=FilterChain("tcp", tcp=routes)) as gateway:
        assert await gateway.ask(b"", size=4) == b"near"
        gateway.snapshots.set(
            gateway.snapshot(*both).changed(
                [Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (plain(subnets=["10.0.0.0/8"]),))]
            )
        )
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await gateway.ask(b"", size=4) == b""
        await settled(gateway)
        assert counted(gateway, "NR")[:2] == [1, 1]


def refusing():
    """A port that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_an_endpoint_that_refuses_costs_no_connection():
    echo = Echo(b"alive")
    endpoints = EndpointSet(NAME, (endpoint(echo.port), *(endpoint(refusing()) for _ in range(2))))
    async with running(backend(), endpoints, workloads=[echo], chain=plain()) as gateway:
        assert {await gateway.ask(b"", size=5) for _ in range(20)} == {b"alive"}
        assert gateway.engine.runtime.states[NAME].retries > 0


async def test_under_istios_defaults_there_is_one_attempt():
    echo = Echo(b"alive")
    endpoints = EndpointSet(NAME, (endpoint(refusing()), endpoint(echo.port, priority=1)))
    node = Node("gw", "east", defaults="istio")
    async with running(backend(), endpoints, workloads=[echo], chain=plain(), node=node) as gateway:
        assert await gateway.ask(b"") == b""
        await settled(gateway)
        assert counted(gateway, "UF,URX") == [1, 1, 0, 0]
        assert gateway.engine.runtime.states[NAME].active == 0


@pytest.mark.parametrize("missing", [True, False])
async def test_nowhere_to_go_closes_without_a_byte(missing):
    async with running(backend(), chain=plain()) as gateway:
        if missing:
            gateway.engine.runtime.states.pop(NAME)  # no Snapshot that is valid can say so
        assert await gateway.ask(b"hello") == b""
        await settled(gateway)
        assert counted(gateway, "NC" if missing else "UH")[:2] == [1, 1]


async def test_more_connections_than_allowed_are_closed():
    echo = Echo(b"alive")
    async with running(*parts(echo, limits=Limits(connections=1)), workloads=[echo], chain=plain()) as gateway:
        async with await gateway.connect() as first:
            assert await first.receive_some(5) == b"alive"
            assert await gateway.ask(b"") == b""
        await settled(gateway)
        assert counted(gateway, "UO")[:2] == [1, 1]
        assert await gateway.ask(b"", size=5) == b"alive"


@pytest.mark.slow
async def test_idle_connections_and_old_ones_end():
    echo = Echo()
    async with running(*parts(echo, tcp_idle_timeout_ms=100), workloads=[echo], chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b"hello"
    echo = Echo()
    async with running(*parts(echo, max_connection_ms=100), workloads=[echo], chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b"hello"
        await settled(gateway)
        assert counted(gateway, "DT") == [0, 1, 5, 5]
        assert counted(gateway)[:2] == [1, 0]


async def test_a_reset_endpoint_resets_the_client():
    async def rude(sock):
        accepted, _ = await sock.accept()
        await accepted.recv(5)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()

    rude_socket = listening()
    port = rude_socket.getsockname()[1]
    with rude_socket:
        async with (
            running(backend(), EndpointSet(NAME, (endpoint(port),)), chain=plain()) as gateway,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(rude, trio.socket.from_stdlib_socket(rude_socket))
            async with await gateway.connect() as stream:
                await stream.send_all(b"hello")
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await settled(gateway)
            assert counted(gateway, "UC")[:2] == [0, 1]


async def test_a_client_that_resets_while_the_endpoint_hangs_is_let_go():
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    full = [socket.socket() for _ in range(3)]
    with silent, contextlib.ExitStack() as stack:
        for each in full:  # fill its queue: from now on connecting hangs
            stack.enter_context(each)
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        hanging = EndpointSet(NAME, (endpoint(silent.getsockname()[1]),))
        async with running(backend(connect_timeout_ms=10_000), hanging, chain=plain()) as gateway:
            stream = await gateway.connect()
            await until(lambda: gateway.engine.runtime.states[NAME].active)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()
            await settled(gateway)
            assert counted(gateway, "DC")[:2] == [1, 1]
            assert gateway.engine.runtime.states[NAME].active == 0


# -------------------------------------------------------------------------------------------------------- TLS


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


async def test_passthrough_by_server_name_shows_the_workloads_certificate():
    echo, other = Echo(secure=server_context()), Echo(secure=server_context())
    second = "outbound|9000||other.test"
    listener_chains = (passing("a.test"), passing("*.auto.test", name=second))
    async with running(*parts(echo), *parts(other, name=second), workloads=[echo, other], chain=listener_chains[0]) as gateway:
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, listener_chains)
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        data = os.urandom(400_000)
        assert await secure(gateway, "a.test", data) == data
        assert await secure(gateway, "b.auto.test", b"hello") == b"hello"
        assert (echo.connections, other.connections) == (1, 1)
        assert await secure(gateway, "unknown.test", b"x") is None
        assert await gateway.ask(b"GET / HTTP/1.1\r\n\r\n") == b""
        await settled(gateway)
        assert dict(gateway.engine.statistics().refused) == {"unknown-name": 1, "not-tls": 1}
        assert counted(gateway)[:2] == [2, 2]


async def test_one_listener_passes_some_names_and_ends_others():
    echo = Echo(secure=server_context())
    ended = Echo()
    second = "outbound|9000||ended.test"
    authority = certs.Authority("gateway")
    leaf = authority.leaf("b.test")
    tls = DownstreamTls(TlsMode.SIMPLE, (leaf.ref,))
    here = FilterChain("here", server_names=("b.test",), tls=tls, tcp=(TcpRoute("t", (TcpSplit(second),)),))
    all_parts = (*parts(echo), *parts(ended, name=second))
    async with running(*all_parts, workloads=[echo, ended], chain=passing("a.test")) as gateway:
        gateway.secrets.set(certs.secrets(leaf))
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (passing("a.test"), here))
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await secure(gateway, "a.test", b"hello") == b"hello"
        data = os.urandom(1_000_000)
        assert await secure(gateway, "b.test", data, context=client_context(authority)) == data
        assert bytes(ended.saw[0]) == data


async def test_auto_passthrough_takes_the_backend_out_of_the_name():
    echo = Echo(secure=server_context())
    inner = "inbound|9000||tcp.test"
    chain = FilterChain("auto", auto=True, passthrough=True, auto_hosts=("*.test",))
    async with running(*parts(echo, name=inner), backend("inbound|1||no.local"), workloads=[echo], chain=chain) as gateway:
        assert await secure(gateway, "outbound_.9000_._.tcp.test", b"hello") == b"hello"
        for name in ("outbound_.9001_._.tcp.test", "outbound_.1_._.no.local", "tcp.test", "outbound_.9000_.v1_.tcp.test"):
            assert await secure(gateway, name, b"x") is None
        assert echo.connections == 1


async def test_tls_towards_the_endpoint():
    echo = Echo(secure=server_context())
    tls = UpstreamTls(UpstreamTlsMode.SIMPLE, sni="a.test", ca=AUTHORITY.pem)
    async with running(*parts(echo, tls=tls), workloads=[echo], chain=plain()) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


# ------------------------------------------------------------------------------------------------ PROXY, tunnels, sockets


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


# ---------------------------------------------------------------------------------------------------------- east-west


EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
SNI = "outbound_.9000_._.tcp.test"
INNER = "inbound|9000||tcp.test"
BUNDLES = (("east.example", EAST.bundle), ("west.example", WEST.bundle))


@contextlib.asynccontextmanager
async def east(*more, inbound=None):
    """A gateway's east-west port, open for west."""
    leaf = certs.gateway_leaf(EAST, "east.example")
    tls = DownstreamTls(TlsMode.ISTIO_MUTUAL, (leaf.ref,), bundles=BUNDLES, alpn=("h2", "http/1.1", "istio"))
    inbound = inbound or Inbound(SNI, INNER, ("west.example",), (certs.gateway_id("west.example"),))
    chain = FilterChain("east-west", tls=tls)
    async with running(*more, inbound, chain=chain, kind=ListenerKind.EAST_WEST, workloads=[]) as gateway:
        gateway.secrets.set(certs.secrets(leaf))
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield gateway


async def test_tcp_from_one_gateway_to_the_other():
    echo = Echo(b"from east ")
    leaf = certs.gateway_leaf(WEST, "west.example")
    to_east = UpstreamTls(
        UpstreamTlsMode.ISTIO_MUTUAL,
        sni=SNI,
        bundles=BUNDLES,
        certificate=leaf.ref,
        subject_alt_names=(certs.gateway_id("east.example"),),
        alpn=("h2", "http/1.1"),
        peer=True,
    )
    async with east(*parts(echo, name=INNER)) as there, trio.open_nursery() as nursery:
        nursery.start_soon(echo.run)
        far = endpoint(there.port, peer="east")
        async with running(backend(peer_tls=(("east", to_east),)), EndpointSet(NAME, (far,)), chain=plain(), workloads=[]) as here:
            here.secrets.set(certs.secrets(leaf))
            await trio.testing.wait_all_tasks_blocked(0.01)
            data = os.urandom(1_000_000)
            async with await here.connect() as stream:
                assert await ask(stream, data) == b"from east " + data
            await settled(here)
            await settled(there)
            assert counted(here) == [1, 1, len(data) + 10, len(data)]
            assert counted(there) == counted(here)
            labels = dict(there.engine.statistics().tcp[0].labels)
            assert (labels["reporter"], labels["source_principal"]) == ("destination", certs.gateway_id("west.example"))
            assert labels["connection_security_policy"] == "mutual_tls"
        nursery.cancel_scope.cancel()


async def test_a_passthrough_export_is_not_decrypted():
    echo = Echo(secure=server_context())
    inbound = Inbound(SNI, INNER, (), (), passthrough=True)
    async with east(*parts(echo, name=INNER), inbound=inbound) as there, trio.open_nursery() as nursery:
        nursery.start_soon(echo.run)
        assert await secure(there, SNI, b"hello") == b"hello"
        assert await secure(there, "outbound_.9001_._.tcp.test", b"hello") is None
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------ while it runs


async def test_a_relay_outlives_its_endpoint_and_its_backend():
    echo = Echo()
    limits = Limits(connections=5, requests=5)
    async with running(*parts(echo, limits=limits), workloads=[echo], chain=plain()) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"one")
            assert await stream.receive_some() == b"one"
            gateway.snapshots.set(gateway.snapshots.value.changed([EndpointSet(NAME, ())]))
            await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(b"two")
            assert await stream.receive_some() == b"two"
            assert await gateway.ask(b"new") == b""
            listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY)
            without = [f"backend/{NAME}", f"endpoints/{NAME}"]
            gateway.snapshots.set(gateway.snapshots.value.changed([listener], without))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert NAME not in gateway.engine.runtime.states
            assert await ask(stream, b"three") == b"three"
        await settled(gateway)
        assert counted(gateway) == [1, 1, 11, 11]
        assert not gateway.engine.reactor.strands


@pytest.mark.slow
async def test_a_drain_ends_relays_at_its_deadline(tmp_path):
    echo = Echo()
    node = Node("gw", "east", access_log=AccessLog(str(tmp_path / "log")))
    async with running(*parts(echo), workloads=[echo], chain=plain(), node=node) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"one")
            assert await stream.receive_some() == b"one"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gateway.engine.drain, trio.current_time() + 0.3)
                await stream.send_all(b"two")
                assert await stream.receive_some() == b"two"
            assert await stream.receive_some() == b""
        assert counted(gateway, "DC") == [0, 1, 6, 6]
        assert not gateway.engine.reactor.strands
    assert " DC " in (tmp_path / "log").read_text()


async def test_an_endpoint_that_is_found_gone_is_left_before_it_answers():
    """Its connection hangs; control says that the address is down: the client need not wait for the connect timeout."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    echo = Echo(b"alive")
    with silent, contextlib.ExitStack() as stack:
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(silent.getsockname())
        hanging = endpoint(silent.getsockname()[1])
        endpoints = EndpointSet(NAME, (hanging, endpoint(echo.port, priority=1)))
        async with running(backend(connect_timeout_ms=15_000), endpoints, workloads=[echo], chain=plain()) as gateway:
            async with await gateway.connect() as stream:
                await until(lambda: gateway.engine.runtime.states[NAME].active)
                gateway.verdicts.set(Verdicts(addresses={hanging.key: AddressState.DOWN}))
                assert await stream.receive_some() == b"alive"
            await settled(gateway)
            assert gateway.engine.runtime.states[NAME].active == 0
