"""Relays whose Export, chain, route or backend is taken away: they have the drain's time, then they end."""

import contextlib

import certs
import pytest
import trio
import trio.testing
from native_engine import running
from relaying import (
    NAME,
    Echo,
    client_context,
    counted,
    parts,
    passing,
    plain,
    server_context,
    settled,
)
from test_tcp_secure import BUNDLES, EAST, INNER, SNI, WEST

from gateway.native.withdrawn import Withdrawn
from gateway.snapshot import (
    AccessLog,
    DownstreamTls,
    EndpointSet,
    FilterChain,
    Inbound,
    Listener,
    ListenerKind,
    Node,
    TlsMode,
)

OTHER = "outbound|9000||other.test"


class Relay:
    def __init__(self, backend):
        self.context, self.address, self.backend_name, self.ended = backend, "127.0.0.1", backend, False

    def withdraw(self):
        self.ended = True


def test_who_is_not_offered_any_more_has_until_then_and_who_is_again_is_spared():
    offered = {"a", "b", "c"}
    a, b, c, unknown = relays = [Relay("a"), Relay("b"), Relay("c"), Relay("")]
    withdrawn = Withdrawn(relays, lambda context, address, backend: backend in offered)

    def look(until):
        assert len(list(withdrawn.look(until))) == len(relays)

    look(10)
    withdrawn.tick(11)
    offered.clear()
    look(20)
    look(30)  # the time that it was given stands
    offered.add("b")
    look(40)
    withdrawn.tick(19)
    assert not any(each.ended for each in (a, b, c))
    withdrawn.tick(20)
    assert [each.ended for each in (a, b, c, unknown)] == [True, False, True, False]
    assert repr(withdrawn) == "<Withdrawn 0 of 4>"


def node(drain_ms, path="/dev/null"):
    return Node("gw", "east", drain_ms=drain_ms, access_log=AccessLog(str(path)))


async def says(stream, data=b"x"):
    await stream.send_all(data)
    assert await stream.receive_some() == data


async def ends(stream):
    with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
        assert await stream.receive_some() == b""


GONE = {
    "the listener": lambda port: ([], [f"listener/127.0.0.1:{port}"]),
    "the chain": lambda port: ([Listener("127.0.0.1", port, ListenerKind.GATEWAY)], []),
    "the route": lambda port: ([Listener("127.0.0.1", port, ListenerKind.GATEWAY, (plain((OTHER, 1)),))], []),
    "the backend": lambda port: (
        [Listener("127.0.0.1", port, ListenerKind.GATEWAY, (plain((OTHER, 1)),))],
        [f"backend/{NAME}", f"endpoints/{NAME}"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", GONE)
async def test_a_relay_ends_when_its_time_is_over(tmp_path, what):
    echo, path = Echo(), tmp_path / "log"
    async with (
        running(*parts(echo), *parts(name=OTHER), workloads=[echo], chain=plain(), node=node(300, path)) as gateway,
        await gateway.connect() as stream,
    ):
        await says(stream)
        began = trio.current_time()
        set_, removed = GONE[what](gateway.port)
        gateway.snapshots.set(gateway.snapshots.value.changed(set_, removed))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await says(stream)
        await ends(stream)
        assert 0.25 <= trio.current_time() - began < 2
        await settled(gateway)
        assert counted(gateway) == [1, 1, 2, 2]
        assert not gateway.engine.runtime.relays
    assert b" 0 - - no_longer_offered " in path.read_bytes()


async def test_what_goes_on_being_offered_goes_on():
    """Another share, another chain beside it, its endpoints gone; and one that is offered again in time."""
    echo = Echo()
    async with (
        running(*parts(echo), *parts(name=OTHER), workloads=[echo], chain=plain(), node=node(0)) as gateway,
        await gateway.connect() as stream,
    ):
        await says(stream)
        for chains in ((plain((OTHER, 9), (NAME, 1)),), (plain((OTHER, 1), (NAME, 0)),), (passing("b.test", name=OTHER), plain())):
            listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, chains)
            gateway.snapshots.set(gateway.snapshots.value.changed([listener, EndpointSet(NAME, ())]))
            if len(chains) > 1:
                break  # the port wants TLS now: a new plain connection would be refused
            await trio.sleep(0.1)
            await says(stream)
        await ends(stream)


@pytest.mark.slow
async def test_names_decide_for_connections_by_tls():
    echo = Echo(secure=server_context())
    async with running(*parts(echo), workloads=[echo], chain=passing("a.test", "*.auto.test"), node=node(0)) as gateway:
        streams = {}
        for name in ("a.test", "x.auto.test"):
            stream = trio.SSLStream(await gateway.connect(), client_context(), server_hostname=name, https_compatible=True)
            await says(stream)
            streams[name] = stream
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (passing("a.test"),))
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await ends(streams["x.auto.test"])
        await says(streams["a.test"])
        for stream in streams.values():
            await trio.aclose_forcefully(stream)


@pytest.mark.slow
async def test_auto_passthrough_ends_with_its_host():
    echo = Echo(secure=server_context())

    def chain(*hosts):
        return FilterChain("auto", auto=True, passthrough=True, auto_hosts=hosts)

    async with running(*parts(echo, name=INNER), workloads=[echo], chain=chain("*.test"), node=node(0)) as gateway:
        stream = trio.SSLStream(await gateway.connect(), client_context(), server_hostname=SNI, https_compatible=True)
        await says(stream)
        for hosts in (("tcp.test",), ("other.test",)):
            await says(stream)
            listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (chain(*hosts),))
            gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
            await trio.sleep(0.1)
        await ends(stream)
        await trio.aclose_forcefully(stream)


