"""Real Consul 1.20: two datacenters joined by the WAN and two clusters joined by cluster peering; endpoints that come and go under traffic,
an agent that is killed, paused and loses its disk, documents in the KV store, the catalog written back and taken back."""

import time
import urllib.error

import go_peers
import pytest
import trio
import yaml
from conformance import check_source
from peers.consul import Consul
from running import Fedgate, Workloads, listening, routes, running, server, service, to, wait_until
from running_gateway import until

from discovery.clients import consul_checks
from discovery.clients.consul import ConsulClient, ConsulConnection, Unreachable
from discovery.document import Documents
from discovery.documents.consul import ConsulDocuments
from discovery.feed import CatalogFeed
from discovery.here import Here
from discovery.model import Health, Locality, Port, Protocol, ShardKey
from discovery.source import Follower
from discovery.sources import consul as source_module
from discovery.sources.consul import ConsulSource, ConsulSourceOptions
from discovery.update import Remove, Upsert
from discovery.watch import Watchable
from federation.consul_store import ConsulStore
from federation.publish.consul import ConsulPublisher, ConsulPublishOptions
from federation.publish.publication import Publication
from federation.store import StoreLost

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time it is built
    pytest.mark.skipif(bool(go_peers.NO_GO), reason=go_peers.NO_GO),
    pytest.mark.xdist_group("live-consul"),
]

HERE = Here("east", locality=Locality("r1", "z1"))


def host(name, namespace="default"):
    return f"{name}.{namespace}.svc.cluster.local"


@pytest.fixture(scope="session")
def built():
    try:
        return go_peers.build("consul")
    except (RuntimeError, OSError) as error:
        pytest.skip(f"Consul cannot be built: {str(error)[-500:]}")


@pytest.fixture(scope="session")
def consul(built, tmp_path_factory):
    made = Consul(tmp_path_factory.mktemp("one"), "dc1")
    with running(made):
        yield made


@pytest.fixture(scope="session")
def second(consul, tmp_path_factory):
    """Another datacenter of the same federation."""
    made = Consul(tmp_path_factory.mktemp("two"), "dc2", primary_datacenter="dc1")
    with running(made):
        consul.join(made)
        yield made


@pytest.fixture(scope="session")
def foreign(built, tmp_path_factory):
    """Another cluster; its datacenter bears our name."""
    made = Consul(tmp_path_factory.mktemp("three"), "dc1")
    with running(made):
        yield made


def connection(consul, **more):
    return ConsulConnection(consul.url, **more)


def source_of(consul, name="c", **options):
    more = {"datacenter": options.pop("datacenter")} if "datacenter" in options else {}
    return ConsulSource(name, HERE, ConsulSourceOptions(connection(consul, **more), **options))


async def do(function, *arguments, **named):
    """Run something that waits."""
    return await trio.to_thread.run_sync(lambda: function(*arguments, **named))


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


async def heard(updates, good, *, within=10):
    """The first update that is good."""
    with trio.fail_after(within):
        async for update in updates:
            if good(update):
                return update


def says(name, *wanted):
    return lambda update: (
        isinstance(update, Upsert) and update.service.hostname == host(name) and addresses(update.service) == [*wanted]
    )


# ------------------------------------------------------------------------------------------------------- the source


async def test_it_conforms_and_a_change_is_out_within_milliseconds(consul):
    consul.register("conform", "conform-1", "127.0.0.1", 8080)

    async def change():
        await do(consul.register, "conform", "conform-2", "127.0.0.2", 8080, status=None)
        await do(consul.deregister, "conform-1")

    found = await check_source(source_of(consul), change=change, within=20)
    assert addresses(found[host("conform")]) == ["127.0.0.2"]
    took = []
    async with source_of(consul).watch() as updates:
        await updates.receive()
        for number in range(20):
            _, index = await do(consul.watch, "conform")
            seen = trio.Event()

            async def watch(index=index, seen=seen):
                await do(consul.watch, "conform", index)
                took.append(-time.perf_counter())
                seen.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                status = "critical" if number % 2 == 0 else "passing"
                await trio.sleep(0.05)  # the test's own watch is to stand before
                nursery.start_soon(
                    lambda status=status: do(consul.register, "conform", "conform-2", "127.0.0.2", 8080, status=status)
                )
                await heard(updates, lambda update: isinstance(update, Upsert))
                said = time.perf_counter()
                await seen.wait()
                took[-1] += said
    assert sorted(took)[-2] < 0.05, took  # after an independent watch; it is usually out before that


