"""The functions behind `fedgate ca …`."""

import stat

import pytest

from federation.trust.identity import TrustError
from federation.trust.operations import bundle, init_ca, issue, show

GATEWAY = "spiffe://td/ns/fedgate/sa/gateway"


def test_the_whole_way_of_an_identity_for_another_machine(tmp_path):
    state = tmp_path / "state"
    authority = init_ca(state / "ca", "td", cluster="east")
    out = tmp_path / "elsewhere"
    issued = issue(state, GATEWAY, dns_names=["gw"], out=out)
    assert {p.name for p in out.iterdir()} == {"identity.pem", "identity.key", "identity-bundle.pem"}
    assert {stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()} == {0o600}
    assert (out / "identity.pem").read_text() == issued.chain
    assert bundle(state) == bundle(state / "ca") == authority.bundle() == (out / "identity-bundle.pem").read_text()
    assert [facts.identity for facts in show(out)] == ["spiffe://td", GATEWAY, "spiffe://td"]


def test_an_identity_is_not_overwritten_by_accident(tmp_path):
    init_ca(tmp_path / "ca", "td")
    first = issue(tmp_path, GATEWAY, out=tmp_path)
    with pytest.raises(TrustError, match="is there already"):
        issue(tmp_path, GATEWAY, out=tmp_path)
    assert (tmp_path / "identity.pem").read_text() == first.chain
    second = issue(tmp_path, GATEWAY, out=tmp_path, overwrite=True)
    assert (tmp_path / "identity.pem").read_text() == second.chain != first.chain


def test_an_existing_directory_keeps_its_mode(tmp_path):
    init_ca(tmp_path / "ca", "td")
    out = tmp_path / "shared"
    out.mkdir(mode=0o755)
    out.chmod(0o755)
    issue(tmp_path, GATEWAY, out=out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o755


def test_nothing_there(tmp_path):
    for call in (lambda: show(tmp_path), lambda: bundle(tmp_path), lambda: issue(tmp_path, GATEWAY)):
        with pytest.raises(TrustError, match=str(tmp_path)):
            call()


def test_show_tells_authority_and_times(tmp_path):
    init_ca(tmp_path / "ca", "td", cluster="east")
    intermediate, root = show(tmp_path)
    assert (intermediate.authority, root.authority) == (True, True)
    assert "OU=east" in intermediate.subject
    assert intermediate.issuer == root.subject
    assert intermediate.not_after < root.not_after
    assert len(root.fingerprint) == 64
