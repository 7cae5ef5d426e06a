"""A native engine on real loopback sockets, with small endpoints whose behaviour a test writes down."""

import contextlib
import socket

import trio

from discovery.model import Locality
from discovery.watch import Watchable
from gateway.native.engine import NativeEngine
from gateway.snapshot import (
    Backend,
    EndpointSet,
    FilterChain,
    Forward,
    LbEndpoint,
    Listener,
    ListenerKind,
    Node,
    Overload,
    RetryPolicy,
    Route,
    RouteMatch,
    Snapshot,
    Split,
    VirtualHost,
)
from gateway.verdicts import Verdicts

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def listening(address="127.0.0.1"):
    """A bound, listening, non-blocking socket on a port of the system's choice."""
    sock = socket.socket()
    sock.bind((address, 0))
    sock.listen(128)
    sock.setblocking(False)
    return sock


class Workload:
    """An endpoint. answer: bytes, or a function of the request's bytes, or an async function of (stream, request's bytes) which
    answers by itself and returns True to keep the connection. requests: what came, each a head (with body bytes that came along)."""

    def __init__(self, answer=OK):
        self.answer = answer
        self.requests = []
        self.connections = 0
        self.open = 0
        self.sock = listening()
        self.port = self.sock.getsockname()[1]
        self.scopes = []

    async def run(self):
        await trio.serve_listeners(self._serve, [trio.SocketListener(trio.socket.from_stdlib_socket(self.sock))])

    async def _serve(self, stream):
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, ConnectionError):
                while await self._one(stream):
                    pass
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def _one(self, stream):
        data = b""
        while b"\r\n\r\n" not in data:
            more = await stream.receive_some()
            if not more:
                return False
            data += more
        self.requests.append(data)
        if callable(self.answer):
            result = self.answer(stream, data) if _is_async(self.answer) else self.answer(data)
            if _is_async(self.answer):
                return await result
        else:
            result = self.answer
        await stream.send_all(result)
        return b"connection: close" not in result.lower()


def _is_async(function):
    import inspect

    return inspect.iscoroutinefunction(function)


NAME = "outbound|80||a.test"


def endpoint(port, *, address="127.0.0.1", priority=0, weight=1, id="", **more):
    return LbEndpoint(
        id=id or f"{address}:{port}",
        address=address,
        port=port,
        cluster="east",
        locality=Locality("r", "z"),
        priority=priority,
        weight=weight,
        **more,
    )


def backend(name=NAME, **options):
    _, port, subset, host = name.split("|")
    options.setdefault("connect_timeout_ms", 1000)
    return Backend(name=name, host=host, port=int(port), subset=subset, **options)


def host(*routes, table="t", name="all", domains=("*",)):
    return VirtualHost(table=table, name=name, domains=domains, routes=routes)


def forward(name=NAME, *, match=RouteMatch(), route="r", retry=None, timeout_ms=0, **more):  # noqa: B008  frozen
    operations = {key: more.pop(key) for key in ("request_headers", "response_headers") if key in more}
    return Route(route, match, Forward(splits=(Split(name),), retry=retry, timeout_ms=timeout_ms, **more), **operations)


class Gateway:
    """A running engine with one listener (`port`)."""

    def __init__(self, engine, snapshots, verdicts, secrets, heard, sock, listener):
        self.engine, self.snapshots, self.verdicts, self.secrets, self.heard = engine, snapshots, verdicts, secrets, heard
        self.sock, self.listener = sock, listener
        self.port = listener.port

    async def connect(self):
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, request, *, size=1 << 24):
        """Send bytes on a new connection; everything that comes until it is closed."""
        async with await self.connect() as stream:
            await stream.send_all(request)
            return await read_all(stream, size)

    async def get(self, path="/", headers="", *, host="a.test"):
        return await self.ask(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n".encode())

    def snapshot(self, *parts):
        """A Snapshot with this gateway's listener and node beside the parts."""
        return Snapshot.of([self.node, self.listener, *parts])

    # A busy machine is late; tests of shedding have a Node of their own.
    node = Node(name="gw", cluster="east", overload=Overload(lag_ms=-1))


async def read_all(stream, size=1 << 24):
    data = bytearray()
    with contextlib.suppress(trio.BrokenResourceError):
        while len(data) < size:
            more = await stream.receive_some(65536)
            if not more:
                break
            data += more
    return bytes(data)


async def read_until(stream, end):
    """Bytes up to and with `end`."""
    data = b""
    while not data.endswith(end):
        more = await stream.receive_some(1 if len(end) > 1 else 65536)
        if not more:
            raise AssertionError(f"ended after {data!r}, before {end!r}")
        data += more
    return data


@contextlib.asynccontextmanager
async def running(*parts, workloads=(), chain=None, kind=ListenerKind.GATEWAY, node=None, address="127.0.0.1", **options):
    """Engine and workloads. parts: what else the Snapshot has; default: one backend with all workloads, one route to it. chain: one, or
    several, or a function of the port that makes them."""
    sock = listening(address)
    port = sock.getsockname()[1]
    if callable(chain):
        chain = chain(port)
    chains = chain if isinstance(chain, tuple) else (chain or FilterChain("http", "t"),)
    listener = Listener(address, port, kind, chains)
    if not parts:
        parts = (
            backend(),
            EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
            host(forward(retry=RetryPolicy(immediate=True))),
        )
    sockets = Watchable({listener.key: (sock,)})
    engine = NativeEngine(worker=0, sockets=sockets, **options)
    said, heard = trio.open_memory_channel(1000)
    snapshots = Watchable(Snapshot.of([node or Gateway.node, listener, *parts]))
    verdicts, secrets = Watchable(Verdicts()), Watchable({})
    with sock, contextlib.ExitStack() as stack:
        for each in workloads:
            stack.enter_context(each.sock)
        async with trio.open_nursery() as nursery:
            for each in workloads:
                nursery.start_soon(each.run)
            with trio.fail_after(20):
                await nursery.start(engine.run, snapshots, verdicts, secrets, said)
                gateway = Gateway(engine, snapshots, verdicts, secrets, heard, sock, listener)
                gateway.node = node or Gateway.node
                yield gateway
            nursery.cancel_scope.cancel()
