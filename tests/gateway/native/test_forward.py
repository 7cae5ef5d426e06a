"""Requests through a running engine: what arrives at the endpoint, what comes back, who is asked again."""

import re
import socket

import pytest
import trio
import trio.testing

from gateway.native.fitness import MUTE
from gateway.snapshot import (
    EndpointSet,
    Forward,
    HeaderOperations,
    ListenerKind,
    MatchKind,
    Node,
    Outlier,
    RetryPolicy,
    Route,
    RouteMatch,
    Silence,
    Split,
    StringMatch,
)
from tests.support.native_engine import NAME, OK, Workload, backend, endpoint, forward, host, read_all, read_until, running

pytestmark = pytest.mark.slow


def one_backend(*workloads, retry=None, timeout_ms=0, route=None, **options):
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(route or forward(retry=retry, timeout_ms=timeout_ms)),
    )


def dead_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


# ------------------------------------------------------------------------------------------------------- the usual way


_ID = r"x-request-id: [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}\r\n"


async def test_a_request_goes_to_the_endpoint_and_its_answer_comes_back():
    workload = Workload()
    async with running(workloads=[workload]) as gateway:
        answer = await gateway.ask(b"GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nConnection: close\r\n\r\n")
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok"
    head = workload.requests[0].decode()
    assert head.startswith(
        "GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n"
    )
    assert re.search(_ID + r"x-envoy-attempt-count: 1\r\n\r\n$", head)
    assert "onnection" not in head


async def test_connections_are_kept_on_both_sides():
    workload = Workload()
    async with running(workloads=[workload]) as gateway:
        async with await gateway.connect() as stream:
            for _ in range(5):
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                assert await read_until(stream, b"ok") == OK
        assert workload.connections == 1
        assert len(workload.requests) == 5


