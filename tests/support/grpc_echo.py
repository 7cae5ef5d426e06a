"""A real gRPC service of grpcio for tests, without generated code: messages are bytes.

`/test.Echo/`: Unary, Count (server streaming), Sum (client streaming), Chat (both ways), Fail, Sleep, Big; and grpc.health.v1.
"""

import concurrent.futures
import contextlib
import threading

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from running import fresh_address

MOST = 64 << 20  # bytes a message may have
OPTIONS = [("grpc.max_receive_message_length", MOST), ("grpc.max_send_message_length", MOST), ("grpc.so_reuseport", 0)]


class Echo:
    """`seen`: metadata and deadline of each call, by method. gate: what Count waits for after its first message."""

    def __init__(self):
        self.seen = {}
        self.gate = threading.Event()
        self.cancelled = threading.Event()
        self._unary = {"Unary": self.unary, "Fail": self.fail, "Sleep": self.sleep, "Big": self.big}

    def handler(self):
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._noting(name, call)) for name, call in self._unary.items()}
        handlers["Count"] = grpc.unary_stream_rpc_method_handler(self.count)
        handlers["Sum"] = grpc.stream_unary_rpc_method_handler(self.sum)
        handlers["Chat"] = grpc.stream_stream_rpc_method_handler(self.chat)
        return grpc.method_handlers_generic_handler("test.Echo", handlers)

    def _noting(self, name, call):
        def noted(request, context):
            metadata = [(key, value) for key, value in context.invocation_metadata()]
            self.seen.setdefault(name, []).append((metadata, context.time_remaining()))
            return call(request, context)

        return noted

    def unary(self, request, context):
        context.send_initial_metadata((("x-initial", "first"), ("x-data-bin", b"\x00\xff\x01")))
        context.set_trailing_metadata((("x-trailing", "last"),))
        return b"echo " + request

    def fail(self, request, context):
        context.set_trailing_metadata((("x-why", "because"),))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such book: Straße 50%")

    def sleep(self, request, context):
        context.add_callback(self.cancelled.set)
        threading.Event().wait(float(request))
        return b"slept"

    def big(self, request, context):
        return b"B" * int(request)

    def count(self, request, context):
        for number in range(int(request)):
            yield str(number).encode()
            if number == 0 and not self.gate.wait(10):
                context.abort(grpc.StatusCode.INTERNAL, "nobody opened the gate")

    def sum(self, requests, context):
        return str(sum(int(request) for request in requests)).encode()

    def chat(self, requests, context):
        context.add_callback(self.cancelled.set)
        for request in requests:
            yield b"you said " + request


class Server:
    """`address`, `port`, `echo`, `health`."""

    def __init__(self):
        self.echo, self.health = Echo(), health.HealthServicer()
        self.address = fresh_address()
        self.port = 0
        self._server = None

    def start(self):
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=OPTIONS)
        self._server.add_generic_rpc_handlers((self.echo.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        self.health.set("books", health_pb2.HealthCheckResponse.SERVING)
        self.port = self._server.add_insecure_port(f"{self.address}:{self.port}")
        self._server.start()

    def stop(self):
        self._server.stop(0).wait(10)


@contextlib.contextmanager
def serving():
    """A Server that runs inside."""
    server = Server()
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Client:
    """Calls by name: client.unary("Unary")(b"…"). authority: the name that is routed."""

    def __init__(self, target, authority, *, credentials=None):
        options = [*OPTIONS, ("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
        if credentials:
            options.append(("grpc.ssl_target_name_override", authority))
            self.channel = grpc.secure_channel(target, credentials, options=options)
        else:
            self.channel = grpc.insecure_channel(target, options=options)

    def unary(self, name):
        return self.channel.unary_unary(f"/test.Echo/{name}")

    def server_stream(self, name):
        return self.channel.unary_stream(f"/test.Echo/{name}")

    def client_stream(self, name):
        return self.channel.stream_unary(f"/test.Echo/{name}")

    def both(self, name):
        return self.channel.stream_stream(f"/test.Echo/{name}")
