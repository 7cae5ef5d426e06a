"""HTTP/2 towards endpoints: shared connections, gRPC, refused streams, GOAWAY, limits."""

import h2.errors
import h2.settings
import pytest
import trio
import trio.testing
from h2_talk import Client, Http2Workload, plain
from native_engine import NAME, Workload, backend, endpoint, forward, host, read_until, running

from gateway.native.connecting import protocol_of
from gateway.snapshot import Backend, EndpointSet, Http2, RetryPolicy, UpstreamTls, UpstreamTlsMode

H2 = Http2(always=True)


def parts(*workloads, retry=None, **options):
    options.setdefault("http2", H2)
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward(retry=retry or RetryPolicy(immediate=True))),
    )


async def seen(workload, check):
    while not check(workload):
        await workload.changed.wait()


@pytest.mark.parametrize(
    ("http2", "alpn", "client_h2", "expected"),
    [
        (None, None, True, "http/1.1"),
        (None, ("http/1.1",), True, "http/1.1"),
        (None, ("h2", "http/1.1"), False, ""),
        (Http2(always=True), None, False, "h2"),
        (Http2(client=True), None, False, "http/1.1"),
        (Http2(client=True), ("h2", "http/1.1"), True, "h2"),
        (Http2(streams=5), None, True, "http/1.1"),
    ],
)
def test_how_an_endpoint_is_spoken_to(http2, alpn, client_h2, expected):
    tls = UpstreamTls(UpstreamTlsMode.SIMPLE, alpn=alpn) if alpn else None
    assert protocol_of(Backend("b", "h", 80, http2=http2), tls, client_h2=client_h2) == expected


async def test_a_request_of_http_1_goes_on_over_http_2():
    workload = Http2Workload(plain(b"hello", headers=[("x-a", "1")]))
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"GET /x?q HTTP/1.1\r\nHost: a.test\r\nX-Up: 1\r\nConnection: keep-alive\r\n\r\n")
        answer = await read_until(stream, b"hello")
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"x-a: 1\r\n" in answer
        if b"transfer-encoding: chunked" in answer:
            assert await read_until(stream, b"\r\n0\r\n\r\n")
        else:
            assert b"content-length: 5\r\n" in answer
        await stream.send_all(b"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    head = workload.heads[0]
    assert (head[b":method"], head[b":path"], head[b":authority"], head[b":scheme"]) == (b"GET", b"/x?q", b"a.test", b"http")
    assert (head[b"x-up"], head[b"x-envoy-attempt-count"]) == (b"1", b"1")
    assert not {b"connection", b"host", b"transfer-encoding"} & head.keys()
    assert workload.connections == 1


async def test_answers_without_a_body_keep_their_form():
    async def answer(peer, sid, head, body):
        status = head[b":path"][1:].decode()
        fields = [("content-length", "7")] if head[b":method"] == b"HEAD" else []
        peer.connection.send_headers(sid, [(":status", status), *fields], end_stream=True)
        await peer.flush()

    workload = Http2Workload(answer)
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        for method, status, expected in (
            ("GET", 200, b"content-length: 0"),
            ("GET", 304, b""),
            ("GET", 204, b""),
            ("HEAD", 200, b"content-length: 7"),
        ):
            await stream.send_all(f"{method} /{status} HTTP/1.1\r\nHost: a.test\r\n\r\n".encode())
            answer = await read_until(stream, b"\r\n\r\n")
            assert f" {status} ".encode() in answer
            assert (b"content-length" in answer) is bool(expected)
            assert expected in answer


@pytest.mark.slow
async def test_many_requests_share_one_connection_and_a_burst_dials_once():
    release = trio.Event()

    async def answer(peer, sid, head, body):
        await release.wait()
        await plain(b"ok")(peer, sid, head, body)

    workload = Http2Workload(answer)
    async with (
        running(*parts(workload), workloads=[workload]) as gateway,
        Client.to(gateway.port) as client,
        await gateway.connect() as stream,
    ):
        talks = [await client.start(path=f"/{number}") for number in range(50)]
        await stream.send_all(b"GET /h1 HTTP/1.1\r\nHost: a.test\r\n\r\n")
        await seen(workload, lambda each: len(each.heads) == 51)
        assert workload.connections == 1
        release.set()
        for talk in talks:
            await talk.ended.wait()
            assert (talk.status, talk.body) == (200, b"ok")
        assert (await read_until(stream, b"ok")).startswith(b"HTTP/1.1 200")


async def test_no_more_streams_than_the_endpoint_allows_on_a_connection():
    release = trio.Event()

    async def answer(peer, sid, head, body):
        if head[b":path"] != b"/first":
            await release.wait()
        await plain(b"ok")(peer, sid, head, body)

    workload = Http2Workload(answer, settings={h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 2})
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        await client.ask(path="/first")  # its settings are here
        talks = []
        for count in range(2, 7):  # one after the other: the settings of a new connection come after its first request
            talks.append(await client.start())
            await seen(workload, lambda each, count=count: len(each.heads) == count)
        assert workload.connections == 3
        release.set()
        for talk in talks:
            await talk.ended.wait()
            assert talk.status == 200


async def test_grpc_passes_with_its_trailers():
    workload = Http2Workload(
        plain(
            b"\0\0\0\0\1a", headers=[("content-type", "application/grpc")], trailers=[("grpc-status", "5"), ("grpc-message", "no")]
        )
    )
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(b"\0\0\0\0\1b", method="POST", headers=[("content-type", "application/grpc"), ("te", "trailers")])
        assert (talk.status, talk.body, talk.trailers) == (200, b"\0\0\0\0\1a", {b"grpc-status": b"5", b"grpc-message": b"no"})
        assert workload.heads[0][b"te"] == b"trailers"
        assert workload.bodies == [b"\0\0\0\0\1b"]
        labels = dict(gateway.engine.statistics().requests[0].labels)
        assert (labels["request_protocol"], labels["grpc_response_status"]) == ("grpc", "5")


async def test_request_trailers_reach_the_endpoint():
    workload = Http2Workload()
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="POST", end=False)
        await client.send(talk, b"hello", trailers=[("x-sum", "5")])
        await talk.ended.wait()
    assert (workload.bodies, workload.trailers) == ([b"hello"], [{b"x-sum": b"5"}])


