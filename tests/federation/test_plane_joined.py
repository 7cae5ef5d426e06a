"""Planes on real files and real connections: FileDocuments followed, and two planes that learn each other's services."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from certs import NOW, Authority, gateway_leaf, spiffe
from compiling import resources_of

from discovery.documents.file import FileDocuments
from discovery.sources.static import StaticSource
from discovery.watch import Watchable
from federation.peering.status import LinkState
from federation.plane import Plane
from federation.resources.document import Document
from federation.resources.node import Node
from federation.surroundings import Factories
from federation.trust.authority import Issued
from gateway.verdicts import Verdict

NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {{name: gw-{0}, namespace: fedgate}}
spec: {{cluster: {0}, locality: {0}/z1, trustDomain: {0}.example.com, listen: {{eastWest: '127.0.0.1:15443'}}}}
"""
REVIEWS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.shop.svc.cluster.local]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
    - {address: %s, ports: {http: 9080}, labels: {version: v1}}
"""
EXPORT = """
apiVersion: fedgate.io/v1
kind: Export
metadata: {{name: shop}}
spec: {{services: ['*.shop.svc.cluster.local'], peers: [{peer}]}}
"""
PEER = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {{name: {peer}}}
spec: {{trustDomain: {peer}.example.com, addresses: ['127.0.0.1:{port}'], bundle: {{path: {peer}.pem}}}}
"""
NAME = "outbound|80||reviews.shop.svc.cluster.local"


class Trust:
    def __init__(self, authority: Authority, domain: str) -> None:
        leaf = gateway_leaf(authority, domain)
        self.credential: Watchable[Issued | None] = Watchable(Issued(leaf.chain, leaf.key, "", NOW, NOW))
        self.bundle = Watchable(authority.bundle)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


@dataclass
class Gateway:
    """A plane with a folder, and the port where peers reach it."""

    plane: Plane
    path: Path
    port: int

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / f"{name}.yaml").write_text(text)
        self.plane.reload()

    async def until(self, true: Callable[[Plane], object]) -> None:
        """Wait for something that a round of the plane brings."""
        with trio.fail_after(20):
            seen = -1
            while True:
                seen, _ = await self.plane.rounds.newer_than(seen)
                if true(self.plane):
                    return

    def endpoints(self) -> list[str]:
        return [each.id for each in self.plane.snapshots.value.endpoints(NAME)]

    def verdict(self, name: str) -> Verdict | None:
        return self.plane.verdicts.value.endpoints.get(NAME, {}).get(name)


async def accept(listener: socket.socket, plane: Plane) -> None:
    """What a worker does at the east-west port with a peering connection."""
    async_listener = trio.socket.from_stdlib_socket(listener)
    while True:
        connection, _ = await async_listener.accept()
        hello = await connection.recv(65536)
        plane.hand_off(socket.socket(fileno=connection.detach()), hello)


