"""The Designate publisher with the real openstacksdk, against a scripted cloud on a real socket."""

import msgspec
import pytest
import trio
from cloud import Cloud

from discovery.clients.openstack import CloudAccess, CloudError
from discovery.watch import Watchable
from federation.publish.designate import DesignateOptions, DesignatePublisher
from federation.publish.publication import Publication
from federation.publish.zone_records import ZoneOptions

pytestmark = [
    pytest.mark.slow,  # the SDK alone takes a second to import
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),  # the SDK uses what it deprecates
]
RECORDS = "zones/z1/recordsets"


@pytest.fixture
def cloud():
    cloud = Cloud()
    cloud.put("zones", id="z1", name="fed.example.com.")
    cloud.tables[RECORDS] = {}
    yield cloud
    cloud.close()


def publisher_of(cloud, folder, **zone):
    (folder / "secret").write_text("s3cret-of-the-credential")
    access = CloudAccess(auth_url=f"{cloud.url}/identity/v3", credential="gateway", secret_file=str(folder / "secret"))
    options = DesignateOptions(access, ZoneOptions("fed.example.com.", owner="east", **zone), writes_per_second=200)
    return DesignatePublisher("designate", options, rng=lambda: 0.5)


def published(*services, addresses=("240.240.0.1",), healthy=1):
    made = [
        Publication(f"{name}.shop.svc.cluster.local", name, "shop", addresses=addresses, healthy=healthy, total=1)
        for name in services
    ]
    return {each.hostname: each for each in made}


def records(cloud):
    return {(each["name"], each["type"]): tuple(each["records"]) for each in cloud.tables[RECORDS].values()}


def a_records(cloud):
    return {name.partition(".")[0]: found for (name, kind), found in records(cloud).items() if kind == "A"}


async def until(publisher, condition):
    seen = -1
    with trio.fail_after(15):
        while not condition():
            seen, _ = await publisher.status.newer_than(seen) if seen >= 0 else (publisher.status.version, None)


def settled(publisher, entries):
    return lambda: (publisher.status.value.published, publisher.status.value.pending) == (entries, 0)


async def test_records_follow_the_catalog_and_only_what_changed_is_written(cloud, tmp_path, nursery):
    publisher = publisher_of(cloud, tmp_path)
    wanted = Watchable(published("web", "api"))
    await nursery.start(publisher.run, wanted)
    await until(publisher, settled(publisher, 4))
    assert a_records(cloud) == {"web": ("240.240.0.1",), "api": ("240.240.0.1",)}
    assert all(
        each["ttl"] == 30 and each["description"].startswith("fedgate owner=east;") for each in cloud.tables[RECORDS].values()
    )
    lists, writes = cloud.count(RECORDS), cloud.count(RECORDS, "POST") + cloud.count(RECORDS, "PUT")
    wanted.set(published("web", "api") | published("api", addresses=("240.240.0.7",)))
    await until(publisher, lambda: a_records(cloud)["api"] == ("240.240.0.7",))
    assert cloud.count(RECORDS, "POST") + cloud.count(RECORDS, "PUT") == writes + 1
    assert cloud.count(RECORDS) == lists
    wanted.set(published("web", healthy=0))
    await until(publisher, settled(publisher, 2))
    assert records(cloud) == {
        ("web.shop.fed.example.com.", "A"): ("240.240.0.1",),
        ("_fedgate.web.shop.fed.example.com.", "TXT"): ('"ready=no"',),
    }
    nursery.cancel_scope.cancel()


async def test_a_restart_writes_nothing_and_leaving_takes_back_what_is_ours_alone(cloud, tmp_path, nursery):
    cloud.put(RECORDS, id="theirs", name="www.fed.example.com.", type="A", records=["9.9.9.9"], ttl=300, status="ACTIVE")
    for publisher in (publisher_of(cloud, tmp_path), publisher_of(cloud, tmp_path)):
        async with trio.open_nursery() as running:
            await running.start(publisher.run, Watchable(published("web")))
            await until(publisher, settled(publisher, 2))
            running.cancel_scope.cancel()
        assert len(records(cloud)) == 3  # cancelled, it leaves what it wrote
    assert cloud.count(RECORDS, "POST") == 2
    await publisher.leave()
    assert records(cloud) == {("www.fed.example.com.", "A"): ("9.9.9.9",)}
    assert publisher.status.value.published == 0


