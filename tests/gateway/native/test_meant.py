"""Where clients themselves mean to go, end to end: names that a worker looks up, addresses, who may, and where connections leave from."""

import contextlib
import struct

import certs
import pytest
import trio
from h2_server import _connection as answer_h2
from native_engine import NAME, OK, Workload, backend, endpoint, forward, host, listening, read_all, running
from relaying import NAME as RELAYED
from relaying import Echo, passing, plain, secure, server_context, settled, until
from relaying import backend as relayed
from zone import Zone

from gateway.parts.access import Allowed
from gateway.parts.name import Dns
from gateway.snapshot import (
    AccessLog,
    Balance,
    EndpointSet,
    Http2,
    Listener,
    ListenerKind,
    Node,
    RetryPolicy,
    UpstreamTls,
    UpstreamTlsMode,
)

LOCAL = ("127.0.0.0/8",)
AT_ONCE = RetryPolicy(immediate=True)


def dynamic(name=NAME, made=backend, **options):
    options = {"dynamic_hosts": ("*.dyn.test",), "dynamic_networks": LOCAL, "balance": Balance.PASSTHROUGH} | options
    return made(name, dynamic_dns=True, **options)


def routed(part, **more):
    return part, EndpointSet(NAME, ()), host(forward(retry=AT_ONCE, **more))


class Names:
    """A nameserver beside a gateway; log: the gateway's access log so far."""

    def __init__(self, folder, records):
        self.zone = Zone({(name, "A"): list(addresses) for name, addresses in records.items()})
        self.path = folder / "access.log"
        self.log = self.path.read_text
        self.node = None

    async def start(self, nursery, **options):
        port = await nursery.start(self.zone.serve)
        dns = Dns(upstreams=(("127.0.0.1", port),))
        self.node = Node(name="gw", cluster="east", dns=dns, access_log=AccessLog(str(self.path)), **options)


@contextlib.asynccontextmanager
async def named(folder, records, *parts, **options):
    names = Names(folder, records)
    async with trio.open_nursery() as nursery:
        await names.start(nursery)
        async with running(*parts, node=names.node, **options) as gateway:
            gateway.names = names
            yield gateway
        nursery.cancel_scope.cancel()


def status(answer):
    return int(answer.split(b" ", 2)[1])


async def applied(gateway):
    await until(lambda: gateway.engine.statistics().version == gateway.snapshots.value.version)


async def test_a_name_below_the_wildcard_is_looked_up_and_asked_for(tmp_path):
    workload = Workload()
    parts = routed(dynamic(dynamic_port=workload.port))
    async with named(tmp_path, {"a.dyn.test": ["127.0.0.1"]}, *parts, workloads=[workload]) as gateway:
        assert status(await gateway.get(host="A.dyn.test.")) == 200
        assert status(await gateway.get(host="a.dyn.test:99")) == 200  # whose port it is, is not the client's to say
        assert [b"host: A.dyn.test." in workload.requests[0], b"host: a.dyn.test:99" in workload.requests[1]] == [True, True]
        assert gateway.names.zone.asked == [("a.dyn.test", "A")]
        assert workload.connections == 1
        (statistics,) = gateway.engine.statistics().backends
        assert statistics.traffic == ((0, "", "", 2),)
    assert f'"127.0.0.1:{workload.port}" {NAME}' in gateway.names.log()


@pytest.mark.parametrize(
    ("asked", "expected", "detail"),
    [
        ("inside.dyn.test", 403, "destination_not_allowed{private_address}"),
        ("a.other.test", 403, "destination_not_allowed{host}"),
        ("dyn.test", 403, "destination_not_allowed{host}"),
        ("127.0.0.1", 403, "destination_not_allowed{address}"),
        ("[::1]:80", 403, "destination_not_allowed{address}"),
        ("gone.dyn.test", 503, "dns_resolution_failure{no_address}"),
    ],
)
async def test_what_may_not_be_named(tmp_path, asked, expected, detail):
    workload = Workload()
    parts = routed(dynamic(dynamic_port=workload.port, dynamic_networks=()))
    async with named(tmp_path, {"inside.dyn.test": ["127.0.0.1", "10.0.0.1"]}, *parts, workloads=[workload]) as gateway:
        assert status(await gateway.get(host=asked)) == expected
        assert not workload.connections
    assert detail in gateway.names.log()
    assert (" DF " in gateway.names.log()) is (expected == 503)


