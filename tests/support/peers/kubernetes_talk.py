"""What live tests of Kubernetes say to it and hear from it: sources of it and their updates, a gateway's answers, the documented role."""

import pathlib

import peers.kubernetes
import peers.pods
import pytest
import trio
import yaml

from discovery.here import Here
from discovery.model import Locality
from discovery.sources.kubernetes import KubernetesOptions, KubernetesSource

MANIFESTS = pathlib.Path(__file__).parents[3] / "docs" / "kubernetes"
HERE = Here("east", locality=Locality("r1", "z1"))

WHY_NOT = peers.kubernetes.missing() or peers.pods.missing()
MARKS = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # the first time it is built
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.xdist_group("live-kubernetes"),
]
"""`pytestmark` of every file that uses tests/live/kubernetes/conftest.py: one control plane serves them all."""


def source_of(kubernetes, user="admin", *, kubeconfig=None, **more):
    """A source of it. more: options; `nameservers` and `credentials` too."""
    beside = {name: more.pop(name) for name in ("nameservers", "credentials") if name in more}
    path = str(kubeconfig or kubernetes.kubeconfig(user))
    return KubernetesSource("k8s", HERE, KubernetesOptions(kubeconfig=path, **more), **beside)


def addresses(service):
    return [endpoint.address for endpoint in service.endpoints]


async def in_thread(function, *arguments, **options):
    return await trio.to_thread.run_sync(lambda: function(*arguments, **options))


async def said(updates, good, *, within=20):
    """The first update that is good."""
    with trio.fail_after(within):
        async for update in updates:
            if good(update):
                return update
    raise AssertionError("the source ended")


def upsert_of(host, good):
    return lambda update: getattr(update, "service", None) is not None and update.service.hostname == host and good(update.service)


async def answered_by(gateway, host):
    """(status, which workload)."""
    answer = await gateway.get("/", host=host)
    return (answer.status, answer.json().get("served_by") if answer.status == 200 else "")


def apply_role(kubernetes):
    """docs/kubernetes/role.yaml, as kubectl apply would."""
    for content in yaml.safe_load_all((MANIFESTS / "role.yaml").read_text()):
        plural = {"Namespace": "namespaces", "ServiceAccount": "serviceaccounts"}.get(
            content["kind"], f"{content['kind'].lower()}s"
        )
        try:
            kubernetes.create(content["apiVersion"], plural, content, namespace=content["metadata"].get("namespace", ""))
        except peers.kubernetes.Refused as error:
            if error.code != 409:
                raise
