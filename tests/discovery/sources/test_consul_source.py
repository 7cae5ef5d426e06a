"""The consul source against a scripted Consul on a real socket."""

import pytest
import trio
import trio.testing
from conformance import check_source
from scripted_consul import CHECKS, HEALTH, LIST, Scripted, ScriptedConsul, entry

from discovery.clients.consul import ConsulConnection, Refused, Unreachable
from discovery.here import Here
from discovery.model import Health
from discovery.sources import consul as module
from discovery.sources.consul import ConsulSource, ConsulSourceOptions
from discovery.update import Remove, Reset, Upsert

WEB = "web.default.svc.cluster.local"


@pytest.fixture
async def consul(nursery):
    made = ScriptedConsul()
    await nursery.start(made.serve)
    made.instances("web", entry("web-1", "10.0.0.1", 80), entry("web-2", "10.0.0.2", 80))
    with trio.fail_after(10):
        yield made


async def lookup(name):
    return {"db.example.com": ["10.9.0.1"]}.get(name, [])


def source_of(consul, **options):
    connection = ConsulConnection(consul.address, datacenter=options.pop("datacenter", ""))
    return ConsulSource("c", Here("east"), ConsulSourceOptions(connection, **options), lookup=lookup)


async def all_of(source, begun=None):
    """What a watch said until it ended, and what it raised. begun: set when it has said something."""
    said, begun = [], trio.Event() if begun is None else begun
    try:
        async with source.watch() as updates:
            async for update in updates:
                said += [update]
                begun.set()
    except ExceptionGroup as group:
        return said, group
    raise AssertionError("the watch ended without an error")


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


def known(update):
    assert isinstance(update, Reset)
    return {service.hostname: addresses(service) for service in update.services}


@pytest.mark.parametrize("most_watched", [96, 0])
async def test_it_conforms(consul, most_watched):
    async def change():
        consul.instances("web", entry("web-2", "10.0.0.2", 80))
        consul.instances("new", entry("new-1", "10.0.0.7", 80, name="new"))

    found = await check_source(source_of(consul, most_watched=most_watched), change=change)
    assert {name: addresses(service) for name, service in found.items()} == {
        WEB: ["10.0.0.2"],
        "new.default.svc.cluster.local": ["10.0.0.7"],
    }


async def test_consuls_own_service_and_what_gateways_published_are_not_even_asked_for(consul):
    consul.instances("consul", entry("consul", "10.0.0.9", 8300, name="consul"))
    consul.instances("fed-a", entry("a", "10.0.0.8", 80, name="fed-a", tags=["fedgate-published"]))
    async with source_of(consul).watch() as updates:
        assert set(known(await updates.receive())) == {WEB}
    assert {asked.path for asked in consul.requests} == {LIST, HEALTH + "web"}


async def test_a_change_is_said_alone_and_a_service_that_goes_is_removed(consul):
    consul.instances("db", entry("db-1", "10.0.0.5", 5432, name="db"))
    async with source_of(consul).watch() as updates:
        assert len(known(await updates.receive())) == 2
        consul.instances("web", entry("web-1", "10.0.0.1", 80, status="critical"))
        update = await updates.receive()
        assert isinstance(update, Upsert)
        assert [(endpoint.address, endpoint.health) for endpoint in update.service.endpoints] == [("10.0.0.1", Health.UNHEALTHY)]
        consul.instances("web")
        assert await updates.receive() == Remove(WEB)
        consul.instances("web", entry("web-3", "10.0.0.3", 80))
        assert addresses((await updates.receive()).service) == ["10.0.0.3"]


async def test_a_name_that_left_the_list_stands_while_it_has_instances(consul):
    async with source_of(consul).watch() as updates:
        await updates.receive()
        consul.say(LIST, {"other": []})
        consul.instances("other", entry("o", "10.0.0.6", 80, name="other"))
        update = await updates.receive()
        assert update.service.hostname.startswith("other")
        consul.say(HEALTH + "web", [])
        assert await updates.receive() == Remove(WEB)


async def test_nobody_there_raises_and_says_nothing(nursery):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    await listeners[0].aclose()
    source = ConsulSource("c", Here("east"), ConsulSourceOptions(ConsulConnection(f"http://127.0.0.1:{port}")))
    said, raised = await all_of(source)
    assert raised.subgroup(Unreachable)
    assert not said


