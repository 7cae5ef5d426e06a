"""Checks over HTTP/2: a real gRPC server's health, and answers that are none."""

import contextlib

import grpc_echo
import pytest
import trio
from grpc_health.v1 import health_pb2
from h2_server import serve_codec

from federation.probe import ProbeFailed, Target, probe
from federation.probe_http2 import Answer, question, verdict
from gateway.snapshot import HealthCheck


def check(address, port, service="", **options):
    return Target(address, port, HealthCheck("grpc", service=service, timeout_ms=2000, **options), "a.test", http2=True)


@pytest.mark.slow
async def test_a_grpc_server_says_which_of_its_services_serves():
    with grpc_echo.serving() as server:
        await probe(check(server.address, server.port), None)
        await probe(check(server.address, server.port, "books"), None)
        server.health.set("books", health_pb2.HealthCheckResponse.NOT_SERVING)
        with pytest.raises(ProbeFailed, match="grpc check: state NOT_SERVING"):
            await probe(check(server.address, server.port, "books"), None)
        with pytest.raises(ProbeFailed, match="no such service"):
            await probe(check(server.address, server.port, "x" * 200), None)


async def test_an_endpoint_of_http2_only_is_asked_so(nursery):
    port = await nursery.start(serve_codec)
    await probe(Target("127.0.0.1", port, HealthCheck("http"), "a.test", http2=True), None)
    with pytest.raises(ProbeFailed, match="status 200, expected 204, 300-399"):
        await probe(Target("127.0.0.1", port, HealthCheck("http", statuses=((204, 205), (300, 400))), "a.test", http2=True), None)
    with pytest.raises(ProbeFailed, match="no message of gRPC"):
        await probe(check("127.0.0.1", port), None)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "not HTTP/2|closed without"),
        (b"", "closed without an answer"),
        (b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b", "not HTTP/2|refused"),
        (b"\0\0\0\x04\0\0\0\0\0\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", "refused: REFUSED_STREAM"),
        (b"\0\0\0\x04\0\0\0\0\0", "no answer within|closed without"),
    ],
)
async def test_what_is_no_answer(nursery, answer, reason):
    async def handler(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await stream.send_all(answer)
            await stream.send_eof()
            while await stream.receive_some():
                pass

    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, handler, [listener])
    with pytest.raises(ProbeFailed, match=f"grpc check: .*({reason})"):
        await probe(check("127.0.0.1", listener.socket.getsockname()[1]), None)
    nursery.cancel_scope.cancel()


def test_the_question_is_what_protobuf_would_write():
    for service in ("", "a.B", "x" * 200):
        message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        assert question(service) == b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, "0", b"\0\0\0\0\x02\x08\x01"), ""),
        (Answer(200, "", b"\0\0\0\0\x02\x08\x01"), ""),
        (Answer(200, "0", b"\0\0\0\0\x02\x08\x02"), "state NOT_SERVING"),
        (Answer(200, "0", b"\0\0\0\0\x02\x08\x09"), "state 9"),
        (Answer(200, "0", b"\0\0\0\0\0"), "state UNKNOWN"),
        (Answer(200, "0", b"\0\0\0\0\x02\x10\x01"), "no HealthCheckResponse"),
        (Answer(200, "0", b"\x01\0\0\0\x02\x08\x01"), "no message of gRPC"),
        (Answer(200, "0", b"\0\0\0\0\x09\x08"), "no message of gRPC"),
        (Answer(200, "0", b""), "no message of gRPC"),
        (Answer(200, "12", b""), "grpc-status UNIMPLEMENTED: no health service"),
        (Answer(200, "14", b""), "grpc-status 14"),
        (Answer(503, "", b""), "status 503, expected 200"),
    ],
)
def test_verdicts(answer, reason):
    assert (verdict(answer) == "") is (reason == "")
    assert reason in verdict(answer)
