"""From HTTP to bytes: upgrades, CONNECT, extended CONNECT, across both versions of HTTP."""

import base64
import hashlib

import h2.settings
import pytest
import trio
import trio.testing
from h2_talk import Client, Http2Workload
from native_engine import NAME, Workload, backend, endpoint, forward, host, read_until, running

from gateway.snapshot import EndpointSet, Http2, MatchKind, RetryPolicy, RouteMatch, StringMatch

ASK = (
    b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
PROOF = base64.b64encode(hashlib.sha1(b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


async def agree(stream, data):
    """An endpoint that switches and echoes, whatever came with the head first."""
    head, _, rest = data.partition(b"\r\n\r\n")
    assert b"\r\nupgrade: websocket" in head.lower()
    assert b"\r\nconnection: upgrade" in head.lower()
    await stream.send_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\nhello"
    )
    if rest:
        await stream.send_all(rest)
    while more := await stream.receive_some(65536):
        await stream.send_all(more)
    await stream.send_eof()
    return False


def connect_parts(*workloads, **options):
    match = RouteMatch(method=StringMatch(MatchKind.EXACT, "CONNECT"))
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward(match=match, route="connect"), forward()),
    )


async def test_an_upgrade_becomes_bytes_both_ways():
    workload = Workload(agree)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(ASK + b"ahead")
        head = await read_until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"upgrade: websocket\r\n" in head.lower()
        assert b"Sec-WebSocket-Accept: x\r\n" in head
        assert await read_until(stream, b"ahead") == b"helloahead"
        await stream.send_all(b"x" * 100_000)
        got = b""
        while len(got) < 100_000:
            got += await stream.receive_some(65536)
        await stream.send_eof()
        assert await stream.receive_some() == b""
    assert b"x-forwarded-for" in workload.requests[0]
    assert b"dGhlIHNhbXBsZSBub25jZQ==" in workload.requests[0]