async def test_somebody_else_s_record_is_left_alone_and_named(cloud, tmp_path, nursery):
    cloud.put(RECORDS, id="theirs", name="web.shop.fed.example.com.", type="A", records=["9.9.9.9"], ttl=300, status="ACTIVE")
    publisher = publisher_of(cloud, tmp_path)
    await nursery.start(publisher.run, Watchable(published("web", "api")))
    await until(publisher, settled(publisher, 3))
    assert a_records(cloud) == {"web": ("9.9.9.9",), "api": ("240.240.0.1",)}
    assert publisher.status.value.conflicts == ("web.shop.fed.example.com.",)
    nursery.cancel_scope.cancel()


async def test_a_cloud_that_fails_is_an_error_in_the_status_until_it_answers(cloud, tmp_path, nursery):
    cloud.broken = {"recordsets": 503}
    publisher = publisher_of(cloud, tmp_path)
    await nursery.start(publisher.run, Watchable(published("web")))
    await until(publisher, lambda: publisher.status.value.error)
    assert not publisher.status.value.connected
    assert "503" in publisher.status.value.error
    cloud.broken = {}
    await until(publisher, settled(publisher, 2))
    assert publisher.status.value.error == ""
    nursery.cancel_scope.cancel()


async def test_records_that_no_nameserver_answers_with_yet_are_pending(cloud, tmp_path, nursery):
    cloud.settled = "PENDING"
    publisher = publisher_of(cloud, tmp_path)
    await nursery.start(publisher.run, Watchable(published("web")))
    await until(publisher, lambda: (publisher.status.value.published, publisher.status.value.pending) == (2, 2))
    for entry in cloud.tables[RECORDS].values():
        entry["status"] = "ACTIVE"
    await until(publisher, settled(publisher, 2))
    nursery.cancel_scope.cancel()


async def test_a_zone_that_is_not_there_is_named(cloud, tmp_path, nursery):
    cloud.tables["zones"].clear()
    publisher = publisher_of(cloud, tmp_path)
    with pytest.raises(CloudError, match=r"no zone fed\.example\.com\."):
        await publisher.leave()
    await nursery.start(publisher.run, Watchable(published("web")))
    await until(publisher, lambda: "no zone fed.example.com." in publisher.status.value.error)
    nursery.cancel_scope.cancel()


async def test_a_newer_catalog_is_not_kept_waiting_by_an_older_one(cloud, tmp_path, nursery):
    publisher = publisher_of(cloud, tmp_path)
    publisher._options = msgspec.structs.replace(publisher._options, writes_per_second=5.0)
    wanted = Watchable(published(*(f"s{number}" for number in range(40))))  # 80 writes: 16 s
    await nursery.start(publisher.run, wanted)
    await until(publisher, lambda: publisher.status.value.published == 2)
    wanted.set(published("s0"))
    await until(publisher, settled(publisher, 2))
    assert len(cloud.tables[RECORDS]) == 2
    nursery.cancel_scope.cancel()


async def test_who_was_faster_to_create_a_record_has_it(cloud, tmp_path, nursery):
    publisher = publisher_of(cloud, tmp_path)
    wanted = Watchable(published("web"))
    await nursery.start(publisher.run, wanted)
    await until(publisher, settled(publisher, 2))
    cloud.put(RECORDS, id="theirs", name="api.shop.fed.example.com.", type="A", records=["9.9.9.9"], ttl=300, status="ACTIVE")
    wanted.set(published("web", "api"))  # the publisher has not seen that one: it answers 409

    def seen():
        assert publisher.status.value.error == ""  # that is no failure
        return publisher.status.value.conflicts == ("api.shop.fed.example.com.",)

    await until(publisher, seen)
    assert a_records(cloud)["api"] == ("9.9.9.9",)
    nursery.cancel_scope.cancel()
