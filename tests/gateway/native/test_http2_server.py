"""HTTP/2 from clients, end to end: many exchanges on a connection, whatever the endpoint speaks."""

import contextlib
import gc
import socket

import h2.settings
import pytest
import trio
import trio.testing
from h2_leaving import ANY, Leaving
from h2_talk import PREFACE, Client, Http2Workload
from native_engine import NAME, OK, Workload, backend, endpoint, forward, host, running

from gateway.native.http2_server import Http2Exchange, Http2Server
from gateway.native.http2_stream import Http2Stream
from gateway.snapshot import (
    AccessLog,
    DirectResponse,
    EndpointSet,
    HeaderOperations,
    Http2,
    MatchKind,
    Node,
    RetryPolicy,
    Route,
    RouteMatch,
    StringMatch,
)


def parts(*workloads, **options):
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward(retry=RetryPolicy())),
    )


async def test_a_request_reaches_an_endpoint_of_http_1_as_such():
    workload = Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-Kept: 1\r\nconnection: keep-alive\r\n\r\nhello")
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(path="/x?y=1", headers=[("x-a", "1"), ("cookie", "a=1"), ("cookie", "b=2")])
        assert (talk.status, talk.body) == (200, b"hello")
        assert talk.head[b"x-kept"] == b"1"
        assert b"connection" not in talk.head
    head = workload.requests[0]
    assert head.startswith(b"GET /x?y=1 HTTP/1.1\r\nhost: a.test\r\n")
    assert b"x-a: 1\r\n" in head
    assert b"cookie: a=1; b=2\r\n" in head
    assert b"x-forwarded-for: 127.0.0.1\r\n" in head
    assert b"transfer-encoding" not in head


async def test_requests_overlap_and_answers_come_as_they_are_ready():
    release = trio.Event()

    async def answer(stream, data):
        if b"/slow" in data:
            await release.wait()
        await stream.send_all(OK)
        return True

    async with running(workloads=[Workload(answer)]) as gateway, Client.to(gateway.port) as client:
        slow = await client.start(path="/slow")
        fast = [await client.ask(path=f"/{number}") for number in range(5)]
        assert all(talk.status == 200 for talk in fast)
        assert not slow.begun.is_set()
        release.set()
        await slow.ended.wait()
        assert slow.body == b"ok"


async def test_bodies_go_up_by_length_or_in_chunks_and_come_down_whole():
    def answer(data):
        return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-sum: 7\r\n\r\n"

    seen = []

    async def collecting(stream, data):
        end = b"0\r\n\r\n" if b"chunked" in data else b"!"
        while not data.endswith(end):
            data += await stream.receive_some()
        seen.append(data)
        await stream.send_all(answer(data))
        return True

    async with running(workloads=[Workload(collecting)]) as gateway, Client.to(gateway.port) as client:
        whole = await client.ask(b"hello!", method="POST")
        known = await client.start(method="POST", headers=[("content-length", "6")], end=False)
        await client.send(known, b"hel")
        await client.send(known, b"lo!", end=True)
        await known.ended.wait()
        unknown = await client.start(method="POST", end=False)
        await client.send(unknown, b"hello")
        await client.send(unknown, b"there", end=True)
        await unknown.ended.wait()
        for talk in (whole, known, unknown):
            assert (talk.body, talk.trailers) == (b"abcdefg", {b"x-sum": b"7"})
    assert seen[1].partition(b"\r\n\r\n")[2] == b"hello!"
    assert b"content-length: 6\r\n" in seen[1]
    assert b"transfer-encoding" not in seen[1]
    assert seen[2].endswith(b"0\r\n\r\n")
    assert b"transfer-encoding: chunked\r\n" in seen[2]


@pytest.mark.slow
async def test_a_slow_reader_holds_back_its_own_stream_only():
    big = b"x" * 1_000_000

    async with (
        running(workloads=[Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + big)]) as gateway,
        Client.to(gateway.port, consume=False) as client,
    ):
        slow = await client.start(path="/slow")
        await slow.begun.wait()
        other = await client.start(path="/other")
        await other.begun.wait()
        while len(slow.body) + len(other.body) < 65_535:  # the connection's window
            client.changed = trio.Event()
            await client.changed.wait()
        assert len(slow.body) + len(other.body) == 65_535
        client.consume = True
        for talk in (slow, other):
            if talk.body:
                client.connection.acknowledge_received_data(len(talk.body), talk.sid)
        await client.flush()
        await slow.ended.wait()
        await other.ended.wait()
        assert slow.body == other.body == big


async def test_a_stream_that_is_reset_ends_its_request_and_no_other():
    gone = trio.Event()

    async def answer(stream, data):
        if b"/gone" in data:
            assert not await stream.receive_some()
            gone.set()
            return False
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(path="/gone")
        while not workload.requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        await client.reset(talk)
        await gone.wait()
        assert (await client.ask()).status == 200