async def test_an_endpoint_that_does_not_agree_answers_as_ever():
    workload = Workload(b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 2\r\n\r\nno")
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(2):
            await stream.send_all(ASK)
            assert (await read_until(stream, b"no")).startswith(b"HTTP/1.1 426")


async def test_101_that_nobody_asked_for_is_an_error():
    workload = Workload(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")
    async with running(workloads=[workload]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 502")


async def test_an_offer_of_h2c_is_passed_over():
    workload = Workload()
    async with running(workloads=[workload]) as gateway:
        answer = await gateway.get(headers="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
    assert b"h2c" not in workload.requests[0]
    assert b"upgrade" not in workload.requests[0].lower()


async def test_connect_is_a_tunnel_only_where_a_route_says_so():
    async def tunnel(stream, data):
        assert (
            data.startswith(b"CONNECT b.test:443 HTTP/1.1\r\nhost: b.test:443\r\n".replace(b"host", b"Host"))
            or b"b.test:443" in data
        )
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
        while more := await stream.receive_some():
            await stream.send_all(more.upper())
        return False

    workload = Workload(tunnel)
    async with running(*connect_parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n")
        head = await read_until(stream, b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"content-length" not in head
        await stream.send_all(b"hello")
        assert await read_until(stream, b"HELLO") == b"HELLO"
    async with running(workloads=[Workload()]) as gateway:
        answer = await gateway.ask(b"CONNECT b.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n", size=12)
        assert answer.startswith(b"HTTP/1.1 404")


async def test_extended_connect_of_http_2_is_an_upgrade_of_http_1():
    workload = Workload(agree)
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="CONNECT", path="/chat", pseudo=[(":protocol", "websocket")], end=False)
        await talk.begun.wait()
        assert talk.status == 200
        assert b"sec-websocket-accept" not in talk.head
        await client.send(talk, b"-and-more")
        while not talk.body.endswith(b"-and-more"):
            client.changed = trio.Event()
            await client.changed.wait()
        assert talk.body == b"hello-and-more"
        await client.send(talk, end=True)
        await talk.ended.wait()
        assert talk.reset is None
    head = workload.requests[0]
    assert head.startswith(b"GET /chat HTTP/1.1\r\nhost: a.test\r\n")
    assert b"\r\nsec-websocket-key: " in head


@pytest.mark.parametrize("supported", [True, False])
async def test_an_upgrade_of_http_1_is_an_extended_connect_of_http_2(supported):
    async def early(peer, sid, head):
        if head.get(b":protocol") == b"websocket":
            assert (head[b":method"], head[b":path"]) == (b"CONNECT", b"/chat")
            assert b"upgrade" not in head
            peer.connection.send_headers(sid, [(":status", "200")])
            await peer.flush()
            await peer.send(sid, b"hello")

    async def echo(peer, sid, head, body):
        if b":protocol" in head:
            await peer.send(sid, body, end=True)
        else:
            peer.connection.send_headers(sid, [(":status", "204")], end_stream=True)
            await peer.flush()

    settings = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1} if supported else {}
    workload = Http2Workload(echo, early=early, settings=settings)
    parts = (
        backend(http2=Http2(always=True)),
        EndpointSet(NAME, (endpoint(workload.port),)),
        host(forward(retry=RetryPolicy(immediate=True))),
    )
    async with running(*parts, workloads=[workload]) as gateway, await gateway.connect() as stream:
        assert (await gateway.get()).startswith(b"HTTP/1.1 204")  # its settings are here
        await stream.send_all(ASK)
        head = await read_until(stream, b"\r\n\r\n")
        if not supported:
            assert head.startswith(b"HTTP/1.1 502")
            return
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: " + PROOF in head
        assert await read_until(stream, b"hello") == b"hello"
        await stream.send_all(b"more")
        await stream.send_eof()
        assert await read_until(stream, b"more") == b"more"
        assert await stream.receive_some() == b""


async def test_extended_connect_through_to_http_2():
    async def early(peer, sid, head):
        if b":protocol" in head:
            peer.connection.send_headers(sid, [(":status", "200")])
            await peer.flush()

    async def echo(peer, sid, head, body):
        if b":protocol" not in head:
            peer.connection.send_headers(sid, [(":status", "200")])
            peer.connection.end_stream(sid)
            await peer.flush()
        else:
            await peer.send(sid, body, end=True)

    workload = Http2Workload(echo, early=early, settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    parts = (backend(http2=Http2(always=True)), EndpointSet(NAME, (endpoint(workload.port),)), host(forward(retry=RetryPolicy())))
    async with running(*parts, workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        await client.ask()  # the endpoint's settings are here
        talk = await client.start(method="CONNECT", path="/chat", pseudo=[(":protocol", "websocket")], end=False)
        await talk.begun.wait()
        await client.send(talk, b"x" * 300_000, end=True)
        await talk.ended.wait()
        assert (talk.status, len(talk.body), talk.reset) == (200, 300_000, None)


async def test_a_tunnel_ends_on_both_sides_when_one_breaks_off():
    started = trio.Event()

    async def breaking(stream, data):
        await stream.send_all(SWITCHED)
        await started.wait()
        return False

    workload = Workload(breaking)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(ASK)
        await read_until(stream, b"\r\n\r\n")
        started.set()
        assert await stream.receive_some() == b""
        await stream.aclose()
        while gateway.engine.statistics().downstream_connections or workload.open:
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert [each.active for each in gateway.engine.statistics().endpoints] == [0]
        labels = dict(gateway.engine.statistics().requests[0].labels)
        assert labels["response_code"] == "101"


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "websocket, h2c", "websocket,x", "a b"])
async def test_http_2_in_clear_is_no_protocol_to_tunnel(protocol):
    """By it requests would reach endpoints past every filter."""
    workload = Workload()
    async with running(workloads=[workload]) as gateway:
        async with Client.to(gateway.port) as client:
            talk = await client.start(method="CONNECT", path="/", pseudo=[(":protocol", protocol)], end=False)
            await talk.ended.wait()
            assert talk.reset == 1
        assert not workload.requests
        await gateway.get(headers=f"Connection: Upgrade\r\nUpgrade: {protocol}, h2c\r\n")
    assert b"h2c" not in b"".join(workload.requests).lower()