async def test_a_grpc_call_both_ways_at_once():
    async def early(peer, sid, head):
        peer.connection.send_headers(sid, [(":status", "200"), ("content-type", "application/grpc")])
        await peer.flush()
        await peer.send(sid, b"first")

    async def answer(peer, sid, head, body):
        await peer.send(sid, body)
        peer.connection.send_headers(sid, [("grpc-status", "0")], end_stream=True)
        await peer.flush()

    workload = Http2Workload(answer, early=early)
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="POST", headers=[("content-type", "application/grpc")], end=False)
        while talk.body != b"first":
            client.changed = trio.Event()
            await client.changed.wait()
        await client.send(talk, b"hello", end=True)
        await talk.ended.wait()
        assert (talk.body, talk.trailers) == (b"firsthello", {b"grpc-status": b"0"})


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 500_000])
async def test_bodies_of_any_size_in_both_directions(size):
    async def echo(peer, sid, head, body):
        peer.connection.send_headers(sid, [(":status", "200")])
        await peer.send(sid, body, end=True)

    workload = Http2Workload(echo)
    body = bytes(range(256)) * (size // 256 + 1)
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one_echo, client, body)
        answer = await gateway.ask(
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        assert answer.count(body[:256]) >= 1


async def one_echo(client, body):
    talk = await client.ask(body, method="POST")
    assert (talk.status, talk.body) == (200, body)


async def nothing(peer, sid, head, body):
    """No answer."""


async def refusing(peer, sid, head):
    peer.connection.reset_stream(sid, h2.errors.ErrorCodes.REFUSED_STREAM)
    await peer.flush()


async def test_a_refused_stream_goes_to_another_endpoint_even_a_post():
    bad, good = Http2Workload(nothing, early=refusing), Http2Workload()
    async with running(*parts(bad, good), workloads=[bad, good]) as gateway, Client.to(gateway.port) as client:
        for _ in range(10):
            talk = await client.ask(b"x", method="POST")
            assert (talk.status, talk.body) == (200, b"ok")
    assert bad.heads
    assert len(good.heads) == 10


async def test_streams_beyond_goaways_last_one_were_not_done():
    left = []

    async def leaving(peer, sid, head, body):
        if not left:
            left.append(peer)
            peer.connection.close_connection(last_stream_id=0)
            await peer.flush()
        elif peer not in left:
            await plain(b"ok")(peer, sid, head, body)

    workload, other = Http2Workload(leaving), Http2Workload()
    async with running(*parts(workload, other), workloads=[workload, other]) as gateway, Client.to(gateway.port) as client:
        while not left:
            assert (await client.ask(b"x", method="POST")).status == 200
        assert (await client.ask(b"x", method="POST")).status == 200


async def test_a_reset_in_the_middle_of_an_answer_is_passed_on():
    async def breaking(peer, sid, head, body):
        peer.connection.send_headers(sid, [(":status", "200")])
        peer.connection.send_data(sid, b"hel")
        peer.connection.reset_stream(sid, h2.errors.ErrorCodes.INTERNAL_ERROR)
        await peer.flush()

    workload = Http2Workload(breaking)
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask()
        assert talk.reset == 2


async def test_a_client_that_leaves_is_told_to_the_endpoint():
    workload = Http2Workload(nothing)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
            await seen(workload, lambda each: each.heads)
        await seen(workload, lambda each: each.resets)
    assert workload.resets == [(1, 8)]
    assert workload.connections == 1


async def test_a_connection_that_ends_fails_what_was_on_it_and_the_next_is_new():
    async def ending(peer, sid, head, body):
        if head[b":path"] == b"/end":
            await peer.stream.aclose()
        else:
            await plain(b"ok")(peer, sid, head, body)

    workload = Http2Workload(ending)
    async with running(*parts(workload), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        assert (await client.ask(path="/")).status == 200
        assert (await client.ask(b"x", path="/end", method="POST")).status == 503
        assert (await client.ask(path="/")).status == 200
    assert workload.connections == 2


async def test_requests_per_connection_are_counted():
    workload = Http2Workload()
    async with (
        running(*parts(workload, max_requests_per_connection=2), workloads=[workload]) as gateway,
        Client.to(gateway.port) as client,
    ):
        for _ in range(6):
            assert (await client.ask()).status == 200
    assert workload.connections == 3


async def test_pings_find_out_that_nobody_is_there():
    gone = trio.Event()

    async def silent(peer, sid, head, body):
        peer.flush = never_again  # the endpoint says nothing more, pongs neither
        gone.set()

    async def never_again():
        """Nothing."""

    workload = Http2Workload(silent)
    http2 = Http2(always=True, ping_ms=60, ping_timeout_ms=60)
    async with running(*parts(workload, http2=http2), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(b"x", method="POST")
        assert talk.status == 503


async def test_an_endpoint_of_http_1_where_http_2_is_known_to_be_spoken():
    workload = Workload()
    async with running(*parts(workload), workloads=[workload]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 502")


async def test_as_the_client_speaks():
    h2_only = Http2Workload()
    http2 = Http2(client=True)
    async with running(*parts(h2_only, http2=http2), workloads=[h2_only]) as gateway, Client.to(gateway.port) as client:
        assert (await client.ask()).status == 200
    h1_only = Workload()
    async with running(*parts(h1_only, http2=http2), workloads=[h1_only]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("body", [b"\0\0\0\0\1a", b""])
async def test_an_answer_that_comes_whole_keeps_its_trailers(body):
    async def at_once(peer, sid, head, data):
        peer.connection.send_headers(sid, [(":status", "200"), ("content-type", "application/grpc")])
        if body:
            peer.connection.send_data(sid, body)
        peer.connection.send_headers(sid, [("grpc-status", "3"), ("x-more", "1")], end_stream=True)
        await peer.flush()

    workload = Http2Workload(at_once)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        async with Client.to(gateway.port) as client:
            for _ in range(3):
                talk = await client.ask(b"x", method="POST", headers=[("content-type", "application/grpc")])
                assert (talk.status, talk.body, talk.trailers) == (200, body, {b"grpc-status": b"3", b"x-more": b"1"})
        answer = await gateway.get()
        assert answer.endswith(b"0\r\ngrpc-status: 3\r\nx-more: 1\r\n\r\n")
        labels = [dict(each.labels) for each in gateway.engine.statistics().requests]
        assert {each["grpc_response_status"] for each in labels if each["request_protocol"] == "grpc"} == {"3"}
