"""Documents of a Kubernetes API in memory on a real socket: what is published, what stays, and what is written back."""

import base64

import kube_api
import pytest
import trio
from kube_api import KubeApi

from discovery.document import Condition, Outcome
from discovery.documents import kubernetes as module
from discovery.documents.kubernetes import KubernetesDocuments, KubernetesDocumentsOptions

NETWORKING = "/apis/networking.istio.io/v1"
ROUTES = f"{NETWORKING}/virtualservices"
GATEWAYS = f"{NETWORKING}/gateways"
SECRETS = "/api/v1/secrets"


def istio():
    api = KubeApi()
    api.groups["networking.istio.io"] = ["v1", "v1beta1"]
    api.contents[NETWORKING] = [
        {"name": "virtualservices", "kind": "VirtualService", "namespaced": True},
        {"name": "virtualservices/status", "kind": "VirtualService", "namespaced": True},
        {"name": "gateways", "kind": "Gateway", "namespaced": True},
        {"name": "sidecars", "kind": "Sidecar", "namespaced": True},
    ]
    api.contents["/apis/networking.istio.io/v1beta1"] = [{"name": "virtualservices", "kind": "VirtualService", "namespaced": True}]
    return api


def route(name, host="a.example", **metadata):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "shop", **metadata},
        "spec": {"hosts": [host]},
    }


def gateway(name, secret):
    servers = [{"hosts": ["*"], "tls": {"credentialName": secret}}]
    return {"kind": "Gateway", "metadata": {"name": name, "namespace": "shop"}, "spec": {"servers": servers}}


def secret(name):
    return {"metadata": {"name": name, "namespace": "shop"}, "type": "Opaque", "data": {"key": base64.b64encode(b"hush").decode()}}


async def documents_of(nursery, api, tmp_path, *, discover=30.0, **options):
    server = await nursery.start(api.serve)
    path = kube_api.kubeconfig(tmp_path, server)
    source = KubernetesDocuments(KubernetesDocumentsOptions(kubeconfig=path, **options), discover=discover)
    await nursery.start(source.run)
    return source


async def until(source, condition):
    """The Documents for which it holds."""
    with trio.fail_after(10):
        seen, value = source.documents.version, source.documents.value
        while not condition(value):
            seen, value = await source.documents.newer_than(seen)
    return value


def names(documents):
    return [str(document.origin).removeprefix("kubernetes:") for document in documents.documents]


