"""The nomad source against a scripted agent on 127.0.0.1."""

import pytest
import trio
from conformance import check_source
from nomad_server import ScriptedNomad

from discovery.clients.nomad import NomadOptions
from discovery.here import Here
from discovery.model import Health, Locality
from discovery.source import SourceLost
from discovery.sources import nomad as module
from discovery.sources.nomad import NomadSource, NomadSourceOptions
from discovery.update import Remove, Reset, Upsert

HERE = Here("east", network="east", locality=Locality("eu", "eu-1"))
WEB = "web.default.svc.cluster.local"


async def start(nursery, nomad, *, token_file="", here=HERE, **options):
    port = await nursery.start(nomad.serve)
    connection = NomadOptions(f"http://127.0.0.1:{port}", token_file=token_file)
    return NomadSource("nomad", here, NomadSourceOptions(connection, **options))


def shown(service):
    return [(endpoint.address, endpoint.ports[0][1], endpoint.health) for endpoint in service.endpoints]


async def until(updates, wanted, within=5.0):
    """The next update for which `wanted(update)` holds."""
    with trio.fail_after(within):
        async for update in updates:
            if wanted(update):
                return update
    raise AssertionError("the updates ended")


async def test_it_conforms(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)

    async def change():
        nomad.register("web", "a2", "10.0.0.2", 21001)
        nomad.register("api", "a3", "10.0.0.3", 21002, namespace="shop")

    found = await check_source(source, change=change)
    assert {name: shown(service) for name, service in found.items()} == {
        WEB: [("10.0.0.1", 21000, Health.HEALTHY), ("10.0.0.2", 21001, Health.HEALTHY)],
        "api.shop.svc.cluster.local": [("10.0.0.3", 21002, Health.HEALTHY)],
    }
    nursery.cancel_scope.cancel()


