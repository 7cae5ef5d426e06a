"""What a Node says of Nomad."""

import pytest
from written import assert_one_error, spec

from discovery.here import HOSTNAME


def nomad(text):
    return spec("Node", f"cluster: east\nsources: [{{name: n, nomad: {{{text}}}}}]").sources[0].nomad


def test_everything_has_a_default():
    said = nomad("")
    assert (said.address, said.read_namespaces, said.hostname) == ("http://127.0.0.1:4646", ("*",), HOSTNAME)
    assert said.allow_stale
    assert nomad("namespace: shop").read_namespaces == ("shop",)
    assert nomad("namespaces: [a, b]").read_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("address: nomad.service", ".address", "is no URL"),
        ("caFile: a", ".address", "write https://"),
        ("namespace: ''", ".namespace", "is empty"),
        ("namespace: a, namespaces: [b]", ".namespaces", "exclude each other"),
        ("namespaces: [a, '*']", ".namespaces[1]", "for all namespaces"),
        ("namespaces: [a, a]", ".namespaces[1]", "written twice"),
        ("namespaces: [a, b, c, d, e, f, g, h, i]", ".namespaces", "8 at most"),
        ("hostname: '{namespace}'", ".hostname", "{service}"),
    ],
)
def test_what_is_wrong_is_said(text, where, words):
    assert_one_error("Node", f"cluster: east\nsources: [{{name: n, nomad: {{{text}}}}}]", f"spec.sources[0].nomad{where}", words)
