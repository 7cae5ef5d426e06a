"""Real Keystone, Nova, Neutron, Octavia and Designate: what comes and goes there comes and goes here."""

import contextlib
import random

import pytest
import trio
from peers import openstack as peer
from running import Fedgate, Workloads, running

from discovery.clients.openstack import CloudAccess
from discovery.feed import CatalogFeed
from discovery.here import Here
from discovery.model import Health, Locality
from discovery.source import Follower
from discovery.sources.openstack import Discover, OpenStackOptions, OpenStackSource
from discovery.watch import Watchable
from federation.publish.designate import DesignateOptions, DesignatePublisher
from federation.publish.publication import Publication
from federation.publish.zone_records import ZoneOptions

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time, its packages and tables are made, which takes minutes
    pytest.mark.skipif(bool(peer.missing()), reason=peer.missing() or "-"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning"),  # the SDK's own
]
HERE = Here("east", "east", Locality("RegionOne"))


@pytest.fixture(scope="module")
def cloud():
    with peer.running_openstack() as cloud:
        yield cloud


@pytest.fixture(scope="module")
def access(cloud, tmp_path_factory):
    identity, secret = cloud.credential()
    path = tmp_path_factory.mktemp("openstack") / "secret"
    path.write_text(secret)
    return CloudAccess(auth_url=cloud.auth_url, credential=identity, secret_file=str(path))


def on(function, *arguments, **named):
    """A call of the peer's, in a thread."""
    return trio.to_thread.run_sync(lambda: function(*arguments, **named))


class Followed:
    """A source followed into a catalog."""

    def __init__(self, access, *discover):
        options = OpenStackOptions(access, discover or tuple(Discover), interval=0.5)
        self.feed = CatalogFeed("east")
        self.source = OpenStackSource("nova", HERE, options)
        self.follower = Follower(self.source, self.feed, clock=trio.current_time, rng=random.random)

    def shard(self):
        return self.feed.catalog.value.shards.get(self.follower.key, {})

    def endpoints(self, service):
        found = self.shard().get(f"{service}.shop.svc.cluster.local")
        return None if found is None else [(each.address, each.health, each.tier, each.weight) for each in found.endpoints]

    async def wait(self, condition, within=60):
        with trio.fail_after(within):
            while not condition():
                version = self.feed.catalog.version
                if not condition():
                    with trio.move_on_after(0.5):  # the follower's state changes without the catalog
                        await self.feed.catalog.newer_than(version)

    async def wait_endpoints(self, service, *wanted):
        with contextlib.suppress(trio.TooSlowError):
            await self.wait(lambda: self.endpoints(service) == list(wanted))
        assert self.endpoints(service) == list(wanted)


@pytest.fixture
async def followed(access, nursery):
    followed = Followed(access)
    nursery.start_soon(followed.follower.run)
    await followed.wait(lambda: followed.follower.status.value.connected)
    return followed


async def test_members_come_drain_are_switched_off_and_go(cloud, followed, nursery):
    name = "reviews"
    balancer, pool = await on(cloud.balancer, name, members=[("10.24.0.11", 8080)])
    await followed.wait_endpoints(name, ("10.24.0.11", Health.UNKNOWN, 0, 1))  # no monitor: counted healthy
    second = await on(cloud.member, balancer, pool, "10.24.0.12", 8080, weight=5, backup=True)
    first, other = ("10.24.0.11", Health.UNKNOWN, 0, 1), ("10.24.0.12", Health.UNKNOWN, 1, 5)
    await followed.wait_endpoints(name, first, other)

    async def change(**fields):
        await on(cloud.sdk.load_balancer.update_member, second, pool, **fields)
        await on(cloud.active, balancer)

    await change(weight=0)
    await followed.wait_endpoints(name, first, ("10.24.0.12", Health.DRAINING, 1, 1))
    await change(weight=5, admin_state_up=False)
    await followed.wait_endpoints(name, first)
    await change(admin_state_up=True)
    await followed.wait_endpoints(name, first, other)
    cloud.say_member(second, "ERROR")  # as a monitor would
    await followed.wait_endpoints(name, first, ("10.24.0.12", Health.UNHEALTHY, 1, 5))
    await on(cloud.sdk.load_balancer.delete_member, second, pool)
    await followed.wait_endpoints(name, first)
    await on(cloud.active, balancer)
    await on(cloud.sdk.load_balancer.delete_load_balancer, balancer, cascade=True)
    await followed.wait(lambda: followed.endpoints(name) is None)
    nursery.cancel_scope.cancel()


async def test_servers_are_found_by_their_metadata(cloud, followed, nursery):
    server = await on(cloud.server, "vm1", **{"fedgate-service": "web", "fedgate-ports": "http:80:8080", "version": "v1"})
    await followed.wait(lambda: followed.endpoints("web"))
    service = followed.shard()["web.shop.svc.cluster.local"]
    (endpoint,) = service.endpoints
    assert endpoint.address.startswith("10.24.")
    assert endpoint.ports == (("http", 8080),)
    assert endpoint.locality == Locality("RegionOne", "az1")
    assert ("version", "v1") in endpoint.labels
    assert (service.ports[0].number, service.namespace) == (80, "shop")
    address = endpoint.address
    await on(cloud.sdk.compute.set_server_metadata, server, **{"fedgate-weight": "0"})
    await followed.wait_endpoints("web", (address, Health.DRAINING, 0, 1))
    await on(cloud.sdk.compute.set_server_metadata, server, **{"fedgate-weight": "3"})
    await followed.wait_endpoints("web", (address, Health.UNKNOWN, 0, 3))
    await on(cloud.sdk.compute.stop_server, server)
    await followed.wait_endpoints("web", (address, Health.UNHEALTHY, 0, 3))
    await on(cloud.sdk.compute.delete_server, server)
    await followed.wait(lambda: followed.endpoints("web") is None)
    nursery.cancel_scope.cancel()


