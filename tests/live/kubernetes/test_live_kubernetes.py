"""A real Kubernetes API (1.36: etcd, kube-apiserver, kube-controller-manager): endpoints that come and go under traffic, an API that is
killed and paused, versions that are compacted away, custom resources and their status."""

import msgspec
import pytest
import trio
from conformance import check_source
from peers.kubernetes_talk import MARKS, answered_by, in_thread, said, source_of, upsert_of
from running import listening, routes, running, server, to
from running_gateway import until

from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import Kubernetes as Api
from discovery.clients.kubernetes import KubernetesError
from discovery.clients.kubernetes_mirror import Mirror
from discovery.document import Condition, Outcome
from discovery.documents.kubernetes import KubernetesDocuments, KubernetesDocumentsOptions
from discovery.kubernetes import objects as kube
from discovery.merge import Finding
from discovery.model import ShardKey
from discovery.update import Remove
from discovery.watch import Watchable

pytestmark = MARKS
MCS = "multicluster.x-k8s.io/v1alpha1"
NETWORKING = "networking.istio.io/v1"


# ------------------------------------------------------------------------------------------------------------------ the source


async def test_it_conforms_against_the_real_thing(kubernetes):
    await in_thread(kubernetes.service, "conform")
    await in_thread(kubernetes.pod, "conform-1", "10.77.1.101", app="conform", labels={"version": "v1"})
    source = source_of(kubernetes)
    async with source.watch() as updates:
        first = await said(updates, lambda update: True)
        if not next(each for each in first.services if each.hostname.startswith("conform.")).endpoints:
            await said(updates, upsert_of("conform.shop.svc.cluster.local", lambda service: service.endpoints))

    async def change():
        await in_thread(kubernetes.service, "conform-too", port=81)

    found = await check_source(source, change=change, within=30)
    service = found["conform.shop.svc.cluster.local"]
    (endpoint,) = service.endpoints
    assert (endpoint.address, endpoint.port("http"), endpoint.health.value) == ("10.77.1.101", 8080, "healthy")
    assert str(endpoint.locality) == "r1/z1"
    assert dict(endpoint.labels)["version"] == "v1"
    assert endpoint.identity == "shop/default"
    assert service.addresses[0].startswith("10.22.")
    for name in ("conform", "conform-too"):
        await in_thread(kubernetes.delete, "v1", "services", name)
    await in_thread(kubernetes.delete, "v1", "pods", "conform-1")


async def test_what_is_not_ready_takes_nothing_and_what_is_gone_is_gone(kubernetes):
    host = "states.shop.svc.cluster.local"
    source = source_of(kubernetes)
    await in_thread(kubernetes.service, "states", clusterIP="None")
    async with source.watch() as updates:
        await said(updates, lambda update: True)
        await in_thread(kubernetes.pod, "states-1", "10.77.1.111", app="states", node="node-b")
        found = await said(updates, upsert_of(host, lambda service: service.endpoints))
        assert found.service.headless
        assert str(found.service.endpoints[0].locality) == "r1/z2"
        await in_thread(kubernetes.ready, "states-1", "10.77.1.111", ready=False)
        await said(updates, upsert_of(host, lambda service: service.endpoints and not service.endpoints[0].health.usable))
        await in_thread(kubernetes.delete, "v1", "pods", "states-1")
        await said(updates, upsert_of(host, lambda service: not service.endpoints))
        await in_thread(kubernetes.delete, "v1", "services", "states")
        await said(updates, lambda update: update == Remove(host))


async def test_versions_that_were_compacted_away_mean_a_list_and_nothing_is_emptied(kubernetes):
    for number in range(3):
        await in_thread(kubernetes.service, f"old-{number}")
    await in_thread(kubernetes.compact)
    await in_thread(kubernetes.restart)  # its own cache remembers what etcd forgot
    seen = []
    async with Api(Credentials(str(kubernetes.kubeconfig()))) as api:
        with trio.fail_after(20), pytest.raises(KubernetesError) as caught:
            await api.watch("/api/v1/namespaces/shop/services", {}, "1", seen.append, begun=lambda: None)
        assert caught.value.status == 410

        class Late(Api):
            """Asks its first watch for a version that is gone."""

            late = True

            async def watch(self, path, parameters, version, take, *, begun):
                version, Late.late = ("1" if Late.late else version), False
                await super().watch(path, parameters, version, take, begun=begun)

        changes, lists = [], trio.Event()
        decode = msgspec.json.Decoder(kube.Service).decode
        mirror = Mirror("/api/v1/namespaces/shop/services", decode, lambda *change: changes.append(change))

        def listed():
            if changes[-1] == "listed":
                lists.set()
            changes.append("listed")

        async with Late(Credentials(str(kubernetes.kubeconfig()))) as late, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: mirror.run(late, listed=listed))
            with trio.fail_after(20):
                await lists.wait()
            nursery.cancel_scope.cancel()
    assert changes.count("listed") == 2
    assert all(change == "listed" or change[2] is not None for change in changes)
    for number in range(3):
        await in_thread(kubernetes.delete, "v1", "services", f"old-{number}")


