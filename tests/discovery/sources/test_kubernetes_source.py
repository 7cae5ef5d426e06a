"""The Kubernetes source against an API in memory on a real socket: what it says first, what it says later, and what it never says."""

import contextlib

import kube_api
import pytest
import trio
from conformance import check_source
from kube_api import EXPORTS, NODES, PODS, SERVICES, SLICES, KubeApi
from zone import Zone

from discovery.here import Here
from discovery.kubernetes.services import Reach
from discovery.merge import Finding
from discovery.model import Locality, ShardKey
from discovery.resolving import Nameservers
from discovery.source import SourceLost
from discovery.sources import kubernetes as module
from discovery.sources.kubernetes import KubernetesOptions, KubernetesSource
from discovery.update import Remove, Reset, Upsert


def leaves(group):
    return [leaf for each in group.exceptions for leaf in (leaves(each) if isinstance(each, ExceptionGroup) else [each])]


@contextlib.contextmanager
def lost(words=""):
    """Everything that comes out is a SourceLost (of one collection, or of each that noticed), and one says `words`."""
    with pytest.raises(ExceptionGroup) as caught:
        yield
    found = leaves(caught.value)
    assert {type(each) for each in found} == {SourceLost}
    assert any(words in str(each) for each in found), found


WEB = "web.shop.svc.cluster.local"
HERE = Here("east", locality=Locality("r1"))


async def source_of(nursery, api, tmp_path, *, zone=None, **options):
    server = await nursery.start(api.serve)
    path = kube_api.kubeconfig(tmp_path, server)
    nameservers = Nameservers(("127.0.0.1",), await nursery.start(zone.serve), 2.0) if zone else Nameservers(("127.0.0.1",), 1, 0.2)
    return KubernetesSource("k8s", HERE, KubernetesOptions(kubeconfig=path, **options), nameservers=nameservers)


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


def shop():
    api = KubeApi()
    api.put(SERVICES, kube_api.service("web"))
    api.put(SLICES, kube_api.slice_of("web", ("10.77.0.1", {"pod": "web-1", "nodeName": "n1"})))
    api.put(PODS, kube_api.pod("web-1", app="web", version="v1"))
    api.put(NODES, kube_api.node("n1", zone="z1", region="r1"))
    return api


async def test_it_conforms(nursery, tmp_path):
    api = shop()
    source = await source_of(nursery, api, tmp_path)

    async def change():
        api.put(SERVICES, kube_api.service("cart"))
        api.put(SLICES, kube_api.slice_of("cart", "10.77.0.5"))
        api.put(SLICES, kube_api.slice_of("web", "10.77.0.1", "10.77.0.2"))

    found = await check_source(source, change=change)
    assert {host: addresses(service) for host, service in found.items()} == {
        WEB: ["10.77.0.1", "10.77.0.2"],
        "cart.shop.svc.cluster.local": ["10.77.0.5"],
    }
    nursery.cancel_scope.cancel()


async def test_the_reset_has_labels_of_pods_and_localities_of_nodes(nursery, tmp_path):
    source = await source_of(nursery, shop(), tmp_path)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
    (endpoint,) = service.endpoints
    assert dict(endpoint.labels) == {"app": "web", "version": "v1"}
    assert str(endpoint.locality) == "r1/z1"
    assert endpoint.identity == "shop/default"
    assert endpoint.port("http") == 8080
    nursery.cancel_scope.cancel()


async def test_one_change_is_one_update_of_that_service(nursery, tmp_path):
    api = shop()
    api.put(SERVICES, kube_api.service("cart"))
    source = await source_of(nursery, api, tmp_path)
    with trio.fail_after(10):
        async with source.watch() as updates:
            assert isinstance(await updates.receive(), Reset)
            api.put(SLICES, kube_api.slice_of("web", "10.77.0.2"))
            upsert = await updates.receive()
            assert (upsert.service.hostname, addresses(upsert.service)) == (WEB, ["10.77.0.2"])
            api.put(PODS, kube_api.pod("web-9"))  # nobody points at it: no update
            api.drop(SERVICES, "shop/cart")
            assert await updates.receive() == Remove("cart.shop.svc.cluster.local")
            api.drop(SERVICES, "shop/web")
            assert await updates.receive() == Remove(WEB)
    nursery.cancel_scope.cancel()


