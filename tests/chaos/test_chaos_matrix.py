"""Clients and endpoints of both versions of HTTP that give up at any moment, in every way: whatever an exchange was just waiting for, nothing
is left of it: no strand, descriptor, stream, count or place in a line. What still answers in the end is right."""

import contextlib
import os
import random
import socket
import struct

import h2.errors
import h2.exceptions
import h2.settings
import msgspec
import pytest
import structlog.testing
import trio
from h2_talk import Client, Http2Workload
from native_engine import Workload, backend, endpoint, forward, host, running
from running_gateway import until

from gateway.snapshot import (
    EndpointSet,
    Fault,
    Http2,
    Limits,
    MatchKind,
    Mirror,
    RetryPolicy,
    RouteMatch,
    StringMatch,
)

pytestmark = pytest.mark.slow

ONE, TWO, NARROW = "outbound|80||one.test", "outbound|80||two.test", "outbound|80||narrow.test"
CLIENTS = 60
TURNS = 6
HABITS = ("plain", "plain", "big", "hang", "drip", "cut", "early", "vanish", "interim", "switch", "patient")
CONNECTS = {h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1, h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 7}
GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, h2.exceptions.ProtocolError)


def habit_of(target):
    return target.rpartition("/")[2]


class Habits1:
    """An endpoint of HTTP/1.1: does what the path says."""

    async def answer(self, stream, data):
        head, _, body = data.partition(b"\r\n\r\n")
        return await getattr(self, habit_of(head.split(b" ")[1].decode()))(stream, head.lower(), body)

    async def plain(self, stream, head, body):
        if b"transfer-encoding: chunked" in head:
            while not body.endswith(b"0\r\n\r\n"):
                body += await self._more(stream)
        elif b"content-length: " in head:
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < size:
                body += await self._more(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        return True

    async def _more(self, stream):
        if more := await stream.receive_some(65536):
            return more
        raise trio.BrokenResourceError

    async def patient(self, stream, head, body):
        await trio.sleep(0.05)
        return await self.plain(stream, head, body)

    async def big(self, stream, head, body):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 700000\r\n\r\n" + b"x" * 700_000)
        return b"content-length" not in head and b"chunked" not in head

    async def hang(self, stream, head, body):
        await stream.receive_some()
        return False

    async def drip(self, stream, head, body):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            await stream.send_all(b"5\r\ndrops\r\n")
            await trio.sleep(0.01)
        await stream.send_all(b"0\r\nx-last: 1\r\n\r\n")
        return False

    async def cut(self, stream, head, body):
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7000\r\n\r\nhalf")
        return False

    async def early(self, stream, head, body):
        await stream.send_all(b"HTTP/1.1 413 No\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
        return False

    async def vanish(self, stream, head, body):
        return False

    async def interim(self, stream, head, body):
        await stream.send_all(b"HTTP/1.1 103 Hints\r\nlink: </x>\r\n\r\n")
        await trio.sleep(0.02)
        return await self.plain(stream, head, body)

    async def switch(self, stream, head, body):
        if b"upgrade: websocket" not in head:
            return await self.plain(stream, head, body)
        await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n" + body)
        while more := await stream.receive_some():
            await stream.send_all(more)
        return False


class Habits2:
    """The same over HTTP/2. `early` begins with the head, `late` when the request is complete."""

    async def early(self, peer, sid, head):
        with contextlib.suppress(*GONE):
            await self._early(peer, sid, head)

    async def late(self, peer, sid, head, body):
        with contextlib.suppress(*GONE):
            await self._late(peer, sid, head, body)

    async def _early(self, peer, sid, head):
        habit, connection = habit_of(head[b":path"].decode()), peer.connection
        if habit == "early":
            connection.send_headers(sid, [(":status", "413"), ("content-length", "2")])
            connection.send_data(sid, b"no", end_stream=True)
            if sid not in connection.streams or not connection.streams[sid].closed:
                connection.reset_stream(sid, h2.errors.ErrorCodes.NO_ERROR)
        elif habit == "vanish":
            if sid % 3:
                connection.reset_stream(sid, h2.errors.ErrorCodes.REFUSED_STREAM if sid % 2 else h2.errors.ErrorCodes.CANCEL)
            else:
                await trio.aclose_forcefully(peer.stream)
                return
        elif habit == "cut":
            connection.send_headers(sid, [(":status", "200"), ("content-length", "7000")])
            connection.send_data(sid, b"half")
            await peer.flush()
            if sid % 5:
                connection.reset_stream(sid, h2.errors.ErrorCodes.INTERNAL_ERROR)
            else:
                connection.close_connection(last_stream_id=sid - 2 if sid > 2 else 0)
        elif habit == "interim":
            connection.send_headers(sid, [(":status", "103"), ("link", "</x>")])
        elif habit == "big":
            connection.send_headers(sid, [(":status", "200")])
            await peer.flush()
            await peer.send(sid, b"x" * 700_000, end=True)
        elif habit == "switch" and b":protocol" in head:
            connection.send_headers(sid, [(":status", "200")])
            await peer.flush()
            await peer.send(sid, b"hello")
        await peer.flush()

    async def _late(self, peer, sid, head, body):
        habit, connection = habit_of(head[b":path"].decode()), peer.connection
        if habit == "patient":
            await trio.sleep(0.05)
        if habit == "switch" and b":protocol" in head:
            await peer.send(sid, body, end=True)
        elif habit in ("plain", "interim", "switch", "patient"):
            connection.send_headers(sid, [(":status", "200"), ("content-length", "2")])
            connection.send_data(sid, b"ok", end_stream=True)
        elif habit == "drip":
            connection.send_headers(sid, [(":status", "200")])
            for _ in range(5):
                connection.send_data(sid, b"drops")
                await peer.flush()
                await trio.sleep(0.01)
            connection.send_headers(sid, [("x-last", "1")], end_stream=True)
        await peer.flush()


class Chaos:
    """One client: connections of either version, on which requests are begun and given up."""

    def __init__(self, gateway, seed):
        self.gateway, self.rng = gateway, random.Random(seed)

    async def run(self):
        for _ in range(TURNS):
            stream = None
            try:
                with trio.move_on_after(self.rng.uniform(0.01, 0.4)):
                    stream = await self.gateway.connect()
                    if self.rng.random() < 0.5:
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
                    await self.rng.choice((self.one, self.pipelined, self.two, self.two))(stream)
            except* GONE:
                pass
            finally:
                if stream is not None:
                    await trio.aclose_forcefully(stream)

    def target(self):
        return f"/{self.rng.choice(('1', '2', 'n', 'm1', 'm2', 'd'))}/{self.rng.choice(HABITS)}"

    async def one(self, stream):
        """HTTP/1.1: one thing after the other."""
        while True:
            target, kind = self.target().encode(), self.rng.random()
            if target.endswith(b"/switch"):
                await stream.send_all(
                    b"GET %b HTTP/1.1\r\nhost: a.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                    b"sec-websocket-key: a2V5\r\n\r\n" % target
                )
                await stream.send_all(b"bytes" * self.rng.randrange(1000))
            elif kind < 0.4:
                await stream.send_all(b"GET %b HTTP/1.1\r\nhost: a.test\r\n\r\n" % target)
            else:
                size = self.rng.choice((10, 10_000, 70_000, 400_000))
                sent = size if self.rng.random() < 0.6 else size // 2
                if kind < 0.7:
                    await stream.send_all(b"PUT %b HTTP/1.1\r\nhost: a.test\r\ncontent-length: %d\r\n\r\n" % (target, size))
                    await stream.send_all(b"u" * sent)
                else:
                    await stream.send_all(b"POST %b HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n" % target)
                    await stream.send_all(b"%x\r\n%b\r\n" % (size, b"c" * size) + (b"0\r\nx-t: 1\r\n\r\n" if sent == size else b""))
            if self.rng.random() < 0.1:
                await stream.send_eof()
            if not await stream.receive_some(65536):
                return

    async def pipelined(self, stream):
        for _ in range(self.rng.randrange(1, 20)):
            await stream.send_all(b"GET %b HTTP/1.1\r\nhost: a.test\r\n\r\n" % self.target().encode())
        while await stream.receive_some(65536):
            pass

    async def two(self, stream):
        """HTTP/2: many at once, some reset, some not read."""
        async with Client.to(0, stream=stream, consume=self.rng.random() < 0.7) as client, trio.open_nursery() as nursery:
            for _ in range(self.rng.randrange(1, 25)):
                nursery.start_soon(self.request, client)
            await client.closed.wait()
            nursery.cancel_scope.cancel()

    async def request(self, client):
        rng = self.rng
        with contextlib.suppress(*GONE):
            await trio.sleep(rng.uniform(0, 0.05))
            target, size = self.target(), rng.choice((0, 10, 10_000, 70_000, 400_000))
            if target.endswith("/switch"):
                talk = await client.start(method="CONNECT", path=target, pseudo=[(":protocol", "websocket")], end=False)
            else:
                grpc = [("content-type", "application/grpc"), ("te", "trailers")] if rng.random() < 0.2 else []
                talk = await client.start(method=rng.choice(("PUT", "POST", "GET")), path=target, headers=grpc, end=not size)
            with trio.move_on_after(rng.uniform(0, 0.2)):
                if size or target.endswith("/switch"):
                    trailers = [("x-t", "1")] if rng.random() < 0.2 else None
                    await client.send(talk, b"b" * size, end=trailers is None, trailers=trailers)
                await talk.ended.wait()
            if not talk.ended.is_set() and rng.random() < 0.8:
                await client.reset(talk, rng.choice((0, 1, 5, 8)))


def parts(one, two):
    retry = RetryPolicy(conditions=("connect-failure", "reset", "refused-stream"), immediate=True)

    def route(prefix, name, **more):
        match = RouteMatch(path=StringMatch(MatchKind.PREFIX, prefix))
        return forward(name, match=match, route=prefix, retry=retry, timeout_ms=400, **more)

    delay = Fault(delay_ms=30, delay_share=1_000_000)
    routes = (
        route("/1/", ONE),
        route("/2/", TWO),
        route("/n/", NARROW),
        route("/m1/", ONE, mirrors=(Mirror(TWO),)),
        route("/m2/", TWO, mirrors=(Mirror(ONE),)),
        msgspec.structs.replace(route("/d/", TWO), fault=delay),
    )
    http2 = Http2(always=True)
    places = (endpoint(two.port), endpoint(9, address="127.0.0.9"))  # nobody listens at the second
    return (
        backend(ONE),
        backend(TWO, http2=http2),
        backend(NARROW, http2=http2, limits=Limits(connections=1, pending=50, retries=5)),
        EndpointSet(ONE, (endpoint(one.port),)),
        EndpointSet(TWO, places),
        EndpointSet(NARROW, (endpoint(two.port),)),
        host(*routes),
    )


def left(gateway, hosts):
    """What an engine still has in hand, in words; {} when nothing."""
    engine = gateway.engine
    found = {
        "connections": len(engine.runtime.connections),
        "downstream": engine.statistics().downstream_connections,
        "strands": sorted(strand.name for strand in engine.reactor.strands if strand.name != "connection"),
    }
    for name, state in engine.runtime.states.items():
        found |= {f"{name} active": state.active, f"{name} queued": state.queued, f"{name} retrying": state.retrying}
    for each in hosts:
        found[f"{each.id} active"] = each.active
        found[f"{each.id} waiting"] = len(each.waiting)
        if each.pool is not None:
            pool = each.pool
            found[f"{each.id} line"] = len(pool.line or ())
            found[f"{each.id} dialling"] = len(pool.waiting) + pool.connecting
            found[f"{each.id} streams"] = sum(len(connection.streams) for connection in pool.multiplexed)
            found[f"{each.id} kept"] = pool.opened - len(pool) - len(pool.multiplexed)
            found[f"{each.id} counted"] = each.opened - pool.opened
    return {key: value for key, value in found.items() if value}


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("seed", range(3))
async def test_whoever_gives_up_leaves_nothing(seed):
    habits = Habits2()
    one, two = Workload(Habits1().answer), Http2Workload(habits.late, early=habits.early, settings=CONNECTS)
    with structlog.testing.capture_logs() as logs:
        async with running(*parts(one, two), workloads=[one, two]) as gateway:
            for prefix in ("/1/", "/2/", "/n/"):
                assert (await gateway.get(f"{prefix}plain")).startswith(b"HTTP/1.1 200")
            hosts = [each for state in gateway.engine.runtime.states.values() for each in state.reached()]
            fds = descriptors() + 8  # a connection kept to each endpoint, at both ends
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(Chaos(gateway, seed * 1000 + number).run)

            async def look():
                return left(gateway, hosts)

            await until(look, lambda found: not found, within=10)
            for prefix in ("/1/", "/2/", "/n/", "/m1/", "/m2/", "/d/"):
                assert (await gateway.get(f"{prefix}plain")).startswith(b"HTTP/1.1 200")
            gateway.snapshots.set(gateway.snapshot(*[part for part in parts(one, two) if not isinstance(part, EndpointSet)]))

            async def still():
                pools = {
                    each.id: (each.opened, list(each.pool.multiplexed), list(each.pool)) for each in hosts if each.pool is not None
                }
                return {key: value for key, value in pools.items() if value[0]} or max(descriptors() - fds, 0)

            await until(still, lambda found: not found, within=10)
    assert not [each for each in logs if each["log_level"] in ("error", "critical")]


@pytest.mark.parametrize("patience", [0.0, 0.2, 3.0])
async def test_a_worker_that_drains_in_the_midst_of_it_leaves_nothing(patience):
    habits = Habits2()
    one, two = Workload(Habits1().answer), Http2Workload(habits.late, early=habits.early, settings=CONNECTS)
    with structlog.testing.capture_logs() as logs:
        async with running(*parts(one, two), workloads=[one, two]) as gateway:
            hosts = [each for state in gateway.engine.runtime.states.values() for each in state.reached()]
            async with trio.open_nursery() as clients:
                for number in range(CLIENTS):
                    clients.start_soon(Chaos(gateway, number).run)
                await trio.sleep(0.4)
                await gateway.engine.drain(trio.current_time() + patience)
                clients.cancel_scope.cancel()

            async def look():
                return left(gateway, hosts)

            await until(look, lambda found: not found, within=10)
    assert not [each for each in logs if each["log_level"] in ("error", "critical")]