@pytest.mark.parametrize(("path", "status"), [(LIST, 500), (HEALTH + "web", 503), (HEALTH + "web", -1)])
async def test_a_part_that_cannot_be_read_at_first_is_no_reset(consul, path, status):
    consul.scripted[path] = [Scripted("no leader", status=status)]
    said, raised = await all_of(source_of(consul))
    assert raised.subgroup((Refused, Unreachable))
    assert not said


HIDDEN = {"X-Consul-Results-Filtered-By-ACLs": "true"}


async def test_what_the_token_may_not_read_keeps_what_was_known_and_hinders_nobody_else(consul):
    consul.instances("db", entry("db-1", "10.0.0.5", 5432, name="db"))
    source = source_of(consul)
    for _ in range(2):
        async with source.watch() as updates:
            assert known(await updates.receive()) == {
                WEB: ["10.0.0.1", "10.0.0.2"],
                "db.default.svc.cluster.local": ["10.0.0.5"],
            }
        consul.scripted[HEALTH + "db"] = [Scripted([], headers=HIDDEN)] * 50
    async with source_of(consul).watch() as updates:
        assert known(await updates.receive()) == {WEB: ["10.0.0.1", "10.0.0.2"]}


async def test_a_token_that_may_read_nothing_is_no_reset(consul):
    consul.scripted[HEALTH + "web"] = [Scripted([], headers=HIDDEN)]
    said, raised = await all_of(source_of(consul))
    assert raised.subgroup(Refused)
    assert not said


@pytest.mark.slow
async def test_one_service_that_fails_later_keeps_what_it_said_and_is_asked_again(consul):
    async with source_of(consul).watch() as updates:
        await updates.receive()
        await consul.wait_asked(lambda asked: asked.path == HEALTH + "web" and asked.index)
        consul.scripted[HEALTH + "web"] = [Scripted("rpc error", status=500)] * 2
        consul.instances("web", entry("web-9", "10.0.0.9", 80))
        # The query that waited is answered; the one after it fails, and is begun anew from the start.
        assert addresses((await updates.receive()).service) == ["10.0.0.9"]
        consul.instances("web", entry("web-8", "10.0.0.8", 80))
        assert addresses((await updates.receive()).service) == ["10.0.0.8"]
    assert not consul.scripted[HEALTH + "web"]


async def test_the_list_failing_later_is_the_end(consul, nursery):
    begun = trio.Event()

    async def fail():
        await begun.wait()
        await consul.wait_asked(lambda asked: asked.path == LIST and asked.index)
        consul.scripted[LIST] = [Scripted("No cluster leader", status=500)]
        consul.instances("new", entry("n", "10.0.0.4", 80, name="new"))

    nursery.start_soon(fail)
    said, raised = await all_of(source_of(consul), begun)
    assert known(said[0]) == {WEB: ["10.0.0.1", "10.0.0.2"]}
    assert all(isinstance(update, Upsert) for update in said[1:])
    assert "No cluster leader" in str(raised.subgroup(Refused).exceptions)


@pytest.mark.slow
async def test_an_index_that_went_back_takes_nothing_away_until_agents_had_their_time(consul, monkeypatch):
    monkeypatch.setattr(module, "RESTORED_WITHIN", 1.5)
    async with source_of(consul).watch() as updates:
        await updates.receive()
        await consul.wait_asked(lambda asked: asked.path == HEALTH + "web" and asked.index)
        consul.answers[HEALTH + "web"] = (3, [entry("web-1", "10.0.0.1", 80)])  # a part has come back
        consul.say(LIST, {"web": []}, index=3)
        await consul.wait_asked(lambda asked: asked.path == HEALTH + "web" and asked.index == 3)
        consul.instances("web", entry("web-1", "10.0.0.1", 80), entry("web-2", "10.0.0.2", 80), entry("web-3", "10.0.0.3", 80))
        assert addresses((await updates.receive()).service) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
        consul.instances("web", entry("web-3", "10.0.0.3", 80))
        began = trio.current_time()
        assert addresses((await updates.receive()).service) == ["10.0.0.3"]
        assert trio.current_time() - began > 0.3


