"""Relayed connections and TLS, end to end: passed through by name, ended here, towards endpoints, from gateway to gateway."""

import contextlib
import os

import certs
import trio
import trio.testing
from native_engine import endpoint, running
from relaying import (
    AUTHORITY,
    NAME,
    Echo,
    ask,
    backend,
    client_context,
    counted,
    parts,
    passing,
    plain,
    secure,
    server_context,
    settled,
)

from gateway.snapshot import (
    DownstreamTls,
    EndpointSet,
    FilterChain,
    Inbound,
    Listener,
    ListenerKind,
    TcpRoute,
    TcpSplit,
    TlsMode,
    UpstreamTls,
    UpstreamTlsMode,
)


async def test_passthrough_by_server_name_shows_the_workloads_certificate():
    echo, other = Echo(secure=server_context()), Echo(secure=server_context())
    second = "outbound|9000||other.test"
    listener_chains = (passing("a.test"), passing("*.auto.test", name=second))
    async with running(*parts(echo), *parts(other, name=second), workloads=[echo, other], chain=listener_chains[0]) as gateway:
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, listener_chains)
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        data = os.urandom(400_000)
        assert await secure(gateway, "a.test", data) == data
        assert await secure(gateway, "b.auto.test", b"hello") == b"hello"
        assert (echo.connections, other.connections) == (1, 1)
        assert await secure(gateway, "unknown.test", b"x") is None
        assert await gateway.ask(b"GET / HTTP/1.1\r\n\r\n") == b""
        await settled(gateway)
        assert dict(gateway.engine.statistics().refused) == {"unknown-name": 1, "not-tls": 1}
        assert counted(gateway)[:2] == [2, 2]


async def test_one_listener_passes_some_names_and_ends_others():
    echo = Echo(secure=server_context())
    ended = Echo()
    second = "outbound|9000||ended.test"
    authority = certs.Authority("gateway")
    leaf = authority.leaf("b.test")
    tls = DownstreamTls(TlsMode.SIMPLE, (leaf.ref,))
    here = FilterChain("here", server_names=("b.test",), tls=tls, tcp=(TcpRoute("t", (TcpSplit(second),)),))
    all_parts = (*parts(echo), *parts(ended, name=second))
    async with running(*all_parts, workloads=[echo, ended], chain=passing("a.test")) as gateway:
        gateway.secrets.set(certs.secrets(leaf))
        listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (passing("a.test"), here))
        gateway.snapshots.set(gateway.snapshots.value.changed([listener]))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await secure(gateway, "a.test", b"hello") == b"hello"
        data = os.urandom(1_000_000)
        assert await secure(gateway, "b.test", data, context=client_context(authority)) == data
        assert bytes(ended.saw[0]) == data


async def test_auto_passthrough_takes_the_backend_out_of_the_name():
    echo = Echo(secure=server_context())
    inner = "inbound|9000||tcp.test"
    chain = FilterChain("auto", auto=True, passthrough=True, auto_hosts=("*.test",))
    async with running(*parts(echo, name=inner), backend("inbound|1||no.local"), workloads=[echo], chain=chain) as gateway:
        assert await secure(gateway, "outbound_.9000_._.tcp.test", b"hello") == b"hello"
        for name in ("outbound_.9001_._.tcp.test", "outbound_.1_._.no.local", "tcp.test", "outbound_.9000_.v1_.tcp.test"):
            assert await secure(gateway, name, b"x") is None
        assert echo.connections == 1


async def test_tls_towards_the_endpoint():
    echo = Echo(secure=server_context())
    tls = UpstreamTls(UpstreamTlsMode.SIMPLE, sni="a.test", ca=AUTHORITY.pem)
    async with running(*parts(echo, tls=tls), workloads=[echo], chain=plain()) as gateway, await gateway.connect() as stream:
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"


EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
SNI = "outbound_.9000_._.tcp.test"
INNER = "inbound|9000||tcp.test"
BUNDLES = (("east.example", EAST.bundle), ("west.example", WEST.bundle))


@contextlib.asynccontextmanager
async def east(*more, inbound=None):
    """A gateway's east-west port, open for west."""
    leaf = certs.gateway_leaf(EAST, "east.example")
    tls = DownstreamTls(TlsMode.ISTIO_MUTUAL, (leaf.ref,), bundles=BUNDLES, alpn=("h2", "http/1.1", "istio"))
    inbound = inbound or Inbound(SNI, INNER, ("west.example",), (certs.gateway_id("west.example"),))
    chain = FilterChain("east-west", tls=tls)
    async with running(*more, inbound, chain=chain, kind=ListenerKind.EAST_WEST, workloads=[]) as gateway:
        gateway.secrets.set(certs.secrets(leaf))
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield gateway


async def test_tcp_from_one_gateway_to_the_other():
    echo = Echo(b"from east ")
    leaf = certs.gateway_leaf(WEST, "west.example")
    to_east = UpstreamTls(
        UpstreamTlsMode.ISTIO_MUTUAL,
        sni=SNI,
        bundles=BUNDLES,
        certificate=leaf.ref,
        subject_alt_names=(certs.gateway_id("east.example"),),
        alpn=("h2", "http/1.1"),
        peer=True,
    )
    async with east(*parts(echo, name=INNER)) as there, trio.open_nursery() as nursery:
        nursery.start_soon(echo.run)
        far = endpoint(there.port, peer="east")
        async with running(backend(peer_tls=(("east", to_east),)), EndpointSet(NAME, (far,)), chain=plain(), workloads=[]) as here:
            here.secrets.set(certs.secrets(leaf))
            await trio.testing.wait_all_tasks_blocked(0.01)
            data = os.urandom(1_000_000)
            async with await here.connect() as stream:
                assert await ask(stream, data) == b"from east " + data
            await settled(here)
            await settled(there)
            assert counted(here) == [1, 1, len(data) + 10, len(data)]
            assert counted(there) == counted(here)
            labels = dict(there.engine.statistics().tcp[0].labels)
            assert (labels["reporter"], labels["source_principal"]) == ("destination", certs.gateway_id("west.example"))
            assert labels["connection_security_policy"] == "mutual_tls"
        nursery.cancel_scope.cancel()


async def test_a_passthrough_export_is_not_decrypted():
    echo = Echo(secure=server_context())
    inbound = Inbound(SNI, INNER, (), (), passthrough=True)
    async with east(*parts(echo, name=INNER), inbound=inbound) as there, trio.open_nursery() as nursery:
        nursery.start_soon(echo.run)
        assert await secure(there, SNI, b"hello") == b"hello"
        assert await secure(there, "outbound_.9001_._.tcp.test", b"hello") is None
        nursery.cancel_scope.cancel()
