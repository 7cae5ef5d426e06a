"""grpcio as client and server, the gateway between them: every kind of call, deadlines, errors, large messages."""

import queue
import shutil
import struct
import subprocess
import time

import certs
import pytest
from running import Fedgate, document, listening, routes, running, server, to

pytest.importorskip("grpc", reason="grpcio is not installed")
pytest.importorskip("grpc_health", reason="grpcio-health-checking is not installed")

import grpc
from grpc_echo import Client, serving
from grpc_health.v1 import health_pb2, health_pb2_grpc

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("live-grpc")]

HOST = "books.example.com"
WEB = certs.Authority("web")


def grpc_service(host, address, port):
    spec = {
        "hosts": [host],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "grpc", "protocol": "GRPC"}],
        "endpoints": [{"address": address, "ports": {"grpc": port}}],
    }
    return document("ServiceEntry", host.replace(".", "-"), spec)


class World:
    def __init__(self, folder, backend):
        self.backend, self.gateway = backend, Fedgate(folder)
        leaf, place = WEB.leaf(HOST), self.gateway.folder
        for name, data in (("chain.pem", leaf.chain.encode()), ("key.pem", leaf.key.reveal())):
            (place / name).write_bytes(data)
        tls = {"mode": "SIMPLE", "serverCertificate": str(place / "chain.pem"), "privateKey": str(place / "key.pem")}
        slow = {"match": [{"headers": {"x-slow": {"exact": "no"}}}], "route": [to("books.shop")], "timeout": "0.3s"}
        empty = document(
            "ServiceEntry",
            "nobody",
            {"hosts": ["nobody.shop"], "resolution": "STATIC", "ports": [{"number": 80, "name": "grpc", "protocol": "GRPC"}]},
        )
        self.gateway.write(
            "books",
            listening("web", server(self.gateway, ["*"]), server(self.gateway, ["*"], tls=tls)),
            grpc_service("books.shop", backend.address, backend.port),
            empty,
            routes("books", [HOST], slow, {"route": [to("books.shop")]}, gateways=["web"]),
            routes("nobody", ["nobody.example.com"], {"route": [to("nobody.shop")]}, gateways=["web"]),
        )

    def client(self, way="plain", authority=HOST):
        if way == "plain":
            return Client(f"{self.gateway.address}:{self.gateway.ingress}", authority)
        credentials = grpc.ssl_channel_credentials(WEB.bundle.encode())
        return Client(f"{self.gateway.address}:{self.gateway.secure}", authority, credentials=credentials)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with serving() as backend:
        made = World(tmp_path_factory.mktemp("grpc"), backend)
        with running(made.gateway):
            yield made


@pytest.fixture(params=["plain", "tls"])
def client(world, request):
    made = world.client(request.param)
    yield made
    made.channel.close()


@pytest.fixture
def echo(world):
    world.backend.echo.seen.clear()
    world.backend.echo.gate.clear()
    world.backend.echo.cancelled.clear()
    return world.backend.echo


def test_unary_with_metadata_both_ways(client, echo):
    answer, call = client.unary("Unary").with_call(b"hello", metadata=[("x-mine", "yes"), ("x-raw-bin", b"\x00\x80")], timeout=10)
    assert answer == b"echo hello"
    assert ("x-initial", "first") in call.initial_metadata()
    assert ("x-data-bin", b"\x00\xff\x01") in call.initial_metadata()
    assert ("x-trailing", "last") in call.trailing_metadata()
    ((metadata, remaining),) = echo.seen["Unary"]
    assert ("x-mine", "yes") in metadata
    assert ("x-raw-bin", b"\x00\x80") in metadata
    assert 5 < remaining <= 10, "the deadline went along"


def test_server_streaming_is_not_held_back(client, echo):
    answers = client.server_stream("Count")(b"500", timeout=20)
    assert next(answers) == b"0", "the first message is here before the second is sent"
    echo.gate.set()
    assert [int(answer) for answer in answers] == list(range(1, 500))


def test_client_streaming(client):
    assert client.client_stream("Sum")((str(number).encode() for number in range(1000)), timeout=20) == b"499500"


def test_both_ways_in_step(client):
    said = queue.Queue()
    answers = client.both("Chat")(iter(said.get, None), timeout=20)
    for number in range(50):
        said.put(str(number).encode())
        assert next(answers) == f"you said {number}".encode()
    said.put(None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_an_error_with_details_and_metadata(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Fail")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "no such book: Straße 50%"
    assert ("x-why", "because") in caught.value.trailing_metadata()


def test_a_method_that_is_not_there(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Nothing")(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_clients_deadline_ends_the_call_on_both_sides(client, echo):
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Sleep")(b"3", timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert echo.cancelled.wait(5), "the server was told"


def test_the_routes_timeout_is_deadline_exceeded(client):
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Sleep")(b"5", timeout=20, metadata=[("x-slow", "no")])
    assert caught.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)


def test_a_cancelled_stream_is_cancelled_over_there(client, echo):
    said = queue.Queue()
    answers = client.both("Chat")(iter(said.get, None), timeout=20)
    said.put(b"x")
    assert next(answers) == b"you said x"
    answers.cancel()
    assert echo.cancelled.wait(5)
    said.put(None)


@pytest.mark.parametrize("size", [100_000, 20_000_000])
def test_large_messages(client, size):
    assert len(client.unary("Big")(str(size).encode(), timeout=60)) == size
    assert client.unary("Unary")(b"u" * size, timeout=60) == b"echo " + b"u" * size


def test_many_calls_at_once_over_one_connection(client):
    calls = [client.unary("Unary").future(str(number).encode(), timeout=30) for number in range(300)]
    assert [call.result() for call in calls] == [f"echo {number}".encode() for number in range(300)]


def test_health_through_the_gateway(client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    found = stub.Check(health_pb2.HealthCheckRequest(service="books"), timeout=10)
    assert found.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_no_endpoint_is_unavailable(world):
    client = world.client(authority="nobody.example.com")
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Unary")(b"", timeout=10)
    client.channel.close()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_no_route_is_unimplemented(world):
    client = world.client(authority="else.example.com")
    with pytest.raises(grpc.RpcError) as caught:
        client.unary("Unary")(b"", timeout=10)
    client.channel.close()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED, "404, by gRPC's table of HTTP statuses"


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH")
def test_the_gateway_itself_keeps_the_deadline(world, tmp_path):
    """A client that says grpc-timeout and then only waits (curl) is answered when it is over: 200, and the status in its head."""
    message = tmp_path / "message"
    message.write_bytes(struct.pack(">BI", 0, 1) + b"5")
    fields = ["content-type: application/grpc", "te: trailers", "grpc-timeout: 300m", f"host: {HOST}"]
    headers = [word for field in fields for word in ("-H", field)]
    where = f"http://{world.gateway.address}:{world.gateway.ingress}/test.Echo/Sleep"
    began = time.monotonic()
    command = [
        "curl",
        "-sS",
        "-D",
        "-",
        "--max-time",
        "10",
        "--http2-prior-knowledge",
        *headers,
        "--data-binary",
        f"@{message}",
        where,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    took = time.monotonic() - began
    assert "grpc-status: 4" in done.stdout, done.stdout
    assert done.stdout.startswith("HTTP/2 200")
    assert 0.2 < took < 3
