"""One control plane, one network of Pods, and a gateway that reads them, for all tests here."""

import go_peers
import pytest
import yaml
from peers.kubernetes import Kubernetes
from peers.kubernetes_talk import MANIFESTS
from peers.pods import Pods
from running import Fedgate, listening, server


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory):
    try:
        go_peers.build("kubernetes")
    except RuntimeError as error:
        pytest.skip(f"Kubernetes cannot be built here: {str(error)[-500:]}")
    with Kubernetes(tmp_path_factory.mktemp("kubernetes")) as running_one:
        running_one.node("node-a", zone="z1", region="r1", address="10.77.1.201")
        running_one.node("node-b", zone="z2", region="r1", address="10.77.1.202")
        for plural, kind, group in (
            ("serviceexports", "ServiceExport", "multicluster.x-k8s.io"),
            ("serviceimports", "ServiceImport", "multicluster.x-k8s.io"),
            ("virtualservices", "VirtualService", "networking.istio.io"),
            ("gateways", "Gateway", "networking.istio.io"),
        ):
            version = "v1alpha1" if group.startswith("multi") else "v1"
            running_one.create("apiextensions.k8s.io/v1", "customresourcedefinitions", crd(group, version, plural, kind))
        for definition in yaml.safe_load_all((MANIFESTS / "crds.yaml").read_text()):
            running_one.create("apiextensions.k8s.io/v1", "customresourcedefinitions", definition)
        yield running_one


@pytest.fixture(scope="session")
def pods(tmp_path_factory):
    with Pods(tmp_path_factory.mktemp("pods"), "10.77.1") as made:
        yield made


@pytest.fixture
def gateway(kubernetes, tmp_path):
    made = Fedgate(tmp_path)
    made.write("node", made.node(sources=[{"name": "k8s", "kubernetes": {"kubeconfig": str(kubernetes.kubeconfig())}}]))
    made.write("web", listening("web", server(made, ["*"])))
    return made


def crd(group, version, plural, kind):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
