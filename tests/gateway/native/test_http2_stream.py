"""What becomes of an HTTP/2 stream's waits when the other side ends it: whoever waits is told, once, and nobody else."""

import h2.errors
import h2.settings
import pytest
import trio
import trio.testing
from h2_talk import Client, Http2Workload, Talk
from native_engine import NAME, Workload, backend, endpoint, forward, host, read_all, read_until, running

from gateway.snapshot import EndpointSet, Http2

NO_CREDIT = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10}
TIMED = {"timeout_ms": 30_000}
LATE = 15  # seconds: well before the route's time ends


def parts(*workloads, retry=None, **options):
    options.setdefault("http2", Http2(always=True))
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward(retry=retry, **TIMED)),
    )


async def got(peer, sid, head, body):
    if head[b":method"] == b"GET":
        peer.connection.send_headers(sid, [(":status", "204")], end_stream=True)
        await peer.flush()


async def early(peer, sid, head):
    """The whole answer, and RST_STREAM with NO_ERROR in the same write, before the body has come (RFC 9113 section 8.1)."""
    if head[b":method"] == b"GET":
        return
    peer.connection.send_headers(sid, [(":status", "413"), ("content-length", "2")])
    peer.connection.send_data(sid, b"no", end_stream=True)
    peer.connection.reset_stream(sid, h2.errors.ErrorCodes.NO_ERROR)
    await peer.flush()


@pytest.mark.parametrize("size", [1000, 50_000])
@pytest.mark.parametrize("with_head", [True, False])
async def test_an_answer_before_the_body_is_taken_reaches_the_client(size, with_head):
    workload = Http2Workload(got, early=early, settings=NO_CREDIT)
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await gateway.get("/first")  # its settings are known from now on
        with trio.fail_after(LATE):
            request = b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n" % size
            await stream.send_all(request + b"x" * (size if with_head else size // 2))
            answer = await read_until(stream, b"no")
    assert answer.startswith(b"HTTP/1.1 413")


async def refuse(peer, sid, head):
    """The first request's stream is reset once its body cannot go on; the next is answered."""
    if peer.workload.heads[0] is head:
        await trio.testing.wait_all_tasks_blocked(0.01)
        peer.connection.reset_stream(sid, h2.errors.ErrorCodes.REFUSED_STREAM)
        await peer.flush()


async def test_a_reset_is_told_to_the_exchange_when_its_upload_waits_for_room():
    workload = Http2Workload(got, early=refuse, settings=NO_CREDIT)
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        with trio.fail_after(LATE):
            await stream.send_all(b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 300000\r\n\r\n" + b"x" * 200_000)
            assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 503")
        assert not [strand for strand in gateway.engine.reactor.strands if strand.name == "upload"]


async def agree(peer, sid, head):
    if b":protocol" not in head:
        return
    peer.connection.send_headers(sid, [(":status", "200")])
    await peer.flush()
    peer.workload.peer = peer


@pytest.mark.parametrize("end", ["reset", "nonsense", "goaway"])
async def test_a_tunnel_ends_when_its_stream_does_whatever_the_reason(end):
    connects = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1}
    workload = Http2Workload(got, early=agree, settings=connects)
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        ask = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
        await gateway.get()  # its settings are known from now on
        await stream.send_all(ask)
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        peer = workload.peer
        sid = max(peer.requests)
        if end == "reset":
            peer.connection.reset_stream(sid, h2.errors.ErrorCodes.PROTOCOL_ERROR)
            await peer.flush()
        elif end == "nonsense":
            await peer.stream.send_all(b"\x00\x00\x01\x06\x00\x00\x00\x00\x00x")  # a PING of one byte
        else:
            await peer.stream.send_all(b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8))
        with trio.fail_after(LATE):
            await read_all(stream)
        assert (await gateway.get()).startswith(b"HTTP/1.1")  # the worker goes on


async def test_a_tunnel_is_nobodys_upload():
    """Else the two would read one stream, and the upload's time would end it."""
    began = trio.Event()

    async def agree(stream, data):
        assert b"transfer-encoding" not in data.lower()
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        began.set()
        await stream.send_all(await stream.receive_some())
        return False

    workload = Workload(agree)
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="CONNECT", pseudo=[(":protocol", "websocket")], end=False)
        await client.send(talk, b"eager")  # before the answer: it waits for it
        await talk.begun.wait()
        await began.wait()
        assert not [strand for strand in gateway.engine.reactor.strands if strand.name == "upload"]
        await talk.ended.wait()
        assert talk.body == b"eager"


async def test_requests_of_one_connection_are_recorded_as_what_they_were():
    """An exchange that serves the next request in the same turn is recorded before."""
    async with running(host(domains=("other.test",))) as gateway, Client.to(gateway.port) as client:  # answered at once, 404
        for grpc in (False, True, False, True):
            sid = client.connection.get_next_available_stream_id()
            fields = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a.test")]
            client.connection.send_headers(
                sid, [*fields, *([("content-type", "application/grpc")] if grpc else [])], end_stream=True
            )
            client.talks[sid] = Talk()
        await client.flush()
        while not gateway.engine.statistics().requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        series = gateway.engine.statistics().requests
        kinds = [(dict(each.labels)["request_protocol"], dict(each.labels)["grpc_response_status"], each.count) for each in series]
        assert sorted(kinds) == [("grpc", "12", 2), ("http", "", 2)]


async def test_small_pieces_are_joined_while_nobody_takes_them():
    hold = trio.Event()

    async def slow(stream, data):
        await hold.wait()
        while len(data.split(b"\r\n\r\n", 1)[1]) < 3000:
            data += await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine")
        return False

    workload = Workload(slow)
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="POST", headers=[("content-length", "3000")], end=False)
        server = next(iter(each for each in gateway.engine.runtime.connections if hasattr(each, "streams")))
        await trio.testing.wait_all_tasks_blocked(0.01)
        stream = server.streams[talk.sid]
        stream.input = None  # whoever uploads is not told
        for _ in range(1000):
            client.connection.send_data(talk.sid, b"abc")
        await client.flush()
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert sum(len(piece) for piece in stream.inbox) == 3000
        assert len(stream.inbox) < 5
        await client.reset(talk)
        hold.set()
