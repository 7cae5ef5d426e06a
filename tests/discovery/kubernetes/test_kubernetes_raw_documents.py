"""Kubernetes objects as raw documents: without what the server adds, and with the Secrets that they mention."""

import msgspec
import pytest

from discovery.kubernetes.documents import Collection, mentioned, published, stored

ROUTES = Collection("/apis/networking.istio.io/v1", "virtualservices", "VirtualService", status=True)
SECRETS = Collection("/api/v1", "secrets", "Secret", "shop")


def made(collection, content):
    return stored(collection, msgspec.json.encode(content))


def secret(name):
    return made(SECRETS, {"metadata": {"name": name, "namespace": "shop"}, "data": {"key": "aHVzaA=="}})


def test_paths_and_names():
    assert (ROUTES.path, ROUTES.full_name, ROUTES.api_version) == (
        "/apis/networking.istio.io/v1/virtualservices",
        "virtualservices.networking.istio.io",
        "networking.istio.io/v1",
    )
    assert (SECRETS.path, SECRETS.full_name, SECRETS.api_version) == ("/api/v1/namespaces/shop/secrets", "secrets", "v1")
    assert ROUTES.object_path("shop", "web") == "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web"
    wide = Collection("/apis/fedgate.io/v1", "peers", "Peer", namespaced=False)
    assert wide.object_path("", "west") == "/apis/fedgate.io/v1/peers/west"


def test_what_the_server_adds_is_left_out():
    metadata = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3, "managedFields": [{}]}
    metadata["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    found = made(ROUTES, {"metadata": metadata, "spec": {"hosts": ["a"]}, "status": {"conditions": [{"type": "X"}, 3]}})
    assert found.document.content == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
        "spec": {"hosts": ["a"]},
    }
    assert (str(found.document.origin), found.version, found.generation) == (
        "kubernetes:virtualservices.networking.istio.io/shop/web",
        "7",
        3,
    )
    assert found.conditions == ({"type": "X"},)


@pytest.mark.parametrize("status", [None, "odd", {"conditions": None}, {"conditions": {"a": 1}}])
def test_an_odd_status_is_none(status):
    assert made(ROUTES, {"metadata": {"name": "a", "namespace": "b"}, "status": status}).conditions == ()


def test_what_is_being_deleted_is_gone():
    assert made(ROUTES, {"metadata": {"name": "a", "namespace": "b", "deletionTimestamp": "2026-01-01T00:00:00Z"}}) is None


def test_names_of_secrets_wherever_they_are():
    said = {"servers": [{"tls": {"credentialName": "kubernetes-gateway://shop/a"}}, {"tls": {"credentialNames": ["b", "ns/c"]}}]}
    said["trafficPolicy"] = {"tls": {"caCertCredentialName": "d", "mode": "SIMPLE"}}
    assert set(mentioned(said)) == {"a", "b", "c", "d"}


def test_only_mentioned_secrets_are_published_and_none_prints_itself():
    gateway = made(ROUTES, {"metadata": {"name": "g", "namespace": "shop"}, "spec": {"tls": {"credentialName": "web"}}})
    found = published([secret("other"), secret("web-cacert"), gateway, secret("web")])
    assert [document.content["metadata"]["name"] for document in found] == ["web", "web-cacert", "g"]
    assert published([secret("web")]) == ()
    assert "aHVz" not in repr(secret("web"))