async def test_a_pod_that_is_seen_later_than_its_slice_brings_its_labels(nursery, tmp_path):
    api = shop()
    source = await source_of(nursery, api, tmp_path)
    with trio.fail_after(10):
        async with source.watch() as updates:
            await updates.receive()
            api.put(SLICES, kube_api.slice_of("web", ("10.77.0.2", {"pod": "web-2"})))
            assert (await updates.receive()).service.endpoints[0].labels == ()
            api.put(PODS, kube_api.pod("web-2", version="v2"))
            assert (await updates.receive()).service.endpoints[0].labels == (("version", "v2"),)
            api.put(NODES, kube_api.node("n1", zone="z2", region="r1"))  # of nobody now
            api.drop(PODS, "shop/web-2")  # the slice says it in a moment: no endpoint loses its subset before
            api.drop(SLICES, "shop/web-1")
            assert (await updates.receive()).service.endpoints == ()
    nursery.cancel_scope.cancel()


async def test_an_api_that_is_gone_is_a_lost_source_and_what_was_known_is_said_again_only_after_a_whole_list(nursery, tmp_path):
    api = shop()
    source = await source_of(nursery, api, tmp_path)

    async def watched(then):
        async with source.watch() as updates:
            async for update in updates:
                await then(update)

    async def breaks(update):
        api.refusals[SLICES] = (503, "ServiceUnavailable")
        await api.cut()

    with trio.fail_after(10), lost():
        await watched(breaks)
    with trio.fail_after(10), lost():
        await watched(breaks)
    api.refusals.clear()
    api.refusals[NODES] = (403, "Forbidden")  # this time they may not be read: they are what they were
    with trio.fail_after(10):
        async with source.watch() as updates:
            (service,) = (await updates.receive()).services
    assert addresses(service) == ["10.77.0.1"]
    assert str(service.endpoints[0].locality) == "r1/z1"
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "give this gateway's account get, list and watch"), (401, "does not know this login"), (500, "check that")],
)
async def test_what_is_needed_and_refused_says_what_to_do(nursery, tmp_path, status, words):
    api = shop()
    api.refusals[SERVICES] = (status, "Forbidden")
    source = await source_of(nursery, api, tmp_path)
    with trio.fail_after(10), lost(words):
        async with source.watch() as updates:
            async for _ in updates:
                pass
    nursery.cancel_scope.cancel()


async def test_nobody_at_the_address_is_a_lost_source(tmp_path):
    source = KubernetesSource("k8s", HERE, KubernetesOptions(kubeconfig=kube_api.kubeconfig(tmp_path, "http://127.0.0.1:1")))
    with lost("can be reached"):
        async with source.watch() as updates:
            async for _ in updates:
                pass


async def test_without_pods_and_nodes_the_endpoints_are_there(nursery, tmp_path):
    api = shop()
    api.refusals[PODS] = api.refusals[NODES] = (403, "Forbidden")
    api.put(SLICES, kube_api.slice_of("web", ("10.77.0.1", {"zone": "z7"})))
    source = await source_of(nursery, api, tmp_path)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
    assert str(service.endpoints[0].locality) == "r1/z7"
    nursery.cancel_scope.cancel()


