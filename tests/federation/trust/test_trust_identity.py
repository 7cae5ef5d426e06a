"""SPIFFE ids: what is one, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.trust.identity import SpiffeId, TrustError, check_trust_domain, gateway_id, sole_identity, workload_id


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        ("spiffe://east.example.com/ns/shop/sa/web", "east.example.com", "/ns/shop/sa/web"),
        ("spiffe://cluster.local", "cluster.local", ""),
        ("spiffe://a_b-c.1/X.y_Z-0", "a_b-c.1", "/X.y_Z-0"),
    ],
)
def test_reads_and_writes_back(text, domain, path):
    assert SpiffeId.parse(text) == SpiffeId(domain, path)
    assert str(SpiffeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe:///ns/a",
        "SPIFFE://td/a",
        "https://td/a",
        "spiffe://TD/a",
        "spiffe://td:443/a",
        "spiffe://user@td/a",
        "spiffe://td/a?x=1",
        "spiffe://td/a#f",
        "spiffe://td?x",
        "spiffe://td/",
        "spiffe://td/a/",
        "spiffe://td//a",
        "spiffe://td/a/../b",
        "spiffe://td/./b",
        "spiffe://td/%61",
        "spiffe://td/a b",
        "spiffe://td/ä",
        "spiffe://td/a\n",
        "spiffe://td\n/a",
        "spiffe://" + "a" * 256,
        "spiffe://td/" + "a" * 2048,
    ],
)
def test_refuses(text):
    with pytest.raises(TrustError):
        SpiffeId.parse(text)


@given(st.text(max_size=40))
def test_what_is_read_is_written_back_the_same(tail):
    try:
        identity = SpiffeId.parse("spiffe://" + tail)
    except TrustError:
        return
    assert str(identity) == "spiffe://" + tail


def test_the_gateway_of_a_trust_domain():
    assert str(gateway_id("east.example.com")) == "spiffe://east.example.com/ns/fedgate/sa/gateway"


def test_a_certificate_has_exactly_one_uri_name():
    assert sole_identity(["spiffe://td/a"]) == SpiffeId("td", "/a")
    for names in ([], ["spiffe://td/a", "spiffe://td/b"], ["https://td/a"]):
        with pytest.raises(TrustError):
            sole_identity(names)


@pytest.mark.parametrize("part", ["a/b", "", "..", "a b"])
def test_a_namespace_cannot_smuggle_a_path(part):
    with pytest.raises(TrustError):
        workload_id("td", part, "web")


def test_a_trust_domain_error_says_how_to_write_one():
    with pytest.raises(TrustError, match=r"east\.example\.com"):
        check_trust_domain("East")
