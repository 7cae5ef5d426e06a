"""The native engine as an Engine: its promises, Snapshots under load, drain, readiness, metrics and the access log."""

import contextlib
import json
import re
import socket

import pytest
import trio

from discovery.watch import Watchable
from gateway.engine import Applied
from gateway.native.engine import NativeEngine
from gateway.snapshot import (
    AccessLog,
    EndpointSet,
    FilterChain,
    ListenerKind,
    MatchKind,
    Node,
    RouteMatch,
    StringMatch,
)
from tests.support.conformance_engine import check_engine
from tests.support.native_engine import NAME, OK, Gateway, Workload, backend, endpoint, forward, host, read_all, read_until, running

pytestmark = pytest.mark.slow


async def test_it_keeps_the_promises_of_an_engine():
    @contextlib.asynccontextmanager
    async def make():
        yield NativeEngine(worker=0, sockets=Watchable({}))

    await check_engine(make)


async def test_snapshots_swapped_under_load_lose_nothing():
    workloads = [Workload(), Workload()]
    sets = [EndpointSet(NAME, (endpoint(each.port),)) for each in workloads]
    counts = {"asked": 0, "answered": 0}
    async with running(backend(), sets[0], host(forward()), workloads=workloads) as gateway:
        stop = False

        async def ask():
            async with await gateway.connect() as stream:
                while not stop:
                    counts["asked"] += 1
                    await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
                    assert await read_until(stream, b"ok") == OK
                    counts["answered"] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(ask)
            for number in range(20):
                gateway.snapshots.set(
                    gateway.snapshot(backend(idle_timeout_ms=1000 + number), sets[number % 2], host(forward(route=f"r{number}")))
                )
                while True:
                    report = await gateway.heard.receive()
                    if isinstance(report, Applied) and report.version == gateway.snapshots.value.version:
                        break
                wanted = counts["answered"] + 20
                while counts["answered"] < wanted:
                    await trio.lowlevel.checkpoint()
            stop = True
    assert counts["asked"] == counts["answered"] > 400
    assert all(workload.requests for workload in workloads)


async def test_connections_to_an_endpoint_that_is_gone_are_closed_those_to_others_kept():
    first, second = Workload(), Workload()
    both = EndpointSet(NAME, (endpoint(first.port), endpoint(second.port)))
    async with running(backend(), both, host(forward()), workloads=[first, second]) as gateway:
        while not (first.requests and second.requests):
            await gateway.get()
        gateway.snapshots.set(gateway.snapshot(backend(), EndpointSet(NAME, (endpoint(second.port),)), host(forward())))
        with trio.fail_after(5):
            while first.open:
                await trio.testing.wait_all_tasks_blocked(0.005)
        before = second.connections
        await gateway.get()
        assert second.connections == before


async def test_drain_answers_what_runs_and_closes_what_idles():
    go = trio.Event()

    async def slow(stream, data):
        await go.wait()
        await stream.send_all(OK)
        return True

    workload = Workload(slow)
    async with running(workloads=[workload]) as gateway:
        idle, busy = await gateway.connect(), await gateway.connect()
        await busy.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not workload.requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gateway.engine.drain, trio.current_time() + 10)
            assert await read_all(idle) == b""
            assert gateway.engine.statistics().draining
            go.set()
            answer = await read_all(busy)
        await idle.aclose()
        await busy.aclose()
        assert b"connection: close" in answer
        assert answer.endswith(b"ok")


async def test_drain_answers_who_was_waiting_to_be_accepted():
    async with running(workloads=[Workload()]) as gateway:
        # Without a checkpoint in between: the kernel has taken them, the engine has not.
        waiting = [trio.SocketStream(trio.socket.from_stdlib_socket(_connected(gateway.port))) for _ in range(60)]

        async def ask() -> None:
            for stream in waiting:
                await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            for stream in waiting:
                assert (await read_all(stream)).endswith(b"ok")
                await stream.aclose()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await gateway.engine.drain(trio.current_time() + 10)


def _connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def test_drain_ends_at_its_deadline():
    async def never(stream, data):
        await trio.sleep_forever()

    workload = Workload(never)
    async with running(workloads=[workload]) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while not workload.requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        with trio.fail_after(5):
            await gateway.engine.drain(trio.current_time() + 0.1)
            assert await read_all(stream) == b""