async def test_only_the_namespaces_that_are_named_are_asked_for(nursery, tmp_path):
    api = shop()
    api.put(SERVICES, kube_api.service("web", namespace="other"))
    source = await source_of(nursery, api, tmp_path, namespaces=("shop",), label_selector="")
    async with source.watch() as updates:
        assert [service.hostname for service in (await updates.receive()).services] == [WEB]
    assert not [path for _, path, _, _ in api.requests if path in (SERVICES, SLICES, PODS)]
    nursery.cancel_scope.cancel()


async def test_a_label_selector_is_of_services_alone(nursery, tmp_path):
    api = shop()
    source = await source_of(nursery, api, tmp_path, label_selector="tier=front")
    async with source.watch() as updates:
        await updates.receive()
    selected = {path for _, path, parameters, _ in api.requests if parameters.get("labelSelector") == "tier=front"}
    assert selected == {SERVICES}
    nursery.cancel_scope.cancel()


# v1beta1 is shown by this dialogue alone: servers have it from Kubernetes 1.17 to 1.24, and the real one of tests/live is newer. Its
# endpoints have no `zone` but a `topology` of labels, of which `kubernetes.io/hostname` is the Node; `nodeName` came with 1.20.
@pytest.mark.parametrize(
    ("said", "locality"),
    [
        ({"topology": {"kubernetes.io/hostname": "n1", "topology.kubernetes.io/zone": "z9"}}, "r1/z1"),
        ({"nodeName": "n1", "topology": {"kubernetes.io/hostname": "n9"}}, "r1/z1"),
        ({"topology": {"kubernetes.io/hostname": "n9", "topology.kubernetes.io/zone": "z3"}}, "r1/z3"),
        ({"topology": {"topology.kubernetes.io/region": "r7", "topology.kubernetes.io/zone": "z3"}}, "r7/z3"),
        ({}, "r1"),
    ],
    ids=["by a Node of 1.17", "by a Node of 1.20", "of an unknown Node", "of a region", "of nowhere"],
)
async def test_slices_of_v1beta1_where_the_server_has_no_v1(nursery, tmp_path, said, locality):
    api = shop()
    api.groups["discovery.k8s.io"] = ["v1beta1"]
    api.put("/apis/discovery.k8s.io/v1beta1/endpointslices", kube_api.slice_of("web", ("10.77.0.8", {"pod": "web-1", **said})))
    source = await source_of(nursery, api, tmp_path)
    async with source.watch() as updates:
        (service,) = (await updates.receive()).services
    (endpoint,) = service.endpoints
    assert (endpoint.address, endpoint.port("http"), str(endpoint.locality)) == ("10.77.0.8", 8080, locality)
    assert dict(endpoint.labels)["version"] == "v1"
    nursery.cancel_scope.cancel()


async def test_a_server_without_slices_is_said_to_be_one(nursery, tmp_path):
    api = shop()
    api.groups = {}
    source = await source_of(nursery, api, tmp_path)
    with lost("has no EndpointSlices"):
        async with source.watch() as updates:
            async for _ in updates:
                pass
    nursery.cancel_scope.cancel()


async def test_names_of_load_balancers_are_resolved(nursery, tmp_path):
    zone = Zone({("lb.test", "A"): ["10.77.3.1", "10.77.3.2"], ("db.corp", "A"): ["10.77.4.1"]})
    api = shop()
    ingress = {"loadBalancer": {"ingress": [{"hostname": "lb.test"}]}}
    api.put(SERVICES, kube_api.service("web", type="LoadBalancer", status=ingress))
    api.put(SERVICES, kube_api.service("db", type="ExternalName", externalName="db.corp", ports=[{"name": "tcp-db", "port": 5432}]))
    source = await source_of(nursery, api, tmp_path, zone=zone, addresses=Reach.LOAD_BALANCER)
    with trio.fail_after(10):
        async with source.watch() as updates:
            found = {service.hostname: service for service in (await updates.receive()).services}
            assert addresses(found[WEB]) == ["10.77.3.1", "10.77.3.2"]
            assert found[WEB].endpoints[0].port("http") == 80
            assert addresses(found["db.shop.svc.cluster.local"]) == ["10.77.4.1"]
            api.put(SERVICES, kube_api.service("more", type="ExternalName", externalName="lb.test", ports=[{"port": 80}]))
            first = await updates.receive()
            assert addresses(first.service) == ["10.77.3.1", "10.77.3.2"]
    nursery.cancel_scope.cancel()


