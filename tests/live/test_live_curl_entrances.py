"""curl by other entrances: behind a PROXY header, over unix sockets."""

import shutil

import pytest
from curling import HOST, World, run, seen
from running import server, wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("curl"), reason="curl is not on PATH"),
    pytest.mark.xdist_group("live-curl-entrances"),
]


@pytest.mark.parametrize("way", ["http", "https", "h2"])
async def test_a_proxy_header(tmp_path, way):
    world = World(tmp_path)
    gateway = world.gateway
    gateway.write("node", gateway.node(gatewayTopology={"proxyProtocol": {}}))
    with world.running():
        found = seen(await world.curl(way, "--haproxy-protocol", paths=["/books"]))
        assert found["path"] == "/books"
        line = await gateway.wait_logged(lambda line: line["path"] == "/books")
        assert line["response_code"] == 200
        refused = await world.curl(way, "--max-time", "5", paths=["/without"])
        assert refused.returncode != 0
        assert "/without" not in [request["path"] for request in world.workloads.seen("one")]


def on_unix(gateway, bind):
    return server(gateway, [HOST]) | {"port": {"number": 0, "name": "http-unix", "protocol": "HTTP"}, "bind": bind}


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2-prior-knowledge"])
async def test_a_unix_socket(tmp_path, protocol):
    world = World(tmp_path)
    path = tmp_path / "http.sock"
    world.write(on_unix(world.gateway, f"unix://{path}"))
    with world.running():
        wait_until(path.exists, "the socket is there")
        for number in range(5):
            done = await run("curl", "-sS", "--max-time", "10", protocol, "--unix-socket", path, f"http://{HOST}/{number}")
            assert seen(done)["path"] == f"/{number}"


async def test_an_abstract_unix_socket(tmp_path):
    world = World(tmp_path)
    name = f"fedgate-test-{world.gateway.address}"
    world.write(on_unix(world.gateway, f"unix://@{name}"))
    with world.running():
        done = await run("curl", "-sS", "--max-time", "10", "--abstract-unix-socket", name, f"http://{HOST}/books")
        assert seen(done)["path"] == "/books"
