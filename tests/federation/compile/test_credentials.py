"""Secrets and files into certificates: what is refused, what is only warned of."""

from __future__ import annotations

import pytest
from certs import HOUR, NOW, Authority

from federation.compile import credentials as given
from federation.compile.credentials import Credentials, FileContent
from federation.resources.kubernetes import Secret as SecretDocument
from federation.trust.identity import TrustError
from gateway.secret import Secret

CA = Authority("public ca")
WEB = CA.leaf("web.example.com")
OTHER = CA.leaf("other.example.com")


def secret(**data: bytes | str) -> SecretDocument:
    return SecretDocument(
        data={key.replace("_", "."): Secret(value.encode() if isinstance(value, str) else value) for key, value in data.items()}
    )


def held(**secrets: SecretDocument) -> Credentials:
    return Credentials(secrets={("edge", name): data for name, data in secrets.items()})


@pytest.mark.parametrize("names", [("tls_crt", "tls_key"), ("cert", "key")])
def test_both_spellings_of_a_tls_secret(names: tuple[str, str]) -> None:
    found = held(web=secret(**{names[0]: WEB.chain, names[1]: WEB.key.reveal()}))
    loaded = given.certificate_of_secret(found, ("other", "edge"), "web", NOW)
    assert loaded.reference.chain == WEB.chain
    assert loaded.reference.key == WEB.key.digest == loaded.key.digest
    assert loaded.reference.name == "secret edge/web"
    assert not loaded.notes


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (secret(tls_crt=WEB.chain), "has no tls.key"),
        (secret(tls_key=WEB.key.reveal()), "has no tls.crt"),
        (secret(tls_crt=WEB.chain, tls_key=OTHER.key.reveal()), "is not the certificate's"),
        (secret(tls_crt="hello", tls_key=WEB.key.reveal()), "no certificate"),
        (secret(tls_crt=WEB.chain, tls_key="hello"), "does not load"),
    ],
)
def test_what_cannot_be_served_is_refused(data: SecretDocument, said: str) -> None:
    with pytest.raises(TrustError, match=said):
        given.certificate_of_secret(held(web=data), ("edge",), "web", NOW)


def test_a_missing_secret_names_where_it_was_looked_for() -> None:
    with pytest.raises(TrustError, match="no secret 'web' in namespace edge or shop"):
        given.certificate_of_secret(Credentials(), ("edge", "shop", "edge"), "web", NOW)


@pytest.mark.parametrize(
    ("leaf", "reason"), [(CA.expired("a.example"), "CertificateExpired"), (CA.not_yet_valid("a.example"), "CertificateNotYetValid")]
)
def test_a_certificate_out_of_its_time_is_served_with_a_warning(leaf, reason) -> None:  # type: ignore[no-untyped-def]
    loaded = given.load(leaf.chain.encode(), leaf.key.reveal(), "here", NOW)
    assert [note[0] for note in loaded.notes] == [reason]


def test_files_are_those_that_plane_read() -> None:
    files = {"/c": FileContent(WEB.chain.encode()), "/k": FileContent(WEB.key.reveal()), "/gone": FileContent(fault="no such file")}
    found = Credentials(files=files)
    assert given.certificate_of_files(found, "/c", "/k", NOW).reference.name == "file /c"
    assert given.ca_of_file(found, "/c") == WEB.chain
    with pytest.raises(TrustError, match="file /gone: no such file"):
        given.ca_of_file(found, "/gone")
    with pytest.raises(TrustError, match="not been read"):
        given.ca_of_file(found, "/new")
    assert "PRIVATE" not in repr(found)


def authorities(found: Credentials, name: str = "web", **options: bool) -> given.Authorities:
    return given.authorities_of_secret(found, ("edge",), name, NOW, **options)


def test_the_ca_is_in_the_cacert_twin_or_in_the_secret() -> None:
    assert authorities(held(web=secret(ca_crt=CA.pem))).ca == CA.pem
    other = Authority("other ca").pem
    twin = held(**{"web": secret(ca_crt=other), "web-cacert": secret(cacert=CA.pem)})
    assert authorities(twin).ca == CA.pem  # as in Istio, the twin comes first
    assert authorities(twin, alone=True).ca == other
    with pytest.raises(TrustError, match="neither secret web-cacert nor web has"):
        authorities(held(web=secret(tls_crt="x")))
    with pytest.raises(TrustError, match="secret web has not"):
        authorities(held(**{"web-cacert": secret(cacert=CA.pem)}), alone=True)


@pytest.mark.parametrize("name", ["ca_crl", "crl"])
def test_revocation_lists_are_beside_the_ca(name: str) -> None:
    found = authorities(held(web=secret(ca_crt=CA.pem, **{name: "# a remark\n" + CA.crl(WEB) + CA.crl()})))
    assert found.crl.count("BEGIN X509 CRL") == 2
    assert "remark" not in found.crl
    assert not found.notes


def test_a_revocation_list_that_is_over_is_a_warning_and_a_damaged_one_refused() -> None:
    old = authorities(held(web=secret(ca_crt=CA.pem, crl=CA.crl(until=NOW - HOUR))))
    assert [note[0] for note in old.notes] == ["RevocationListExpired"]
    assert "BEGIN X509 CRL" in old.crl
    with pytest.raises(TrustError, match="no revocation list in it"):
        authorities(held(web=secret(ca_crt=CA.pem, crl="hello")))
    lines = CA.crl().splitlines()
    with pytest.raises(TrustError, match="list 1 of 1 is damaged"):
        authorities(held(web=secret(ca_crt=CA.pem, crl="\n".join([lines[0], lines[2], lines[-1]]))))


def test_authorities_of_files() -> None:
    files = {"/ca": FileContent(CA.pem.encode()), "/crl": FileContent(CA.crl(WEB).encode())}
    found = given.authorities_of_files(Credentials(files=files), "/ca", "/crl", NOW)
    assert (found.ca, found.crl) == (CA.pem, files["/crl"].data.decode())
    assert given.authorities_of_files(Credentials(files=files), "/ca", "", NOW).crl == ""
    with pytest.raises(TrustError, match="file /ca: has no revocation list"):
        given.authorities_of_files(Credentials(files=files), "/ca", "/ca", NOW)


def test_the_kind_of_a_key_is_known() -> None:
    rsa = CA.leaf("rsa.example", of_rsa=True)
    assert given.load(rsa.chain.encode(), rsa.key.reveal(), "here", NOW).kind == "RSA"
    assert given.load(WEB.chain.encode(), WEB.key.reveal(), "here", NOW).kind == "ECDSA"


def test_an_ocsp_answer_is_said_not_to_be_sent() -> None:
    data = secret(tls_crt=WEB.chain, tls_key=WEB.key.reveal())
    stapled = SecretDocument(data={**data.data, "tls.ocsp-staple": Secret(b"x")})
    loaded = given.certificate_of_secret(held(web=stapled), ("edge",), "web", NOW)
    assert [note[0] for note in loaded.notes] == ["OcspStapleNotSent"]
