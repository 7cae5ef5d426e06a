"""What the certificates of the embedded CA look like: root, intermediate, leaf.

A leaf's subject is empty and its names are critical (RFC 5280 4.2.1.6; Istio's leaves are the same): who it is stands in the URI name only,
so nobody can be tempted to read a common name. Every certificate starts two minutes early, for clocks that differ.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.trust.identity import SpiffeId, TrustError

SKEW = timedelta(minutes=2)  # FIELD section 0, certificates: NotBefore −2 min

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*\Z")


class Signer(msgspec.Struct, frozen=True):
    """Whose name and key a new certificate is signed with."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


Life = tuple[datetime, datetime]


def life(now: datetime, until: datetime) -> Life:
    return (now - SKEW).replace(microsecond=0), until.replace(microsecond=0)


def root(key: ec.EllipticCurvePrivateKey, identity: SpiffeId, lifetime: Life) -> x509.Certificate:
    name = _name("fedgate root", identity.trust_domain)
    builder = _authority(key.public_key(), identity, 1, lifetime).subject_name(name).issuer_name(name)
    return builder.sign(key, hashes.SHA256())


def intermediate(
    public: ec.EllipticCurvePublicKey, identity: SpiffeId, cluster: str, signer: Signer, lifetime: Life
) -> x509.Certificate:
    builder = _authority(public, identity, 0, lifetime).subject_name(_name("fedgate intermediate", identity.trust_domain, cluster))
    return _signed(builder, signer)


def leaf(
    public: ec.EllipticCurvePublicKey, identity: SpiffeId, dns_names: Sequence[str], signer: Signer, lifetime: Life
) -> x509.Certificate:
    """Raises TrustError for a DNS name that is none."""
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
    names += [_host_name(name) for name in dns_names]
    builder = (
        _begin(public, lifetime)
        .subject_name(x509.Name([]))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    return _signed(builder, signer)


def cluster_of(certificate: x509.Certificate) -> str:
    """The cluster that `intermediate` wrote into the subject, "" when it has none."""
    found = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return str(found[0].value) if found else ""


def _host_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _DNS_NAME.match(text.lower()) or len(text) > 253:
        raise TrustError(f"{text!r} is not a DNS name or IP address; write it like gw-east.example.com")
    return x509.DNSName(text.lower())


def _name(what: str, trust_domain: str, cluster: str = "") -> x509.Name:
    # RFC 5280 upper bounds: CN and OU 64 characters, so long trust domains are cut here; the URI name has them whole
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "fedgate")]
    if cluster:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, cluster[:64]))
    parts.append(x509.NameAttribute(NameOID.COMMON_NAME, f"{what} {trust_domain}"[:64]))
    return x509.Name(parts)


def _begin(public: ec.EllipticCurvePublicKey, lifetime: Life) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(lifetime[0])
        .not_valid_after(lifetime[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _authority(public: ec.EllipticCurvePublicKey, identity: SpiffeId, path_length: int, lifetime: Life) -> x509.CertificateBuilder:
    return (
        _begin(public, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))]), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, signer: Signer) -> x509.Certificate:
    identifier = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder.issuer_name(signer.certificate.subject)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(signer.key, hashes.SHA256())
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