async def test_pipelined_requests_are_answered_in_order():
    workload = Workload(lambda data: b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n" + data.split()[1][1:])
    async with running(workloads=[workload]) as gateway:
        requests = b"".join(b"GET /%02d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(20))
        answer = await gateway.ask(requests + b"GET /zz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    bodies = re.findall(rb"\r\n\r\n(..)", answer)
    assert bodies == [b"%02d" % number for number in range(20)] + [b"zz"]


async def test_a_body_reaches_the_endpoint_whole_by_length_and_in_chunks():
    seen = []

    async def answer(stream, data):
        head, _, body = data.partition(b"\r\n\r\n")
        end = b"0\r\nx-trailer: 1\r\n\r\n" if b"chunked" in head else b"!"
        while not body.endswith(end):
            body += await stream.receive_some()
        seen.append(body)
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nhello!")
        assert await read_until(stream, b"ok") == OK
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n")
        await stream.send_all(b"hel")
        await stream.send_all(b"lo!")
        assert await read_until(stream, b"ok") == OK
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n")
        await stream.send_all(b"2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n")
        assert await read_until(stream, b"ok") == OK
    assert seen[:2] == [b"hello!", b"hello!"]
    assert seen[2] in (
        b"3\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n",
        b"5\r\nabcde\r\n0\r\nx-trailer: 1\r\n\r\n",
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n", b"3\r\nabc\r\n0\r\nx: y\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", b""),
    ],
)
async def test_framing_of_answers(answer, expected):
    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway:
        got = await gateway.get()
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert body == expected


async def test_http_10_clients_get_no_chunks_and_are_kept_only_if_they_ask():
    workload = Workload(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    async with running(workloads=[workload]) as gateway:
        got = await gateway.ask(b"GET / HTTP/1.0\r\n\r\n")
        head, _, body = got.partition(b"\r\n\r\n")
        assert (b"transfer-encoding" in head, body) == (False, b"abc")
        assert b"GET / HTTP/1.1\r\nhost: 127.0.0.1:" in workload.requests[0]
        workload.answer = OK
        async with await gateway.connect() as stream:
            for _ in range(2):
                await stream.send_all(b"GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n")
                assert b"connection: keep-alive" in await read_until(stream, b"ok")


async def test_an_answer_to_head_has_no_body():
    workload = Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(2):
            await stream.send_all(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b"content-length: 1000" in await read_until(stream, b"\r\n\r\n")


async def test_continue_is_passed_on_and_other_interim_answers_too():
    async def answer(stream, data):
        await stream.send_all(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        body = await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        return True

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        assert b"103 Early Hints" in await read_until(stream, b"\r\n\r\n")
        assert b"100 Continue" in await read_until(stream, b"\r\n\r\n")
        await stream.send_all(b"body")
        assert b"200 OK" in await read_until(stream, b"body")


async def test_what_only_a_proxy_may_say_is_taken_from_clients_outside():
    workload = Workload()
    sent = (
        "x-forwarded-for: 9.9.9.9\r\nx-forwarded-proto: https\r\nx-forwarded-client-cert: Hash=1\r\nx-envoy-retry-on: 5xx\r\n"
        "x-fedgate-hops: 3\r\nkeep-alive: 1\r\nte: trailers\r\nx-kept: 1\r\nproxy-connection: x\r\n"
    )
    async with running(workloads=[workload]) as gateway:
        await gateway.get(headers=sent)
        await gateway.ask(b"GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nconnection: close, x-a, host\r\n\r\n")
    head = workload.requests[0].decode()
    assert "x-forwarded-for: 9.9.9.9,127.0.0.1\r\nx-forwarded-proto: http\r\n" in head
    assert "x-kept: 1" in head
    for gone in ("client-cert", "retry-on", "hops", "keep-alive", "te: ", "proxy-connection", "https"):
        assert gone not in head, gone
    assert b"x-a" not in workload.requests[1]
    assert b"host: a" in workload.requests[1]


async def test_header_operations_rewrite_and_redirect():
    workload = Workload()
    route = forward(
        match=RouteMatch(path=StringMatch(MatchKind.PREFIX, "/old")),
        rewrite_prefix="/new",
        rewrite_authority="b.test",
        request_headers=HeaderOperations(set=(("x-a", "2"),), add=(("x-b", "1"),), remove=("x-c",)),
        response_headers=HeaderOperations(set=(("x-d", "3"),), remove=("content-type",)),
    )
    workload.answer = b"HTTP/1.1 200 OK\r\ncontent-type: a\r\ncontent-length: 2\r\n\r\nok"
    async with running(*one_backend(workload, route=route), workloads=[workload]) as gateway:
        got = await gateway.get("/old/x?q=1", "x-a: 1\r\nx-c: 1\r\n")
        assert b"x-d: 3" in got
        assert b"content-type" not in got
        assert (await gateway.get("/other")).startswith(b"HTTP/1.1 404 ")
    head = workload.requests[0].decode()
    assert head.startswith("GET /new/x?q=1 HTTP/1.1\r\nhost: b.test\r\n")
    assert "x-a: 2" in head
    assert "x-a: 1" not in head
    assert "x-b: 1" in head
    assert "x-c" not in head


async def test_weights_come_out_as_written():
    first, second = Workload(), Workload()
    other = "outbound|80|v2|a.test"
    route = Route("r", RouteMatch(), Forward(splits=(Split(NAME, 90), Split(other, 10))))
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(first.port),)),
        backend(other),
        EndpointSet(other, (endpoint(second.port),)),
        host(route),
    )
    numbers = iter(range(10**9))
    rng = lambda: (next(numbers) * 7 % 1000) / 1000  # noqa: E731
    async with running(*parts, workloads=[first, second], rng=rng) as gateway, await gateway.connect() as stream:
        for _ in range(500):
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            await read_until(stream, b"ok")
    assert abs(len(second.requests) - 50) <= 15
    assert len(first.requests) + len(second.requests) == 500


# ------------------------------------------------------------------------------------------------------------ failures


async def test_no_route_no_endpoint_and_refused():
    parts = (backend(), EndpointSet(NAME, ()), host(forward(), domains=("a.test",)))
    async with running(*parts) as gateway:
        assert (await gateway.get(host="b.test")).startswith(b"HTTP/1.1 404 Not Found\r\n")
        got = await gateway.get()
        assert got.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert got.endswith(b"no healthy upstream")
        gateway.snapshots.set(
            gateway.snapshot(backend(), EndpointSet(NAME, (endpoint(dead_port()),)), host(forward(), domains=("a.test",)))
        )
        await gateway.heard.receive()
        await gateway.heard.receive()
        assert b" 503 " in await gateway.get()


async def test_a_refused_connection_goes_elsewhere_even_for_a_post():
    workload = Workload()
    dead = dead_port()
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(dead), endpoint(workload.port, priority=1))),
        host(forward(retry=RetryPolicy(immediate=True))),
    )
    async with running(*parts, workloads=[workload]) as gateway:
        got = await gateway.ask(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi")
    assert got.endswith(b"ok")
    assert workload.requests[0].endswith(b"\r\n\r\nhi")


async def test_a_kept_connection_that_its_server_closed_costs_a_get_nothing():
    async def answer(stream, data):
        if workload.connections == 1 and len(workload.requests) == 2:
            return False
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(2):
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert await read_until(stream, b"ok") == OK
    assert workload.connections == 2
    assert len(workload.requests) == 3


async def test_a_post_that_may_have_been_done_is_not_repeated():
    async def answer(stream, data):
        if len(workload.requests) == 2:
            return False
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await read_until(stream, b"ok")
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi")
        assert b" 503 " in await read_until(stream, b"before headers")
    assert len(workload.requests) == 2


@pytest.mark.parametrize(
    ("policy", "requests", "status"),
    [
        (RetryPolicy(attempts=2, conditions=("5xx",), base_ms=1), 3, 500),
        (RetryPolicy(attempts=2, conditions=("connect-failure",), base_ms=1), 1, 500),
        (RetryPolicy(attempts=1, conditions=("retriable-status-codes",), statuses=(500,), base_ms=1), 2, 500),
        (None, 1, 500),
    ],
)
async def test_statuses_are_retried_as_the_policy_says(policy, requests, status):
    workload = Workload(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")
    async with running(*one_backend(workload, retry=policy), workloads=[workload]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 %d " % status)
        assert gateway.engine.statistics().backends[0].retries == requests - 1
    assert len(workload.requests) == requests


async def test_a_retry_sends_the_body_again_and_avoids_the_endpoint_that_failed():
    async def broken(stream, data):
        return False

    bad, good = Workload(broken), Workload()
    policy = RetryPolicy(attempts=3, conditions=("reset",), base_ms=1, immediate=True)
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(bad.port), endpoint(good.port, priority=1))),
        host(forward(retry=policy)),
    )
    async with running(*parts, workloads=[bad, good]) as gateway:
        got = await gateway.ask(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello")
    assert got.endswith(b"ok")
    assert (len(bad.requests), len(good.requests)) == (1, 1)
    assert good.requests[0].endswith(b"hello")


async def test_a_body_that_is_still_coming_is_sent_again_from_what_is_held():
    broke = trio.Event()

    async def broken(stream, data):
        while b"first" not in data:
            data += await stream.receive_some()
        broke.set()
        return False

    async def collecting(stream, data):
        while not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some()
        got.append(data.partition(b"\r\n\r\n")[2])
        await stream.send_all(OK)
        return True

    got = []
    bad, good = Workload(broken), Workload(collecting)
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(bad.port), endpoint(good.port, priority=1))),
        host(forward(retry=RetryPolicy(attempts=8, conditions=("reset",), base_ms=1, immediate=True))),
    )
    async with running(*parts, workloads=[bad, good]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        await stream.send_all(b"5\r\nfirst\r\n")
        await broke.wait()
        while not good.requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        await stream.send_all(b"6\r\nsecond\r\n0\r\n\r\n")
        assert await read_until(stream, b"ok") == OK
    assert got == [b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"]


async def test_a_body_too_long_to_hold_is_not_sent_again():
    async def broken(stream, data):
        got = len(data)
        while got < 100_000:
            got += len(await stream.receive_some(65536))
        return False

    bad, good = Workload(broken), Workload()
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(bad.port), endpoint(good.port, priority=1))),
        host(forward(retry=RetryPolicy(attempts=8, conditions=("reset",), base_ms=1, immediate=True))),
    )
    async with running(*parts, workloads=[bad, good]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n" + bytes(150_000))
        assert (await read_all(stream)).startswith(b"HTTP/1.1 503 ")
    assert not good.requests


async def never(stream, data):
    await trio.sleep_forever()


async def test_the_route_timeout_ends_a_wait_and_the_try_timeout_goes_on_elsewhere():
    gone = trio.Event()

    async def until_closed(stream, data):
        assert not await stream.receive_some()
        gone.set()
        return False

    silent = Workload(until_closed)
    async with running(*one_backend(silent, timeout_ms=100), workloads=[silent]) as gateway:
        got = await gateway.get()
        assert got.startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
        await gone.wait()
    silent, good = Workload(never), Workload()
    policy = RetryPolicy(attempts=1, conditions=("5xx",), per_try_timeout_ms=50, immediate=True)
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(silent.port), endpoint(good.port, priority=1))),
        host(forward(retry=policy)),
    )
    async with running(*parts, workloads=[silent, good]) as gateway:
        assert (await gateway.get()).endswith(b"ok")


