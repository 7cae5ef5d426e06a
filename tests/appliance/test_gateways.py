"""`fedgate run` whole, with documents: one gateway, and two that are joined by Peer documents over their east-west ports."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
import trio
from running_gateway import FEDGATE, free_ports, gateway, request, until

pytestmark = pytest.mark.slow

NAME = "reviews.shop.svc.cluster.local"


class Upstream:
    """Plain workloads that say who they are, each on its own port."""

    def __init__(self, name):
        self.name = name
        self.requests = 0

    async def serve(self, address, *, task_status):
        listeners = await trio.open_tcp_listeners(0, host=address)
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._one, listeners, task_status=task_status)

    async def _one(self, stream):
        data = b""
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                while chunk := await stream.receive_some(65536):
                    data += chunk
                    while b"\r\n\r\n" in data:
                        head, _, data = data.partition(b"\r\n\r\n")
                        self.requests += 1
                        body = f"{self.name} {head.decode('latin-1').splitlines()[0]}".encode()
                        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


class Site:
    """A cluster's gateway: its folder of documents, its address and ports."""

    def __init__(self, folder, cluster, address, *, region="r1"):
        self.folder = folder / cluster
        self.folder.mkdir()
        self.cluster, self.address, self.region = cluster, address, region
        self.domain = f"{cluster}.example.com"
        self.admin, self.health, self.east_west, self.mesh, self.edge, self.dns = free_ports(6, address)
        self.write(
            "node",
            f"""
apiVersion: fedgate.io/v1
kind: Node
metadata: {{name: gw-{cluster}, namespace: fedgate, labels: {{istio: ingressgateway}}}}
spec:
  cluster: {cluster}
  locality: {region}/z1
  trustDomain: {self.domain}
  workers: 2
  stateDir: ./state
  accessLog: {{path: ./access.log}}
  listen:
    admin: {address}:{self.admin}
    health: {address}:{self.health}
    eastWest: {address}:{self.east_west}
    http: {address}:{self.mesh}
    dns: {address}:{self.dns}
""",
        )

    def write(self, name, text):
        new = self.folder / f".{name}.new"
        new.write_text(text)
        new.rename(self.folder / f"{name}.yaml")

    def service(self, upstream, *, host=NAME):
        self.write(
            host,
            f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {host.partition(".")[0]}, namespace: shop}}
spec:
  hosts: [{host}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {self.address}, ports: {{http: {upstream.port}}}, locality: {self.region}/z1}}]
""",
        )

    def ingress(self, *, host=NAME, prefix="/"):
        self.write(
            "ingress",
            f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {self.edge}, name: http, protocol: HTTP}}, bind: {self.address}, hosts: ['*']}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop, namespace: shop}}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{{match: [{{uri: {{prefix: {prefix}}}}}], route: [{{destination: {{host: {host}}}}}]}}]
""",
        )

    def join(self, other):
        """Know the other as a peer, and offer it everything."""
        fedgate("ca", "init", str(self.folder / "state" / "ca"), "--trust-domain", self.domain, again=True)
        (other.folder / f"{self.cluster}.pem").write_text(fedgate("ca", "bundle", str(self.folder / "state")))
        self.write(
            "peer",
            f"""
apiVersion: fedgate.io/v1
kind: Peer
metadata: {{name: {other.cluster}}}
spec:
  kind: fedgate
  trustDomain: {other.domain}
  addresses: ['{other.address}:{other.east_west}']
  bundle: {{path: {other.cluster}.pem}}
---
apiVersion: fedgate.io/v1
kind: Export
metadata: {{name: shop}}
spec: {{services: ['*.shop.svc.cluster.local'], peers: [{other.cluster}]}}
""",
        )

    def running(self):
        return gateway(self.folder, command=FEDGATE, cwd=self.folder)

    async def rows(self, what):
        return (await request(self.address, self.admin, f"/api/v1/{what}")).json()["items"]

    async def ready(self):
        await until(lambda: request(self.address, self.health, "/healthz/ready"), lambda answer: answer.status == 200)

    async def ask(self, path="/x", *, port=None, host=NAME):
        return await request(self.address, port or self.mesh, path, host=host)


