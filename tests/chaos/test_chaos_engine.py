"""One engine in the test's own loop: clients that give up half-way, endpoints that hang, stall, cut and vanish, and Snapshots that change
meanwhile. When all is over no strand, no descriptor and no trio task is left of it."""

import contextlib
import os
import random

import h2.config
import h2.connection
import h2.exceptions
import pytest
import trio
from native_engine import NAME, OK, Workload, backend, endpoint, host, running
from native_engine import forward as forwarding
from running_gateway import until

from gateway.native.splice import PIPES
from gateway.snapshot import Balance, EndpointSet, RetryPolicy

pytestmark = pytest.mark.slow

CLIENTS = 200
TURNS = 6
BIG = b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n" + b"x" * 300_000


async def hang(stream, data):
    """Takes the request and says nothing until the other side has had enough."""
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.receive_some()
    return False


async def cut(stream, data):
    """Half an answer."""
    await stream.send_all(BIG[:1000])
    return False


async def drip(stream, data):
    """A body that comes slowly."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(5):
        await stream.send_all(b"5\r\ndrops\r\n")
        await trio.sleep(0.01)
    await stream.send_all(b"0\r\n\r\n")
    return True


async def vanish(stream, data):
    return False


def big(data):
    return BIG


HABITS = [OK, big, hang, cut, drip, vanish, OK, OK]


class Client:
    """A connection on which something is done, and which is dropped at any moment."""

    def __init__(self, gateway, seed):
        self.gateway, self.rng = gateway, random.Random(seed)

    async def run(self):
        for _ in range(TURNS):
            with (
                contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
                trio.move_on_after(self.rng.uniform(0.01, 0.5)),
            ):
                stream = await self.gateway.connect()
                try:
                    await self.rng.choice((self.keep, self.upload, self.unfinished, self.silent, self.multiplexed))(stream)
                finally:
                    await trio.aclose_forcefully(stream)

    async def keep(self, stream):
        while True:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
            if not await stream.receive_some():
                return

    async def upload(self, stream):
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(100):
            await stream.send_all(b"u" * 10_000)
        await stream.receive_some()

    async def unfinished(self, stream):
        await stream.send_all(b"GET /half HTTP/1.1\r\nhost: a.te")
        await stream.receive_some()

    async def silent(self, stream):
        await stream.receive_some()

    async def multiplexed(self, stream):
        """HTTP/2: streams begun, some reset, none read to its end."""
        made = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        made.initiate_connection()
        while True:
            for _ in range(min(5, made.remote_settings.max_concurrent_streams - made.open_outbound_streams)):
                number = made.get_next_available_stream_id()
                made.send_headers(
                    number,
                    [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")],
                    end_stream=self.rng.random() < 0.7,
                )
                if self.rng.random() < 0.3:
                    made.reset_stream(number)
            await stream.send_all(made.data_to_send())
            data = await stream.receive_some()
            if not data:
                return
            with contextlib.suppress(h2.exceptions.ProtocolError):
                made.receive_data(data)


def descriptors():
    """Without the ends of pipes that are kept for the next splice."""
    return len(os.listdir("/proc/self/fd")) - 2 * len(PIPES.free)


def parts(workloads, number):
    """The `number`th Snapshot's: another balance, another subset of the endpoints."""
    places = tuple(endpoint(each.port) for index, each in enumerate(workloads) if index != number % (2 * len(workloads)))
    balance = (Balance.LEAST_REQUEST, Balance.ROUND_ROBIN, Balance.RANDOM)[number % 3]
    retry = RetryPolicy(conditions=("connect-failure", "reset", "refused-stream"), immediate=True)
    timeout_ms = 300 if number % 2 else 0
    return backend(balance=balance), EndpointSet(NAME, places), host(forwarding(retry=retry, timeout_ms=timeout_ms))


async def settles(read, wanted):
    """Wait until what is read is at most that."""

    async def now():
        return read()

    await until(now, lambda count: count <= wanted, within=10)


async def test_nothing_is_left_over():
    workloads = [Workload(habit) for habit in HABITS]
    async with running(*parts(workloads, 1), workloads=workloads) as gateway:  # one with a timeout
        assert (await gateway.get()).startswith((b"HTTP/1.1 200", b"HTTP/1.1 50"))
        reactor = gateway.engine.reactor
        gateway.snapshots.set(gateway.snapshot(*without_endpoints()))
        await settles(lambda: sum(each.open for each in workloads), 0)
        await settles(lambda: len(reactor.strands), 1)  # a first sweep: what the warm-up left
        strands, fds, tasks = len(reactor.strands), descriptors(), trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, gateway, workloads)
            async with trio.open_nursery() as clients:
                for seed in range(CLIENTS):
                    clients.start_soon(Client(gateway, seed).run)
            nursery.cancel_scope.cancel()
        gateway.snapshots.set(gateway.snapshot(*without_endpoints()))
        await settles(lambda: len(reactor.strands), strands)
        await settles(lambda: sum(each.open for each in workloads), 0)
        await settles(lambda: trio.lowlevel.current_statistics().tasks_living, tasks)
        await settles(descriptors, fds)
        statistics = gateway.engine.statistics()
        assert statistics.downstream_connections == 0
        assert statistics.downstream_connections_total > CLIENTS


def without_endpoints():
    return backend(), EndpointSet(NAME, ()), host(forwarding())


async def change(gateway, workloads):
    number = 0
    while True:
        number += 1
        gateway.snapshots.set(gateway.snapshot(*parts(workloads, number)))
        await trio.sleep(0.05)