async def test_a_service_export_gives_the_name_of_the_cluster_set_and_takes_its_status(nursery, tmp_path):
    api = shop()
    api.groups["multicluster.x-k8s.io"] = ["v1alpha1"]
    source = await source_of(nursery, api, tmp_path)
    host = "web.shop.svc.clusterset.local"
    with trio.fail_after(10):
        async with source.watch() as updates:
            assert len((await updates.receive()).services) == 1
            api.put(EXPORTS, {"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-02-02T00:00:00Z"}})
            said = await updates.receive()
            assert isinstance(said, Upsert)
            assert (said.service.hostname, addresses(said.service)) == (host, ["10.77.0.1"])
            assert (said.service.created, said.service.addresses) == ("2026-02-02T00:00:00Z", ())
            await api.wait(lambda: len(api.patches) == 1)
            conditions = {each["type"]: each for each in api.patches[0][1]["status"]["conditions"]}
            assert {name: each["status"] for name, each in conditions.items()} == {"Valid": "True", "Ready": "True"}
            loser = ShardKey("west", "k8s")
            source.report([Finding(host, "ports[80].protocol", "east says HTTP, west says TCP", ShardKey("east", "k8s"), (loser,))])
            await api.wait(lambda: len(api.patches) == 2)
            conflict = api.patches[1][1]["status"]["conditions"][-1]
            assert (conflict["type"], conflict["status"], conflict["reason"]) == ("Conflict", "True", "PortConflict")
            api.drop(SERVICES, "shop/web")
            assert {type(await updates.receive()), type(await updates.receive())} == {Remove}
            await api.wait(lambda: len(api.patches) == 3)
            assert api.patches[2][1]["status"]["conditions"][0]["reason"] == "NoService"
    nursery.cancel_scope.cancel()


async def test_a_kind_that_is_installed_later_is_found(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ASK_AGAIN", 0.02)
    api = shop()
    source = await source_of(nursery, api, tmp_path)
    with trio.fail_after(10):
        async with source.watch() as updates:
            await updates.receive()
            api.put(EXPORTS, {"metadata": {"name": "web", "namespace": "shop"}})
            api.groups["multicluster.x-k8s.io"] = ["v1beta1", "v1alpha1"]
            assert (await updates.receive()).service.hostname == "web.shop.svc.clusterset.local"
    nursery.cancel_scope.cancel()


async def test_a_kind_that_the_server_cannot_serve_does_not_take_the_others_with_it(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ASK_SOON", 0.001)
    monkeypatch.setattr(module, "_ASK_AGAIN", 0.02)
    api = shop()
    api.groups["multicluster.x-k8s.io"] = ["v1alpha1"]
    api.put(EXPORTS, {"metadata": {"name": "web", "namespace": "shop"}})
    api.refusals[EXPORTS] = (500, "InternalError")
    source = await source_of(nursery, api, tmp_path)
    with trio.fail_after(10):
        async with source.watch() as updates:
            assert [service.hostname for service in (await updates.receive()).services] == [WEB]
            assert len([path for _, path, *_ in api.requests if path == EXPORTS]) >= module._PATIENCE
            del api.refusals[EXPORTS]
            assert (await updates.receive()).service.hostname == "web.shop.svc.clusterset.local"
            api.refusals[EXPORTS] = (404, "NotFound")  # its definition is deleted, the group is still there
            api.error(EXPORTS, 404, "NotFound")
            assert await updates.receive() == Remove("web.shop.svc.clusterset.local")
    nursery.cancel_scope.cancel()
