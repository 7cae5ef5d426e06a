"""What contexts are made of: two certificates, versions and ciphers, revocation lists, by real handshakes on TLS 1.2 and 1.3."""

from __future__ import annotations

import ssl
import time
import warnings

import certs
import pytest
from handshaking import VERSIONS, Pair, client_context, handshake

from gateway.native.tls import Contexts, ServerTls, TlsFault
from gateway.native.tls_material import complete
from gateway.snapshot import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

WEB = certs.Authority("web")
ECDSA, RSA = WEB.leaf("shop.example"), WEB.leaf("shop.example", of_rsa=True, label="rsa")
ROOT = certs.Authority("clients root")
CLIENTS = ROOT.intermediate("clients")
GOOD, BAD = CLIENTS.leaf("good.example"), CLIENTS.leaf("bad.example")
KEYS = certs.secrets(ECDSA, RSA)


def server(**fields: object) -> ServerTls:
    given = {"mode": TlsMode.SIMPLE, "certificates": (ECDSA.ref,), **fields}
    return Contexts(KEYS, clock=time.time).server(DownstreamTls(**given))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- certificates


def kind_of(pair: Pair) -> str:
    der = pair.client.getpeercert(binary_form=True)
    assert der is not None
    return {
        ECDSA.certificate.fingerprint(certs.hashes.SHA256()): "ECDSA",
        RSA.certificate.fingerprint(certs.hashes.SHA256()): "RSA",
    }[certs.x509.load_der_x509_certificate(der).fingerprint(certs.hashes.SHA256())]