async def test_an_answer_that_breaks_off_is_a_reset_not_an_end():
    workload = Workload(lambda data: b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\nconnection: close\r\n\r\nhel")
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask()
        assert talk.status == 200
        assert talk.reset == 2
        assert (await client.ask()).reset == 2  # the connection stands


async def test_own_answers_with_the_routes_headers():
    route = Route(
        "r",
        RouteMatch(),
        DirectResponse(203, b"hello"),
        response_headers=HeaderOperations(set=(("x-a", "1"), ("content-type", "a/b"))),
    )
    async with running(host(route)) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask()
        assert (talk.status, talk.body, talk.head[b"x-a"], talk.head[b"content-type"]) == (203, b"hello", b"1", b"a/b")
        talk = await client.ask(method="HEAD")
        assert (talk.status, talk.body, talk.head[b"content-length"]) == (203, b"", b"5")


@pytest.mark.parametrize(
    ("part", "code", "message"),
    [(host(), b"12", b""), ((backend(), EndpointSet(NAME, ()), host(forward())), b"14", b"no healthy upstream")],
)
async def test_grpc_is_told_in_its_own_way(part, code, message):
    async with running(*(part if isinstance(part, tuple) else (part,))) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(
            b"\0\0\0\0\0", method="POST", headers=[("content-type", "application/grpc+proto"), ("te", "trailers")]
        )
        assert (talk.status, talk.head[b"grpc-status"], talk.head.get(b"grpc-message", b"")) == (200, code, message)
        assert talk.head[b"content-type"] == b"application/grpc"
        assert talk.body == b""
        series = gateway.engine.statistics().requests
        assert [dict(each.labels)["grpc_response_status"] for each in series] == [code.decode()]


async def test_a_head_that_is_too_large_is_answered_431_and_the_connection_stands():
    async with running(workloads=[Workload()]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(headers=[(f"x-{number}", "y" * 1000) for number in range(70)])
        assert talk.status == 431
        assert (await client.ask()).status == 200


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ([(f"x-{number}", "y" * 1000) for number in range(70)], b"http2.headers_too_large"),
        ([(f"x-{number}", "y") for number in range(200)], b"http2.too_many_headers"),
    ],
)
async def test_a_head_that_is_too_large_has_its_line_in_the_log(tmp_path, headers, why):
    path = tmp_path / "log"
    node = Node(name="gw", cluster="east", access_log=AccessLog(str(path)))
    workload = Workload()
    async with running(*parts(workload), workloads=[workload], node=node) as gateway, Client.to(gateway.port) as client:
        assert (await client.ask(path="/a", headers=[("content-type", "application/grpc")])).status == 200
        assert (await client.ask(headers=headers)).status == 431
        assert (await client.ask(path="/b")).status == 200
        refused = dict(gateway.engine.statistics().refused)
    assert refused[why.decode()] == 1
    lines = [line.partition(b"] ")[2] for line in path.read_bytes().splitlines()]
    assert [line.split(b" ")[1] for line in lines] == [b"/a", b"-", b"/b"]
    assert lines[1].startswith(b'"- - HTTP/2" 431 DPE %b - "-" 0 0 ' % why)


