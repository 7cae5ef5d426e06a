"""Health checks over real sockets on loopback."""

import certs
import pytest
import trio
import trio.testing

from federation.probe import ProbeFailed, Target, probe
from gateway.native.tls import ClientTls
from gateway.snapshot import HealthCheck, UpstreamTls, UpstreamTlsMode


@pytest.fixture
def serve(nursery):
    """Starts a server with this handler of a stream; returns its port."""

    async def begin(handler, context=None):
        async def handle(stream):
            if context is not None:
                stream = trio.SSLStream(stream, context, server_side=True)
            try:
                await handler(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                await trio.aclose_forcefully(stream)

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, [listener])
        return listener.socket.getsockname()[1]

    return begin


def http(port, **options):
    return Target("127.0.0.1", port, HealthCheck("http", "/healthz", **options), "reviews.shop")


def answering(answer, seen=None):
    async def handler(stream):
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some()
        if seen is not None:
            seen.append(data)
        await stream.send_all(answer)

    return handler


async def test_asks_for_the_path_with_the_services_host(serve):
    seen = []
    port = await serve(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", seen))
    await probe(http(port), None)
    [request] = seen
    assert request.startswith(b"GET /healthz HTTP/1.1\r\nhost: reviews.shop\r\n")
    assert b"connection: close" in request


@pytest.mark.parametrize("answer", [b"HTTP/1.0 200 \r\n\r\n", b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 200 Fine by me\r\n\r\n"])
async def test_passes(serve, answer):
    await probe(http(await serve(answering(answer))), None)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 503 no\r\n\r\n", "status 503, expected 200"),
        (b"HTTP/1.1 204 \r\n\r\n", "status 204"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP"),
        (b"x" * 5000, "not HTTP"),
        (b"HTTP/1.1 2000 \r\n", "not HTTP"),
        (b"", "closed without an answer"),
    ],
)
async def test_fails(serve, answer, says):
    port = await serve(answering(answer))
    with pytest.raises(ProbeFailed, match=says):
        await probe(http(port), None)


async def test_silence_fails_in_time(serve):
    async def silent(stream):
        await trio.sleep_forever()

    port = await serve(silent)
    with pytest.raises(ProbeFailed, match="no answer within 50 ms"):
        await probe(http(port, timeout_ms=50), None)


async def test_refused():
    with trio.socket.socket() as sock:
        await sock.bind(("127.0.0.1", 0))
        with pytest.raises(ProbeFailed, match="refused"):
            await probe(http(sock.getsockname()[1]), None)


async def test_tcp_takes_a_connection_for_an_answer(serve):
    async def silent(stream):
        await trio.sleep_forever()

    port = await serve(silent)
    await probe(Target("127.0.0.1", port, HealthCheck("tcp")), None)


async def test_unix_socket(tmp_path, nursery):
    path = str(tmp_path / "s")
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    await sock.bind(path)
    sock.listen()
    with sock:
        await probe(Target(path, 0, HealthCheck("tcp")), None)


async def test_tls_is_verified(serve):
    import ssl

    authority = certs.Authority("web root")
    context = authority.leaf("reviews.shop").load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    port = await serve(answering(b"HTTP/1.1 200 OK\r\n\r\n"), context)

    def client(ca):
        return ClientTls(UpstreamTls(UpstreamTlsMode.SIMPLE, sni="reviews.shop", ca=ca), {}, clock=certs.NOW.timestamp)

    await probe(http(port), client(authority.bundle))
    with pytest.raises(ProbeFailed):
        await probe(http(port), client(certs.Authority("another root").bundle))


async def test_an_abstract_unix_socket_and_a_source_address(serve, nursery):
    with trio.socket.socket(trio.socket.AF_UNIX) as sock:
        name = f"fedgate-probe-{id(sock)}"
        await sock.bind("\0" + name)
        sock.listen()
        await probe(Target("@" + name, 0, HealthCheck("tcp"), "a.test"), None)
    seen = []

    async def handler(stream):
        seen.append(stream.socket.getpeername()[0])

    port = await serve(handler)
    await probe(Target("127.0.0.1", port, HealthCheck("tcp"), "a.test", source="127.27.1.2"), None)
    while not seen:  # the connection was taken before its handler ran
        await trio.testing.wait_all_tasks_blocked()
    assert seen == ["127.27.1.2"]
    with pytest.raises(ProbeFailed, match="tcp check: "):
        await probe(Target("127.0.0.1", port, HealthCheck("tcp"), "a.test", source="192.0.2.1"), None)
    nursery.cancel_scope.cancel()
