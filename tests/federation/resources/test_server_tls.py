"""ServerTLSSettings of a Gateway: where certificates come from, who may come in, and each mistake by name."""

import base64
import hashlib

import pytest
from written import assert_one_error, errors, spec, warnings

from federation.resources.server_tls import CIPHER_SUITES, ServerTlsMode, hash_pin, spki_pin

DIGEST = hashlib.sha256(b"key")
SPKI = base64.b64encode(DIGEST.digest()).decode()
COLONS = DIGEST.digest().hex(":").upper()
FILES = "serverCertificate: a.pem, privateKey: a.key"


def gateway(tls, protocol="HTTPS"):
    return f"servers: [{{port: {{number: 443, name: s, protocol: {protocol}}}, hosts: [a.b], tls: {{{tls}}}}}]"


def tls(text, protocol="HTTPS"):
    return spec("Gateway", gateway(text, protocol)).servers[0].tls


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("mode: SIMPEL", ".mode", "did you mean `SIMPLE`"),
        ("mode: SIMPLE, serverCertificate: a.pem", "", "`privateKey` is missing"),
        ("mode: SIMPLE, privateKey: a.key", "", "`serverCertificate` is missing"),
        ("mode: SIMPLE, credentialName: a, serverCertificate: a.pem", "", "keep one"),
        ("mode: SIMPLE, credentialNames: [a, b], credentialName: a", "", "keep one"),
        ("mode: SIMPLE, credentialNames: [a, b, c]", ".credentialNames", "2 at most"),
        ("mode: SIMPLE, credentialNames: [a, a]", ".credentialNames[1]", "written twice"),
        ("mode: SIMPLE, credentialNames: ['builtin://a']", ".credentialNames[0]", "names no Secret"),
        ("mode: SIMPLE, credentialName: 'file:///a'", ".credentialName", "names no Secret"),
        ("mode: MUTUAL, credentialName: a, caCertCredentialName: 'configmap://a'", ".caCertCredentialName", "names no Secret"),
        ("mode: SIMPLE, tlsCertificates: [{serverCertificate: a}]", ".tlsCertificates[0].privateKey", "missing"),
        (f"mode: SIMPLE, {FILES}, tlsCertificates: [{{serverCertificate: a, privateKey: b}}]", "", "keep one"),
        (f"mode: MUTUAL, {FILES}", "", "`caCertificates`"),
        (f"mode: OPTIONAL_MUTUAL, {FILES}", "", "OPTIONAL_MUTUAL needs `caCertificates`"),
        (f"mode: SIMPLE, {FILES}, caCrl: x", ".caCrl", "none to revoke"),
        ("mode: MUTUAL, credentialName: a, caCrl: x", ".caCrl", "`ca.crl`"),
        ("mode: MUTUAL, credentialName: a, insecureSkipVerify: true", ".insecureSkipVerify", "never let in"),
        ("mode: ISTIO_MUTUAL, credentialName: a", "", "gateway's own certificate"),
        ("mode: ISTIO_MUTUAL, tlsCertificates: [{serverCertificate: a, privateKey: b}]", "", "gateway's own certificate"),
        (
            "mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2",
            ".maxProtocolVersion",
            "below",
        ),
        ("mode: SIMPLE, credentialName: a, minProtocolVersion: TLS1", ".minProtocolVersion", "must be one of"),
        ("mode: MUTUAL, credentialName: a, verifyCertificateHash: [x]", ".verifyCertificateHash[0]", "no hex SHA-256"),
        (
            f"mode: MUTUAL, credentialName: a, verifyCertificateSpki: ['{DIGEST.hexdigest()}']",
            ".verifyCertificateSpki[0]",
            "no base64",
        ),
    ],
)
def test_mistakes(text, path, part):
    assert_one_error("Gateway", gateway(text), f"spec.servers[0].tls{path}", part)


@pytest.mark.parametrize(
    ("text", "path", "part"),
    [
        ("mode: PASSTHROUGH, credentialName: a", "", "does not use certificates"),
        ("mode: AUTO_PASSTHROUGH, caCrl: a", "", "does not use certificates"),
        ("mode: SIMPLE, credentialName: a, minProtocolVersion: TLSV1_0", ".minProtocolVersion", "not secure"),
        ("mode: SIMPLE, credentialName: a, cipherSuites: [RC4-MD5]", ".cipherSuites[0]", "ignored; known: AES128-GCM-SHA256"),
        ("mode: SIMPLE, credentialName: a, cipherSuites: [AES128-SHA, AES128-SHA]", ".cipherSuites[1]", "twice"),
        ("mode: SIMPLE, credentialName: a, subjectAltNames: [x]", ".subjectAltNames", "asks for no client certificate"),
        (f"mode: SIMPLE, credentialName: a, verifyCertificateHash: ['{COLONS}']", ".verifyCertificateHash", "write MUTUAL"),
        (
            "mode: SIMPLE, tlsCertificates: [{serverCertificate: a, privateKey: b, caCertificates: c}]",
            ".tlsCertificates[0].caCertificates",
            "is not used here",
        ),
    ],
)
def test_warnings(text, path, part):
    assert errors("Gateway", gateway(text)) == {}
    assert part in warnings("Gateway", gateway(text))[f"spec.servers[0].tls{path}"]


def test_where_certificates_come_from():
    assert tls("mode: SIMPLE, credentialName: 'kubernetes://web'").secrets == ("web",)
    assert tls("mode: SIMPLE, credentialNames: [rsa, ecdsa]").secrets == ("rsa", "ecdsa")
    assert tls(f"mode: SIMPLE, {FILES}").pairs == (("a.pem", "a.key"),)
    both = "tlsCertificates: [{serverCertificate: a, privateKey: b}, {serverCertificate: c, privateKey: d}]"
    assert tls(f"mode: SIMPLE, {both}").pairs == (("a", "b"), ("c", "d"))
    ca = tls("mode: MUTUAL, credentialName: web, caCertCredentialName: clients", "TLS")
    assert (ca.ca_cert_credential_name, ca.asks_for_certificates) == ("clients", True)


def test_modes_and_defaults():
    assert tls("httpsRedirect: false").effective_mode is ServerTlsMode.PASSTHROUGH
    assert not tls("mode: SIMPLE, credentialName: a").asks_for_certificates
    assert tls("mode: OPTIONAL_MUTUAL, credentialName: a").asks_for_certificates


def test_cipher_suites_are_istios_fifteen_and_unknown_ones_are_left_out():
    assert len(CIPHER_SUITES) == 15
    assert tls("mode: SIMPLE, credentialName: a, cipherSuites: [AES128-SHA, X, AES256-SHA, AES128-SHA]").suites == (
        "AES128-SHA",
        "AES256-SHA",
    )


def test_pins_are_read_in_every_form():
    assert spki_pin(SPKI) == hash_pin(COLONS) == hash_pin(DIGEST.hexdigest()) == DIGEST.hexdigest()
    good = f"mode: MUTUAL, credentialName: a, verifyCertificateSpki: ['{SPKI}'], verifyCertificateHash: ['{COLONS}']"
    assert errors("Gateway", gateway(good)) == {}
    for wrong in (SPKI[:-4], SPKI + "=", "ä", DIGEST.hexdigest()):
        with pytest.raises(ValueError, match="no base64"):
            spki_pin(wrong)
    for wrong in (COLONS[:-3], COLONS.replace(":", "", 1), DIGEST.hexdigest() + "00"):
        with pytest.raises(ValueError, match="no hex"):
            hash_pin(wrong)