async def test_all_that_an_instance_says_arrives(consul):
    weights = {"Passing": 7, "Warning": 2}
    meta = {"version": "v2", "protocol": "grpc", "fedgate-namespace": "shop"}
    consul.register("facts", "f-1", "127.0.0.1", 9090, tags=["team=a"], meta=meta, Weights=weights)
    async with source_of(consul).watch() as updates:
        (service,) = [each for each in (await updates.receive()).services if each.hostname == host("facts", "shop")]
        assert service.ports == (Port(9090, "grpc", Protocol.GRPC),)
        (endpoint,) = service.endpoints
        assert (endpoint.weight, endpoint.health, endpoint.locality) == (7, Health.HEALTHY, HERE.locality)
        assert {("team", "a"), ("version", "v2")} <= set(endpoint.labels)

        async def becomes(status, **expected):
            await do(consul.register, "facts", "f-1", "127.0.0.1", 9090, tags=["team=a"], meta=meta, Weights=weights, status=status)
            update = await heard(
                updates, lambda update: isinstance(update, Upsert) and update.service.hostname == host("facts", "shop")
            )
            found = update.service.endpoints[0]
            assert {name: getattr(found, name) for name in expected} == expected

        await becomes("warning", health=Health.HEALTHY, weight=2)
        await becomes("critical", health=Health.UNHEALTHY)
        await becomes("passing", health=Health.HEALTHY, weight=7)
    consul.deregister("f-1")


async def test_maintenance_takes_no_traffic(consul):
    service = {"Name": "kept", "ID": "kept-1", "Address": "127.0.0.1", "Port": 8081}
    consul.call("PUT", "/v1/agent/service/register", service)
    async with source_of(consul).watch() as updates:
        await updates.receive()
        await do(consul.call, "PUT", "/v1/agent/service/maintenance/kept-1?enable=true")
        update = await heard(updates, says("kept", "127.0.0.1"))
        assert update.service.endpoints[0].health is Health.DRAINING
        await do(consul.call, "PUT", "/v1/agent/service/maintenance/kept-1?enable=false")
        update = await heard(updates, says("kept", "127.0.0.1"))
        assert update.service.endpoints[0].health is Health.HEALTHY
    consul.call("PUT", "/v1/agent/service/deregister/kept-1")


async def test_what_speaks_only_connect_is_named_and_gets_no_traffic(consul):
    consul.call(
        "PUT", "/v1/agent/service/register", {"Name": "native", "ID": "native-1", "Port": 8082, "Connect": {"Native": True}}
    )
    sidecar = {"Name": "cart", "Port": 8083, "Connect": {"SidecarService": {"Proxy": {"Mode": "transparent"}}}}
    consul.call("PUT", "/v1/agent/service/register", sidecar)
    async with source_of(consul).watch() as updates:
        services = {service.hostname: service for service in (await updates.receive()).services}
    for name in ("native", "cart"):
        found = services[host(name)]
        assert not found.endpoints
        assert "Connect" in found.notes[0]
    assert host("cart-sidecar-proxy") not in services
    for ident in ("native-1", "cart"):  # the sidecar goes with its service
        consul.call("PUT", f"/v1/agent/service/deregister/{ident}")


