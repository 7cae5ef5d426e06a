"""Two gateways' control sides over real sockets: the descriptor handed over with the hello already read, gateways stopped and started."""

import socket

import pytest
import trio
from gateways import Site
from sessions import service

from discovery.update import Reset
from federation.peering.dial import connect
from federation.peering.link import PeerLink
from federation.peering.status import LinkState
from gateway.native.codec.hello import Hello, NeedMore, read_hello
from gateway.verdicts import AddressState


async def greet(stream):
    """What a worker does: read until the hello is whole."""
    data = b""
    while isinstance(read_hello(data), NeedMore):
        data += await stream.receive_some()
    return data


class Port:
    """A listening socket on loopback in front of a site, as its workers are; `stopped` takes connections and does nothing more."""

    def __init__(self, site, nursery):
        self.site, self.nursery, self.stopped, self.names = site, nursery, False, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.number = self.listener.getsockname()[1]
        self.key = f"127.0.0.1:{self.number}"
        self._accepting = None

    async def open(self):
        self.listener.setblocking(False)
        self._accepting = await self.nursery.start(self._run)

    async def _run(self, task_status):
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self.listener))
        self.closed = trio.Event()
        try:
            await self._listen(listener, task_status)
        finally:
            self.closed.set()

    async def _listen(self, listener, task_status):
        async with listener, trio.open_nursery() as inner:
            task_status.started(inner.cancel_scope)
            while True:
                stream = await listener.accept()
                inner.start_soon(self._take, stream)

    async def _take(self, stream):
        async with stream:
            await self._serve(stream)

    async def _serve(self, stream):
        if self.stopped:
            await trio.sleep_forever()
        data = await greet(stream)
        hello = read_hello(data)
        assert isinstance(hello, Hello)
        self.names.append(hello.server_name)
        handed = socket.socket(fileno=socket.dup(stream.socket.fileno()))  # as by SCM_RIGHTS: another descriptor of the connection
        stream.socket.close()
        await self.site.server.serve(handed, data)

    async def kill(self):
        self._accepting.cancel()
        await self.closed.wait()

    async def again(self):
        self.listener = socket.create_server(("127.0.0.1", self.number))
        await self.open()


@pytest.fixture
async def gateway(nursery):
    east, west = Site("east"), Site("west")
    west.knows(east)
    west.offers.set((service("a", 1, 2),))
    port = Port(west, nursery)
    await port.open()

    async def lookup(host):
        return ["127.0.0.1"]

    terms = west.terms(f"localhost:{port.number}")
    link = PeerLink(terms, hello=east.hello, credential=east.credential, lookup=lookup, dial=connect)
    await nursery.start(link.run)
    return port, link


async def until(watchable, condition):
    seen = -1
    while True:
        seen, value = await watchable.newer_than(seen)
        if condition(value):
            return value


def in_state(state):
    return lambda status: any(each.state is state for each in status.addresses)


@pytest.mark.slow
async def test_the_whole_way(gateway):
    port, link = gateway
    with trio.fail_after(10):
        async with link.watch() as updates:
            first = await updates.receive()
            assert isinstance(first, Reset)
            [endpoint] = first.services[0].endpoints
            assert (endpoint.address, endpoint.port("http")) == ("127.0.0.1", port.number)
            port.site.offers.set((service("a", 0, 2),))
            assert (await updates.receive()).service.endpoints[0].healthy == 0
            port.site.offers.set(tuple(service(f"s{n}") for n in range(3000)))  # more than one window of messages
            names = set()
            while len(names) < 3000:
                update = await updates.receive()
                if hasattr(update, "service"):
                    names.add(update.service.hostname)
        status = await until(link.status, lambda s: s.rtt_ms > 0)
        assert status.state is LinkState.CONNECTED
        assert port.names == ["peering.west.example.com"]


@pytest.mark.slow
async def test_killed_and_back_within_a_second(gateway):
    port, link = gateway
    with trio.fail_after(20):
        await until(link.status, in_state(LinkState.CONNECTED))
        await port.kill()
        await until(link.addresses, lambda a: a == {port.key: AddressState.SUSPECT})
        status = await until(link.status, lambda s: "cannot connect" in s.error)
        assert status.imported == 1
        await port.again()
        back = trio.current_time()
        await until(link.status, in_state(LinkState.CONNECTED))
        assert trio.current_time() - back < 1.5
        assert link.addresses.value == {}


@pytest.mark.slow
async def test_stopped_takes_connections_and_says_nothing(gateway):
    port, link = gateway
    with trio.fail_after(20):
        await until(link.status, in_state(LinkState.CONNECTED))
        await port.kill()
        port.stopped = True
        await port.again()
        status = await until(link.status, lambda s: "no TLS handshake" in s.error)
        assert "is the gateway there stopped?" in status.error
        assert link.addresses.value == {port.key: AddressState.SUSPECT}