async def test_what_is_there_at_the_start_is_published_whole_and_secrets_only_if_something_names_them(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web", managedFields=[{"manager": "kubectl"}], annotations={module_annotation(): "{}", "mine": "yes"}))
    api.put(GATEWAYS, gateway("edge", "kubernetes://edge-tls"))
    for name in ("edge-tls", "edge-tls-cacert", "unnamed"):
        api.put(SECRETS, secret(name))
    api.put(f"{NETWORKING}/sidecars", {"metadata": {"name": "x", "namespace": "shop"}})
    source = await documents_of(nursery, api, tmp_path)
    found = source.documents.value
    assert found.errors == ()
    assert names(found) == [
        "gateways.networking.istio.io/shop/edge",
        "secrets/shop/edge-tls",
        "secrets/shop/edge-tls-cacert",
        "virtualservices.networking.istio.io/shop/web",
    ]
    content = found.documents[-1].content
    assert (content["apiVersion"], content["kind"], content["spec"]) == (
        "networking.istio.io/v1",
        "VirtualService",
        {"hosts": ["a.example"]},
    )
    assert content["metadata"]["annotations"] == {"mine": "yes"}
    assert not {"managedFields", "resourceVersion", "generation"} & content["metadata"].keys()
    assert found.documents[1].content["kind"] == "Secret"
    assert {path for _, path, _, _ in api.requests if path.endswith("secrets")} == {"/api/v1/namespaces/shop/secrets"}
    nursery.cancel_scope.cancel()


def module_annotation():
    return "kubectl.kubernetes.io/last-applied-configuration"


async def test_changes_are_published_and_a_status_alone_is_none(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path)
    first = source.documents.version
    api.put(ROUTES, {**route("web"), "status": {"conditions": []}})
    api.put(ROUTES, route("more"))
    found = await until(source, lambda value: len(value.documents) == 2)
    assert source.documents.version == first + 1
    assert found.documents[1].content["metadata"]["name"] == "web"
    api.drop(ROUTES, "shop/web")
    assert names(await until(source, lambda value: len(value.documents) == 1)) == ["virtualservices.networking.istio.io/shop/more"]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_an_api_that_cannot_be_reached_is_an_error_and_then_it_can(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    api.refusals["/apis/networking.istio.io"] = (503, "ServiceUnavailable")
    with trio.fail_after(5):
        source = await documents_of(nursery, api, tmp_path)
    (error,) = source.documents.value.errors
    assert (str(error.origin), "503" in error.message) == ("kubernetes", True)
    api.refusals.clear()
    found = await until(source, lambda value: not value.errors)
    assert len(found.documents) == 1
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_kind_that_may_not_be_read_is_an_error_of_its_own_and_the_others_are_there(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    api.refusals[GATEWAYS] = (403, "Forbidden")
    source = await documents_of(nursery, api, tmp_path)
    found = source.documents.value
    assert [(str(error.origin), "get, list and watch" in error.message) for error in found.errors] == [
        ("kubernetes:gateways.networking.istio.io", True)
    ]
    assert len(found.documents) == 1
    api.refusals.clear()
    await until(source, lambda value: not value.errors)
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_a_lost_api_takes_nothing_away(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path)
    api.refusals[ROUTES] = (500, "InternalError")
    await api.cut()
    found = await until(source, lambda value: value.errors)
    assert names(found) == ["virtualservices.networking.istio.io/shop/web"]
    api.refusals.clear()
    await until(source, lambda value: not value.errors)
    nursery.cancel_scope.cancel()


async def test_a_kind_that_is_installed_later_is_found_and_one_that_is_gone_is_gone_after_two_looks(nursery, tmp_path):
    api = istio()
    versions = api.groups.pop("networking.istio.io")
    api.groups["fedgate.io"] = ["v1"]
    api.contents["/apis/fedgate.io/v1"] = [{"name": "exports", "kind": "Export", "namespaced": True}]
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path)
    assert source.documents.value.documents == ()
    api.groups["networking.istio.io"] = versions
    source.reload()
    await until(source, lambda value: value.documents)
    del api.groups["networking.istio.io"]

    async def look(number):
        """A look at the tables of contents has been taken in: what changes after it is published after it."""
        before = len(api.asked("/apis/fedgate.io"))
        source.reload()
        with trio.fail_after(10):
            await api.wait(lambda: len(api.asked("/apis/fedgate.io/v1")) and len(api.asked("/apis/fedgate.io")) >= before + 2)
            await api.wait(lambda: api.requests[-1][1] == "/apis/fedgate.io/v1")
        api.put("/apis/fedgate.io/v1/exports", {"metadata": {"name": f"fence-{number}", "namespace": "shop"}})
        return await until(source, lambda value: any(name.endswith(f"fence-{number}") for name in names(value)))

    assert "virtualservices.networking.istio.io/shop/web" in names(await look(1))
    await look(2)
    await until(source, lambda value: "virtualservices.networking.istio.io/shop/web" not in names(value))
    nursery.cancel_scope.cancel()


async def test_nothing_answers_in_time_is_an_error_and_no_hanging_start(nursery, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FIRST_WITHIN", 0.1)
    api = istio()
    api.answering = trio.Event()
    with trio.fail_after(5):
        source = await documents_of(nursery, api, tmp_path)
    assert "did not answer" in source.documents.value.errors[0].message
    nursery.cancel_scope.cancel()


GOOD = Outcome((Condition("Accepted", True, "Accepted"), Condition("Programmed", True, "Programmed")))
BAD = Outcome((Condition("Accepted", False, "Invalid", "spec.hosts: is empty"),))


async def test_conditions_are_written_once_and_only_where_there_is_a_status(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web", generation=3))
    api.put(GATEWAYS, gateway("edge", "none"))
    source = await documents_of(nursery, api, tmp_path)
    origins = [document.origin for document in source.documents.value.documents]
    with trio.fail_after(10):
        source.report(dict.fromkeys(origins, GOOD))
        await api.wait(lambda: len(api.patches) == 1)
        path, body = api.patches[0]
        assert path == f"{NETWORKING}/namespaces/shop/virtualservices/web/status"
        assert [(each["type"], each["status"], each["observedGeneration"]) for each in body["status"]["conditions"]] == [
            ("Accepted", "True", 3),
            ("Programmed", "True", 3),
        ]
        source.report(dict.fromkeys(origins, GOOD))
        source.report(dict.fromkeys(origins, BAD))
        await api.wait(lambda: len(api.patches) == 2)
    assert api.patches[1][1]["status"]["conditions"][0]["message"] == "spec.hosts: is empty"
    nursery.cancel_scope.cancel()


async def test_another_writer_is_not_fought(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path)
    (document,) = source.documents.value.documents
    with trio.fail_after(10):
        source.report({document.origin: GOOD})
        await api.wait(lambda: len(api.patches) == 1)
        theirs = {"conditions": [{"type": "Accepted", "status": "False", "reason": "IDoNotThinkSo", "observedGeneration": 1}]}
        api.put(ROUTES, {**route("web"), "status": theirs})
        api.put(ROUTES, route("more"))
        await until(source, lambda value: len(value.documents) == 2)
        source.report({document.origin: GOOD})
        assert len(api.patches) == 1
        api.put(ROUTES, route("web", "b.example", generation=2))  # a new version has a verdict of its own
        await until(source, lambda value: value.documents[1].content["spec"]["hosts"] == ["b.example"])
        source.report({document.origin: GOOD})
        await api.wait(lambda: len(api.patches) == 2)
    nursery.cancel_scope.cancel()


async def test_a_status_is_not_written_where_that_is_not_wanted(nursery, tmp_path):
    api = istio()
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path, write_status=False)
    assert not source.shows
    source.report({source.documents.value.documents[0].origin: GOOD})
    api.put(ROUTES, route("more"))
    await until(source, lambda value: len(value.documents) == 2)
    assert api.patches == []
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("status", [403, 409, 500])
async def test_a_status_that_cannot_be_written_disturbs_nothing(nursery, tmp_path, status):
    api = istio()
    api.put(ROUTES, route("web"))
    source = await documents_of(nursery, api, tmp_path)
    api.refusals[f"{NETWORKING}/namespaces/shop/virtualservices/web/status"] = (status, "Refused")
    source.report({source.documents.value.documents[0].origin: GOOD})
    with trio.fail_after(10):
        await api.wait(lambda: any(method == "PATCH" for method, *_ in api.requests))
        api.put(ROUTES, route("more"))
        await until(source, lambda value: len(value.documents) == 2)
    assert source.documents.value.errors == ()
    nursery.cancel_scope.cancel()
