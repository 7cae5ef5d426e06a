"""What a Node says of a Kubernetes API."""

import pytest
from written import assert_one_error, spec

from discovery.here import HOSTNAME
from discovery.kubernetes.services import Reach


def source(text):
    return spec("Node", f"cluster: east\nsources: [{{name: k, kubernetes: {{{text}}}}}]").sources[0].kubernetes


def test_everything_has_a_default():
    said = source("")
    assert (said.kubeconfig, said.context, said.namespaces, said.hostname) == ("", "", ("*",), HOSTNAME)
    assert said.addresses is Reach.POD
    documents = spec("Node", "cluster: east\nresources: [{kubernetes: {}}]").resources[0].kubernetes
    assert (documents.secrets, documents.write_status) == ((), True)


@pytest.mark.parametrize(("text", "reach"), [("pod", Reach.POD), ("node", Reach.NODE), ("loadBalancer", Reach.LOAD_BALANCER)])
def test_addresses(text, reach):
    assert source(f"addresses: {text}").addresses is reach


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("namespaces: []", ".namespaces", "is empty"),
        ("namespaces: ['*', shop]", ".namespaces", "already"),
        ("namespaces: [a, a]", ".namespaces[1]", "written twice"),
        ("namespaces: [A_b]", ".namespaces[0]", "is no namespace"),
        (f"namespaces: {[f'n{i}' for i in range(21)]}", ".namespaces", "20 at most"),
        ("hostname: '{namespace}'", ".hostname", "{service}"),
        ("addresses: cluster", ".addresses", "loadBalancer"),
    ],
)
def test_what_is_wrong_is_said(text, where, words):
    assert_one_error(
        "Node", f"cluster: east\nsources: [{{name: k, kubernetes: {{{text}}}}}]", f"spec.sources[0].kubernetes{where}", words
    )


def test_secrets_of_all_namespaces_are_not_read():
    written = "cluster: east\nresources: [{kubernetes: {secrets: ['*']}}]"
    assert_one_error("Node", written, "spec.resources[0].kubernetes.secrets[0]", "is no namespace")