async def test_readiness():
    async with running(kind=ListenerKind.HEALTH, chain=FilterChain("h", "")) as gateway:
        ask = b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        assert (await gateway.ask(ask % b"/healthz/ready")).startswith(b"HTTP/1.1 200 ")
        assert (await gateway.ask(ask % b"/healthz/live")).startswith(b"HTTP/1.1 200 ")
        assert (await gateway.ask(ask % b"/")).startswith(b"HTTP/1.1 404 ")
        assert (await gateway.ask(b"\x16\x03\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        gateway.engine.runtime.draining = True
        assert (await gateway.ask(ask % b"/healthz/ready")).startswith(b"HTTP/1.1 503 ")


async def test_https_redirect():
    async with running(chain=FilterChain("h", "t", redirect_https=True)) as gateway:
        answer = await gateway.get("/x?y=1")
    assert answer.startswith(b"HTTP/1.1 301 Moved Permanently\r\nlocation: https://a.test/x?y=1\r\n")


async def test_what_is_not_http_gets_400_and_nothing_is_forwarded():
    workload = Workload()
    async with running(workloads=[workload]) as gateway:
        smuggled = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
        answer = await gateway.ask(smuggled)
        assert answer == b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        assert not workload.requests
        assert dict(gateway.engine.statistics().refused) == {"http1.content_length_and_transfer_encoding": 1}
        good = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
        answer = await gateway.ask(good + smuggled)
        assert answer.startswith(OK + b"HTTP/1.1 400 ")


TEXT = re.compile(
    rb'\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] "GET /x\?y HTTP/1\.1" 200 - via_upstream - "-" 0 2 \d+ \d+ "127\.0\.0\.1" "curl" '
    rb'"[0-9a-f-]{36}" "a\.test" "127\.0\.0\.1:(\d+)" outbound\|80\|\|a\.test 127\.0\.0\.1:\d+ 127\.0\.0\.1:(\d+) 127\.0\.0\.1:\d+ - r\n'
)


async def test_the_access_log_in_istio_s_text_format(tmp_path):
    path = tmp_path / "log"
    workload = Workload()
    node = Node(name="gw", cluster="east", access_log=AccessLog(str(path)))
    async with running(
        backend(),
        EndpointSet(NAME, (endpoint(workload.port),)),
        host(forward(), domains=("a.test",)),
        workloads=[workload],
        node=node,
    ) as gateway:
        await gateway.get("/x?y", "user-agent: curl\r\n")
        await gateway.get("/none", host="b.test")
        await gateway.ask(b"nonsense\r\n\r\n")
    lines = path.read_bytes().splitlines(keepends=True)
    match = TEXT.fullmatch(lines[0])
    assert match is not None, lines[0]
    assert (int(match[1]), int(match[2])) == (workload.port, gateway.port)
    assert b'"GET /none HTTP/1.1" 404 NR route_not_found - "-" 0 0 ' in lines[1]
    assert b'"- - HTTP/1.1" 400 DPE http1.invalid_request_line - "-" 0 0 ' in lines[2]


async def test_the_access_log_in_json(tmp_path):
    path = tmp_path / "log"
    workload = Workload()
    node = Node(name="gw", cluster="east", access_log=AccessLog(str(path), "json"))
    async with running(
        backend(), EndpointSet(NAME, (endpoint(workload.port),)), host(forward()), workloads=[workload], node=node
    ) as gateway:
        await gateway.ask(b'GET /"q" HTTP/1.1\r\nhost: a\r\nuser-agent: a"b\\\xc3\xa9\r\nconnection: close\r\n\r\n')
    line = json.loads(path.read_text())
    assert len(line) == 24
    assert line["path"] == "/%22q%22"
    assert line["user_agent"] == 'a"b\\é'
    assert line["response_code"] == 200
    assert line["upstream_cluster"] == NAME
    assert line["upstream_host"] == f"127.0.0.1:{workload.port}"
    assert line["requested_server_name"] is None
    assert line["route_name"] == "r"


async def test_a_log_that_cannot_be_opened_is_a_fault_and_traffic_goes_on():
    workload = Workload()
    node = Node(name="gw", cluster="east", access_log=AccessLog("/nonexistent/log"))
    async with running(
        backend(), EndpointSet(NAME, (endpoint(workload.port),)), host(forward()), workloads=[workload], node=node
    ) as gateway:
        report = await gateway.heard.receive()
        assert "/nonexistent/log cannot be opened" in report.faults[0]
        assert (await gateway.get()).endswith(b"ok")


async def test_metrics_are_labelled_as_istio_s():
    workload = Workload()
    labels = (("app", "reviews"), ("version", "v2"))
    async with running(
        backend("outbound|80|v2|reviews.shop.svc.cluster.local", namespace="shop"),
        EndpointSet("outbound|80|v2|reviews.shop.svc.cluster.local", (endpoint(workload.port, labels=labels),)),
        host(forward("outbound|80|v2|reviews.shop.svc.cluster.local", match=RouteMatch(path=StringMatch(MatchKind.EXACT, "/")))),
        workloads=[workload],
    ) as gateway:
        for _ in range(3):
            await gateway.get()
        await gateway.get("/none")
        statistics = gateway.engine.statistics()
    series = {dict(each.labels)["response_code"]: each for each in statistics.requests}
    found = dict(series["200"].labels)
    assert series["200"].count == 3
    assert sum(series["200"].duration_buckets) == 3
    assert series["200"].response_bytes == 6
    wanted = {
        "reporter": "source",
        "source_workload": "gw",
        "source_cluster": "east",
        "destination_service": "reviews.shop.svc.cluster.local",
        "destination_service_name": "reviews",
        "destination_service_namespace": "shop",
        "destination_app": "reviews",
        "destination_version": "v2",
        "destination_cluster": "east",
        "request_protocol": "http",
        "response_flags": "-",
        "connection_security_policy": "unknown",
    }
    assert {key: found[key] for key in wanted} == wanted
    assert len(found) == 25
    assert dict(series["404"].labels)["response_flags"] == "NR"
    assert statistics.backends[0].traffic == ((0, "r/z", "east", 3),)
    assert statistics.downstream_connections_total == 4
    assert Gateway.node.name == "gw"
