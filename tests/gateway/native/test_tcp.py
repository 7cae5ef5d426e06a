"""Relayed connections end to end: a native engine on real sockets, from the client's first byte to what metrics and log say."""

import contextlib
import os
import socket
import struct

import pytest
import trio
import trio.testing
from native_engine import endpoint, listening, running
from relaying import (
    NAME,
    Echo,
    ask,
    backend,
    counted,
    parts,
    plain,
    settled,
    until,
)

from gateway.native import splice
from gateway.snapshot import (
    AccessLog,
    EndpointSet,
    FilterChain,
    Limits,
    Listener,
    ListenerKind,
    Node,
    TcpRoute,
    TcpSplit,
)
from gateway.verdicts import AddressState, Verdicts


async def test_bytes_both_ways_half_close_metrics_and_log(tmp_path):
    log = tmp_path / "access.log"
    node = Node("gw", "east", access_log=AccessLog(str(log)))
    echo = Echo(b"hello ")
    async with running(*parts(echo), workloads=[echo], chain=plain(), node=node) as gateway:
        async with await gateway.connect() as stream:
            assert await ask(stream, b"world") == b"hello world"
            client = "{}:{}".format(*stream.socket.getsockname())
        await settled(gateway)
        assert counted(gateway) == [1, 1, 11, 5]
        state = gateway.engine.runtime.states[NAME]
        assert state.active == 0
        (statistics,) = gateway.engine.statistics().endpoints
        assert (statistics.connections, statistics.active, statistics.requests) == (0, 0, 1)
        labels = dict(gateway.engine.statistics().tcp[0].labels)
        assert labels["request_protocol"] == "tcp"
        assert labels["destination_service"] == "tcp.test"
        assert labels["reporter"] == "source"
    line = log.read_text()
    assert '"- - -" 0 - - - "-" 5 11 ' in line
    assert f'- "-" "-" "-" "-" "127.0.0.1:{echo.port}" {NAME} 127.0.0.1:' in line
    assert line.endswith(f" 127.0.0.1:{gateway.port} {client} - -\n")


@pytest.mark.slow
async def test_megabytes_are_the_same_bytes_and_leave_no_descriptor():
    echo = Echo()
    data = os.urandom(6_000_000)
    splice.PIPES.close()
    async with running(*parts(echo), workloads=[echo], chain=plain()) as gateway:

        async def once():
            async with await gateway.connect() as stream:
                assert await ask(stream, data) == data

        await once()
        await settled(gateway)
        splice.PIPES.close()
        before = len(os.listdir("/proc/self/fd"))
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(once)
        await settled(gateway)
        assert counted(gateway)[2:] == [5 * len(data)] * 2
        splice.PIPES.close()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_shares_are_drawn_once_a_connection():
    near, far = Echo(b"near"), Echo(b"far")
    other = "outbound|9000||far.test"
    draws = iter([0.1, 0.76, 0.74, 0.99, 0.0] * 10)
    chain = plain((NAME, 3), (other, 1))
    both = (*parts(near), *parts(far, name=other))
    async with running(*both, workloads=[near, far], chain=chain) as gateway:
        gateway.engine.runtime.random = lambda: next(draws)
        got = [await gateway.ask(b"", size=1) for _ in range(5)]
    assert got == [b"near", b"far", b"near", b"far", b"near"]


async def test_the_address_that_the_client_connected_to_chooses_the_route():
    near, far = Echo(b"near"), Echo(b"far")
    other = "outbound|9000||far.test"
    routes = (
        TcpRoute("other", (TcpSplit(other),), ("10.0.0.0/8",)),
        TcpRoute("this", (TcpSplit(NAME),), ("127.0.0.0/8",)),
    )
    both = (*parts(near), *parts(far, name=other))
    async with running(*both, workloads=[near, far], chain=FilterChain("tcp", tcp=routes)) as gateway:
        assert await gateway.ask(b"", size=4) == b"near"
        gateway.snapshots.set(
            gateway.snapshot(*both).changed(
                [Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY, (plain(subnets=["10.0.0.0/8"]),))]
            )
        )
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await gateway.ask(b"", size=4) == b""
        await settled(gateway)
        assert counted(gateway, "NR")[:2] == [1, 1]