def fedgate(*arguments, again=False):
    """The command's stdout. again: that there is something already is fine."""
    done = subprocess.run([sys.executable, "-P", "-m", "appliance", *arguments], capture_output=True, text=True)
    assert done.returncode == 0 or again, done.stderr
    return done.stdout


def get(site, what):
    return json.loads(fedgate("get", what, "-c", str(site.folder), "-o", "json"))


async def test_a_gateway_serves_its_documents_and_follows_them(tmp_path):
    site, one, two = Site(tmp_path, "east", "127.0.0.1"), Upstream("one"), Upstream("two")
    async with trio.open_nursery() as nursery:
        for upstream in (one, two):
            await nursery.start(upstream.serve, site.address)
        site.service(one)
        site.ingress()
        async with site.running() as running:
            await site.ready()
            answer = await until(lambda: site.ask(port=site.edge), lambda answer: answer.status == 200)
            assert answer.body == b"one GET /x HTTP/1.1"
            site.service(two)
            running.signal(signal.SIGHUP)
            await until(lambda: site.ask(port=site.edge), lambda answer: answer.body.startswith(b"two"))
            site.write("ingress", "broken: [")
            running.signal(signal.SIGHUP)
            await until(lambda: site.rows("config"), lambda rows: any(not row["good"] for row in rows))
            assert (await site.ask(port=site.edge)).status == 200, "what was good goes on"
            site.ingress(prefix="/api")
            running.signal(signal.SIGHUP)
            await until(lambda: site.ask(port=site.edge), lambda answer: answer.status == 404)
            assert (await site.ask("/api/1", port=site.edge)).status == 200
        nursery.cancel_scope.cancel()


async def test_what_broke_while_nobody_looked_keeps_its_last_good_version(tmp_path):
    site, one = Site(tmp_path, "east", "127.0.0.1"), Upstream("one")
    async with trio.open_nursery() as nursery:
        await nursery.start(one.serve, site.address)
        site.service(one)
        site.ingress()
        async with site.running() as running:
            await site.ready()
            await until(lambda: site.ask(port=site.edge), lambda answer: answer.status == 200)
            await until(lambda: _exists(site.folder / "state" / "remembered.json"), bool)
            running.signal(signal.SIGTERM)
            assert await running.ended() == 0
        site.write("ingress", "broken: [")
        async with site.running() as running:
            await site.ready()
            await until(lambda: site.rows("config"), lambda rows: any(not row["good"] for row in rows))
            assert (await site.ask(port=site.edge)).status == 200
            os.kill(running.child("control"), signal.SIGKILL)
            await running.event("admin.serving", count=2)
            await until(lambda: site.rows("config"), lambda rows: any(not row["good"] for row in rows))
            assert (await site.ask(port=site.edge)).status == 200
        nursery.cancel_scope.cancel()


async def test_every_get_command_shows_a_running_gateway(tmp_path):
    site, one = Site(tmp_path, "east", "127.0.0.1"), Upstream("one")
    async with trio.open_nursery() as nursery:
        await nursery.start(one.serve, site.address)
        site.service(one)
        site.ingress()
        async with site.running():
            await site.ready()
            await until(lambda: site.ask(port=site.edge), lambda answer: answer.status == 200)
            shown = {}
            for what in ("listeners", "routes", "backends", "endpoints", "certs", "peers", "services", "config", "sources"):
                shown[what] = await trio.to_thread.run_sync(get, site, what)
                assert len(fedgate("get", what, "-c", str(site.folder)).splitlines()) == len(shown[what]) + 1
        assert {row["port"] for row in shown["listeners"] if row["bound"]} == {
            site.admin,
            site.health,
            site.east_west,
            site.mesh,
            site.edge,
            site.dns,
        }
        assert any(row["action"] == f"forward outbound|80||{NAME}" for row in shown["routes"])
        (backend,) = (row for row in shown["backends"] if row["name"].startswith("outbound"))
        assert backend["priorities"][0]["load"] == 100
        (endpoint,) = (row for row in shown["endpoints"] if row["backend"] == backend["name"])
        assert (endpoint["health"], endpoint["locality"], endpoint["requests"]) == ("healthy", "r1/z1", 1)
        assert all(row["valid"] for row in shown["certs"])
        assert {row["trustDomain"] for row in shown["certs"]} == {site.domain}
        assert [row["hostname"] for row in shown["services"]] == [NAME]
        assert {row["kind"] for row in shown["config"] if row["good"]} == {"Node", "ServiceEntry", "Gateway", "VirtualService"}
        nursery.cancel_scope.cancel()


