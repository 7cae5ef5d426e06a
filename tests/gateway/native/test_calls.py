"""Calls of gRPC that come over HTTP/1: errors in gRPC's own way, its deadlines and retries. Over HTTP/2: test_http2_server.py."""

import pytest

from gateway.native.calls import is_call, told
from gateway.native.codec.events import RequestHead
from gateway.native.codec.h1 import ServerCodec
from gateway.snapshot import EndpointSet, Fault, RetryPolicy, Route, RouteMatch
from tests.support.native_engine import NAME, OK, Workload, backend, endpoint, forward, host, read_until, running

CALL = (
    b"POST /s/m HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc\r\nte: trailers\r\ncontent-length: 5\r\n%b\r\n\0\0\0\0\0"
)
PLAIN = b"GET /x HTTP/1.1\r\nhost: a.test\r\n\r\n"


def answer(status, *, code=0, more=""):
    said = f"content-type: application/grpc\r\ngrpc-status: {code}\r\n{more}content-length: 0\r\n\r\n"
    return f"HTTP/1.1 {status} OK\r\n{said}".encode()


@pytest.mark.parametrize(
    ("value", "is_one"),
    [("application/grpc", True), ("application/grpc+proto", True), ("application/grpc-web", False), ("text/plain", False)],
)
def test_a_call_is_known_by_its_content_type(value, is_one):
    codec = ServerCodec()
    head = codec.next_event(f"POST / HTTP/1.1\r\nhost: a\r\nContent-Type: {value}\r\ncontent-length: 0\r\n\r\n".encode())
    assert isinstance(head, RequestHead)
    assert is_call(head) is is_one


def test_a_body_becomes_a_message_without_what_a_header_must_not_hold():
    class Noted:
        grpc_status = b""

    x = Noted()
    lines = told(x, 503, b"50% \xc3\xa4\n", (b"content-type: text/plain", b"x-a: b"), None)
    assert lines == [
        b"x-a: b",
        b"content-type: application/grpc",
        b"grpc-status: 14",
        b"grpc-message: 50%25 %C3%A4%0A",
    ]
    assert x.grpc_status == b"14"


NOBODY = (backend(), EndpointSet(NAME, ()), host(forward()))


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [((host(),), b"12", b""), (NOBODY, b"14", b"grpc-message: no healthy upstream\r\n")],
)
async def test_errors_are_said_in_its_own_way(parts, code, message):
    async with running(*parts) as gateway:
        said = await gateway.ask(CALL % b"connection: close\r\n")
        expected = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: %b\r\n%b" % (code, message)
        assert said == expected + b"content-length: 0\r\nconnection: close\r\n\r\n"
        (series,) = gateway.engine.statistics().requests
        labels = dict(series.labels)
        assert (labels["request_protocol"], labels["grpc_response_status"], labels["response_code"]) == (
            "grpc",
            code.decode(),
            "200",
        )


async def test_the_next_request_of_the_connection_is_no_call():
    async with running(host()) as gateway, await gateway.connect() as stream:
        await stream.send_all(CALL % b"" + PLAIN)
        said = await read_until(stream, b"\r\n\r\n")
        assert b"grpc-status: 12" in said
        said = await read_until(stream, b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 404")
        assert b"grpc" not in said
        assert {dict(each.labels)["request_protocol"] for each in gateway.engine.statistics().requests} == {"grpc", "http"}


async def test_faults_and_shedding_are_told_too():
    fault = Route("r", RouteMatch(), forward().action, fault=Fault(abort_grpc=7, abort_share=1_000_000))
    async with running(*NOBODY[:2], host(fault)) as gateway:
        assert b"grpc-status: 7\r\n" in await gateway.ask(CALL % b"connection: close\r\n")
        gateway.engine.overload.shedding = "lag"
        said = await gateway.ask(CALL % b"connection: close\r\n")
        assert said.startswith(b"HTTP/1.1 200")
        assert b"grpc-status: 14\r\ngrpc-message: overloaded\r\n" in said


async def test_its_own_deadline_holds():
    async def never(stream, data):
        await stream.receive_some()

    async with running(workloads=[Workload(never)]) as gateway:
        said = await gateway.ask(CALL % b"grpc-timeout: 60m\r\nconnection: close\r\n")
        assert b"grpc-status: 4\r\n" in said


async def test_an_answer_that_says_unavailable_is_retried_elsewhere():
    bad, good = Workload(answer(200, code=14)), Workload(answer(200))
    retry = RetryPolicy(attempts=8, conditions=("unavailable",), base_ms=1)
    parts = (
        backend(),
        EndpointSet(NAME, (endpoint(bad.port), endpoint(good.port))),
        host(forward(retry=retry)),
    )
    async with running(*parts, workloads=[bad, good]) as gateway:
        said = [await gateway.ask(CALL % b"connection: close\r\n") for _ in range(20)]
        assert all(b"grpc-status: 0\r\n" in each for each in said)
        codes = {dict(each.labels)["grpc_response_status"] for each in gateway.engine.statistics().requests}
        assert codes == {"0"}
        assert bad.requests


@pytest.mark.parametrize("name", ["grpc-status", "Grpc-Status"])
async def test_what_a_call_ended_with_is_counted(name):
    chunked = f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{name}: 5\r\n\r\n".encode()
    whole = answer(200, code=3).replace(b"grpc-status", name.encode())
    workload = Workload(lambda data: chunked if b"/chunked" in data else whole)
    async with running(workloads=[workload]) as gateway:
        await gateway.ask((CALL % b"connection: close\r\n").replace(b"/s/m", b"/chunked"))
        await gateway.ask(CALL % b"connection: close\r\n")
        codes = {dict(each.labels)["grpc_response_status"] for each in gateway.engine.statistics().requests}
        assert codes == {"3", "5"}


async def test_what_is_no_call_gets_plain_errors():
    async with running(workloads=[Workload(OK)]) as gateway:
        assert (await gateway.get(host="elsewhere.test")).startswith(b"HTTP/1.1 200")
    async with running(host()) as gateway:
        said = await gateway.ask((CALL % b"connection: close\r\n").replace(b"/grpc", b"/grpc-web"))
        assert said.startswith(b"HTTP/1.1 404")
