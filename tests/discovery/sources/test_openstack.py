"""The openstack source with the real openstacksdk, against a scripted cloud on a real socket."""

import logging

import pytest
import trio
from cloud import Cloud
from conformance import check_source

from discovery.clients.openstack import CloudAccess
from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol
from discovery.source import SourceLost
from discovery.sources.openstack import Discover, OpenStackOptions, OpenStackSource
from discovery.update import Remove, Reset, Upsert

pytestmark = [
    pytest.mark.slow,  # the SDK alone takes a second to import
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # the SDK uses what it deprecates
]


@pytest.fixture
def cloud():
    cloud = Cloud()
    yield cloud
    cloud.close()


def access_to(cloud, folder):
    secret = folder / "secret"
    if not secret.exists():
        secret.write_text("s3cret-of-the-credential\n")
    return CloudAccess(auth_url=f"{cloud.url}/identity/v3", credential="gateway", secret_file=str(secret))


def source_of(cloud, folder, *discover, interval=0.05, locality="east-1/a"):
    options = OpenStackOptions(access_to(cloud, folder), discover or tuple(Discover), interval)
    return OpenStackSource("nova", Here("east", "east", Locality.parse(locality)), options, rng=lambda: 0.5)


def lost(match=None):
    return pytest.RaisesGroup(pytest.RaisesExc(SourceLost, match=match), allow_unwrapped=True, flatten_subgroups=True)


async def first(source):
    with trio.fail_after(20):
        async with source.watch() as updates:
            async for update in updates:
                assert isinstance(update, Reset)
                return {service.hostname: service for service in update.services}


def brief(service):
    return [(each.address, each.ports, each.health, each.tier) for each in service.endpoints]


async def test_it_conforms(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    cloud.balancer("ratings", members=[{"address": "10.0.0.7"}])
    cloud.server("vm1", "10.0.0.2")

    async def change():
        cloud.member("reviews", "10.0.0.3")
        del cloud.tables["loadbalancers"]["ratings"]

    found = await check_source(source_of(cloud, tmp_path), change=change, within=30)
    assert {name: [each.address for each in service.endpoints] for name, service in found.items()} == {
        "reviews.shop.svc.cluster.local": ["10.0.0.1", "10.0.0.3"],
        "web.shop.svc.cluster.local": ["10.0.0.2"],
    }


async def test_what_a_load_balancer_says(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1", "weight": 3, "tags": ["version=v1"]}], tags=["team=a"])
    cloud.server("vm1", "10.0.0.1", metadata={}, zone="az2")
    (service,) = (await first(source_of(cloud, tmp_path))).values()
    assert service.hostname == "reviews.shop.svc.cluster.local"
    assert service.namespace == "shop"
    assert service.labels == (("team", "a"),)
    assert service.created == "2026-01-02T03:04:05Z"
    assert service.ports == (Port(80, "http", Protocol.HTTP),)
    (endpoint,) = service.endpoints
    assert endpoint.ports == (("http", 8080),)
    assert (endpoint.weight, endpoint.health, endpoint.labels) == (3, Health.HEALTHY, (("version", "v1"),))
    assert endpoint.locality == Locality("east-1", "az2")
    assert (endpoint.cluster, endpoint.network) == ("east", "east")


async def test_changes_are_said_one_by_one(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}, {"address": "10.0.0.2"}])
    cloud.server("vm1", "10.0.1.1")
    with trio.fail_after(20):
        async with source_of(cloud, tmp_path).watch() as updates:
            assert len((await updates.receive()).services) == 2
            cloud.member("reviews", "10.0.0.2", weight=0)
            said = await updates.receive()
            assert [each.health for each in said.service.endpoints] == [Health.HEALTHY, Health.DRAINING]
            cloud.member("reviews", "10.0.0.1", admin_state_up=False)
            assert [each.address for each in (await updates.receive()).service.endpoints] == ["10.0.0.2"]
            del cloud.tables["servers"]["vm1"]
            assert await updates.receive() == Remove("web.shop.svc.cluster.local")


@pytest.mark.parametrize("broken", ["members", "/listeners", "load-balancer", "servers", "ports", "compute"])
@pytest.mark.parametrize("how", [500, 403, "cut"])
async def test_a_partial_answer_empties_nothing_and_delays_nothing_else(cloud, tmp_path, broken, how):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    cloud.server("vm1", "10.0.1.1")
    source = source_of(cloud, tmp_path)
    before = await first(source)
    cloud.broken = {broken: how}
    cloud.put("loadbalancers", id="reviews", name="reviews", tags=["new=yes"], created_at="2026-01-02T03:04:05")
    cloud.tables["servers"]["vm1"]["metadata"]["new"] = "yes"
    after = await first(source)
    assert {name: brief(service) for name, service in after.items()} == {name: brief(service) for name, service in before.items()}
    untouched = "web.shop" if broken in ("members", "/listeners", "load-balancer") else "reviews.shop"
    (changed,) = [service for name, service in after.items() if name.startswith(untouched)]
    assert "new" in str(changed)