async def test_another_datacenter_through_our_agent(consul, second):
    second.register("far", "far-1", "127.0.0.3", 8080, TaggedAddresses={"wan": {"Address": "127.0.0.33", "Port": 9443}})
    async with source_of(consul, datacenter="dc2").watch() as updates:
        (service,) = [each for each in (await updates.receive()).services if each.hostname == host("far")]
        (endpoint,) = service.endpoints
        assert (endpoint.address, endpoint.ports[0][1], str(endpoint.locality)) == ("127.0.0.33", 9443, "dc2")
        await do(second.deregister, "far-1")
        assert await heard(updates, lambda update: isinstance(update, Remove)) == Remove(host("far"))


async def test_a_cluster_peers_exports(consul, foreign):
    foreign.register("imported", "i-1", "127.0.0.4", 8080)
    foreign.register("later", "l-1", "127.0.0.5", 8080)
    await do(consul.import_from, foreign, "abroad", ["imported"])
    await do(lambda: consul_has(consul, "imported"))
    async with source_of(consul, peers=("abroad",)).watch() as updates:
        (service,) = [each for each in (await updates.receive()).services if each.hostname == host("imported")]
        assert addresses(service) == ["127.0.0.4"]
        assert str(service.endpoints[0].locality) == "dc1"  # the peer's, not ours
        await do(foreign.register, "imported", "i-2", "127.0.0.6", 8080)
        await heard(updates, says("imported", "127.0.0.4", "127.0.0.6"))
        await do(foreign.export, "to-abroad", ["imported", "later"])
        await heard(updates, says("later", "127.0.0.5"))
        await do(foreign.deregister, "i-1")
        await heard(updates, says("imported", "127.0.0.6"))


def consul_has(consul, name):
    wait_until(lambda: consul.get(f"/v1/health/service/{name}?peer=abroad"), f"{name} is imported")


async def test_more_services_than_queries_are_followed_too(consul):
    for number in range(8):
        consul.register(f"many{number}", f"many{number}-1", "127.0.0.1", 8000 + number)
    async with source_of(consul, most_watched=2).watch() as updates:
        reset = await updates.receive()
        assert {host(f"many{number}") for number in range(8)} <= {service.hostname for service in reset.services}
        await do(consul.register, "many7", "many7-2", "127.0.0.2", 8007)
        await heard(updates, says("many7", "127.0.0.1", "127.0.0.2"), within=3)
        await do(consul.deregister, "many7-1")
        await heard(updates, says("many7", "127.0.0.2"), within=3)
        await do(consul.register, "many0", "many0-2", "127.0.0.2", 8000, status=None)
        await heard(updates, says("many0", "127.0.0.1", "127.0.0.2"), within=3)
    for number in range(8):
        for ident in (1, 2):
            consul.deregister(f"many{number}-{ident}")


async def test_its_list_of_checks_can_be_cut_between_any_two(consul):
    for number in range(3):
        consul.register(f"cut{number}", f"cut{number}-1", "127.0.0.1", 8000 + number)
    async with ConsulClient(ConsulConnection(consul.url)) as client:
        body = (await client._session.request("GET", "/v1/health/state/any", [])).body
        checks = (await client.checks()).data
    assert {f"cut{number}" for number in range(3)} <= {check.service_name for check in checks}
    assert body.count(consul_checks._BETWEEN) == len(checks) - 1
    for number in range(3):
        consul.deregister(f"cut{number}-1")