# ------------------------------------------------------------------------------------------------------------------- traffic


async def test_an_endpoint_added_takes_traffic_one_removed_takes_none(kubernetes, pods, gateway):
    host = "web.shop.svc.cluster.local"
    await in_thread(kubernetes.service, "web")
    one, two = pods.add("one"), pods.add("two")
    with running(gateway):
        await in_thread(kubernetes.pod, "web-1", one, app="web")
        await until(lambda: answered_by(gateway, host), lambda found: found == (200, "one"))
        await in_thread(kubernetes.pod, "web-2", two, app="web")
        await until(lambda: answered_by(gateway, host), lambda found: found == (200, "two"))
        await in_thread(kubernetes.ready, "web-1", one, ready=False)

        async def twenty():
            return {await answered_by(gateway, host) for _ in range(20)}

        await until(twenty, lambda found: found == {(200, "two")})
        await in_thread(kubernetes.delete, "v1", "pods", "web-2")
        await until(lambda: answered_by(gateway, host), lambda found: found[0] == 503)
        await in_thread(kubernetes.delete, "v1", "pods", "web-1")
        await in_thread(kubernetes.delete, "v1", "services", "web")
    pods.remove(one)
    pods.remove(two)


async def test_an_api_that_is_killed_paused_and_restarted_costs_no_request(kubernetes, pods, gateway):
    host = "kept.shop.svc.cluster.local"
    await in_thread(kubernetes.service, "kept")
    one, two = pods.add("one"), pods.add("two")
    await in_thread(kubernetes.pod, "kept-1", one, app="kept")
    failed, asked = [], Watchable(0)

    async def ask():
        while True:
            found = await answered_by(gateway, host)
            asked.set(asked.value + 1)
            if found[0] != 200:
                failed.append(found)

    with running(gateway):
        await until(lambda: answered_by(gateway, host), lambda found: found == (200, "one"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            kubernetes.pause()
            await asked.newer_than(asked.version + 100)
            kubernetes.resume()
            await in_thread(kubernetes.kill, "apiserver")
            lost = await until(lambda: gateway.rows("sources"), lambda rows: any(row["problem"] for row in rows))
            assert [row["state"] for row in lost if row["name"] == "k8s"] == ["kept"]
            kubernetes.start("apiserver")
            await in_thread(kubernetes.wait_ready)
            await in_thread(kubernetes.pod, "kept-2", two, app="kept")  # the controller-manager finds it again too
            await until(lambda: answered_by(gateway, host), lambda found: found == (200, "two"))
            nursery.cancel_scope.cancel()
        assert failed == []
        assert asked.value > 200
    for name in ("kept-1", "kept-2"):
        await in_thread(kubernetes.delete, "v1", "pods", name)
    await in_thread(kubernetes.delete, "v1", "services", "kept")
    pods.remove(one)
    pods.remove(two)


# ----------------------------------------------------------------------------------------------------- documents and status


def conditions(content):
    return {each["type"]: each for each in content.get("status", {}).get("conditions", ())}


async def test_custom_resources_are_documents_and_take_their_status(kubernetes):
    route = {
        "apiVersion": NETWORKING,
        "kind": "VirtualService",
        "metadata": {"name": "docs"},
        "spec": {"hosts": ["docs.example"], "http": [{"route": [{"destination": {"host": "docs.shop.svc.cluster.local"}}]}]},
    }
    await in_thread(kubernetes.create, NETWORKING, "virtualservices", route)
    source = KubernetesDocuments(KubernetesDocumentsOptions(kubeconfig=str(kubernetes.kubeconfig())))
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        (found,) = [each for each in source.documents.value.documents if each.content["metadata"]["name"] == "docs"]
        assert found.content["spec"] == route["spec"]
        good = Outcome(
            (Condition("Accepted", True, "Accepted"), Condition("Programmed", False, "NoSuchHost", "docs is no service"))
        )
        source.report({found.origin: good})

        async def read():
            return conditions(await in_thread(kubernetes.get, NETWORKING, "virtualservices", "docs"))

        written = await until(read, lambda now: len(now) == 2)
        assert (written["Programmed"]["status"], written["Programmed"]["reason"]) == ("False", "NoSuchHost")
        assert written["Accepted"]["observedGeneration"] == 1
        version = (await in_thread(kubernetes.get, NETWORKING, "virtualservices", "docs"))["metadata"]["resourceVersion"]
        seen = source.documents.version
        await in_thread(kubernetes.create, NETWORKING, "virtualservices", {**route, "metadata": {"name": "docs-2"}})
        with trio.fail_after(10):
            await source.documents.newer_than(seen)
        source.report({found.origin: good})
        again = await in_thread(kubernetes.get, NETWORKING, "virtualservices", "docs")
        assert again["metadata"]["resourceVersion"] == version  # what is written already is not written again
        nursery.cancel_scope.cancel()
    for name in ("docs", "docs-2"):
        await in_thread(kubernetes.delete, NETWORKING, "virtualservices", name)


async def test_our_own_kinds_have_definitions_that_the_server_takes(kubernetes):
    export = {
        "apiVersion": "fedgate.io/v1",
        "kind": "Export",
        "metadata": {"name": "shop"},
        "spec": {"services": ["*"], "peers": ["west"]},
    }
    await in_thread(kubernetes.create, "fedgate.io/v1", "exports", export)
    source = KubernetesDocuments(KubernetesDocumentsOptions(kubeconfig=str(kubernetes.kubeconfig())))
    async with trio.open_nursery() as nursery:
        await nursery.start(source.run)
        (found,) = [each for each in source.documents.value.documents if each.content["kind"] == "Export"]
        source.report({found.origin: Outcome((Condition("Accepted", True, "Accepted"),))})

        async def read():
            return conditions(await in_thread(kubernetes.get, "fedgate.io/v1", "exports", "shop"))

        await until(read, lambda now: now and now["Accepted"]["observedGeneration"] == 1)
        nursery.cancel_scope.cancel()
    await in_thread(kubernetes.delete, "fedgate.io/v1", "exports", "shop")


async def test_a_gateway_configured_by_custom_resources(kubernetes, pods, gateway, tmp_path):
    one = pods.add("one")
    await in_thread(kubernetes.service, "crd")
    await in_thread(kubernetes.pod, "crd-1", one, app="crd")
    made = listening("crd", server(gateway, ["crd.example"]))
    route = routes("crd", ["crd.example"], {"route": [to("crd.shop.svc.cluster.local")]}, gateways=["crd"])
    for plural, content in (("gateways", made), ("virtualservices", route)):
        await in_thread(kubernetes.create, NETWORKING, plural, content)
    place = {"kubeconfig": str(kubernetes.kubeconfig())}
    gateway.write("node", gateway.node(sources=[{"name": "k8s", "kubernetes": place}], resources=[{"kubernetes": place}]))
    with running(gateway):

        async def answer():
            return (await gateway.get("/", host="crd.example", port=gateway.ingress)).status

        await until(answer, lambda status: status == 200)

        async def read():
            return conditions(await in_thread(kubernetes.get, NETWORKING, "virtualservices", "crd"))

        written = await until(read, lambda now: len(now) == 3)
        assert {name: each["status"] for name, each in written.items()} == {
            "Accepted": "True",
            "ResolvedRefs": "True",
            "Programmed": "True",
        }
        await in_thread(
            kubernetes.patch,
            NETWORKING,
            "virtualservices",
            "crd",
            {"spec": {"http": [{"route": [{"destination": {"host": "nobody.shop.svc.cluster.local"}}]}]}},
        )
        await until(read, lambda now: now["ResolvedRefs"]["status"] == "False" and now["ResolvedRefs"]["observedGeneration"] == 2)
    for plural in ("gateways", "virtualservices"):
        await in_thread(kubernetes.delete, NETWORKING, plural, "crd")
    await in_thread(kubernetes.delete, "v1", "services", "crd")
    await in_thread(kubernetes.delete, "v1", "pods", "crd-1")
    pods.remove(one)


# -------------------------------------------------------------------------------------------------------- Multi-Cluster Services


async def test_a_service_export_is_offered_and_told_of_conflicts(kubernetes):
    host = "mcs.shop.svc.clusterset.local"
    export = {"apiVersion": MCS, "kind": "ServiceExport"}
    await in_thread(kubernetes.service, "mcs")
    source = source_of(kubernetes)

    async def read(name="mcs"):
        return conditions(await in_thread(kubernetes.get, MCS, "serviceexports", name))

    async with source.watch() as updates:
        await said(updates, lambda update: True)
        await in_thread(kubernetes.create, MCS, "serviceexports", {**export, "metadata": {"name": "mcs"}})
        await in_thread(kubernetes.create, MCS, "serviceexports", {**export, "metadata": {"name": "nothing"}})
        found = await said(updates, upsert_of(host, lambda service: True))
        assert found.service.ports[0].number == 80
        assert (await until(read, lambda now: "Ready" in now))["Valid"]["status"] == "True"
        assert (await until(lambda: read("nothing"), lambda now: "Valid" in now))["Valid"]["reason"] == "NoService"
        source.report([Finding(host, "ports[80].protocol", "west says TCP", ShardKey("east", "k8s"), (ShardKey("west", "k8s"),))])
        written = await until(read, lambda now: "Conflict" in now)
        assert (written["Conflict"]["status"], written["Conflict"]["reason"]) == ("True", "PortConflict")
        source.report([])
        await until(read, lambda now: now["Conflict"]["status"] == "False")
        for name in ("mcs", "nothing"):
            await in_thread(kubernetes.delete, MCS, "serviceexports", name)
        await said(updates, lambda update: update == Remove(host))
    await in_thread(kubernetes.delete, "v1", "services", "mcs")
