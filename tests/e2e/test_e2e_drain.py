"""A gateway that drains under load: whoever asked before he was told that it goes is answered."""

import signal

import pytest
import trio
from h2_leaving import ANY, Leaving
from running import Fedgate, Workloads, listening, routes, running, server, service, to
from running_gateway import until

pytestmark = pytest.mark.slow

HOST = "shop.example.com"
CONNECTIONS, AT_ONCE = 20, 4


async def asking(client, counts):
    """One request after the other, until the gateway wants no more."""
    while client.is_wanted():
        talk = await client.start(authority=HOST, path="/")
        await talk.ended.wait()
        counts.append(talk)


async def one_client(gateway, clients, counts):
    stream = await trio.open_tcp_stream(gateway.address, gateway.ingress)
    async with Leaving.to(gateway.ingress, stream=stream) as client:
        clients.append(client)
        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(asking, client, counts)
        await client.closed.wait()


async def test_no_request_of_http2_is_lost_in_a_drain(tmp_path):
    workloads, gateway = Workloads(tmp_path, "one"), Fedgate(tmp_path, workers=2)
    gateway.write("services", listening("web", server(gateway, [HOST])), service("one.shop", [workloads.endpoint("one")]))
    gateway.write("routes", routes("shop", [HOST], {"route": [to("one.shop")]}, gateways=["web"]))
    with running(workloads, gateway):
        clients, counts = [], []
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(CONNECTIONS):
                    nursery.start_soon(one_client, gateway, clients, counts)

                async def asked():
                    return len(counts)

                await until(asked, lambda many: many > 500)
                gateway.process.send_signal(signal.SIGTERM)
            await trio.to_thread.run_sync(gateway.process.wait)
        assert [talk for client in clients for talk in (*client.lost(), *client.refused())] == []
        assert {talk.status for talk in counts} == {200}
        assert all(client.left for client in clients)
        assert {client.last_streams[0] for client in clients} == {ANY}
        assert all(client.last_streams[-1] == max(client.talks) for client in clients)
        assert gateway.process.returncode == 0