async def test_another_address_of_the_name_is_tried_and_then_begun_with(tmp_path):
    workload = Workload(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    parts = routed(dynamic(dynamic_port=workload.port))
    records = {"a.dyn.test": ["127.27.0.9", "127.0.0.1"]}
    async with named(tmp_path, records, *parts, workloads=[workload]) as gateway:
        for _ in range(2):
            assert status(await gateway.get(host="a.dyn.test")) == 200
        state = gateway.engine.runtime.states[NAME]
        assert [(host.endpoint.address, host.requests) for host in state.reached()] == [("127.27.0.9", 1), ("127.0.0.1", 2)]
        assert state.retries == 1


async def test_a_route_s_time_covers_the_look_up(tmp_path):
    parts = routed(dynamic(), timeout_ms=100)
    async with named(tmp_path, {}, *parts) as gateway:
        gateway.names.zone.broken["a.dyn.test"] = None
        assert status(await gateway.get(host="a.dyn.test")) == 504
        async with await gateway.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a.dyn.test\r\n\r\n")
        await settled(gateway)
    assert " UT response_timeout " in gateway.names.log()


async def test_an_address_within_the_networks_and_the_port_that_the_client_names(tmp_path):
    workload = Workload()
    parts = routed(dynamic(dynamic_hosts=("*",), dynamic_except=("secret.dyn.test",), dynamic_port=-1))
    records = {"a.dyn.test": ["127.0.0.1"], "secret.dyn.test": ["127.0.0.1"]}
    async with named(tmp_path, records, *parts, workloads=[workload]) as gateway:
        assert status(await gateway.get(host=f"127.0.0.1:{workload.port}")) == 200
        assert status(await gateway.get(host=f"a.dyn.test:{workload.port}")) == 200
        assert status(await gateway.get(host=f"secret.dyn.test:{workload.port}")) == 403
        assert status(await gateway.get(host="10.0.0.1")) == 403


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dynamic", "listed"])
async def test_a_connection_proven_for_one_name_is_not_used_for_another(tmp_path, kind):
    """Over HTTP/2 too, and also where both names are the same endpoint."""
    authority = certs.Authority("outside")
    context = server_context(authority.leaf("a.dyn.test", "b.dyn.test"))
    context.set_alpn_protocols(["h2"])
    asked = []
    context.sni_callback = lambda sslobj, name, _: asked.append(name)
    sock = listening()
    port = sock.getsockname()[1]

    async def serve(stream):
        with contextlib.suppress(trio.BrokenResourceError):
            await answer_h2(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    tls = UpstreamTls(UpstreamTlsMode.SIMPLE, ca=authority.pem, alpn=("h2", "http/1.1"))
    if kind == "dynamic":
        parts = routed(dynamic(dynamic_port=port, tls=tls, http2=Http2(streams=100)))
    else:
        parts = backend(tls=tls, http2=Http2(streams=100)), EndpointSet(NAME, (endpoint(port),)), host(forward())
    records = {"a.dyn.test": ["127.0.0.1"], "b.dyn.test": ["127.0.0.1"], "c.dyn.test": ["127.0.0.1"]}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, [trio.SocketListener(trio.socket.from_stdlib_socket(sock))])
        async with named(tmp_path, records, *parts) as gateway:
            for name in ("a.dyn.test", "a.dyn.test", "b.dyn.test", "a.dyn.test", "b.dyn.test"):
                assert status(await gateway.get(host=name)) == 200
            assert asked == ["a.dyn.test", "b.dyn.test"]
            assert status(await gateway.get(host="c.dyn.test")) == 503  # the certificate is not for it
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------------- who may


async def test_who_may_not_gets_403_and_why_is_logged_and_counted(tmp_path):
    workload = Workload()
    rules = (Allowed(principals=("east/ns/shop/sa/*",)), Allowed(ip_blocks=("127.0.0.1",)))
    parts = backend(allowed=rules), EndpointSet(NAME, (endpoint(workload.port),)), host(forward())
    async with named(tmp_path, {}, *parts, workloads=[workload]) as gateway:
        assert status(await gateway.get()) == 200
        gateway.snapshots.set(gateway.snapshot(backend(allowed=rules[:1]), *parts[1:]))
        await applied(gateway)
        answer = await gateway.get()
        assert status(answer) == 403
        assert answer.endswith(b"RBAC: access denied")
        statistics = gateway.engine.statistics()
        assert statistics.backends[0].access == ((False, "no_client_certificate", 1), (True, "from[1]", 1))
        assert dict(statistics.refused) == {"access-denied": 1}
        assert len(workload.requests) == 1
    assert " 403 - rbac_access_denied_matched_policy[none]{no_client_certificate} " in gateway.names.log()


async def test_who_may_not_is_closed_over_tcp(tmp_path):
    echo = Echo(b"hello")
    parts = relayed(allowed=(Allowed(ip_blocks=("10.0.0.0/8",)),)), EndpointSet(RELAYED, (endpoint(echo.port),))
    async with named(tmp_path, {}, *parts, workloads=[echo], chain=plain()) as gateway:
        assert await gateway.ask(b"") == b""
        await settled(gateway)
        assert not echo.connections
        assert gateway.engine.statistics().backends[0].access == ((False, "address_not_allowed", 1),)
    assert "rbac_access_denied_matched_policy[none]{address_not_allowed}" in gateway.names.log()


# ------------------------------------------------------------------------------------------------------ relayed by name


async def test_tls_goes_where_its_client_hello_says(tmp_path):
    echo = Echo(secure=server_context())
    parts = dynamic(RELAYED, relayed, dynamic_hosts=("*.auto.test",), dynamic_port=echo.port), EndpointSet(RELAYED, ())
    records = {"b.auto.test": ["127.0.0.1"], "inside.auto.test": ["10.0.0.1"]}
    async with named(tmp_path, records, *parts, workloads=[echo], chain=passing()) as gateway:
        assert await secure(gateway, "b.auto.test", b"hello") == b"hello"
        for name in ("a.test", "inside.auto.test", "gone.auto.test"):
            assert await secure(gateway, name, b"hello") is None
        await settled(gateway)
        assert echo.connections == 1
    log = gateway.names.log()
    for words in (
        "NR - destination_not_allowed{host}",
        "destination_not_allowed{private_address}",
        "DF - dns_resolution_failure{no_address}",
    ):
        assert words.split(" - ")[-1] in log


def proxied(address, port):
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(
        "!H4s4sHH", 12, b"\x7f\0\0\x63", bytes(map(int, address.split("."))), 999, port
    )
    return header


@pytest.mark.parametrize(("networks", "answer"), [(("127.0.0.0/8",), b"hello"), (("10.0.0.0/8",), b"")])
async def test_without_names_it_is_where_the_proxy_says_that_it_was_meant_for(tmp_path, networks, answer):
    echo = Echo()
    backends = dynamic(RELAYED, relayed, dynamic_hosts=(), dynamic_networks=networks), EndpointSet(RELAYED, ())
    async with named(tmp_path, {}, *backends, workloads=[echo], chain=plain()) as gateway:
        there = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, gateway.listener.chains, proxy_protocol=True)
        gateway.listener = there
        gateway.snapshots.set(gateway.snapshot(*backends))
        await applied(gateway)
        async with await gateway.connect() as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(proxied("127.0.0.1", echo.port) + b"hello")
                await stream.send_eof()
            assert await read_all(stream) == answer