async def test_the_shard_stands_while_the_agent_is_killed_paused_and_comes_back(built, tmp_path, nursery):
    consul = Consul(tmp_path, "dc1")
    with running(consul):
        consul.register("kept", "k-1", "127.0.0.1", 8080)
        feed = CatalogFeed("east")
        follower = Follower(source_of(consul), feed, clock=time.time, rng=lambda: 0.5)
        nursery.start_soon(follower.run)
        key = ShardKey("east", "c")

        async def status(good):
            seen = -1
            with trio.fail_after(30):
                while True:
                    seen, now = await follower.status.newer_than(seen)
                    if good(now):
                        return now

        seen_without = []

        async def guard():
            """Every catalog that ever was had the service."""
            seen, _ = await feed.catalog.newer_than(-1)
            while True:
                seen, catalog = await feed.catalog.newer_than(seen)
                if not addresses(catalog.shards[key][host("kept")]):
                    seen_without.append(catalog)

        await status(lambda now: now.connected)
        nursery.start_soon(guard)
        for _ in range(3):  # a server that has just started may know nothing yet
            consul.kill()
            lost = await status(lambda now: not now.connected)
            assert (lost.shard, lost.services) == ("kept", 1)
            assert "check that the Consul agent runs" in lost.error
            consul.start()
            await status(lambda now: now.connected)
        consul.pause()
        await trio.sleep(0.5)
        assert addresses(feed.catalog.value.services[host("kept")]) == ["127.0.0.1"]
        consul.resume()
        await do(consul.register, "kept", "k-2", "127.0.0.2", 8080)
        with trio.fail_after(10):
            seen = -1
            while len(feed.catalog.value.services[host("kept")].endpoints) < 2:
                seen, _ = await feed.catalog.newer_than(max(seen, feed.catalog.version))
        assert not seen_without
        nursery.cancel_scope.cancel()


async def test_a_consul_that_lost_its_disk_takes_nothing_away_at_once(built, tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "RESTORED_WITHIN", 6.0)
    consul = Consul(tmp_path, "dc1")
    with running(consul):
        for number in range(30):  # its index is far on
            consul.register("kept", "k-1", "127.0.0.1", 8000 + number % 2)
        source = source_of(consul)
        async with source.watch() as updates:
            assert host("kept") in {service.hostname for service in (await updates.receive()).services}
        consul.kill()
        consul.forget()
        consul.start()
        await do(consul.wait_ready)
        async with source.watch() as updates:
            assert host("kept") in {service.hostname for service in (await updates.receive()).services}
            assert await heard(updates, lambda update: isinstance(update, Remove)) == Remove(host("kept"))


async def test_a_token_is_needed_and_read_anew(built, tmp_path):
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": "a-very-secret-root"}}
    consul = Consul(tmp_path, "dc1", acl=acl)
    token = tmp_path / "token"
    token.write_text("not-known")
    with running_denied(consul):
        source = ConsulSource("c", HERE, ConsulSourceOptions(connection(consul, token_file=str(token))))
        with pytest.raises(ExceptionGroup) as caught:
            async with source.watch() as updates:
                await updates.receive()
        assert "403" in str(caught.value.exceptions)
        assert "not-known" not in str(caught.value.exceptions)
        token.write_text("a-very-secret-root")
        async with source.watch() as updates:
            assert (await updates.receive()).services == ()


def running_denied(consul):
    """As running, but whether it is ready can be asked without a token only in part."""
    consul.is_ready = lambda: len(consul.get("/v1/status/leader")) > 4 and denied(consul)
    return running(consul)


def denied(consul):
    try:
        consul.call("GET", "/v1/acl/token/self")
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 403
    return False


# ---------------------------------------------------------------------------------------- documents, store, publishing


async def test_documents_of_the_kv_store(consul, nursery):
    documents = ConsulDocuments(connection(consul), "fedgate/config")

    async def become(good):
        seen = -1
        with trio.fail_after(10):
            while True:
                seen, now = await documents.documents.newer_than(seen)
                if good(now):
                    return now

    await nursery.start(documents.run)
    assert documents.documents.value == Documents()
    await do(consul.put, "fedgate/config/a.yaml", "kind: A\n---\nkind: B\n")
    now = await become(lambda now: len(now.documents) == 2)
    assert str(now.documents[1].origin) == "consul:fedgate/config/a.yaml:3"
    await do(consul.put, "fedgate/config/a.yaml", "kind: [\n")
    now = await become(lambda now: now.errors)
    assert len(now.documents) == 2
    await do(consul.put, "fedgate/config/b.yaml", "kind: C\n")
    await become(lambda now: len(now.documents) == 3)
    await do(consul.delete, "fedgate/config/a.yaml")
    now = await become(lambda now: len(now.documents) == 1)
    assert not now.errors
    nursery.cancel_scope.cancel()


