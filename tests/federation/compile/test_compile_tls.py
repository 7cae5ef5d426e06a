"""TLS towards endpoints as a DestinationRule writes it; what the gateway offers to whom."""

from __future__ import annotations

import pytest
from certs import NOW, Authority

from federation.compile.credentials import Credentials, FileContent
from federation.compile.tls import EAST_WEST_ALPN, HTTP_ALPN, Keyring, Notes, east_west_tls, upstream_tls
from federation.resources.destination_rule import ClientTLSSettings
from federation.resources.kubernetes import Secret as SecretDocument
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import UpstreamTls, UpstreamTlsMode

CA = Authority("endpoints")
LEAF = CA.leaf("client.example")
FILES = {
    "/ca": FileContent(CA.pem.encode()),
    "/crl": FileContent(CA.crl(LEAF).encode()),
    "/old": FileContent(CA.crl(until=NOW).encode()),
    "/chain": FileContent(LEAF.chain.encode()),
    "/key": FileContent(LEAF.key.reveal()),
}


def held(**data: str) -> SecretDocument:
    return SecretDocument(data={key.replace("_", "."): Secret(value.encode()) for key, value in data.items()})


def made(notes: Notes | None = None, secrets: dict[str, SecretDocument] | None = None, **fields: object) -> UpstreamTls | None:
    named = {("edge", name): secret for name, secret in (secrets or {}).items()}
    keys = Keyring(Credentials(named, FILES), None, trust_domain="east.example", now=NOW)
    settings = ClientTLSSettings.model_validate({"mode": "SIMPLE", **fields})
    return upstream_tls(settings, ("listed.example",), ("edge",), keys, notes if notes is not None else [])


def test_disabled_is_plain_text() -> None:
    assert made(mode="DISABLE") is None


@pytest.mark.parametrize(
    ("fields", "ca", "crl"),
    [
        ({}, "", False),  # the system's roots
        ({"caCertificates": "/ca"}, CA.pem, False),
        ({"caCertificates": "/ca", "caCrl": "/crl"}, CA.pem, True),
        ({"caCrl": "/crl"}, "", True),
        ({"insecureSkipVerify": True}, "", False),
    ],
)
def test_whom_endpoints_certificates_must_come_from(fields: dict[str, object], ca: str, crl: bool) -> None:
    found = made(**fields)
    assert found is not None
    assert (found.mode, found.ca, bool(found.crl)) == (UpstreamTlsMode.SIMPLE, ca, crl)
    assert found.subject_alt_names == ("listed.example",)


def test_a_secret_has_ca_and_revocation_list_and_certificate() -> None:
    secret = held(tls_crt=LEAF.chain, tls_key=LEAF.key.reveal().decode(), ca_crt=CA.pem, ca_crl=CA.crl(LEAF))
    found = made(mode="MUTUAL", credentialName="web", secrets={"web": secret})
    assert found is not None
    assert found.certificate is not None
    assert (found.certificate.key, found.ca, "BEGIN X509 CRL" in found.crl) == (LEAF.key.digest, CA.pem, True)


def test_a_secret_without_a_ca_will_do_only_where_nothing_is_verified() -> None:
    secret = {"web": held(tls_crt=LEAF.chain, tls_key=LEAF.key.reveal().decode())}
    with pytest.raises(TrustError, match="no CA found"):
        made(mode="MUTUAL", credentialName="web", secrets=secret)
    assert made(mode="MUTUAL", credentialName="web", insecureSkipVerify=True, secrets=secret) is not None


def test_a_list_that_is_over_is_said() -> None:
    notes: Notes = []
    assert made(notes, caCertificates="/ca", caCrl="/old") is not None
    assert [reason for reason, _ in notes] == ["RevocationListExpired"]


def test_what_is_offered() -> None:
    """`istio` is for services that are TCP; a client of HTTP never agrees on it unasked."""
    assert (*HTTP_ALPN, "istio") == EAST_WEST_ALPN
    with pytest.raises(TrustError, match="no identity"):
        east_west_tls(Keyring(Credentials(), None, trust_domain="east.example", now=NOW), ())