async def test_nothing_secret_is_in_any_answer(tmp_path):
    site, one = Site(tmp_path, "east", "127.0.0.1"), Upstream("one")
    async with trio.open_nursery() as nursery:
        await nursery.start(one.serve, site.address)
        site.service(one)
        async with site.running() as running:
            await site.ready()
            paths = [f"/api/v1/{name}" for name in ("services", "backends", "routes", "listeners", "endpoints", "peers")]
            paths += [f"/api/v1/{name}" for name in ("certificates", "sources", "config", "snapshot", "snapshot?full=1")]
            said = [(await request(site.address, site.admin, path)).body for path in [*paths, "/metrics"]]
            await until(lambda: _exists(site.folder / "state" / "keys.json"), bool)
            stored = json.loads((site.folder / "state" / "keys.json").read_text())
            snapshot = (site.folder / "state" / "snapshot.json").read_bytes()
            logged = json.dumps(running.events).encode()
        assert stored
        for text in (*said, snapshot, logged):
            assert b"PRIVATE KEY" not in text
        nursery.cancel_scope.cancel()


async def _exists(path):
    return path.exists()


@contextlib.asynccontextmanager
async def joined(tmp_path):
    """(east, west, their upstreams, their processes): two gateways that have found each other."""
    east, west = Site(tmp_path, "east", "127.0.0.1"), Site(tmp_path, "west", "127.0.0.1", region="r2")
    here, there = Upstream("east"), Upstream("west")
    async with trio.open_nursery() as nursery:
        await nursery.start(here.serve, east.address)
        await nursery.start(there.serve, west.address)
        east.service(here)
        west.service(there)
        east.join(west)
        west.join(east)
        async with east.running() as one, west.running() as two:
            for site in (east, west):
                await site.ready()
                await until(lambda site=site: site.rows("peers"), lambda rows: rows[0]["state"] == "connected")
                await until(lambda site=site: site.rows("services"), lambda rows: any(len(row["clusters"]) == 2 for row in rows))
            yield east, west, (here, there), (one, two)
        nursery.cancel_scope.cancel()


async def test_two_gateways_serve_each_other_s_services(tmp_path):
    async with joined(tmp_path) as (east, west, _, _):
        assert (await east.ask()).body.startswith(b"east"), "its own first"
        assert (await west.ask()).body.startswith(b"west")
        (endpoint,) = (row for row in await east.rows("endpoints") if row["peer"])
        assert (endpoint["cluster"], endpoint["locality"], endpoint["priority"], endpoint["healthy"]) == ("west", "r2/z1", 1, 1)
        peers = await east.rows("peers")
        assert [(row["name"], row["services"], row["exported"]) for row in peers] == [("west", 1, 1)]
        east.write(NAME, east_service_without_endpoints())
        answer = await until(east.ask, lambda answer: answer.body.startswith(b"west"))
        assert answer.status == 200


