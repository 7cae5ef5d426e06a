"""What a Node says of an agent: the same of Consul's and of Nomad's."""

import pytest
from written import assert_one_error, errors, spec

KINDS = ["consul", "nomad"]


def written(kind, text):
    return f"cluster: east\nsources: [{{name: n, {kind}: {{{text}}}}}]"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [
        "address: 'http://10.0.0.1:1234'",
        "address: 'http://[::1]:1234/'",
        "address: 'unix:///run/agent.sock'",
        "address: 'https://agent', caFile: a, certFile: b, keyFile: c, tokenFile: d",
    ],
)
def test_what_is_right(kind, text):
    said = getattr(spec("Node", written(kind, text)).sources[0], kind)
    assert f"'{said.address}'" in text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("address: agent.service", ".address", "is no URL; write for example http://127.0.0.1:"),
        ("address: 'http://'", ".address", "is no URL"),
        ("address: 'http://agent:port'", ".address", "is no URL"),
        ("address: 'http://agent:99999'", ".address", "is no URL"),
        ("address: 'http://[agent'", ".address", "is no URL"),
        ("address: 'unix://agent.sock'", ".address", "is no URL"),
        ("keyFile: a", "", "go together"),
        ("address: 'https://agent', certFile: a", "", "go together"),
        ("caFile: a", ".address", "write https://"),
        ("certFile: a, keyFile: b", ".address", "write https://"),
    ],
)
def test_what_is_wrong_is_said(kind, text, where, words):
    assert_one_error("Node", written(kind, text), f"spec.sources[0].{kind}{where}", words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", ["http://me:hush@agent:1", "https://:hush@agent", "http://hush@agent"])
def test_what_an_address_must_not_hold_is_not_quoted(kind, address):
    found = errors("Node", written(kind, f"address: '{address}'"))
    assert list(found) == [f"spec.sources[0].{kind}.address"]
    assert "tokenFile" in str(found)
    assert "hush" not in str(found)