async def test_keystone_paused_killed_and_started_again_keeps_the_shard(cloud, followed, nursery):
    balancer, pool = await on(cloud.balancer, "kept", members=[("10.24.0.21", 8080)])
    stands = ("10.24.0.21", Health.UNKNOWN, 0, 1)
    await followed.wait_endpoints("kept", stands)
    keystone = cloud.service("keystone")
    keystone.pause()
    await trio.sleep(2)  # some readings
    assert followed.endpoints("kept") == [stands]
    keystone.resume()
    await on(keystone.kill)
    await followed.wait(lambda: followed.endpoints("kept") == [stands])
    octavia = cloud.service("octavia")
    await on(octavia.kill)
    await followed.wait(lambda: "octavia" in repr(followed.source) or not followed.follower.status.value.connected)
    assert followed.endpoints("kept") == [stands]
    keystone.start()
    octavia.start()
    await on(keystone.wait_ready)
    await on(octavia.wait_ready)
    await on(cloud.member, balancer, pool, "10.24.0.22", 8080)
    await followed.wait_endpoints("kept", stands, ("10.24.0.22", Health.UNKNOWN, 0, 1))
    assert followed.follower.status.value.connected
    nursery.cancel_scope.cancel()


async def test_records_appear_in_dig_and_are_withdrawn_on_leave(cloud, access, nursery):
    await on(cloud.zone, "fed.example.com.")
    await on(cloud.record, "fed.example.com.", "api.shop.fed.example.com.", "A", ["192.0.2.9"])  # somebody else's
    publisher = DesignatePublisher("designate", DesignateOptions(access, ZoneOptions("fed.example.com", owner="east")))

    def published(*names, address="240.240.0.1", healthy=1):
        made = [
            Publication(f"{name}.shop.svc.cluster.local", name, "shop", addresses=(address,), healthy=healthy, total=1)
            for name in names
        ]
        return {each.hostname: each for each in made}

    async def wait_dig(name, wanted, kind="A"):
        said = None
        for _ in range(200):
            said = await on(cloud.dig, name, kind)
            if said == wanted:
                break
            await trio.sleep(0.3)
        assert said == wanted, f"{publisher.status.value} {cloud.service('designate-worker').text()[-2000:]}"

    wanted = Watchable(published("web", "api"))
    await nursery.start(publisher.run, wanted)
    await wait_dig("web.shop.fed.example.com.", ["240.240.0.1"])
    await wait_dig("_fedgate.web.shop.fed.example.com.", ['"ready=yes"'], "TXT")
    wanted.set(published("web", "api", address="240.240.0.2", healthy=0))
    await wait_dig("web.shop.fed.example.com.", ["240.240.0.2"])
    await wait_dig("_fedgate.web.shop.fed.example.com.", ['"ready=no"'], "TXT")
    assert publisher.status.value.conflicts == ("api.shop.fed.example.com.",)
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await publisher.leave()
        await wait_dig("web.shop.fed.example.com.", [])
        await wait_dig("api.shop.fed.example.com.", ["192.0.2.9"])


async def test_a_member_added_takes_traffic_one_drained_takes_none_and_the_cloud_may_be_away(cloud, access, tmp_path):
    workloads, gateway = Workloads(tmp_path, "one", "two"), Fedgate(tmp_path)
    credential = {"id": access.credential, "secretFile": access.secret_file}
    source = {"authUrl": access.auth_url, "applicationCredential": credential, "interval": "1s"}
    gateway.write("node", gateway.node(sources=[{"name": "cloud", "openstack": source}]))
    balancer, pool = await on(cloud.balancer, "shop")
    first = await on(cloud.member, balancer, pool, workloads.address, workloads.ports["one"])

    async def served():
        answers = [await gateway.get(host="shop.shop.svc.cluster.local") for _ in range(8)]
        return {answer.json()["served_by"] if answer.status == 200 else answer.status for answer in answers}

    async def wait_served(*names):
        got = None
        for _ in range(180):
            got = await served()
            if got == set(names):
                return
            await trio.sleep(0.5)  # OpenStack needs the cores more
        raise AssertionError(f"{got} instead of {names}\n{await gateway.rows('sources')}\n{gateway.text()[-4000:]}")

    with running(workloads, gateway):
        await wait_served("one")
        second = await on(cloud.member, balancer, pool, workloads.address, workloads.ports["two"])
        await wait_served("one", "two")
        await on(cloud.sdk.load_balancer.update_member, first, pool, weight=0)
        await wait_served("two")
        away = [cloud.service(name) for name in ("keystone", "octavia")]
        for service in away:
            service.pause()
        assert await served() == {"two"}
        for service in away:
            await on(service.kill)
        assert await served() == {"two"}
        for service in away:
            service.start()
        for service in away:
            await on(service.wait_ready)
        await on(cloud.active, balancer)
        await on(cloud.sdk.load_balancer.update_member, first, pool, weight=1)
        await wait_served("one", "two")
        await on(cloud.active, balancer)
        await on(cloud.sdk.load_balancer.delete_member, second, pool)
        await wait_served("one")
