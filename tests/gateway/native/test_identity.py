"""The second verification alone: every fault that OpenSSL would also find, and those that it would not."""

from __future__ import annotations

import datetime

import certs
import pytest
from cryptography import x509

from gateway.native.identity import CLIENT_AUTH, SERVER_AUTH, Bundles, PeerRefused, describe, names_of, split_spiffe_id

EAST, WEST = certs.spiffe("east.example"), certs.spiffe("west.example")
ID = certs.gateway_id("east.example")
BUNDLES = Bundles([("east.example", EAST.bundle), ("west.example", WEST.bundle)])


def chain(leaf: certs.Leaf) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(leaf.chain.encode())


def test_a_good_chain_proves_its_identity() -> None:
    proof = BUNDLES.prove(chain(certs.gateway_leaf(EAST, "east.example")), CLIENT_AUTH, certs.NOW)
    assert (proof.identity, proof.trust_domain) == (ID, "east.example")
    assert proof.certificate is not None
    assert proof.certificate.uris == (ID,)


def test_the_bundle_may_hold_an_intermediate_or_two_roots() -> None:
    """An anchor is what the bundle says; during a change of roots it says two."""
    leaf = chain(certs.gateway_leaf(EAST, "east.example"))
    other = certs.Authority("east.example next root")
    for bundle in (EAST.pem, other.pem + EAST.bundle):
        assert Bundles([("east.example", bundle)]).prove(leaf, CLIENT_AUTH, certs.NOW).identity == ID
    with pytest.raises(PeerRefused, match="does not verify"):
        Bundles([("east.example", other.pem)]).prove(leaf, CLIENT_AUTH, certs.NOW)


BAD = {
    "expired": EAST.expired(ID),
    "not yet valid": EAST.not_yet_valid(ID),
    "self-signed": certs.self_signed(ID),
    "unknown CA": certs.spiffe("nowhere.example").leaf(ID),
    "another trust domain's CA": WEST.leaf(ID),
    "signed by a leaf": EAST.intermediate("no ca", is_ca=False).leaf(ID),
    "path too long": certs.Authority("short", EAST, path_length=0).intermediate("longer").leaf(ID),
    "expired intermediate": EAST.intermediate(
        "old intermediate", not_before=certs.NOW - 48 * certs.HOUR, not_after=certs.NOW - certs.HOUR
    ).leaf(ID),
    "may sign certificates": EAST.leaf(ID, certify=True, label="certify"),
    "for servers only": EAST.leaf(ID, usages=(certs.BOTH[0],), label="server only"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_chain_is_refused_without_the_help_of_openssl(case: str) -> None:
    with pytest.raises(PeerRefused, match=r"does not verify against the bundle of east.example"):
        BUNDLES.prove(chain(BAD[case]), CLIENT_AUTH, certs.NOW)


def test_an_expired_root_is_no_anchor() -> None:
    old = certs.Authority("old root", not_before=certs.NOW - 48 * certs.HOUR, not_after=certs.NOW - certs.HOUR)
    with pytest.raises(PeerRefused, match="does not verify"):
        Bundles([("east.example", old.bundle)]).prove(chain(old.leaf(ID)), CLIENT_AUTH, certs.NOW)


def test_a_missing_intermediate_is_missed() -> None:
    with pytest.raises(PeerRefused, match="does not verify"):
        BUNDLES.prove(chain(certs.gateway_leaf(EAST, "east.example"))[:1], CLIENT_AUTH, certs.NOW)


def test_the_clock_decides() -> None:
    good = chain(certs.gateway_leaf(EAST, "east.example"))
    for off in (-2, 25):
        with pytest.raises(PeerRefused, match="valid"):
            BUNDLES.prove(good, CLIENT_AUTH, certs.NOW + datetime.timedelta(hours=off))


def test_the_purpose_decides() -> None:
    server = chain(EAST.leaf(ID, usages=(certs.BOTH[0],), label="server only"))
    client = chain(EAST.leaf(ID, usages=(certs.BOTH[1],), label="client only"))
    either = chain(EAST.leaf(ID, usages=(), label="any purpose"))
    for good, purpose in ((server, SERVER_AUTH), (client, CLIENT_AUTH), (either, SERVER_AUTH), (either, CLIENT_AUTH)):
        assert BUNDLES.prove(good, purpose, certs.NOW).identity == ID
    for bad, purpose in ((server, CLIENT_AUTH), (client, SERVER_AUTH)):
        with pytest.raises(PeerRefused, match="extended key usage"):
            BUNDLES.prove(bad, purpose, certs.NOW)


def test_no_chain_no_proof() -> None:
    with pytest.raises(PeerRefused, match="no certificate chain"):
        BUNDLES.prove([], CLIENT_AUTH, certs.NOW)


def test_names_are_read_in_all_their_kinds() -> None:
    leaf = EAST.leaf("Shop.Example", "10.0.0.1", "spiffe://east.example/ns/a/sa/B").certificate
    assert names_of(leaf) == {"shop.example", "10.0.0.1", "spiffe://east.example/ns/a/sa/B"}
    assert names_of(EAST.leaf().certificate) == set()
    assert describe(EAST.leaf(label="me").certificate).subject == "CN=me"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spiffe://a.example/ns/x/sa/y", ("a.example", "/ns/x/sa/y")),
        ("spiffe://a.example/ns/x/sa/y/", None),
        ("spiffe://a.example//x", None),
        ("spiffe://a.example/../x", None),
        ("spiffe://a.example/..x", ("a.example", "/..x")),
        ("spiffe://a.example:8443/x", None),
        ("spiffe://u@a.example/x", None),
        ("spiffe://a.example/x?y", None),
        ("spiffe://a.example/x#y", None),
        ("spiffe:///x", None),
        ("SPIFFE://a.example/x", None),
        ("spiffe://a.example/x\n", None),
        ("spiffe://a.example/" + "x" * 2048, None),
    ],
)
def test_spiffe_ids(text: str, parts: tuple[str, str] | None) -> None:
    assert split_spiffe_id(text) == parts