@pytest.mark.slow
async def test_a_consul_that_came_back_empty_keeps_the_shard_for_a_while(consul, monkeypatch):
    monkeypatch.setattr(module, "RESTORED_WITHIN", 1.0)
    source = source_of(consul)
    async with source.watch() as updates:
        await updates.receive()
    consul.answers = {LIST: (2, {"consul": []})}
    async with source.watch() as updates:
        assert known(await updates.receive()) == {WEB: ["10.0.0.1", "10.0.0.2"]}
        assert await updates.receive() == Remove(WEB)


async def test_a_cluster_peers_exports_join_our_own(consul, monkeypatch):
    monkeypatch.setattr(module, "PEER_EVERY", 0.05)
    abroad = {"wan": {"Address": "10.2.0.1", "Port": 80}}
    consul.instances("web", entry("far-1", "192.168.0.1", 80, TaggedAddresses=abroad), peer="two")
    async with source_of(consul, peers=("two",)).watch() as updates:
        reset = await updates.receive()
        assert known(reset) == {WEB: ["10.0.0.1", "10.0.0.2", "10.2.0.1"]}
        assert str(reset.services[0].endpoints[2].locality) == "dc1"
        consul.instances("db", entry("db-1", "10.2.0.5", 5432, name="db"), peer="two")
        assert addresses((await updates.receive()).service) == ["10.2.0.5"]
        consul.instances("web", peer="two")
        assert addresses((await updates.receive()).service) == ["10.0.0.1", "10.0.0.2"]


async def test_another_datacenter_is_asked_for_and_is_a_region_of_its_own(consul):
    consul.scripted["/v1/agent/self"] = [Scripted({"Config": {"Datacenter": "dc2"}})]
    async with source_of(consul, datacenter="dc1").watch() as updates:
        (service,) = (await updates.receive()).services
    assert {str(endpoint.locality) for endpoint in service.endpoints} == {"dc1"}
    assert all(asked.params["dc"] == "dc1" for asked in consul.requests if asked.path == LIST)


async def test_an_instance_with_a_name_is_resolved_before_the_reset(consul):
    consul.instances("db", entry("db-1", "db.example.com", 5432, name="db"), entry("db-2", "gone.example.com", 5432, name="db"))
    async with source_of(consul).watch() as updates:
        services = {service.hostname: service for service in (await updates.receive()).services}
    found = services["db.default.svc.cluster.local"]
    assert addresses(found) == ["10.9.0.1"]
    assert "gone.example.com" in found.notes[0]


async def test_what_is_no_entry_of_consul_is_no_reset(consul):
    consul.say(HEALTH + "web", [{"Node": "?"}])
    said, raised = await all_of(source_of(consul))
    assert raised.subgroup(ValueError)
    assert not said


async def test_leaving_closes_every_connection(consul):
    async with source_of(consul).watch() as updates:
        await updates.receive()
        await consul.wait_asked(lambda asked: asked.path == HEALTH + "web" and asked.index)
    while consul.open:
        await trio.testing.wait_all_tasks_blocked()


async def test_more_services_than_queries_are_seen_by_their_checks(consul):
    for number in range(12):
        name = f"s{number:02}"
        consul.instances(name, entry(f"{name}-1", "10.0.1.1", 80, name=name))
    async with source_of(consul, most_watched=2).watch() as updates:
        assert len(known(await updates.receive())) == 13
        await consul.wait_asked(lambda asked: asked.path == CHECKS and asked.index)
        before = len(consul.requests)
        path = HEALTH + "s11"
        consul.answers[path] = (50, [entry("s11-1", "10.0.1.1", 80, name="s11", status="critical")])
        checks = [
            check
            for each, (_, data) in consul.answers.items()
            if each.startswith(HEALTH)
            for one in data
            for check in one["Checks"]
        ]
        consul.say(CHECKS, checks, index=50)
        update = await updates.receive()
        assert update.service.hostname.startswith("s11.")
        assert update.service.endpoints[0].health is Health.UNHEALTHY
        assert [asked.path for asked in consul.requests[before:] if asked.path != CHECKS] == [path]
    assert consul.most_open <= 2 + 24