async def test_the_store_decides_between_two_writers_and_wakes_the_third(consul, nursery):
    async with ConsulStore(connection(consul), "fedgate/shared") as one, ConsulStore(connection(consul), "fedgate/shared") as two:
        nothing = await one.get("vips/east")
        assert (nothing.value, nothing.index) == (b"", 0)
        assert await one.put_if("vips/east", b"1", 0)
        assert not await two.put_if("vips/east", b"2", 0)
        known = await two.get("vips/east")
        assert known.value == b"1"
        woken, done = [], trio.Event()

        async def wait():
            woken.append(await two.wait_changed("vips/east", known.index))
            done.set()

        nursery.start_soon(wait)
        await one.put_if("vips/other", b"x", 0)
        await trio.sleep(0.1)
        assert not woken
        assert await one.put_if("vips/east", b"3", known.index)
        with trio.fail_after(5):
            await done.wait()
        assert woken[0].value == b"3"


def published(name, *, healthy=1, addresses=("240.240.0.1",), sources=()):
    ports = (Port(80, "http", Protocol.HTTP), Port(9000, "admin"))
    made = Publication(host(name, "shop"), name, "shop", ports, tuple(addresses), healthy, 2, frozenset(sources), ("east", "west"))
    return {made.hostname: made}


async def test_the_catalog_is_published_changed_and_taken_back_and_never_read_back(consul):
    options = ConsulPublishOptions("east/gw-1", connection(consul), sources=frozenset({"c"}), writes_per_second=1000)
    publisher = ConsulPublisher("consul", options)
    consul.register("fed-taken-shop", "somebody", "127.0.0.8", 1)
    offered = Watchable(published("a") | published("b", healthy=0) | published("own", sources=["c"]) | published("taken"))

    async def settled(good):
        seen = -1
        with trio.fail_after(10):
            while True:
                seen, now = await publisher.status.newer_than(seen)
                if now.connected and not now.pending and good(now):
                    return now

    async with trio.open_nursery() as running_one:
        running_one.start_soon(publisher.run, offered)
        now = await settled(lambda now: now.published == 2)
        assert now.conflicts == ("fed-taken-shop",)
        (a,) = await do(consul.get, "/v1/health/service/fed-a-shop")
        (b,) = await do(consul.get, "/v1/health/service/fed-b-shop")
        assert (a["Service"]["Address"], a["Service"]["Port"], a["Checks"][0]["Status"]) == ("240.240.0.1", 80, "passing")
        assert a["Service"]["Meta"]["port-admin"] == "9000"
        assert b["Checks"][0]["Status"] == "critical"
        assert "fed-own-shop" not in await do(consul.get, "/v1/catalog/services")
        async with source_of(consul).watch() as updates:
            known = {service.hostname for service in (await updates.receive()).services}
            assert not any("fed-a" in name or "fed-b" in name for name in known)
            assert host("fed-taken-shop") in known
        offered.set(published("a", healthy=0))
        await settled(lambda now: now.published == 1)
        (changed,) = await do(consul.get, "/v1/health/service/fed-a-shop")
        assert changed["Checks"][0]["Status"] == "critical"
        assert changed["Service"]["ModifyIndex"] == a["Service"]["ModifyIndex"]  # only what changed: its check
        running_one.cancel_scope.cancel()
    await publisher.leave()
    assert "fed-a-shop" not in await do(consul.get, "/v1/catalog/services")
    assert "fed-east-gw-1" not in {node["Node"] for node in await do(consul.get, "/v1/catalog/nodes")}
    consul.deregister("somebody")


async def test_everything_says_so_when_nobody_is_there(built, tmp_path):
    consul = Consul(tmp_path, "dc1")
    with pytest.raises(StoreLost, match="check that the Consul agent runs"):
        await ConsulStore(connection(consul), "x").get("y")
    with pytest.raises(Unreachable):
        await ConsulPublisher("consul", ConsulPublishOptions("east/gw", connection(consul))).leave()


