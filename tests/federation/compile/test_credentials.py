"""Secrets and files into certificates: what is refused, what is only warned of."""

from __future__ import annotations

import pytest
from certs import NOW, Authority

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


def test_the_ca_is_in_the_secret_or_in_its_cacert_twin() -> None:
    assert given.ca_of_secret(held(web=secret(ca_crt=CA.pem)), ("edge",), "web") == CA.pem
    twin = held(**{"web": secret(tls_crt="x"), "web-cacert": secret(cacert=CA.pem)})
    assert given.ca_of_secret(twin, ("edge",), "web") == CA.pem
    with pytest.raises(TrustError, match="no CA found"):
        given.ca_of_secret(held(web=secret(tls_crt="x")), ("edge",), "web")
