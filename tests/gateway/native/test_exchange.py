"""What one request of a connection leaves to the next: nothing."""

import pytest
import trio
from h2_talk import Client
from native_engine import NAME, Workload, backend, endpoint, forward, host, running

from gateway.snapshot import EndpointSet, HeaderOperations


@pytest.mark.parametrize("version", [1, 2])
async def test_an_answer_without_a_route_has_no_headers_of_the_last_one(version):
    marked = forward(response_headers=HeaderOperations(add=(("x-of", "route"),)))
    workload = Workload()
    parts = (backend(), EndpointSet(NAME, (endpoint(workload.port),)), host(marked, domains=("a.test",)))
    async with running(*parts, workloads=[workload]) as gateway, await gateway.connect() as stream:
        if version == 2:
            async with Client.to(gateway.port, stream=stream) as client:
                assert (await client.ask()).head[b"x-of"] == b"route"
                last = await client.ask(authority="b.test")
                assert last.status == 404
                assert b"x-of" not in last.head
            return
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\nConnection: close\r\n\r\n")
        said = b""
        with trio.fail_after(10):
            while more := await stream.receive_some():
                said += more
        first, _, last = said.partition(b"HTTP/1.1 404")
        assert b"\r\nx-of: route\r\n" in first
        assert b"x-of" not in last
        assert last
