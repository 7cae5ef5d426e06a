"""Reading certificates for people and for rules: what PEM holds, who it speaks for, how long it is good."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from federation.trust.identity import SpiffeId, TrustError, sole_identity
from gateway.secret import Secret

_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)


class CertificateFacts(msgspec.Struct, frozen=True):
    """One certificate, for tables and JSON. not_before, not_after: UTC. fingerprint: hex SHA-256 of the DER form."""

    subject: str
    issuer: str
    serial: str
    authority: bool
    identity: str
    dns_names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    fingerprint: str


def read_certificates(pem: bytes | str, where: str) -> list[x509.Certificate]:
    """Every certificate in `pem`, in order; other blocks are passed over. Raises TrustError when there is none or one is damaged."""
    data = pem.encode() if isinstance(pem, str) else pem
    blocks = _BLOCK.findall(data)
    if not blocks:
        raise TrustError(f"{where}: has no certificate in it; it should hold PEM text with BEGIN CERTIFICATE")
    found = []
    for number, block in enumerate(blocks, 1):
        try:
            found.append(x509.load_pem_x509_certificate(block))
        except ValueError as error:
            raise TrustError(f"{where}: certificate {number} of {len(blocks)} is damaged: {error}") from error
    return found


def to_pem(certificates: list[x509.Certificate]) -> str:
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


def is_authority(certificate: x509.Certificate) -> bool:
    """True when it may sign others (basicConstraints CA)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def uri_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def identity_of(certificate: x509.Certificate) -> SpiffeId:
    """Raises TrustError unless the certificate has exactly one URI name and that is a SPIFFE id."""
    return sole_identity(uri_names(certificate))


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = list(extension.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        pass
    return CertificateFacts(
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        serial=f"{certificate.serial_number:x}",
        authority=is_authority(certificate),
        identity=", ".join(uri_names(certificate)),
        dns_names=tuple(names),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def check_pair(chain: list[x509.Certificate], key: Secret, where: str) -> None:
    """Raises TrustError unless `key` is the private key of the chain's first certificate."""
    try:
        private = serialization.load_pem_private_key(key.reveal(), password=None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"{where}: the private key does not load; it should be PEM without a password") from error
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise TrustError(f"{where}: the private key is not the certificate's; copy both files from the same `fedgate ca issue`")