ID = certs.gateway_id("west.example")
WITHDRAWN = {
    "withdrawn": ([], [f"inbound/{SNI}"]),
    "for others now": ([Inbound(SNI, INNER, ("north.example",), (certs.gateway_id("north.example"),))], []),
}


@contextlib.asynccontextmanager
async def east_west(echo, inbound):
    """A gateway that offers this to peers; what is withdrawn there has no time left."""
    leaf = certs.gateway_leaf(EAST, "east.example")
    tls = DownstreamTls(TlsMode.ISTIO_MUTUAL, (leaf.ref,), bundles=BUNDLES, alpn=("istio",))
    async with running(
        *parts(echo, name=INNER),
        inbound,
        workloads=[echo],
        chain=FilterChain("east-west", tls=tls),
        kind=ListenerKind.EAST_WEST,
        node=node(0),
    ) as gateway:
        gateway.secrets.set(certs.secrets(leaf))
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield gateway


@pytest.mark.slow
@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("how", WITHDRAWN)
async def test_an_export_that_is_withdrawn_ends_what_came_by_it(how, passthrough):
    echo = Echo(secure=server_context() if passthrough else None)
    inbound = Inbound(SNI, INNER, (), (), passthrough=True) if passthrough else Inbound(SNI, INNER, ("west.example",), (ID,))
    async with east_west(echo, inbound) as gateway:
        context = client_context() if passthrough else peer()
        stream = trio.SSLStream(await gateway.connect(), context, server_hostname=SNI, https_compatible=True)
        await says(stream)
        gateway.snapshots.set(gateway.snapshots.value.changed([Inbound("more", INNER, (), (), passthrough=True)]))
        await trio.sleep(0.1)
        await says(stream)
        gateway.snapshots.set(gateway.snapshots.value.changed(*WITHDRAWN[how]))
        await ends(stream)
        await trio.aclose_forcefully(stream)
        await settled(gateway)


@pytest.mark.slow
@pytest.mark.parametrize("withdrawn", [True, False])
async def test_who_was_shaking_hands_when_it_was_withdrawn_is_not_relayed(withdrawn):
    """Its chain was chosen before, and its relay begins after all were looked at."""
    echo = Echo()
    inbound = Inbound(SNI, INNER, ("west.example",), (ID,))
    async with east_west(echo, inbound) as gateway:
        raw = Halting(await gateway.connect())
        stream = trio.SSLStream(raw, peer(), server_hostname=SNI, https_compatible=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            await raw.greeted.wait()
            change = WITHDRAWN["withdrawn"] if withdrawn else ([Inbound("more", INNER, (), (), passthrough=True)], [])
            gateway.snapshots.set(gateway.snapshots.value.changed(*change))
            await trio.sleep(0.1)
            raw.go_on.set()
        if withdrawn:
            await ends(stream)
            assert not gateway.engine.runtime.relays
        else:
            await says(stream)
        await trio.aclose_forcefully(stream)
        await settled(gateway)


class Halting(trio.abc.HalfCloseableStream):
    """A client's end that stops before its second flight, until it may go on."""

    def __init__(self, inner):
        self._inner, self._flights = inner, 0
        self.greeted, self.go_on = trio.Event(), trio.Event()

    async def send_all(self, data):
        self._flights += 1
        if self._flights == 2:
            self.greeted.set()
            await self.go_on.wait()
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self):
        await self._inner.wait_send_all_might_not_block()

    async def send_eof(self):
        await self._inner.send_eof()

    async def receive_some(self, max_bytes=None):
        return await self._inner.receive_some(max_bytes)

    async def aclose(self):
        await self._inner.aclose()


def peer():
    """A client context of the gateway in the west."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=EAST.bundle)
    context.set_alpn_protocols(["istio"])
    certs.gateway_leaf(WEST, "west.example").load_into(context)
    return context
