"""Documents on disk → Snapshots: changes follow, what breaks keeps its last good, nothing routes to what is not there yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from certs import NOW, gateway_leaf, spiffe
from compiling import resources_of
from trio.testing import MockClock

from discovery.document import Documents, Origin, Outcome, parse
from discovery.model import Endpoint, Port, Protocol, Service, ShardKey
from discovery.resolving import Nameservers
from discovery.sources.dns import DnsSource
from discovery.sources.static import StaticSource
from discovery.update import Reset, Update, Upsert
from discovery.watch import Watchable
from federation.peering.link import PEER
from federation.plane import Plane
from federation.probe import ProbeFailed, Target
from federation.publish.publication import Publications, PublisherStatus
from federation.publishing import MakePublisher, Outlet
from federation.surroundings import Factories, MakeDns, Surroundings
from federation.trust.authority import Issued
from federation.unheard import PEERS_WITHIN
from gateway.faults import validate
from gateway.snapshot import Forward, Snapshot, VirtualHost

NODE = """
apiVersion: fedgate.io/v1
kind: Node
metadata: {name: gw, namespace: fedgate, labels: {istio: ingressgateway}}
spec: {cluster: east, locality: r1/z1, trustDomain: east.example.com}
"""
SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s}
spec:
  hosts: [%s.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: %s, ports: {http: 8080}}]
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front}
spec:
  hosts: [front.example.com]
  gateways: [edge]
  http: [{route: [{destination: {host: %s.example.com}}]}]
"""


class Folder:
    """A DocumentSource over a real folder that looks when told to."""

    name = "file"
    shows = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.documents: Watchable[Documents] = Watchable(Documents())
        self.outcomes: Mapping[Origin, Outcome] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.reload()
        task_status.started()
        await trio.sleep_forever()

    def reload(self) -> None:
        parsed = [parse(file.read_text(), str(file)) for file in sorted(self.path.glob("*.yaml"))]
        self.documents.set(Documents(tuple(d for each in parsed for d in each[0]), tuple(e for each in parsed for e in each[1])))

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        self.outcomes = outcomes


class Trust:
    """An identity that is there from the start."""

    def __init__(self) -> None:
        authority = spiffe("east.example.com")
        leaf = gateway_leaf(authority, "east.example.com")
        self.credential: Watchable[Issued | None] = Watchable(Issued(leaf.chain, leaf.key, "spiffe://east.example.com/x", NOW, NOW))
        self.bundle = Watchable(authority.bundle)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


class Running:
    """A plane over a folder, under a clock that jumps."""

    def __init__(self, path: Path, dns: MakeDns = DnsSource, *, node: str = NODE, publisher: MakePublisher | None = None) -> None:
        (path / "node.yaml").write_text(node)
        self.path = path
        self.folder = Folder(path)

        async def lookup(host: str) -> list[str]:
            raise AssertionError(f"nobody looks up {host}")

        self.plane = Plane(
            resources_of(node)[0].nodes[0],
            [self.folder],
            Factories(StaticSource, dns, publisher=publisher),
            Trust(),
            surroundings=Surroundings(wall=lambda: NOW, rng=lambda: 0.5, lookup=lookup, check=self.check),
        )
        self.dead: set[str] = set()

    async def check(self, target: Target, tls: object) -> None:
        """Instead of a probe."""
        await trio.sleep(0.001)
        if target.address in self.dead:
            raise ProbeFailed("status 500")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / f"{name}.yaml").write_text(text)
        self.plane.reload()

    async def until(self, wanted: Callable[[Snapshot], object]) -> Snapshot:
        """The first Snapshot of which this holds; every one on the way is whole."""
        seen = -1
        with trio.fail_after(30):
            while True:
                seen, snapshot = await self.plane.snapshots.newer_than(seen)
                assert validate(snapshot) == [] or not snapshot.parts
                if snapshot.parts and wanted(snapshot):
                    return snapshot


