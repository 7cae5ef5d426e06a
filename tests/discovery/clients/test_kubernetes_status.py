"""Statuses: written slowly and once, refused ones seen again, others' left alone."""

import kube_api
import pytest
import trio
from kube_api import EXPORTS, KubeApi

from discovery.clients import kubernetes_status as module
from discovery.clients.kubeconfig import Credentials
from discovery.clients.kubernetes import Kubernetes
from discovery.clients.kubernetes_exports import ExportStatuses
from discovery.clients.kubernetes_status import StatusWriter, Wish
from discovery.document import Condition

PATH = "/apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop/serviceexports/web"
GOOD, BAD = (Condition("Valid", True, "Valid"),), (Condition("Valid", False, "NoService"),)


def wish(made, conditions):
    found = made.get("status", {}).get("conditions", ())
    return Wish(PATH, made["metadata"]["uid"], made["metadata"]["resourceVersion"], 1, found, conditions)


@pytest.fixture
async def writing(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    api, writer = KubeApi(), StatusWriter()
    server = await nursery.start(api.serve)
    async with Kubernetes(Credentials(kube_api.kubeconfig(tmp_path, server))) as client, trio.open_nursery() as writers:
        writers.start_soon(writer.run, client)
        with trio.fail_after(20):
            yield api, writer
        writers.cancel_scope.cancel()
    nursery.cancel_scope.cancel()


async def idle(writer):
    while "wishes=0" not in repr(writer):
        await trio.lowlevel.checkpoint()


def export():
    return {"metadata": {"name": "web", "namespace": "shop"}}


def now(api):
    return api.objects[EXPORTS]["shop/web"]


async def test_what_is_wanted_is_written_and_wanted_again_is_not(writing):
    api, writer = writing
    writer.want(wish(api.put(EXPORTS, export()), GOOD))
    await api.wait(lambda: api.patches)
    assert api.patches[0][1]["metadata"]["resourceVersion"] == "101"
    writer.want(wish(now(api), GOOD))
    writer.want(wish(now(api), BAD))
    await api.wait(lambda: len(api.patches) == 2)
    assert now(api)["status"]["conditions"][0]["reason"] == "NoService"


async def test_somebody_was_faster(writing):
    api, writer = writing
    old = api.put(EXPORTS, export())
    new = api.put(EXPORTS, export())
    writer.want(wish(old, GOOD))
    await api.wait(lambda: any(method == "PATCH" for method, *_ in api.requests))
    writer.want(wish(new, GOOD))  # as the watch brings it
    await api.wait(lambda: api.patches)
    assert len(api.patches) == 1


async def test_what_another_wrote_over_ours_stays(writing):
    api, writer = writing
    writer.want(wish(api.put(EXPORTS, export()), GOOD))
    await api.wait(lambda: api.patches)
    theirs = api.put(EXPORTS, {**export(), "status": {"conditions": [{"type": "Valid", "status": "False", "reason": "Mine"}]}})
    for _ in range(3):
        writer.want(wish(theirs, GOOD))
        await idle(writer)
    assert len(api.patches) == 1
    writer.want(wish(theirs, BAD))  # our opinion is another
    await api.wait(lambda: len(api.patches) == 2)


async def test_a_status_that_may_not_be_written_is_given_up_until_there_is_something_else_to_say(writing):
    api, writer = writing
    api.refusals[f"{PATH}/status"] = (403, "Forbidden")
    made = api.put(EXPORTS, export())
    writer.want(wish(made, GOOD))
    await api.wait(lambda: len(api.requests) == 1)
    await idle(writer)
    writer.want(wish(made, GOOD))
    assert "wishes=0" in repr(writer)
    del api.refusals[f"{PATH}/status"]
    writer.want(wish(made, BAD))
    await api.wait(lambda: api.patches)


async def test_what_is_gone_is_forgotten(writing):
    _, writer = writing
    writer.forget("nobody")
    made = {"metadata": {"uid": "u", "resourceVersion": "1"}}
    writer.want(wish(made, GOOD))
    writer.forget("u")
    assert repr(writer) == "<StatusWriter wishes=0 written=0>"


def test_exports_wait_until_it_is_known_where_they_are():
    writer = StatusWriter()
    statuses = ExportStatuses({}, writer)
    from discovery.kubernetes import objects as kube

    made = kube.ServiceExport(kube.Versioned("web", "shop", "u", resource_version="5"))
    statuses.export_changed("shop/web", None, made)
    assert "wishes=0" in repr(writer)
    statuses.found_at("/apis/multicluster.x-k8s.io/v1alpha1")
    assert "wishes=1" in repr(writer)
    statuses.export_changed("shop/web", made, None)
    assert "wishes=0" in repr(writer)
    assert "exports=0" in repr(statuses)
