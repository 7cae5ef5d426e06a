"""What a Node says of Consul."""

import pytest
from written import assert_one_error, spec

from discovery.here import HOSTNAME
from discovery.sources.consul import MOST_WATCHED


def test_everything_has_a_default():
    node = spec("Node", "cluster: east\nsources: [{name: c, consul: {}}]\nresources: [{consul: {}}]\npublish: [{consul: {}}]")
    said = node.sources[0].consul
    assert (said.address, said.hostname, said.default_namespace) == ("http://127.0.0.1:8500", HOSTNAME, "default")
    assert said.allow_stale
    assert said.max_queries == MOST_WATCHED
    assert node.resources[0].consul.prefix == "fedgate/config"
    assert (node.publish[0].consul.prefix, node.publish[0].consul.writes_per_second) == ("fed-", 50)


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("address: consul.service", ".address", "is no URL"),
        ("keyFile: a", "", "go together"),
        ("caFile: a", ".address", "write https://"),
        ("defaultNamespace: a/b", ".defaultNamespace", "is no name"),
        ("peers: [a, b, a]", ".peers[2]", "written twice"),
        ("maxQueries: 0", ".maxQueries", "http_max_conns_per_client"),
        ("hostname: '{namespace}'", ".hostname", "{service}"),
    ],
)
def test_what_is_wrong_of_a_source_is_said(text, where, words):
    assert_one_error("Node", f"cluster: east\nsources: [{{name: c, consul: {{{text}}}}}]", f"spec.sources[0].consul{where}", words)


def test_what_is_wrong_of_the_others_is_said():
    assert_one_error(
        "Node", "cluster: east\nresources: [{consul: {prefix: /}}]", "spec.resources[0].consul.prefix", "read all keys"
    )
    text = "cluster: east\npublish: [{consul: {writesPerSecond: 0}}]"
    assert_one_error("Node", text, "spec.publish[0].consul.writesPerSecond", "1")
