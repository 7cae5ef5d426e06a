"""What is published: which services, with which addresses and counts; and publishers that come and go with the Node."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from discovery.catalog import Catalog
from discovery.model import Endpoint, Health, Port, Service, ShardKey
from discovery.update import Reset
from discovery.watch import Watchable
from federation.publish.publication import Publication, PublisherStatus
from federation.publishing import Outlet, Publishing, StillPublished, names_of, outlets, publication
from federation.resources.node import Node
from federation.unheard import PEERS_WITHIN
from gateway.verdicts import Verdict, Verdicts

WEB = "web.shop.svc.cluster.local"
PORTS = (Port(80, "http"),)


def endpoint(last: int, **fields: object) -> Endpoint:
    return Endpoint(f"10.0.0.{last}", ports=(("http", 8080),), cluster="east", **fields)


def made(
    service: Service, *, addresses: tuple[str, ...] = ("240.240.0.9",), verdicts: Verdicts | None = None
) -> Publication | None:
    return publication(
        service,
        addresses=addresses,
        sources=("consul",),
        verdicts=verdicts or Verdicts(),
        backends=[f"outbound|80||{service.hostname}"],
        cluster_domain="cluster.local",
    )


def test_a_service_is_told_by_its_virtual_address_and_its_counts():
    sick = endpoint(3, health=Health.UNHEALTHY)
    found = made(Service(WEB, "shop", PORTS, endpoints=(endpoint(1), endpoint(2), sick)))
    assert found == Publication(WEB, "web", "shop", PORTS, ("240.240.0.9",), 2, 3, frozenset({"consul"}), ("east",))


def test_a_verdict_on_an_endpoint_counts_too():
    verdicts = Verdicts({f"outbound|80||{WEB}": {"10.0.0.1:8080": Verdict(Health.UNHEALTHY, 0, 1)}})
    found = made(Service(WEB, "shop", PORTS, endpoints=(endpoint(1), endpoint(2))), verdicts=verdicts)
    assert found is not None
    assert (found.healthy, found.total) == (1, 2)


def test_nothing_healthy_is_told_as_such_and_not_withdrawn():
    found = made(Service(WEB, "shop", PORTS, endpoints=(endpoint(1, health=Health.DRAINING),)))
    assert found is not None
    assert (found.healthy, found.total) == (0, 1)


def test_a_headless_service_is_told_by_its_usable_endpoints():
    endpoints = (endpoint(2), endpoint(1), endpoint(3, health=Health.UNHEALTHY), endpoint(4, peer="west"), Endpoint("/run/a.sock"))
    found = made(Service(WEB, "shop", PORTS, endpoints=endpoints, headless=True), addresses=())
    assert found is not None
    assert found.addresses == ("10.0.0.1", "10.0.0.2")


@pytest.mark.parametrize(
    ("service", "addresses", "expected"),
    [
        (Service(WEB, ports=PORTS, external=True), ("240.240.0.9",), None),
        (Service("*.shop.example", ports=PORTS), ("240.240.0.9",), None),
        (Service(WEB, ports=PORTS), (), None),
        (Service(WEB, ports=PORTS, addresses=("10.9.0.1", "10.8.0.0/16")), (), ("10.9.0.1",)),
    ],
)
def test_what_could_not_be_reached_through_here_is_not_told(service, addresses, expected):
    found = made(service, addresses=addresses)
    assert (found and found.addresses) == expected


@pytest.mark.parametrize(
    ("service", "domain", "expected"),
    [
        (Service(WEB, "other"), "cluster.local", ("web", "shop")),
        (Service("web.shop.svc.corp"), "corp", ("web", "shop")),
        (Service(WEB), "corp", ("web-shop-svc-cluster-local", "default")),
        (Service("a.b.web.shop.svc.cluster.local", "n"), "cluster.local", ("a-b-web-shop-svc-cluster-local", "n")),
        (Service("pay.example.com", "money"), "cluster.local", ("pay-example-com", "money")),
    ],
)
def test_names(service, domain, expected):
    assert names_of(service, domain) == expected


class Recorder:
    """A publisher that notes what it is told."""

    def __init__(self, outlet: Outlet, log: list[object], away: list[str]) -> None:
        self.name = outlet.owner
        self.status = Watchable(PublisherStatus(outlet.owner, connected=True, published=1))
        self._log, self._away = log, away

    async def run(self, publications, *, task_status=trio.TASK_STATUS_IGNORED):
        seen = publications.version - 1
        while True:
            seen, now = await publications.newer_than(seen)
            self._log.append(set(now))

    async def leave(self):
        self._log.append("leaving")
        await trio.sleep(1)
        if self._away:
            raise OSError(self._away[0])
        self._log.append("left")


class World:
    def __init__(self) -> None:
        self.log: list[object] = []
        self.away: list[str] = []  # why the registry cannot be reached
        self.publishing = Publishing(lambda outlet: Recorder(outlet, self.log, self.away), rng=lambda: 1.0)
        self.catalog = Catalog("east")

    def want(self, *written: dict[str, object]) -> None:
        self.publishing.want(outlets(Node.model_validate({"cluster": "east", "publish": list(written)}), "gw-1"))

    async def offer(self, *names: str, touched: tuple[str, ...] = (), unheard: tuple[str, ...] = ()) -> None:
        services = tuple(Service(name, ports=PORTS, addresses=("10.9.0.1",)) for name in names)
        self.catalog = self.catalog.apply(ShardKey("east", "static"), Reset(services)).catalog
        steps = self.publishing.offering(
            self.catalog,
            Verdicts(),
            touched,
            addresses={},
            backends=lambda host: (),
            cluster_domain="cluster.local",
            unheard=unheard,
        )
        for _ in steps:
            pass
        await wait_all_tasks_blocked()


@pytest.fixture
async def world(nursery):
    it = World()
    nursery.start_soon(it.publishing.run)
    return it


async def test_nothing_is_told_before_something_is_known(world):
    world.want({"consul": {}})
    await wait_all_tasks_blocked()
    assert world.log == []
    await world.offer("a.x", "b.x")
    assert world.log == [{"a.x", "b.x"}]


async def test_nothing_is_told_before_the_peers_were_heard_or_waited_for(world, autojump_clock):
    world.want({"consul": {}})
    await world.offer("a.x", unheard=("west",))
    assert world.publishing.until == trio.current_time() + PEERS_WITHIN
    await world.offer("a.x", "c.x", touched=("c.x",), unheard=("west",))
    assert world.log == []
    await trio.sleep_until(world.publishing.until)
    await world.offer("a.x", "c.x", unheard=("west",))
    assert world.log == [{"a.x", "c.x"}]
    assert world.publishing.until == float("inf")


async def test_nobody_is_woken_for_peers_once_nothing_is_published(world, autojump_clock):
    """A time that is over and stays so would make the plane begin round after round."""
    world.want({"consul": {}})
    await world.offer("a.x", unheard=("west",))
    world.want()
    await trio.sleep(PEERS_WITHIN + 1)
    await world.offer("a.x", unheard=("west",))
    assert world.publishing.until == float("inf")


async def test_a_change_costs_what_it_touches_and_equal_ones_tell_nobody(world):
    world.want({"consul": {}})
    await world.offer("a.x", "b.x")
    await world.offer("a.x", "b.x", touched=("a.x",))
    assert world.log == [{"a.x", "b.x"}]
    await world.offer("a.x", touched=("b.x",))
    assert world.log == [{"a.x", "b.x"}, {"a.x"}]


async def test_an_outlet_that_is_taken_out_takes_back_what_it_wrote(world, autojump_clock):
    world.want({"consul": {}})
    await world.offer("a.x")
    world.want()
    await trio.sleep(2)
    assert world.log == [{"a.x"}, "leaving", "left"]
    assert world.publishing.statuses() == ()


async def test_one_that_changes_leaves_before_the_other_begins(world, autojump_clock):
    world.want({"consul": {}})
    await world.offer("a.x")
    world.want({"consul": {"prefix": "other-"}})
    await trio.sleep(2)
    assert world.log == [{"a.x"}, "leaving", "left", {"a.x"}]


async def test_leave_is_for_good(world, autojump_clock):
    world.want({"consul": {}})
    await world.offer("a.x")
    await world.publishing.leave()
    assert world.log == [{"a.x"}, "leaving", "left"]
    world.want({"consul": {}})
    await world.offer("a.x", "c.x", touched=("c.x",))
    assert world.log[-1] == "left"


async def test_what_could_not_be_taken_back_is_said_and_tried_again(world, autojump_clock):
    world.want({"consul": {}})
    await world.offer("a.x")
    world.away.append("no route to host")
    with pytest.raises(StillPublished, match=r"^east/gw-1: OSError: no route to host$"):
        await world.publishing.leave()
    (status,) = world.publishing.statuses()
    assert (status.connected, status.published, status.error) == (False, 1, "OSError: no route to host")
    world.away.clear()
    await world.publishing.leave()
    assert world.log == [{"a.x"}, "leaving", "leaving", "left"]
    assert world.publishing.statuses() == ()


async def test_the_end_of_the_process_leaves_what_was_written(autojump_clock):
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.publishing.run)
        world.want({"consul": {}})
        await world.offer("a.x")
        nursery.cancel_scope.cancel()
    assert world.log == [{"a.x"}]


async def test_nothing_is_made_while_nobody_publishes(world):
    def backends(host):
        raise AssertionError("nobody asked")

    steps = world.publishing.offering(Catalog("east"), Verdicts(), ("a",), addresses={}, backends=backends, cluster_domain="x")
    assert list(steps) == []
