"""`from`: who may use a service, as it is written."""

import pytest
from written import assert_one_error, spec


def test_identities_and_addresses():
    found = spec(
        "ServicePolicy",
        "hosts: [a.b]\nfrom: [{principals: [x/ns/y/sa/*, '*/sa/z', '*', spiffe://x/ns/y/sa/z]}, {ipBlocks: [10.0.0.1, fd00::/8]}]",
    )
    assert found.from_[0].principals == ("x/ns/y/sa/*", "*/sa/z", "*", "spiffe://x/ns/y/sa/z")
    assert found.from_[1].ip_blocks == ("10.0.0.1", "fd00::/8")


@pytest.mark.parametrize(
    ("body", "path", "part"),
    [
        ("from: [{principals: ['']}]", "from[0].principals[0]", "no principal"),
        ("from: [{principals: ['x y']}]", "from[0].principals[0]", "no principal"),
        ("from: [{principals: ['spiffe://']}]", "from[0].principals[0]", "no principal"),
        ("from: [{principals: ['a*b*']}]", "from[0].principals[0]", "no principal"),
        ("from: [{ipBlocks: [10.0.0.1, 10.0.0.1]}]", "from[0].ipBlocks[1]", "written twice"),
        ("from: [{ipBlocks: [a.example]}]", "from[0].ipBlocks[0]", "no IP and no CIDR"),
        ("sourceAddress: fe80::1%eth0", "sourceAddress", "no IP"),
    ],
)
def test_mistakes(body, path, part):
    assert_one_error("ServicePolicy", f"hosts: [a.b]\n{body}", f"spec.{path}", part)