@asynccontextmanager
async def running(path: Path, dns: MakeDns = DnsSource, **options: Any) -> AsyncIterator[Running]:
    it = Running(path, dns, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(it.plane.run)
        yield it
        nursery.cancel_scope.cancel()


def addresses(snapshot: Snapshot, host: str) -> list[str]:
    return [each.address for each in snapshot.endpoints(f"outbound|80||{host}.example.com")]


def front(snapshot: Snapshot) -> list[str]:
    part = snapshot.parts.get("host/http.8080/front.example.com:8080")
    routes = part.routes if isinstance(part, VirtualHost) else ()
    return [split.backend for route in routes if isinstance(route.action, Forward) for split in route.action.splits]


async def test_a_document_change_becomes_a_new_snapshot(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        await it.until(lambda snapshot: snapshot.node is not None)
        it.write(a=SERVICE % ("a", "a", "10.0.0.1"))
        first = await it.until(lambda snapshot: addresses(snapshot, "a") == ["10.0.0.1"])
        it.write(a=SERVICE % ("a", "a", "10.0.0.2"))
        second = await it.until(lambda snapshot: addresses(snapshot, "a") == ["10.0.0.2"])
        unchanged = set(first.parts) - {"endpoints/outbound|80||a.example.com"}
        assert all(second.parts[name] is first.parts[name] for name in unchanged)
        (tmp_path / "a.yaml").unlink()
        it.plane.reload()
        await it.until(lambda snapshot: "backend/outbound|80||a.example.com" not in snapshot.parts)


async def test_a_route_and_its_service_of_one_change_arrive_together(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        await it.until(lambda snapshot: snapshot.node is not None)
        it.write(a=SERVICE % ("a", "a", "10.0.0.1"), r=ROUTE % "a")
        snapshot = await it.until(front)
        assert addresses(snapshot, "a") == ["10.0.0.1"]
        it.write(b=SERVICE % ("b", "b", "10.0.0.2"), r=ROUTE % "b")
        snapshot = await it.until(lambda snapshot: front(snapshot) == ["outbound|80||b.example.com"])
        assert addresses(snapshot, "b") == ["10.0.0.2"]


@pytest.mark.parametrize("broken", ["a: [", (SERVICE % ("a", "a", "10.0.0.9")).replace("resolution", "resolutoin")])
async def test_a_broken_file_keeps_the_last_good(tmp_path: Path, autojump_clock: MockClock, broken: str) -> None:
    async with running(tmp_path) as it:
        it.write(a=SERVICE % ("a", "a", "10.0.0.1"), r=ROUTE % "a")
        await it.until(front)
        it.write(a=broken, b=SERVICE % ("b", "b", "10.0.0.2"))
        snapshot = await it.until(lambda snapshot: addresses(snapshot, "b"))
        if broken != "a: [":  # a file that cannot be parsed is kept by its document source
            assert addresses(snapshot, "a") == ["10.0.0.1"]
        assert [Path(problem.file).name for problem in it.plane.problems][:1] == ["a.yaml"]
        told = {
            Path(origin.file).name: outcome.conditions[0] for origin, outcome in it.folder.outcomes.items() if outcome.conditions
        }
        assert not told["a.yaml"].status
        assert told["b.yaml"].status
        it.write(a=SERVICE % ("a", "a", "10.0.0.3"))
        await it.until(lambda snapshot: addresses(snapshot, "a") == ["10.0.0.3"])
        assert it.plane.problems == ()


async def test_active_checks_and_addresses_become_verdicts(tmp_path: Path, autojump_clock: MockClock) -> None:
    policy = """
apiVersion: fedgate.io/v1
kind: ServicePolicy
metadata: {name: a}
spec: {hosts: [a.example.com], healthCheck: {http: {path: /healthz}, interval: 1s}}
"""
    name = "outbound|80||a.example.com"
    async with running(tmp_path) as it:
        it.write(a=SERVICE % ("a", "a", "10.0.0.1"), p=policy)
        await it.until(lambda snapshot: addresses(snapshot, "a"))
        it.dead.add("10.0.0.1")
        seen, verdicts = await it.plane.verdicts.newer_than(it.plane.verdicts.version)
        assert not verdicts.endpoints[name]["10.0.0.1:8080"].health.usable
        assert verdicts.endpoints[name]["10.0.0.1:8080"].reason == "status 500"
        it.dead.clear()
        _, verdicts = await it.plane.verdicts.newer_than(seen)
        assert not verdicts.endpoints


async def test_a_burst_of_changes_is_few_rounds(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        await it.until(lambda snapshot: snapshot.node is not None)
        before = it.plane.snapshots.version
        for number in range(1, 41):
            it.write(a=SERVICE % ("a", "a", f"10.0.0.{number}"))
            await trio.sleep(0.005)
        await it.until(lambda snapshot: addresses(snapshot, "a") == ["10.0.0.40"])
        assert it.plane.snapshots.version - before <= 6  # 200 ms of changes, a round every 50 ms and one at each end


async def test_a_round_makes_what_changed_since_the_last_and_nothing_older(tmp_path: Path, autojump_clock: MockClock) -> None:
    key = ShardKey("east", "registry")
    async with running(tmp_path) as it:
        await it.until(lambda snapshot: snapshot.node is not None)
        await trio.sleep(1)  # of the mocked clock: the rounds of the beginning are over
        for name in ("a", "b", "c"):
            endpoint = Endpoint("10.0.0.1", ports=(("http", 80),))
            service = Service(f"{name}.example.com", ports=(Port(80, "http", Protocol.HTTP),), endpoints=(endpoint,))
            it.plane._feed.apply(key, Upsert(service))
            await it.until(lambda snapshot, name=name: addresses(snapshot, name))  # type: ignore[misc]
            assert it.plane.compiled is not None
            assert it.plane.compiled.remade == {service.hostname}


async def test_a_fault_of_ours_changes_nothing_and_passes(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        it.write(a=SERVICE % ("a", "a", "10.0.0.1"))
        good = await it.until(lambda snapshot: addresses(snapshot, "a"))
        it.plane._around = msgspec.UNSET  # type: ignore[assignment]
        it.write(a=SERVICE % ("a", "a", "10.0.0.2"))
        await trio.sleep(1)
        assert it.plane.snapshots.value is good
        assert "this is a bug" in it.plane.fault
        it.plane._around = Surroundings(wall=lambda: NOW)
        it.write(a=SERVICE % ("a", "a", "10.0.0.3"))
        await it.until(lambda snapshot: addresses(snapshot, "a") == ["10.0.0.3"])
        await trio.sleep(1)
        assert it.plane.fault == ""


async def test_the_identity_and_its_rotation(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        first = await it.until(lambda snapshot: snapshot.node is not None)
        trust = it.plane._trust
        own = trust.credential.value
        assert own is not None
        assert own.key.digest in it.plane.secrets.value
        leaf = spiffe("east.example.com").leaf("spiffe://east.example.com/ns/fedgate/sa/gateway", label="next")
        trust.credential.set(Issued(leaf.chain, leaf.key, "x", NOW, NOW))
        await it.until(lambda snapshot: snapshot.version != first.version)
        assert leaf.key.digest in it.plane.secrets.value


async def test_a_node_cannot_change_its_cluster_while_it_runs(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        await it.until(lambda snapshot: snapshot.node is not None)
        it.write(node=NODE.replace("cluster: east", "cluster: north"), a=SERVICE % ("a", "a", "10.0.0.1"))
        snapshot = await it.until(lambda snapshot: addresses(snapshot, "a"))
        assert snapshot.node is not None
        assert snapshot.node.cluster == "east"
        assert [finding.reason for finding in it.plane.compiled.findings] == ["NeedsRestart"]  # type: ignore[union-attr]


async def test_statuses_and_sources_can_be_asked(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with running(tmp_path) as it:
        it.write(r=ROUTE % "nobody")
        await it.until(front)
        bad = [str(subject) for subject, status in it.plane.statuses.items() if not status.good]
        assert bad == ["VirtualService default/front"]
        assert {str(status.key) for status in it.plane.sources()} == {"east/static", "east/dns"}
        assert it.plane.peers() == ()


class Late:
    """A source that says nothing until it is told to."""

    def __init__(self, name: str, cluster: str, services: object) -> None:
        self.name, self.cluster, self.found = name, cluster, trio.Event()

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        await self.found.wait()
        yield Reset(())
        await trio.sleep_forever()


async def test_the_nameserver_denies_no_name_before_every_source_has_spoken(tmp_path: Path, autojump_clock: MockClock) -> None:
    late = []

    def make(name: str, cluster: str, services: object, nameservers: object) -> Late:
        late.append(Late(name, cluster, services))
        return late[0]

    def synced(snapshot: Snapshot) -> bool:
        return snapshot.node is not None and snapshot.node.dns is not None and snapshot.node.dns.synced

    async with running(tmp_path, make) as it:
        first = await it.until(lambda snapshot: True)
        assert not synced(first)
        it.write(service=SERVICE % ("a", "a", "10.0.0.1"))
        assert not synced(await it.until(lambda snapshot: addresses(snapshot, "a")))
        late[0].found.set()
        await it.until(synced)


async def test_who_is_asked_for_names_follows_the_node(tmp_path: Path, autojump_clock: MockClock) -> None:
    asked: list[Watchable[Nameservers]] = []

    def make(name: str, cluster: str, services: object, nameservers: Watchable[Nameservers]) -> Late:
        asked.append(nameservers)
        return Late(name, cluster, services)

    async with running(tmp_path, make) as it:
        await it.until(lambda snapshot: True)
        assert asked[0].value == Nameservers()
        it.write(node=NODE.replace("east.example.com}", "east.example.com, dns: {upstreams: [10.0.0.2, '10.0.0.3:5353']}}"))
        with trio.fail_after(30):
            _, value = await asked[0].newer_than(asked[0].version)
        assert value == Nameservers(("10.0.0.2", "10.0.0.3"), ports=(("10.0.0.2", 53), ("10.0.0.3", 5353)))


class Told:
    """A Publisher that notes what it would make stand there: the first is what a registry would be compared with."""

    name = "told"

    def __init__(self, outlet: Outlet) -> None:
        self.status = Watchable(PublisherStatus("told"))
        self.told: list[Publications] = []
        self.heard = trio.Event()

    async def run(
        self, publications: Watchable[Publications], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        seen = -1
        while True:
            seen, now = await publications.newer_than(seen)
            self.told.append(now)
            self.heard.set()

    async def leave(self) -> None: ...


PUBLISHING = NODE.replace("east.example.com}", "east.example.com, publish: [{consul: {}}]}")
INTERNAL = SERVICE.replace("spec:", "spec:\n  location: MESH_INTERNAL\n  addresses: [10.9.9.9]")
PEER_WEST = """
apiVersion: fedgate.io/v1
kind: Peer
metadata: {name: west}
spec: {trustDomain: west.example.com, addresses: ['192.0.2.7:15443'], bundle: {path: west.pem}}
"""


@pytest.mark.parametrize("comes", [True, False])
async def test_what_a_peer_may_still_offer_is_not_taken_back_before_it_has_spoken(
    tmp_path: Path, autojump_clock: MockClock, comes: bool
) -> None:
    """What stood outside from before is compared with the first publication. A peer that does not come is not waited for for ever."""
    publishers = []

    def publisher(outlet: Outlet) -> Told:
        publishers.append(Told(outlet))
        return publishers[-1]

    (tmp_path / "peer.yaml").write_text(PEER_WEST)
    (tmp_path / "service.yaml").write_text(INTERNAL % ("a", "a", "10.0.0.1"))
    async with running(tmp_path, node=PUBLISHING, publisher=publisher) as it:
        await it.until(lambda snapshot: addresses(snapshot, "a"))
        await trio.sleep(PEERS_WITHIN / 2)
        assert [each.told for each in publishers] == [[]]
        if comes:
            far = Endpoint("192.0.2.7", ports=(("http", 15443),), peer="west", cluster="west")
            service = Service("b.example.com", ports=(Port(80, "http"),), addresses=("10.9.9.8",), endpoints=(far,))
            it.plane._feed.apply(ShardKey("west", PEER), Reset((service,)))
        with trio.fail_after(5 if comes else PEERS_WITHIN):
            await publishers[0].heard.wait()
        assert set(publishers[0].told[0]) == ({"a.example.com", "b.example.com"} if comes else {"a.example.com"})


async def test_nothing_is_taken_back_before_every_source_has_spoken(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Else a gateway that begins without memory, or with a registry out of reach, would withdraw what it, or its equals, had published."""
    late, publishers = [], []

    def make(name: str, cluster: str, services: object, nameservers: object) -> Late:
        late.append(Late(name, cluster, services))
        return late[0]

    def publisher(outlet: Outlet) -> Told:
        publishers.append(Told(outlet))
        return publishers[-1]

    async with running(tmp_path, make, node=PUBLISHING, publisher=publisher) as it:
        it.write(service=INTERNAL % ("a", "a", "10.0.0.1"))
        await it.until(lambda snapshot: addresses(snapshot, "a"))
        await trio.sleep(60)
        assert [each.told for each in publishers] == [[]]
        late[0].found.set()
        with trio.fail_after(30):
            await publishers[0].heard.wait()
        assert "a.example.com" in publishers[0].told[0]