async def test_what_breaks_the_protocol_is_told_and_closed():
    async with running(workloads=[Workload()]) as gateway:
        said = await gateway.ask(PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" + b"\x00\x00\x05\x00\x00\x00\x00\x00\x00hello")
        assert b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" in said[:200]  # GOAWAY


@contextlib.asynccontextmanager
async def draining(*workloads, **options):
    """(gateway, a client of it with a request of its own running, a function that begins the drain)."""
    async with (
        running(workloads=workloads) as gateway,
        Leaving.to(gateway.port, **options) as client,
        trio.open_nursery() as nursery,
    ):
        yield gateway, client, lambda: nursery.start_soon(gateway.engine.drain, trio.current_time() + 10)
        nursery.cancel_scope.cancel()


class Held(Workload):
    """Answers `/` when `release` is set, all else at once."""

    def __init__(self):
        super().__init__(self._answer_later)
        self.release = trio.Event()

    async def _answer_later(self, stream, data):
        if data.startswith(b"GET / "):
            await self.release.wait()
        await stream.send_all(OK)
        return True

    async def asked(self, count):
        while len(self.requests) < count:
            await trio.testing.wait_all_tasks_blocked(0.005)


async def none_left(gateway):
    while gateway.engine.statistics().downstream_connections:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_drain_names_the_last_stream_only_after_a_round_trip():
    workload = Held()
    async with draining(workload, answers_pings=False) as (gateway, client, drain):
        await client.start()
        await workload.asked(1)
        drain()
        await client.told(1)
        assert client.last_streams == [ANY]
        crossed = await client.start(path="/crossed")  # as if it had been on its way
        await crossed.ended.wait()
        assert crossed.status == 200
        await client.pong()
        await client.told(2)
        assert client.last_streams == [ANY, crossed.sid]
        late = await client.start(path="/late")
        workload.release.set()
        await client.closed.wait()
        assert client.left
        assert client.lost() == []
        assert client.refused() == [late]
        assert late.sid not in client.whole
        assert not any(b"/late" in each for each in workload.requests)
        await client.stream.aclose()
        await none_left(gateway)


@pytest.mark.slow
async def test_a_client_that_answers_no_ping_is_told_the_last_stream_all_the_same():
    workload = Held()
    async with draining(workload, answers_pings=False) as (_, client, drain):
        await client.start()
        await workload.asked(1)
        drain()
        with trio.fail_after(3):
            await client.told(2)
        assert client.last_streams == [ANY, 1]
        workload.release.set()
        await client.closed.wait()
        assert client.left
        assert client.lost() == []


async def test_a_client_that_idles_is_closed_after_its_round_trip():
    async with draining(Workload()) as (gateway, client, drain):
        assert (await client.ask()).status == 200
        drain()
        with trio.fail_after(0.9):  # before one over HTTP/1 would be
            await client.closed.wait()
        assert client.last_streams == [ANY, 1]
        assert client.left
        await client.stream.aclose()
        await none_left(gateway)


@pytest.mark.slow
async def test_answers_that_nobody_has_read_yet_are_not_cut_off_by_a_drain():
    size = 15_000
    workload = Workload(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
    async with running(workloads=[workload]) as gateway, trio.open_nursery() as nursery:
        stream = await gateway.connect()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client = Leaving(stream)
        client.connection.initiate_connection()
        client.connection.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
        client.connection.increment_flow_control_window(2**30)
        await client.flush()

        def served():
            return next(each for each in gateway.engine.runtime.connections if isinstance(each, Http2Server))

        while not client.talks or not served().draining:  # until the sockets between are full
            await client.start()
            while len(workload.requests) < len(client.talks) or served().streams:
                await trio.testing.wait_all_tasks_blocked(0.005)
        assert not served().streams
        nursery.start_soon(gateway.engine.drain, trio.current_time() + 10)
        await trio.sleep(1.3)  # longer than who idles may
        nursery.start_soon(client._read)
        await client.closed.wait()
        assert client.left
        assert client.lost() == []
        assert {len(talk.body) for talk in client.talks.values()} == {size}
        await stream.aclose()
        nursery.cancel_scope.cancel()


async def test_nothing_is_left_of_a_connection_that_ended():
    async def answer(stream, data):
        await stream.receive_some()
        return False

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway:
        async with Client.to(gateway.port) as client:
            for _ in range(10):
                await client.start(method="POST", end=False)
            while len(workload.requests) < 10:
                await trio.testing.wait_all_tasks_blocked(0.005)
        while gateway.engine.statistics().downstream_connections or workload.open:
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert not [strand for strand in gateway.engine.reactor.strands if "http2" in strand.name or "upload" in strand.name]
        assert all(each.active == 0 for each in gateway.engine.statistics().endpoints)


@pytest.mark.parametrize("http2", [False, True])
async def test_nothing_of_an_ended_connection_waits_for_the_garbage_collector(http2):
    """Collections are rare in a worker: what only they can free piles up (1 MB a minute under load)."""

    def alive(*kinds):
        return [thing for thing in gc.get_objects() if isinstance(thing, kinds)]

    kinds = (Http2Server, Http2Stream, Http2Exchange)  # the timers may know an endpoint's connection a little longer
    gc.collect()
    gc.disable()
    try:
        workload = Http2Workload() if http2 else Workload()
        async with running(*parts(workload, http2=Http2(always=True) if http2 else None), workloads=[workload]) as gateway:
            for number in range(4):
                async with Client.to(gateway.port) as client:
                    talk = await client.ask(b"body", method="POST")
                    assert talk.status == 200
                    await client.start(path=f"/{number}", method="POST", end=False)
                with trio.fail_after(10):
                    while gateway.engine.statistics().downstream_connections or alive(*kinds):
                        await trio.testing.wait_all_tasks_blocked(0.005)
    finally:
        gc.enable()


async def test_prior_knowledge_may_come_in_pieces():
    async with running(workloads=[Workload()]) as gateway:
        stream = await gateway.connect()
        await stream.send_all(PREFACE[:5])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(PREFACE[5:20])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(PREFACE[20:] + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert (await stream.receive_some(9))[3] == 4  # SETTINGS
        await stream.aclose()


async def test_routes_see_the_same_request_as_in_http_1():
    exact = RouteMatch(
        path=StringMatch(MatchKind.EXACT, "/x"),
        method=StringMatch(MatchKind.EXACT, "PUT"),
        scheme=StringMatch(MatchKind.EXACT, "http"),
    )
    routes = (Route("one", exact, DirectResponse(201)), Route("rest", RouteMatch(), DirectResponse(202)))
    async with running(host(*routes, domains=("a.test",))) as gateway, Client.to(gateway.port) as client:
        assert (await client.ask(b"-", method="PUT", path="/x?q")).status == 201
        assert (await client.ask(path="/x")).status == 202
        assert (await client.ask(authority="a.test:8080")).status == 202
        assert (await client.ask(authority="b.test")).status == 404