# ------------------------------------------------------------------------------------------------------- a whole gateway


async def test_an_endpoint_added_takes_traffic_and_one_removed_takes_none(consul, tmp_path):
    workloads, gateway = Workloads(tmp_path, "one", "two"), Fedgate(tmp_path)
    gateway.write("node", gateway.node(sources=[{"name": "c", "consul": {"address": consul.url}}]))
    gateway.write(
        "shop", listening("web", server(gateway, ["*"])), routes("shop", ["*"], {"route": [to(host("shop"))]}, gateways=["web"])
    )
    consul.register("shop", "shop-one", workloads.address, workloads.ports["one"])
    with running(workloads, gateway):

        async def asked():
            answer = await gateway.get(host="any.example.com", port=gateway.ingress)
            return (answer.status, answer.json()["served_by"] if answer.status == 200 else "")

        await until(asked, lambda got: got == (200, "one"))
        await do(consul.register, "shop", "shop-two", workloads.address, workloads.ports["two"])
        await until(asked, lambda got: got == (200, "two"))
        await do(consul.deregister, "shop-one")
        await until(asked_many(asked), lambda got: set(got) == {(200, "two")})
        consul.pause()  # traffic goes on without it
        assert set(await asked_many(asked)()) == {(200, "two")}
        consul.resume()
        consul.kill()
        assert set(await asked_many(asked)()) == {(200, "two")}
        consul.start()
        await do(consul.wait_ready)
        await do(consul.register, "shop", "shop-one", workloads.address, workloads.ports["one"])
        await until(asked_many(asked), lambda got: set(got) == {(200, "one"), (200, "two")})
    consul.deregister("shop-one")
    consul.deregister("shop-two")


def asked_many(asked, times=20):
    async def many():
        return [await asked() for _ in range(times)]

    return many


async def test_configuration_from_the_kv_store_publishing_and_leaving(consul, tmp_path):
    workloads, gateway = Workloads(tmp_path, "one"), Fedgate(tmp_path)
    there = {"address": consul.url}
    spec = {
        "sources": [{"name": "c", "consul": there}],
        "resources": [{"consul": there | {"prefix": "gw/config"}}],
        "publish": [{"consul": there}],
    }
    gateway.write("node", gateway.node(**spec, shared={"consul": there}))
    entry = service("kept.shop.svc.cluster.local", [workloads.endpoint("one")])
    consul.put("gw/config/web.yaml", yaml.safe_dump(listening("web", server(gateway, ["*"]))))
    consul.put("gw/config/kept.yaml", yaml.safe_dump(entry))
    consul.put(
        "gw/config/routes.yaml", yaml.safe_dump(routes("kept", ["*"], {"route": [to(entry["spec"]["hosts"][0])]}, gateways=["web"]))
    )
    with running(workloads, gateway):

        async def asked():
            answer = await gateway.get(host="any.example.com", port=gateway.ingress)
            return (answer.status, answer.json()["served_by"] if answer.status == 200 else "")

        await until(asked, lambda got: got == (200, "one"))

        async def told():
            return await do(consul.get, "/v1/health/service/fed-kept-shop?passing")

        instances = await until(told, bool)  # one an IP version of its virtual address
        assert {instance["Service"]["Port"] for instance in instances} == {80}
        assert any(instance["Service"]["Address"].startswith("240.240.") for instance in instances)
        await do(
            consul.put, "gw/config/kept.yaml", yaml.safe_dump(service("other.shop.svc.cluster.local", [workloads.endpoint("one")]))
        )

        async def names():
            return set(await do(consul.get, "/v1/catalog/services"))

        await until(names, lambda names: "fed-other-shop" in names and "fed-kept-shop" not in names)
        rows = await gateway.rows("services")
        assert not [row for row in rows if "fed-" in str(row)]  # what is published is not read back
        for key in ("web", "kept", "routes"):
            await do(consul.delete, f"gw/config/{key}.yaml")
        await until(names, lambda names: not any(name.startswith("fed-") for name in names))