async def test_a_pool_that_nobody_answers_for_keeps_its_service_and_lets_others_change(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    cloud.balancer("ratings", members=[{"address": "10.0.0.2"}])
    with trio.fail_after(20):
        async with source_of(cloud, tmp_path, Discover.OCTAVIA).watch() as updates:
            await updates.receive()
            cloud.broken = {"reviews-pool": 500}
            cloud.tables["pools/reviews-pool/members"].clear()
            cloud.member("ratings", "10.0.0.3")
            said = await updates.receive()
            assert isinstance(said, Upsert)
            assert [each.address for each in said.service.endpoints] == ["10.0.0.2", "10.0.0.3"]
            cloud.broken = {}
            said = await updates.receive()
            assert said.service.hostname.startswith("reviews")
            assert said.service.endpoints == ()  # that was an answer: there are none


async def test_a_new_pool_that_nobody_answers_for_keeps_what_the_service_was(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    source = source_of(cloud, tmp_path, Discover.OCTAVIA)
    before = await first(source)
    cloud.put("pools", id="other", protocol="HTTP")
    cloud.tables["listeners"]["reviews-listener"]["default_pool_id"] = "other"
    for _ in range(3):
        with lost("first of 1 pools"):
            await first(source)
    assert await first(source) == before


@pytest.mark.parametrize("how", [500, 401, "cut"])
async def test_a_cloud_that_does_not_answer_is_a_lost_source_and_never_an_empty_reset(cloud, tmp_path, how):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    source = source_of(cloud, tmp_path)
    cloud.broken = {"/lbaas": how, "/servers": how}
    with lost():
        await first(source)
    cloud.broken = {}
    assert len(await first(source)) == 1
    cloud.broken = {"/lbaas": how, "/servers": how}
    with lost():
        await first(source)


async def test_half_of_a_first_answer_is_no_reset(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    cloud.broken = {"/servers": 500}
    with lost("servers"):
        await first(source_of(cloud, tmp_path))


async def test_a_catalog_without_octavia_is_an_answer_unless_it_had_one(cloud, tmp_path):
    cloud.server("vm1", "10.0.1.1")
    cloud.missing = {"load-balancer"}
    assert list(await first(source_of(cloud, tmp_path))) == ["web.shop.svc.cluster.local"]
    with lost("catalog has no such service"):
        await first(source_of(cloud, tmp_path, Discover.OCTAVIA))
    cloud.missing = set()
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    source = source_of(cloud, tmp_path)
    before = await first(source)
    cloud.missing, cloud.tokens = {"load-balancer"}, set()
    assert await first(source) == before


async def test_keystone_away_is_lost_at_first_and_no_matter_while_the_token_lasts(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    cloud.broken = {"/identity": 503}
    source = source_of(cloud, tmp_path)
    with lost("ask for a token"):
        await first(source)
    cloud.broken = {}
    said = []
    with trio.fail_after(20), lost("401|503"):  # whichever part failed first says it
        async with source.watch() as updates:
            async for update in updates:
                said.append(update)
                if isinstance(update, Reset):
                    cloud.broken = {"/identity": 503}
                    cloud.member("reviews", "10.0.0.2")
                else:
                    cloud.tokens = set()  # now it matters
    assert [type(update) for update in said] == [Reset, Upsert]
    assert len(said[1].service.endpoints) == 2


async def test_many_pages_are_one_listing_also_when_their_links_lead_elsewhere(cloud, tmp_path):
    cloud.limit = 3
    cloud.balancer("reviews", members=[{"address": f"10.0.0.{number}"} for number in range(1, 9)])
    for number in range(1, 9):
        cloud.server(f"vm{number}", f"10.0.1.{number}")
    found = await first(source_of(cloud, tmp_path))
    assert {name.partition(".")[0]: len(service.endpoints) for name, service in found.items()} == {"reviews": 8, "web": 8}


async def test_another_project_s_credentials_forget_the_first_one_s_services(cloud, tmp_path):
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    source = source_of(cloud, tmp_path)
    assert list(await first(source)) == ["reviews.shop.svc.cluster.local"]
    cloud.project, cloud.tokens = ("p2", "other"), set()
    cloud.broken = {"members": 500}
    with lost():
        await first(source)
    cloud.broken = {}
    assert list(await first(source)) == ["reviews.other.svc.cluster.local"]


async def test_leaving_does_not_wait_for_a_cloud_that_hangs(cloud, tmp_path):
    source = source_of(cloud, tmp_path)
    await first(source)
    cloud.broken = {"/": "hang"}
    with trio.fail_after(10):  # it hangs for 30
        with trio.move_on_after(0.3):
            await first(source)


async def test_no_secret_is_in_a_log_an_error_or_a_repr(cloud, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    cloud.balancer("reviews", members=[{"address": "10.0.0.1"}])
    source = source_of(cloud, tmp_path)
    await first(source)
    (tmp_path / "secret").write_text("s3cret-of-nobody-known")
    with lost("401.*credentials") as raised:
        await first(source)
    assert cloud.bodies[-1]["auth"]["identity"]["application_credential"]["secret"] == "s3cret-of-nobody-known"
    words = caplog.text + repr(raised.value) + repr(source) + repr(source._client) + repr(source._options)
    assert "s3cret" not in words
    assert not any(token in words for token in cloud.tokens)
