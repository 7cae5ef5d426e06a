"""The embedded CA: what it writes, what it signs, what it refuses."""

import contextlib
import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from federation.trust.authority import init, open_authority, renew, wants_renewal
from federation.trust.certificate import read_certificates
from federation.trust.identity import TrustError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GATEWAY = "spiffe://east.example.com/ns/fedgate/sa/gateway"


@pytest.fixture
def authority(tmp_path):
    return init(tmp_path / "state" / "ca", "east.example.com", cluster="east", now=NOW)


def handshake(server, client, name="gw.example.com"):
    """Both ends of TLS in memory; returns (server's, client's) SSLObject. Raises ssl.SSLError."""
    c_in, c_out, s_in, s_out = (ssl.MemoryBIO() for _ in range(4))
    c = client.wrap_bio(c_in, c_out, server_hostname=name)
    s = server.wrap_bio(s_in, s_out, server_side=True)
    for _ in range(4):
        for side, out, other in ((c, c_out, s_in), (s, s_out, c_in)):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            other.write(out.read())
    return s, c


def context(purpose, issued, bundle, tmp_path):
    ctx = ssl.SSLContext(purpose)
    ctx.verify_mode = ssl.CERT_REQUIRED
    ctx.load_verify_locations(cadata=bundle)
    path = tmp_path / f"{purpose.name}.pem"
    path.write_text(issued.chain + issued.key.reveal().decode())
    ctx.load_cert_chain(path)
    return ctx


def test_files_are_for_their_owner_only(authority):
    assert stat.S_IMODE(authority.directory.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in authority.directory.iterdir()}
    assert files == dict.fromkeys(("root.pem", "root.key", "intermediate.pem", "intermediate.key"), 0o600)
    assert [p.name for p in authority.directory.parent.iterdir()] == ["ca"]


def test_never_overwrites(authority):
    before = {path.name: path.read_bytes() for path in authority.directory.iterdir()}
    with pytest.raises(TrustError, match="never overwritten"):
        init(authority.directory, "east.example.com")
    assert {path.name: path.read_bytes() for path in authority.directory.iterdir()} == before


def test_takes_an_empty_directory(tmp_path):
    (tmp_path / "ca").mkdir()
    assert init(tmp_path / "ca", "td").trust_domain == "td"


def test_a_leaf_is_good_for_both_sides_of_tls(tmp_path):
    authority = init(tmp_path / "ca", "east.example.com")
    issued = authority.issue(GATEWAY, ["gw.example.com", "127.0.0.1"])
    server = context(ssl.PROTOCOL_TLS_SERVER, issued, authority.bundle(), tmp_path)
    client = context(ssl.PROTOCOL_TLS_CLIENT, issued, authority.bundle(), tmp_path)
    s, c = handshake(server, client)
    assert ("URI", GATEWAY) in s.getpeercert()["subjectAltName"]
    assert ("DNS", "gw.example.com") in c.getpeercert()["subjectAltName"]


def test_what_a_leaf_says(authority):
    issued = authority.issue(GATEWAY, now=NOW)
    leaf, intermediate = read_certificates(issued.chain, "chain")
    assert intermediate == authority.intermediate
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == issued.not_after == NOW + timedelta(hours=24)
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical  # the subject is empty
    assert "PRIVATE" not in repr(issued)


def test_leaf_is_verified_by_an_independent_verifier(authority):
    from cryptography.x509.verification import PolicyBuilder, Store

    leaf, intermediate = read_certificates(authority.issue(GATEWAY, ["gw"], now=NOW).chain, "chain")
    builder = PolicyBuilder().store(Store([authority.root])).time(NOW.replace(tzinfo=None))
    assert builder.build_server_verifier(x509.DNSName("gw")).verify(leaf, [intermediate])


@pytest.mark.parametrize(
    ("identity", "names", "ttl", "says"),
    [
        ("spiffe://west.example.com/ns/fedgate/sa/gateway", [], timedelta(hours=1), "signs for east.example.com only"),
        ("spiffe://east.example.com", [], timedelta(hours=1), "not a workload"),
        (GATEWAY, ["a b"], timedelta(hours=1), "not a DNS name"),
        (GATEWAY, ["a\x00b"], timedelta(hours=1), "not a DNS name"),
        (GATEWAY, [], timedelta(days=91), "ttl"),
        (GATEWAY, [], timedelta(0), "ttl"),
    ],
)
def test_refuses_to_sign(authority, identity, names, ttl, says):
    with pytest.raises(TrustError, match=says):
        authority.issue(identity, names, ttl, now=NOW)


def test_the_roots_key_may_be_away(authority):
    (authority.directory / "root.key").unlink()
    assert open_authority(authority.directory).issue(GATEWAY, now=NOW).identity == GATEWAY
    with pytest.raises(TrustError, match=r"root\.key: no such file"):
        renew(authority.directory, now=NOW)


def test_an_expired_intermediate_says_what_to_do(authority):
    late = NOW + timedelta(days=731)
    with pytest.raises(TrustError, match=r"expired 2028-02-29 12:00 UTC; put root\.key back"):
        authority.issue(GATEWAY, now=late)
    assert renew(authority.directory, now=late).issue(GATEWAY, now=late).not_after == late + timedelta(hours=24)
    assert open_authority(authority.directory).issue(GATEWAY, now=late)


def test_renewed_in_the_last_fifth(authority):
    assert not wants_renewal(authority, NOW + timedelta(days=580))
    assert wants_renewal(authority, NOW + timedelta(days=590))
    new = renew(authority.directory, now=NOW + timedelta(days=590))
    assert not wants_renewal(new, NOW + timedelta(days=590))
    assert new.intermediate.public_key() == authority.intermediate.public_key()
    assert new.intermediate.subject == authority.intermediate.subject


def test_a_leaf_never_outlives_the_intermediate(authority):
    issued = authority.issue(GATEWAY, now=NOW + timedelta(days=729, hours=23))
    assert issued.not_after == authority.intermediate.not_valid_after_utc


def test_mixed_up_files_are_named(authority, tmp_path):
    other = init(tmp_path / "other", "east.example.com", now=NOW)
    (authority.directory / "root.pem").write_bytes((other.directory / "root.pem").read_bytes())
    with pytest.raises(TrustError, match="different CAs"):
        open_authority(authority.directory)
    (authority.directory / "intermediate.key").write_bytes((other.directory / "intermediate.key").read_bytes())
    with pytest.raises(TrustError, match="private key is not the certificate's"):
        open_authority(authority.directory)
