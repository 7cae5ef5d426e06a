"""Connections to endpoints: kept, closed when their server closes them or they idle, and dialled within their time."""

import socket

import pytest
import trio

from gateway.snapshot import EndpointSet
from tests.support.native_engine import NAME, OK, Workload, backend, endpoint, forward, host, read_until, running

pytestmark = pytest.mark.slow


def parts(*workloads, **options):
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward()),
    )


def opened(gateway):
    return gateway.engine.statistics().endpoints[0].connections


async def until(condition):
    with trio.fail_after(5):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_kept_connection_is_forgotten_when_its_server_closes_it():
    go = trio.Event()

    async def answer(stream, data):
        await stream.send_all(OK)
        await go.wait()
        return False

    workload = Workload(answer)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        await gateway.get()
        assert opened(gateway) == 1
        go.set()
        await until(lambda: opened(gateway) == 0)


async def test_a_kept_connection_that_says_something_unasked_is_closed():
    async def answer(stream, data):
        await stream.send_all(OK)
        await go.wait()
        await stream.send_all(OK)
        return True

    go = trio.Event()
    workload = Workload(answer)
    async with running(*parts(workload), workloads=[workload]) as gateway:
        await gateway.get()
        go.set()
        await until(lambda: opened(gateway) == 0)


async def test_more_than_was_asked_for_is_never_the_next_answer():
    workload = Workload(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    async with running(*parts(workload), workloads=[workload]) as gateway, await gateway.connect() as stream:
        for _ in range(3):
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert await read_until(stream, b"ok") == OK
    assert workload.connections == 3


async def test_the_idle_timeout_and_the_limit_of_requests():
    workload = Workload()
    async with running(*parts(workload, idle_timeout_ms=50), workloads=[workload]) as gateway:
        await gateway.get()
        await until(lambda: opened(gateway) == 0)
    workload = Workload()
    async with running(*parts(workload, max_requests_per_connection=2), workloads=[workload]) as gateway:
        for _ in range(4):
            await gateway.get()
    assert workload.connections == 2


async def test_a_connection_that_is_not_taken_ends_in_the_connect_timeout():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        held = [socket.socket() for _ in range(4)]
        for sock in held:
            sock.setblocking(False)
            sock.connect_ex(address)
        where = (backend(connect_timeout_ms=50), EndpointSet(NAME, (endpoint(address[1]),)), host(forward()))
        async with running(*where) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            assert dict(gateway.engine.statistics().requests[0].labels)["response_flags"] == "UF"
        for sock in held:
            sock.close()


async def test_unix_sockets(tmp_path):
    path = str(tmp_path / "s")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    server.setblocking(False)
    workload = Workload()
    workload.sock.close()
    workload.sock = server
    where = (backend(), EndpointSet(NAME, (endpoint(0, address=path),)), host(forward()))
    async with running(*where, workloads=[workload]) as gateway:
        assert (await gateway.get()).endswith(b"ok")


async def test_an_abstract_unix_socket_is_an_endpoint():
    workload = Workload()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("\0" + f"fedgate-test-{workload.port}")
        sock.listen()
        sock.setblocking(False)
        workload.sock.close()
        workload.sock = sock
        at = endpoint(0, address=f"@fedgate-test-{workload.port}")
        async with running(backend(), EndpointSet(NAME, (at,)), host(forward()), workloads=[workload]) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("way", ["path", "link", "proc"])
async def test_no_endpoint_leads_to_the_admin_api(tmp_path, way):
    workload = Workload()
    (tmp_path / "state").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "state" / "admin.sock"))
        sock.listen()
        sock.setblocking(False)
        workload.sock.close()
        workload.sock = sock
        (tmp_path / "s").symlink_to(tmp_path / "state" / "admin.sock")
        paths = {"path": sock.getsockname(), "link": str(tmp_path / "s"), "proc": f"/proc/self/root{sock.getsockname()}"}
        at = endpoint(0, address=paths[way])
        async with running(backend(), EndpointSet(NAME, (at,)), host(forward()), workloads=[workload]) as gateway:
            assert (await gateway.get()).startswith(b"HTTP/1.1 503 ")
            assert dict(gateway.engine.statistics().requests[0].labels)["response_flags"] == "UF"
        assert workload.requests == []