@contextlib.asynccontextmanager
async def gateway(name: str, path: Path, authority: Authority) -> AsyncIterator[Gateway]:
    node = started(name, path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        plane = Plane(node, [FileDocuments([path], every=0.02)], Factories(StaticSource), Trust(authority, f"{name}.example.com"))
        async with trio.open_nursery() as nursery:
            await nursery.start(plane.run)
            nursery.start_soon(accept, listener, plane)
            yield Gateway(plane, path, listener.getsockname()[1])
            nursery.cancel_scope.cancel()


def started(name: str, path: Path) -> Document[Node]:
    """A folder with nothing but a Node in it."""
    path.mkdir(exist_ok=True)
    text = NODE.format(name)
    (path / "node.yaml").write_text(text)
    return resources_of(text)[0].nodes[0]


@pytest.mark.slow
async def test_files_followed_and_a_broken_one_kept(tmp_path: Path) -> None:
    async with gateway("east", tmp_path / "east", spiffe("east.example.com")) as east:
        east.write(a=REVIEWS % "10.0.0.1")
        await east.until(lambda plane: east.endpoints() == ["10.0.0.1:9080"])
        east.write(a="a: [")
        await east.until(lambda plane: plane.problems)
        assert east.endpoints() == ["10.0.0.1:9080"]
        east.write(a=REVIEWS % "10.0.0.2")
        await east.until(lambda plane: east.endpoints() == ["10.0.0.2:9080"])
        assert east.plane.problems == ()


@pytest.mark.slow
async def test_two_planes_learn_each_others_services_and_counts(tmp_path: Path) -> None:
    ours, theirs = spiffe("east.example.com"), spiffe("west.example.com")
    async with gateway("east", tmp_path / "east", ours) as east, gateway("west", tmp_path / "west", theirs) as west:
        (east.path / "west.pem").write_text(theirs.bundle)
        (west.path / "east.pem").write_text(ours.bundle)
        east.write(peer=PEER.format(peer="west", port=west.port), a=REVIEWS % "10.0.0.1", export=EXPORT.format(peer="west"))
        west.write(peer=PEER.format(peer="east", port=east.port), a=REVIEWS % "10.9.0.1")
        far = f"west/west/z1/127.0.0.1:{west.port}"
        near = f"east/east/z1/127.0.0.1:{east.port}"
        await west.until(lambda plane: west.endpoints() == ["10.9.0.1:9080", near])
        assert east.endpoints() == ["10.0.0.1:9080"]  # west exports nothing yet
        assert "inbound/outbound_.80_._.reviews.shop.svc.cluster.local" in east.plane.snapshots.value.parts
        assert "inbound/outbound_.80_._.reviews.shop.svc.cluster.local" not in west.plane.snapshots.value.parts

        west.write(export=EXPORT.format(peer="east"))
        await east.until(lambda plane: east.endpoints() == ["10.0.0.1:9080", far])
        endpoint = east.plane.snapshots.value.endpoints(NAME)[1]
        assert (endpoint.priority, endpoint.peer, endpoint.cluster) == (1, "west", "west")
        await east.until(lambda plane: (v := east.verdict("west/west/z1")) and (v.healthy, v.total) == (1, 1))
        (status,) = east.plane.peers()
        assert (status.state, status.sessions) == (LinkState.CONNECTED, 1)

        west.write(a=(REVIEWS % "10.9.0.1") + "    - {address: 10.9.0.2, ports: {http: 9080}, labels: {version: v2}}\n")
        await east.until(lambda plane: (v := east.verdict("west/west/z1")) and (v.healthy, v.total) == (2, 2))
        (west.path / "export.yaml").unlink()
        west.plane.reload()
        await east.until(lambda plane: east.endpoints() == ["10.0.0.1:9080"])


@pytest.mark.slow
async def test_a_peer_that_is_taken_out_takes_its_services_along(tmp_path: Path) -> None:
    ours, theirs = spiffe("east.example.com"), spiffe("west.example.com")
    async with gateway("east", tmp_path / "east", ours) as east, gateway("west", tmp_path / "west", theirs) as west:
        (west.path / "east.pem").write_text(ours.bundle)
        east.write(peer=PEER.format(peer="west", port=west.port), a=REVIEWS % "10.0.0.1", export=EXPORT.format(peer="west"))
        west.write(peer=PEER.format(peer="east", port=east.port))
        await east.until(lambda plane: plane.peers())
        assert "no usable roots" in east.plane.peers()[0].error
        (east.path / "west.pem").write_text(theirs.bundle)
        east.plane.reload()
        await west.until(lambda plane: west.endpoints())
        (west.path / "peer.yaml").unlink()
        west.plane.reload()
        await west.until(lambda plane: f"backend/{NAME}" not in plane.snapshots.value.parts)
        assert west.plane.peers() == ()
        assert [str(each.key) for each in west.plane.sources()] == ["west/static"]