async def test_a_plain_connection_that_says_nothing_of_where_it_was_meant_for_is_closed(tmp_path):
    backends = dynamic(RELAYED, relayed, dynamic_networks=("0.0.0.0/0",)), EndpointSet(RELAYED, ())
    async with named(tmp_path, {}, *backends, chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b""
        await settled(gateway)
    assert "destination_not_allowed{no_name}" in gateway.names.log()


# ------------------------------------------------------------------------------------------------ where it comes from


async def test_connections_leave_from_the_fixed_address_or_not_at_all(tmp_path):
    seen = []

    async def answer(stream, data):
        seen.append(stream.socket.getpeername()[0])
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    parts = backend(source_address="127.27.3.4"), EndpointSet(NAME, (endpoint(workload.port),)), host(forward())
    async with named(tmp_path, {}, *parts, workloads=[workload]) as gateway:
        assert status(await gateway.get()) == 200
        assert seen == ["127.27.3.4"]
        for absent in ("192.0.2.1", "::1"):
            gateway.snapshots.set(gateway.snapshot(backend(source_address=absent), *parts[1:]))
            await applied(gateway)
            for kept in gateway.engine.runtime.states[NAME].reached():
                kept.pool.close()
                kept.pool = None
            assert status(await gateway.get()) == 503
        assert seen == ["127.27.3.4"]
    assert " UF " in gateway.names.log()


async def test_one_name_at_a_time_keeps_its_connections_when_the_address_changes(tmp_path):
    first, second = Workload(), Workload()
    logical = backend(logical=True)

    def at(workload):
        return EndpointSet(NAME, (endpoint(workload.port, id="db.test:80"),))

    async with named(tmp_path, {}, logical, at(first), host(forward()), workloads=[first, second]) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"GET /1 HTTP/1.1\r\nhost: a.test\r\n\r\n")
            await stream.receive_some()
            gateway.snapshots.set(gateway.snapshot(logical, at(second), host(forward())))
            await applied(gateway)
            await stream.send_all(b"GET /2 HTTP/1.1\r\nhost: a.test\r\n\r\n")
            await stream.receive_some()
        assert (len(first.requests), len(second.requests), first.open) == (2, 0, 1)
        (kept,) = gateway.engine.runtime.states[NAME].hosts.values()
        kept.pool[0].close()
        assert status(await gateway.get("/3")) == 200
        assert (len(first.requests), len(second.requests)) == (2, 1)