def east_service_without_endpoints():
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: reviews, namespace: shop}}
spec:
  hosts: [{NAME}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
"""


async def test_traffic_moves_to_the_peer_when_the_own_service_dies_and_nothing_fails(tmp_path):
    async with joined(tmp_path) as (east, _, _, _):
        east.write(NAME, dead_service(east))
        answers = [await east.ask() for _ in range(50)]
        await until(east.ask, lambda answer: answer.body.startswith(b"west"))
        assert {answer.status for answer in answers} == {200}
        metrics = (await request(east.address, east.admin, "/metrics")).body.decode()
        assert 'fedgate_peer_up{peer="west"} 1.0' in metrics
        moved = [
            line for line in metrics.splitlines() if line.startswith("fedgate_backend_requests_total") and 'cluster="west"' in line
        ]
        assert moved
        assert 'priority="1"' in moved[0]


def dead_service(site):
    (port,) = free_ports(1, site.address)
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: reviews, namespace: shop}}
spec:
  hosts: [{NAME}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {site.address}, ports: {{http: {port}}}, locality: {site.region}/z1}}]
"""


async def test_a_peer_s_control_process_may_die_and_traffic_to_it_goes_on(tmp_path):
    """Nobody but the peer has the service, so its gateway is asked twice before it is out: a busy machine does not take it away."""
    async with joined(tmp_path) as (east, _, _, (here, there)):
        east.write(NAME, east_service_without_endpoints())
        await until(east.ask, lambda answer: answer.body.startswith(b"west"))
        os.kill(there.child("control"), signal.SIGKILL)
        for _ in range(100):
            answer = await east.ask()
            assert answer.body.startswith(b"west"), (answer, here.found("endpoint.ejected"), here.found("peer.confirmed"))
        await there.event("process.ended", name="control")
        await until(lambda: east.rows("peers"), lambda rows: rows[0]["state"] == "connected")
        assert (await east.ask()).status == 200


async def test_the_own_control_process_may_die_and_traffic_to_peers_goes_on(tmp_path):
    async with joined(tmp_path) as (east, _, _, (here, _)):
        east.write(NAME, east_service_without_endpoints())
        await until(east.ask, lambda answer: answer.body.startswith(b"west"))
        await until(lambda: _saved(east), lambda text: '"source":"peer"' in text)
        os.kill(here.child("control"), signal.SIGKILL)
        await here.event("process.ended", name="control")
        while len(here.found("peer.connected")) < 2:
            answer = await east.ask()
            assert answer.body.startswith(b"west"), answer
        for _ in range(50):
            assert (await east.ask()).body.startswith(b"west")


async def _saved(site):
    return (site.folder / "state" / "remembered.json").read_text()


async def test_a_whole_peer_that_is_gone_is_found_out_and_found_again(tmp_path):
    async with joined(tmp_path) as (east, west, _, (_, there)):
        east.write(NAME, east_service_without_endpoints())
        await until(east.ask, lambda answer: answer.body.startswith(b"west"))
        there.signal(signal.SIGKILL)
        await until(lambda: east.rows("peers"), lambda rows: rows[0]["state"] == "lost")
        assert (await east.ask()).status == 503
        async with west.running():
            await until(east.ask, lambda answer: answer.status == 200)


def test_documents_are_judged_by_the_command(tmp_path):
    (tmp_path / "good.yaml").write_text("apiVersion: fedgate.io/v1\nkind: Node\nmetadata: {name: a}\nspec: {cluster: east}\n")
    (tmp_path / "bad.yaml").write_text("apiVersion: fedgate.io/v1\nkind: Node\nmetadata: {name: b}\nspec: {clusters: east}\n")
    done = subprocess.run([*FEDGATE[:4], "validate", str(tmp_path), "-o", "json"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["valid"] is False
    assert {pathlib.Path(entry["file"]).name: entry["valid"] for entry in report["documents"]} == {
        "good.yaml": True,
        "bad.yaml": False,
    }
    good = subprocess.run([*FEDGATE[:4], "validate", str(tmp_path / "good.yaml")], capture_output=True, text=True)
    assert (good.returncode, good.stdout) == (0, "1 documents, all valid\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("apiVersion: fedgate.io/v1\nkind: Node\nmetadata: {name: a}\nspec: {}\n", "cluster"),
        ("kind: [", "node.yaml"),
        ("", "no Node document"),
    ],
)
async def test_a_node_that_cannot_be_is_said_in_one_line_and_ends_with_status_1(tmp_path, text, says):
    (tmp_path / "node.yaml").write_text(text)
    async with gateway(tmp_path / "node.yaml", command=FEDGATE) as running:
        assert await running.ended() == 1
        await running.closed.wait()
    lines = [event["text"] for event in running.events if "text" in event]
    assert any(says in line for line in lines), running.events
    assert not any("Traceback" in line for line in lines)
