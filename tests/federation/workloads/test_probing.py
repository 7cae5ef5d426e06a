"""Probes of a WorkloadGroup against real servers on 127.0.0.1."""

import ssl
from functools import partial

import pytest
import trio
import trustme

from federation.probe import ProbeFailed
from federation.resources.workload_group import HttpGet, HttpHeader, Probe, TcpSocket
from federation.workloads.probing import check


class Server:
    """Answers with `status`, and keeps the heads of what it was asked."""

    def __init__(self, status=200, body=b"ok"):
        self.status, self.body, self.heads = status, body, []

    async def answer(self, stream):
        head = await stream.receive_some(65536)
        self.heads.append(head.decode())
        await stream.send_all(f"HTTP/1.1 {self.status} x\r\ncontent-length: {len(self.body)}\r\n\r\n".encode() + self.body)
        await stream.aclose()


async def port_of(nursery, server):
    listeners = await nursery.start(partial(trio.serve_tcp, server.answer, 0, host="127.0.0.1"))
    return listeners[0].socket.getsockname()[1]


@pytest.mark.parametrize(("status", "passes"), [(200, True), (204, True), (302, True), (399, True), (400, False), (503, False)])
async def test_http_passes_from_200_to_399(nursery, status, passes):
    port = await port_of(nursery, Server(status, b""))
    probe = Probe(http_get=HttpGet(port=port))
    if passes:
        await check("127.0.0.1", probe)
    else:
        with pytest.raises(ProbeFailed, match=f"status {status}"):
            await check("127.0.0.1", probe)
    nursery.cancel_scope.cancel()


async def test_http_asks_as_it_is_written(nursery):
    server = Server()
    port = await port_of(nursery, server)
    get = HttpGet(
        port=port,
        path="/up?deep=1",
        http_headers=(HttpHeader(name="Host", value="shop.example"), HttpHeader(name="x-a", value="b")),
    )
    await check("127.0.0.1", Probe(http_get=get))
    (head,) = server.heads
    assert head.startswith("GET /up?deep=1 HTTP/1.1\r\n")
    assert "host: shop.example" in head.lower()
    assert "x-a: b" in head.lower()
    nursery.cancel_scope.cancel()


async def test_https_does_not_look_at_the_certificate(nursery):
    server, context = Server(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("other.example").configure_cert(context)
    listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, server.answer, 0, context, host="127.0.0.1"))
    port = listeners[0].transport_listener.socket.getsockname()[1]
    await check("127.0.0.1", Probe(http_get=HttpGet(port=port, scheme="HTTPS")))
    nursery.cancel_scope.cancel()


async def test_a_body_without_end_is_not_read(nursery):
    async def endless(stream):
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await trio.sleep_forever()

    server = Server()
    server.answer = endless
    port = await port_of(nursery, server)
    with trio.fail_after(10):
        await check("127.0.0.1", Probe(http_get=HttpGet(port=port), timeout_seconds=60))
    nursery.cancel_scope.cancel()


async def test_tcp_passes_when_somebody_listens(nursery):
    port = await port_of(nursery, Server())
    await check("127.0.0.1", Probe(tcp_socket=TcpSocket(port=port)))
    with pytest.raises(ProbeFailed, match="refused"):
        await check("127.0.0.1", Probe(tcp_socket=TcpSocket(port=1)))
    nursery.cancel_scope.cancel()


async def test_nobody_there(nursery):
    with pytest.raises(ProbeFailed, match="http probe"):
        await check("127.0.0.1", Probe(http_get=HttpGet(port=1)))
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_silence_ends_with_the_timeout(nursery):
    async def silent(stream):
        await trio.sleep_forever()

    server = Server()
    server.answer = silent
    port = await port_of(nursery, server)
    with pytest.raises(ProbeFailed, match="no answer within 1 s"):
        await check("127.0.0.1", Probe(http_get=HttpGet(port=port)))
    nursery.cancel_scope.cancel()