async def test_silence_moves_waiting_requests_elsewhere():
    silent, good = Workload(never), Workload()
    parts = (
        backend(outlier=Outlier(max_ejection_percent=100), silence=Silence(floor_ms=50, multiple=1, waiting=3)),
        EndpointSet(NAME, (endpoint(silent.port), endpoint(good.port, priority=1))),
        host(forward(retry=RetryPolicy(immediate=True))),
    )
    answers = []
    async with running(*parts, workloads=[silent, good]) as gateway:

        async def ask():
            answers.append(await gateway.get())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        reasons = {each.ejected_reason for each in gateway.engine.statistics().endpoints}
    assert all(answer.endswith(b"ok") for answer in answers)
    assert reasons & MUTE


async def test_what_is_not_http_from_an_endpoint_is_502():
    for answer in (b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"):
        workload = Workload(answer)
        async with running(*one_backend(workload), workloads=[workload]) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


BAD_CHUNKS = [b"zz\r\n", b"2\r\nok\r\nzz\r\n", b"0\r\nno trailer\r\n\r\n"]


@pytest.mark.parametrize("body", BAD_CHUNKS)
async def test_chunks_that_are_none_right_behind_the_head_are_502(body):
    workload = Workload(CHUNKED + body)
    async with running(*one_backend(workload), workloads=[workload]) as gateway:
        assert (await gateway.get()).startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
        (series,) = gateway.engine.statistics().requests
        assert dict(series.labels)["response_flags"] == "UPE"


async def test_chunks_that_are_none_right_behind_the_head_may_be_asked_for_elsewhere():
    bad, good = Workload(CHUNKED + BAD_CHUNKS[0]), Workload(CHUNKED + b"2\r\nok\r\n0\r\n\r\n")
    retry = RetryPolicy(attempts=8, conditions=("reset",), base_ms=1)
    async with running(*one_backend(bad, good, retry=retry), workloads=[bad, good]) as gateway:
        answers = [await gateway.get() for _ in range(20)]
        assert all(each.endswith(b"\r\n\r\n2\r\nok\r\n0\r\n\r\n") for each in answers)
        assert bad.requests


async def test_an_answer_that_breaks_off_resets_the_client():
    async def answer(stream, data):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        return False

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway:
        stream = await gateway.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert b"half" in await stream.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()


async def test_a_client_that_goes_away_closes_the_endpoint_s_connection():
    arrived = trio.Event()

    async def answer(stream, data):
        arrived.set()
        assert not await stream.receive_some()
        gone.set()
        return False

    gone = trio.Event()
    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway:
        stream = await gateway.connect()
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await arrived.wait()
        await stream.aclose()
        with trio.fail_after(10):
            await gone.wait()
        assert gateway.engine.statistics().endpoints[0].active == 0


# -------------------------------------------------------------------------------------------------------------- bodies


async def test_fifty_megabytes_pass_a_slow_reader_without_being_held():
    size = 50 << 20
    sent = 0

    async def answer(stream, data):
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        piece = bytes(1 << 16)
        for _ in range(size >> 16):
            await stream.send_all(piece)
            sent += len(piece)
        return True

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        await read_until(stream, b"\r\n\r\n")
        before = -1
        while before < sent:  # until nothing more flows
            before = sent
            await trio.sleep(0.05)
        assert sent < 16 << 20  # what kernels hold; the gateway has one read of it
        assert len(await read_all(stream, size)) == size


async def test_a_large_upload_streams_both_ways():
    size = 8 << 20

    async def answer(stream, data):
        got = len(data.partition(b"\r\n\r\n")[2])
        while got < size:
            got += len(await stream.receive_some(1 << 16))
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n%08d" % got)
        return True

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        await stream.send_all(bytes(size))
        assert (await read_until(stream, b"%08d" % size)).startswith(b"HTTP/1.1 200 ")


async def test_an_early_answer_to_an_upload_is_passed_on():
    async def answer(stream, data):
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        return False

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegin")
        got = await read_all(stream)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in got


async def test_nonsense_in_a_body_is_400_and_the_endpoint_s_connection_is_closed():
    gone = trio.Event()

    async def answer(stream, data):
        while await stream.receive_some():
            pass
        gone.set()
        return False

    workload = Workload(answer)
    async with running(*one_backend(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        while not workload.requests:
            await trio.testing.wait_all_tasks_blocked(0.01)
        await stream.send_all(b"zz\r\n")
        assert (await read_all(stream)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        with trio.fail_after(10):
            await gone.wait()


async def test_hops_are_counted_on_the_mesh_and_a_loop_ends():
    workload = Workload()
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(workload.port, peer="west"),)),
        host(forward()),
    )
    node = Node(name="gw", cluster="east")
    async with running(*parts, workloads=[workload], kind=ListenerKind.MESH, node=node) as gateway:
        assert b" 200 " in await gateway.get(headers="x-fedgate-hops: 8\r\n")
        assert (await gateway.get(headers="x-fedgate-hops: 9\r\n")).startswith(b"HTTP/1.1 508 ")
    assert b"x-fedgate-hops: 9\r\n" in workload.requests[0]


@pytest.mark.slow
async def test_a_long_body_is_spliced_and_the_connection_goes_on():
    """Of a body whose length is known the bytes stay in the kernel; the next answer on both connections is read as ever."""
    body = bytes(range(256)) * 16_384  # 4 MiB

    async def answer(stream, data):
        if b"/short" in data:
            await stream.send_all(OK)
        else:
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body))
            await stream.send_all(body)
        return True

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(2):
            await stream.send_all(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n")
            got = (await read_until(stream, b"\r\n\r\n"))[:0]
            while len(got) < len(body):
                got += await stream.receive_some(65536)
            assert got == body
            await stream.send_all(b"GET /short HTTP/1.1\r\nhost: a\r\n\r\n")
            assert (await read_until(stream, b"ok")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert workload.connections == 1
        sent = sum(each.response_bytes for each in gateway.engine.statistics().requests)
        assert sent == 2 * (len(body) + 2)


@pytest.mark.slow
async def test_a_long_body_that_breaks_off_is_not_completed():
    async def answer(stream, data):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n" + b"x" * 1_000_000)
        return False

    async with running(workloads=[Workload(answer)]) as gateway:
        said = await gateway.get()
        assert len(said) < 1_100_000
        while gateway.engine.statistics().downstream_connections:
            await trio.testing.wait_all_tasks_blocked(0.005)


@pytest.mark.slow
async def test_a_client_that_leaves_in_the_middle_of_a_splice_frees_the_endpoint():
    async def answer(stream, data):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 300000000\r\n\r\n")
        while True:
            await stream.send_all(b"x" * 1_000_000)

    workload = Workload(answer)
    async with running(workloads=[workload]) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            got = 0
            while got < 2_000_000:
                got += len(await stream.receive_some(65536))
        while workload.open or gateway.engine.statistics().downstream_connections:
            await trio.testing.wait_all_tasks_blocked(0.005)