def offered(kind: str) -> ssl.SSLContext:
    """A client of TLS 1.2 that knows only signatures of one kind."""
    context = client_context(top=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
    return context


@pytest.mark.parametrize("order", [(ECDSA, RSA), (RSA, ECDSA)])
def test_of_two_certificates_the_clients_algorithms_choose(order: tuple[certs.Leaf, certs.Leaf]) -> None:
    both = server(certificates=tuple(leaf.ref for leaf in order))
    assert not both.faults
    for kind in ("ECDSA", "RSA"):
        pair = Pair(offered(kind), both.context, "shop.example")
        pair.shake()
        assert kind_of(pair) == kind
    modern = Pair(client_context(), both.context, "shop.example")
    modern.shake()
    assert kind_of(modern) == "ECDSA"  # whoever knows both gets the cheaper one


def test_one_certificate_serves_when_the_other_cannot_be_loaded() -> None:
    broken = CertificateRef(chain="nothing", key=RSA.ref.key, name="secret shop/rsa")
    half = server(certificates=(broken, ECDSA.ref))
    assert ["secret shop/rsa" in fault for fault in half.faults] == [True]
    pair = Pair(client_context(), half.context, "shop.example")
    pair.shake()
    assert kind_of(pair) == "ECDSA"


def test_only_a_missing_key_heals_by_itself() -> None:
    assert complete(["certificate a: expired"])
    assert not complete(["certificate a: its private key has not arrived yet (digest 0)"])


# ------------------------------------------------------------------------------------------------- versions and ciphers


@pytest.mark.parametrize(
    ("fields", "client", "agreed"),
    [
        ({}, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ({}, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ({"max_version": "TLSv1_2"}, ssl.TLSVersion.TLSv1_3, "TLSv1.2"),
        ({"min_version": "TLSv1_3"}, ssl.TLSVersion.TLSv1_2, ""),
        ({"max_version": "TLSv1_1"}, ssl.TLSVersion.TLSv1_3, ""),
        ({}, ssl.TLSVersion.TLSv1_1, ""),
    ],
)
def test_versions(fields: dict[str, str], client: ssl.TLSVersion, agreed: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = client_context(top=client)
    if not agreed:
        with pytest.raises(ssl.SSLError):
            Pair(context, server(**fields).context, "shop.example").shake()
        return
    pair = Pair(context, server(**fields).context, "shop.example")
    pair.shake()
    assert pair.server.version() == agreed


def test_who_asks_for_tls_1_0_gets_it_and_nobody_else() -> None:
    old = client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    for fields in ({"min_version": "TLSv1_0"}, {"min_version": "TLSv1_0", "cipher_suites": ("ECDHE-ECDSA-AES128-SHA",)}):
        pair = Pair(old, server(**fields).context, "shop.example")
        pair.shake()
        assert pair.server.version() == "TLSv1"
    with pytest.raises(ssl.SSLError):
        Pair(old, server().context, "shop.example").shake()


def test_one_of_the_ciphers_that_are_written() -> None:
    suites = ("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305")
    pair = Pair(client_context(top=ssl.TLSVersion.TLSv1_2), server(cipher_suites=suites).context, "shop.example")
    pair.shake()
    assert pair.server.cipher()[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"  # type: ignore[index]


# ----------------------------------------------------------------------------------------------------- revocation lists


def mutual(crl: str, **fields: object) -> ServerTls:
    return server(**{"mode": TlsMode.MUTUAL, "ca": ROOT.pem, "crl": crl, **fields})


@pytest.mark.parametrize("version", VERSIONS)
def test_a_revoked_client_is_refused(version: ssl.TLSVersion) -> None:
    made = mutual(CLIENTS.crl(BAD) + ROOT.crl())
    assert handshake(made, client_context(GOOD, version)).certificate
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(made, client_context(BAD, version))
    assert handshake(mutual(""), client_context(BAD, version)).certificate  # so it was the list


def test_a_revoked_authority_is_refused_with_all_it_signed() -> None:
    with pytest.raises(ssl.SSLError, match="revoked"):
        handshake(mutual(CLIENTS.crl() + ROOT.crl(CLIENTS)), client_context(GOOD))


@pytest.mark.parametrize(
    ("crl", "said"),
    [
        (
            CLIENTS.crl(),
            "unable to get certificate CRL",
        ),  # of the intermediate's issuer: every CA of the chain needs one, as in Envoy
        (CLIENTS.crl(until=certs.NOW - certs.HOUR) + ROOT.crl(), "CRL has expired"),
        (certs.Authority("clients root 2").crl() + CLIENTS.crl(), "unable to get certificate CRL"),
    ],
)
def test_who_cannot_be_looked_up_is_refused(crl: str, said: str) -> None:
    with pytest.raises(ssl.SSLError, match=said):
        handshake(mutual(crl), client_context(GOOD))


def test_a_new_list_is_another_context_so_that_no_old_session_opens_it() -> None:
    """And with a list there are no sessions at all: the list could be over before they are."""
    made = Contexts(KEYS)
    before = made.server(DownstreamTls(TlsMode.MUTUAL, (ECDSA.ref,), ca=ROOT.pem))
    after = made.server(DownstreamTls(TlsMode.MUTUAL, (ECDSA.ref,), ca=ROOT.pem, crl=CLIENTS.crl(BAD) + ROOT.crl()))
    for version in VERSIONS:
        client = client_context(BAD, version)
        first = Pair(client, before.context, "shop.example")
        first.shake()
        assert first.client.session
        with pytest.raises(ssl.SSLError, match="revoked"):
            Pair(client, after.context, "shop.example", first.client.session).shake()
        good = client_context(GOOD, version)
        one = Pair(good, after.context, "shop.example")
        one.shake()
        two = Pair(good, after.context, "shop.example", one.client.session)
        two.shake()
        assert not two.server.session_reused


def test_a_list_that_is_none_closes_the_chain() -> None:
    with pytest.raises(TlsFault, match="revocation list for client certificates"):
        mutual("hello")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_revoked_endpoint_is_refused(version: ssl.TLSVersion) -> None:
    def client(crl: str) -> ssl.SSLContext:
        found = Contexts().client(UpstreamTls(UpstreamTlsMode.SIMPLE, ca=WEB.pem, crl=crl)).context
        found.maximum_version = version
        return found

    Pair(client(WEB.crl(RSA)), server().context, "shop.example").shake()
    with pytest.raises(ssl.SSLError, match="revoked"):
        Pair(client(WEB.crl(ECDSA)), server().context, "shop.example").shake()
