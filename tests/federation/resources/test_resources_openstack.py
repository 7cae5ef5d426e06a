"""What a Node says of an OpenStack cloud."""

import pytest
from written import assert_one_error, errors

SECRET = "authUrl: 'https://keystone.example.com/v3', applicationCredential: {id: abc, secretFile: /run/secret}"


@pytest.mark.parametrize(
    "source",
    [
        "cloud: mine",
        "cloud: mine, file: /etc/openstack/clouds.yaml, region: R1, interface: internal",
        SECRET,
        f"{SECRET}, discover: [octavia], interval: 30s, caFile: /etc/ca.pem",
    ],
)
def test_ways_to_reach_a_cloud(source):
    assert not errors("Node", f"cluster: east\nsources: [{{name: o, openstack: {{{source}}}}}]")


@pytest.mark.parametrize(
    ("source", "path", "part"),
    [
        (f"cloud: mine, {SECRET}", ".cloud", "exclude each other"),
        ("authUrl: 'https://x'", ".authUrl", "go together"),
        (f"{SECRET}, file: x", ".file", "needs cloud"),
        ("cloud: mine, interface: outside", ".interface", "no interface"),
        (SECRET.replace("https://", ""), ".authUrl", "no URL"),
        (SECRET.replace("abc", "''"), ".applicationCredential.id", "is empty"),
        ("cloud: mine, discover: []", ".discover", "is empty"),
        ("cloud: mine, interval: 100ms", ".interval", "answers in seconds"),
    ],
)
def test_mistakes(source, path, part):
    assert_one_error(
        "Node", f"cluster: east\nsources: [{{name: o, openstack: {{{source}}}}}]", f"spec.sources[0].openstack{path}", part
    )


@pytest.mark.parametrize(
    ("spec", "path", "part"),
    [
        ("cloud: c, zone: ''", ".zone", "zone is empty"),
        ("cloud: c, zone: z, prefix: 'X_'", ".prefix", "cannot begin"),
        ("cloud: c, zone: z, ttl: 0", ".ttl", ""),
        ("cloud: c, zone: z, writesPerSecond: 0", ".writesPerSecond", ""),
    ],
)
def test_mistakes_of_a_publisher(spec, path, part):
    assert_one_error("Node", f"cluster: east\npublish: [{{designate: {{{spec}}}}}]", f"spec.publish[0].designate{path}", part)