async def test_an_instance_that_comes_or_goes_is_said_and_the_last_one_takes_the_service_along(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        assert [service.hostname for service in (await updates.receive()).services] == [WEB]
        nomad.register("web", "a2", "10.0.0.2", 21001)
        update = await until(updates, lambda said: isinstance(said, Upsert) and len(said.service.endpoints) == 2)
        assert update.service.endpoints[1].locality == Locality("eu", "dc1")
        nomad.deregister("web", "a1")
        update = await until(updates, lambda said: isinstance(said, Upsert) and len(said.service.endpoints) == 1)
        assert update.service.endpoints[0].address == "10.0.0.2"
        nomad.deregister("web", "a2")
        assert await until(updates, lambda said: True) == Remove(WEB)
        nomad.register("web", "a4", "10.0.0.4", 21004)
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert shown(update.service) == [("10.0.0.4", 21004, Health.HEALTHY)]
    nursery.cancel_scope.cancel()


async def test_a_failing_check_takes_the_endpoint_out_and_a_passing_one_back(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    nomad.check("a1", "web", "failure")
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
        assert service.endpoints[0].health is Health.UNHEALTHY
        assert service.endpoints[0].healthy == 0
        nomad.check("a1", "web", "success")
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert update.service.endpoints[0].health is Health.HEALTHY
    nursery.cancel_scope.cancel()


async def test_a_new_endpoint_whose_check_has_not_run_takes_nothing_until_it_passes(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        await updates.receive()
        nomad.allocations["a2"] = {"ID": "a2", "ClientStatus": "pending", "TaskGroup": "g", "Job": None}
        nomad.check("a2", "web", "pending")
        nomad.checks["a2"] = {}  # the service is registered an instant before its checks are
        nomad.register("web", "a2", "10.0.0.2", 21001)
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert shown(update.service)[1] == ("10.0.0.2", 21001, Health.UNHEALTHY)
        nomad.check("a2", "web", "success")
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert shown(update.service)[1] == ("10.0.0.2", 21001, Health.HEALTHY)
    nursery.cancel_scope.cancel()


async def test_a_lost_agent_raises_and_says_nothing(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    said = []
    with pytest.RaisesGroup(SourceLost, allow_unwrapped=True, flatten_subgroups=True), trio.fail_after(5):
        async with source.watch() as updates:
            async for update in updates:
                said.append(update)
                nomad.refuse["/v1/"] = 500
                nomad.register("web", "a2", "10.0.0.2", 21001)
    assert [type(update) for update in said] == [Reset]
    nursery.cancel_scope.cancel()


async def test_nobody_there_is_lost_with_words(nursery):
    source = NomadSource("nomad", HERE, NomadSourceOptions(NomadOptions("http://127.0.0.1:1")))
    with pytest.RaisesGroup(
        pytest.RaisesExc(SourceLost, match="check that the Nomad agent runs"), allow_unwrapped=True, flatten_subgroups=True
    ):
        async with source.watch() as updates:
            async for update in updates:
                pytest.fail(f"it said {update}")


async def test_a_token_that_may_read_nothing_is_a_loss_not_an_empty_registry(nursery):
    nomad = ScriptedNomad()
    nomad.namespaces = []
    source = await start(nursery, nomad)
    with pytest.RaisesGroup(pytest.RaisesExc(SourceLost, match="read-job"), allow_unwrapped=True, flatten_subgroups=True):
        async with source.watch() as updates:
            async for update in updates:
                pytest.fail(f"it said {update}")
    nursery.cancel_scope.cancel()


async def test_an_empty_registry_is_empty(nursery):
    nomad = ScriptedNomad()
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        assert await updates.receive() == Reset(())
    nursery.cancel_scope.cancel()


async def test_an_index_that_goes_backwards_is_asked_for_again_and_only_then_believed(nursery):
    nomad = ScriptedNomad()
    nomad.change(index=5000)
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        await updates.receive()
        nomad.asked.clear()
        nomad.register("api", "a3", "10.0.0.3", 21002)
        nomad.change(("default", "web"), ("default", "api"), index=7)
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert update.service.hostname == "api.default.svc.cluster.local"
        consistent = [asked for asked in nomad.asked if asked.startswith("/v1/services") and "index" not in asked]
        assert consistent
        assert all("stale" not in asked for asked in consistent)
    nursery.cancel_scope.cancel()


async def test_one_service_that_cannot_be_read_keeps_what_was_known_of_it(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    nomad.register("api", "a3", "10.0.0.3", 21002)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        await updates.receive()
    nomad.refuse["/v1/service/web"] = 500
    async with source.watch() as updates:
        assert len((await updates.receive()).services) == 2
    nursery.cancel_scope.cancel()


async def test_an_allocation_that_cannot_be_asked_keeps_its_health_and_a_new_one_counts_as_healthy(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    nomad.check("a1", "web", "failure")
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        await updates.receive()
        nomad.refuse["/v1/client"] = 404
        nomad.refuse["/v1/allocation"] = 404
        nomad.register("web", "a2", "10.0.0.2", 21001)
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert [endpoint.health for endpoint in update.service.endpoints] == [Health.UNHEALTHY, Health.UNKNOWN]
    nursery.cancel_scope.cancel()


async def test_nodes_say_localities_and_labels_also_when_they_change(nursery):
    nomad = ScriptedNomad()
    nomad.nodes["n1"] = {"ID": "n1", "ModifyIndex": 5, "NodeClass": "big", "Meta": {"topology.istio.io/locality": "us/us-1/r1"}}
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
        assert service.endpoints[0].locality == Locality("us", "us-1", "r1")
        assert ("nomad.node.class", "big") in service.endpoints[0].labels
        with trio.fail_after(5):
            await nomad.wait_blocked("/v1/nodes")
        nomad.nodes["n1"] |= {"ModifyIndex": 900, "Meta": {"topology.istio.io/locality": "us/us-2"}}
        nomad.change()
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert update.service.endpoints[0].locality == Locality("us", "us-2")
    nursery.cancel_scope.cancel()


async def test_a_token_without_node_read_costs_localities_only(nursery):
    nomad = ScriptedNomad()
    nomad.refuse["/v1/node"] = 403
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
    assert service.endpoints[0].locality == Locality("eu", "dc1")
    nursery.cancel_scope.cancel()


async def test_services_beyond_the_connections_are_read_when_the_list_says_so(nursery, monkeypatch):
    monkeypatch.setattr(module, "MOST_WATCHED", 2)
    nomad = ScriptedNomad()
    for number in range(6):
        nomad.register(f"s{number}", f"a{number}", "10.0.0.1", 21000 + number)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        assert len((await updates.receive()).services) == 6
        nomad.register("s5", "b", "10.0.0.2", 21009)
        update = await until(updates, lambda said: isinstance(said, Upsert))
        assert len(update.service.endpoints) == 2
    blocked = {asked.partition("?")[0] for asked in nomad.asked if asked.startswith("/v1/service/") and "index=" in asked}
    assert len(blocked) == 2
    nursery.cancel_scope.cancel()


async def test_a_written_list_of_namespaces_and_tags_narrow_it(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 1000, tags=["public"])
    nomad.register("web", "a2", "10.0.0.2", 1000)
    nomad.register("api", "a3", "10.0.0.3", 1000, namespace="shop", tags=["public"])
    nomad.register("db", "a4", "10.0.0.4", 1000, namespace="secret", tags=["public"])
    source = await start(nursery, nomad, namespaces=("default", "shop"), tags=("public",))
    async with source.watch() as updates:
        services = (await updates.receive()).services
    assert [(service.hostname, len(service.endpoints)) for service in services] == [
        ("api.shop.svc.cluster.local", 1),
        (WEB, 1),
    ]
    nursery.cancel_scope.cancel()


async def test_namespaces_join_where_the_template_does_not_tell_them_apart(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 1000)
    nomad.register("web", "a2", "10.0.0.2", 1000, namespace="shop")
    source = await start(nursery, nomad, here=Here("east", hostname="{service}.corp"))
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
        assert len(service.endpoints) == 2
        nomad.deregister("web", "a2", namespace="shop")
        update = await until(updates, lambda said: True)
        assert [endpoint.address for endpoint in update.service.endpoints] == ["10.0.0.1"]
    nursery.cancel_scope.cancel()


async def test_a_name_that_dns_does_not_allow_is_left_out(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 1000)
    nomad.register("web", "a2", "10.0.0.2", 1000, namespace="n" * 64)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        assert [service.hostname for service in (await updates.receive()).services] == [WEB]
    nursery.cancel_scope.cancel()


async def test_a_service_that_a_running_allocation_gets_is_said_once_its_checks_were_asked_and_the_others_stand(nursery):
    nomad = ScriptedNomad()
    nomad.register("web", "a1", "10.0.0.1", 21000)
    source = await start(nursery, nomad)
    async with source.watch() as updates:
        await updates.receive()
        nomad.check("a1", "admin", "pending")
        nomad.register("admin", "a1", "10.0.0.1", 21001)
        said = [await until(updates, lambda said: isinstance(said, Upsert)) for _ in range(1)]
        assert [update.service.hostname for update in said] == ["admin.default.svc.cluster.local"]
        assert said[0].service.endpoints[0].health is Health.UNHEALTHY
    nursery.cancel_scope.cancel()