def refusing():
    """A port that refuses connections."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_an_endpoint_that_refuses_costs_no_connection():
    echo = Echo(b"alive")
    endpoints = EndpointSet(NAME, (endpoint(echo.port), *(endpoint(refusing()) for _ in range(2))))
    async with running(backend(), endpoints, workloads=[echo], chain=plain()) as gateway:
        assert {await gateway.ask(b"", size=5) for _ in range(20)} == {b"alive"}
        assert gateway.engine.runtime.states[NAME].retries > 0


async def test_under_istios_defaults_there_is_one_attempt():
    echo = Echo(b"alive")
    endpoints = EndpointSet(NAME, (endpoint(refusing()), endpoint(echo.port, priority=1)))
    node = Node("gw", "east", defaults="istio")
    async with running(backend(), endpoints, workloads=[echo], chain=plain(), node=node) as gateway:
        assert await gateway.ask(b"") == b""
        await settled(gateway)
        assert counted(gateway, "UF,URX") == [1, 1, 0, 0]
        assert gateway.engine.runtime.states[NAME].active == 0


@pytest.mark.parametrize("missing", [True, False])
async def test_nowhere_to_go_closes_without_a_byte(missing):
    async with running(backend(), chain=plain()) as gateway:
        if missing:
            gateway.engine.runtime.states.pop(NAME)  # no Snapshot that is valid can say so
        assert await gateway.ask(b"hello") == b""
        await settled(gateway)
        assert counted(gateway, "NC" if missing else "UH")[:2] == [1, 1]


async def test_more_connections_than_allowed_are_closed():
    echo = Echo(b"alive")
    async with running(*parts(echo, limits=Limits(connections=1)), workloads=[echo], chain=plain()) as gateway:
        async with await gateway.connect() as first:
            assert await first.receive_some(5) == b"alive"
            assert await gateway.ask(b"") == b""
        await settled(gateway)
        assert counted(gateway, "UO")[:2] == [1, 1]
        assert await gateway.ask(b"", size=5) == b"alive"


@pytest.mark.slow
async def test_idle_connections_and_old_ones_end():
    echo = Echo()
    async with running(*parts(echo, tcp_idle_timeout_ms=100), workloads=[echo], chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b"hello"
    echo = Echo()
    async with running(*parts(echo, max_connection_ms=100), workloads=[echo], chain=plain()) as gateway:
        assert await gateway.ask(b"hello") == b"hello"
        await settled(gateway)
        assert counted(gateway, "DT") == [0, 1, 5, 5]
        assert counted(gateway)[:2] == [1, 0]


async def test_a_reset_endpoint_resets_the_client():
    async def rude(sock):
        accepted, _ = await sock.accept()
        await accepted.recv(5)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()

    rude_socket = listening()
    port = rude_socket.getsockname()[1]
    with rude_socket:
        async with (
            running(backend(), EndpointSet(NAME, (endpoint(port),)), chain=plain()) as gateway,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(rude, trio.socket.from_stdlib_socket(rude_socket))
            async with await gateway.connect() as stream:
                await stream.send_all(b"hello")
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await settled(gateway)
            assert counted(gateway, "UC")[:2] == [0, 1]


async def test_a_client_that_resets_while_the_endpoint_hangs_is_let_go():
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    full = [socket.socket() for _ in range(3)]
    with silent, contextlib.ExitStack() as stack:
        for each in full:  # fill its queue: from now on connecting hangs
            stack.enter_context(each)
            each.setblocking(False)
            each.connect_ex(silent.getsockname())
        hanging = EndpointSet(NAME, (endpoint(silent.getsockname()[1]),))
        async with running(backend(connect_timeout_ms=10_000), hanging, chain=plain()) as gateway:
            stream = await gateway.connect()
            await until(lambda: gateway.engine.runtime.states[NAME].active)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()
            await settled(gateway)
            assert counted(gateway, "DC")[:2] == [1, 1]
            assert gateway.engine.runtime.states[NAME].active == 0


async def test_a_relay_outlives_its_endpoint_and_its_backend():
    echo = Echo()
    limits = Limits(connections=5, requests=5)
    async with running(*parts(echo, limits=limits), workloads=[echo], chain=plain()) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"one")
            assert await stream.receive_some() == b"one"
            gateway.snapshots.set(gateway.snapshots.value.changed([EndpointSet(NAME, ())]))
            await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(b"two")
            assert await stream.receive_some() == b"two"
            assert await gateway.ask(b"new") == b""
            listener = Listener("127.0.0.1", gateway.port, ListenerKind.GATEWAY)
            without = [f"backend/{NAME}", f"endpoints/{NAME}"]
            gateway.snapshots.set(gateway.snapshots.value.changed([listener], without))
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert NAME not in gateway.engine.runtime.states
            assert await ask(stream, b"three") == b"three"
        await settled(gateway)
        assert counted(gateway) == [1, 1, 11, 11]
        assert not gateway.engine.reactor.strands


@pytest.mark.slow
async def test_a_drain_ends_relays_at_its_deadline(tmp_path):
    echo = Echo()
    node = Node("gw", "east", access_log=AccessLog(str(tmp_path / "log")))
    async with running(*parts(echo), workloads=[echo], chain=plain(), node=node) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"one")
            assert await stream.receive_some() == b"one"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(gateway.engine.drain, trio.current_time() + 0.3)
                await stream.send_all(b"two")
                assert await stream.receive_some() == b"two"
            assert await stream.receive_some() == b""
        assert counted(gateway, "DC") == [0, 1, 6, 6]
        assert not gateway.engine.reactor.strands
    assert " DC " in (tmp_path / "log").read_text()


async def test_an_endpoint_that_is_found_gone_is_left_before_it_answers():
    """Its connection hangs; control says that the address is down: the client need not wait for the connect timeout."""
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))
    silent.listen(0)
    echo = Echo(b"alive")
    with silent, contextlib.ExitStack() as stack:
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(silent.getsockname())
        hanging = endpoint(silent.getsockname()[1])
        endpoints = EndpointSet(NAME, (hanging, endpoint(echo.port, priority=1)))
        async with running(backend(connect_timeout_ms=15_000), endpoints, workloads=[echo], chain=plain()) as gateway:
            async with await gateway.connect() as stream:
                await until(lambda: gateway.engine.runtime.states[NAME].active)
                gateway.verdicts.set(Verdicts(addresses={hanging.key: AddressState.DOWN}))
                assert await stream.receive_some() == b"alive"
            await settled(gateway)
            assert gateway.engine.runtime.states[NAME].active == 0
