"""Bundle files: each way to be wrong has its own words."""

from datetime import UTC, datetime, timedelta

import pytest

from federation.trust.authority import init
from federation.trust.bundle import parse_bundle, read_bundle
from federation.trust.certificate import read_certificates
from federation.trust.identity import TrustError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path):
    return init(tmp_path / "ca", "west.example.com", now=NOW)


def test_reads_the_roots(authority, tmp_path):
    path = tmp_path / "west.pem"
    path.write_text("# a comment\n" + authority.bundle())
    bundle = read_bundle(path, "west.example.com", now=NOW)
    assert bundle.roots == authority.bundle()
    assert bundle.not_after == authority.root.not_valid_after_utc


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "no certificate in it"),
        (b"hello", "no certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1 of 1 is damaged"),
        (b"x" * 2_000_000, "at most"),
    ],
)
def test_not_a_bundle(tmp_path, content, says):
    path = tmp_path / "west.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TrustError, match=says) as caught:
        read_bundle(path, "west.example.com", now=NOW)
    assert str(path) in str(caught.value)


def test_a_leaf_is_no_bundle(authority):
    leaf = authority.issue("spiffe://west.example.com/ns/a/sa/b", now=NOW).chain
    with pytest.raises(TrustError, match=r"spiffe://west\.example\.com/ns/a/sa/b' is not a CA's certificate"):
        parse_bundle(leaf, "west.example.com", where="f", now=NOW)


def test_another_peers_file(authority):
    with pytest.raises(TrustError, match=r"of trust domain west\.example\.com, but should be of east\.example\.com"):
        parse_bundle(authority.bundle(), "east.example.com", where="f", now=NOW)


def test_expired_roots_beside_good_ones_are_a_root_change(authority, tmp_path):
    later = NOW + timedelta(days=3651)
    with pytest.raises(TrustError, match="every root in it has expired"):
        parse_bundle(authority.bundle(), "west.example.com", where="f", now=later)
    new = init(tmp_path / "new", "west.example.com", now=later)
    both = parse_bundle(authority.bundle() + new.bundle(), "west.example.com", where="f", now=later)
    assert read_certificates(both.roots, "f") == [new.root]
