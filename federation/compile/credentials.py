"""Certificates and keys that documents name: found, read, checked, and split into what is public and what is not.

Theory of operation. A credential is a Kubernetes Secret by name or files by path; plane has read the files, so this stays free
of I/O. A CA and its revocation lists are in the Secret `NAME-cacert`, else in the Secret itself, as in Istio. An expired
certificate is served with a warning, since whether to trust it is the client's decision; one that cannot be read or whose key does
not fit is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from federation.resources.kubernetes import Secret as SecretDocument
from federation.trust.certificate import check_pair, read_certificates
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import CertificateRef

CA_SUFFIX = "-cacert"  # Istio's SdsCaSuffix
_STAPLE = ("OcspStapleNotSent", "tls.ocsp-staple is not sent to clients: Python's TLS cannot; they ask the authority themselves")
_CRL = re.compile(rb"-----BEGIN X509 CRL-----\s.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class FileContent:
    """A file that a document names, as plane read it: bytes, or why not."""

    data: bytes = b""
    fault: str = ""

    def __repr__(self) -> str:
        return f"<FileContent {self.fault or len(self.data)}>"


@dataclass(frozen=True)
class Identity:
    """Who this gateway is towards other gateways: its chain (PEM) with key, and its own trust domain's roots."""

    chain: str
    key: Secret
    bundle: str


@dataclass(frozen=True)
class Credentials:
    """All that documents may name. secrets: (namespace, name) → the Secret document."""

    secrets: Mapping[tuple[str, str], SecretDocument] = field(default_factory=dict, repr=False)
    files: Mapping[str, FileContent] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A certificate that can be served. kind: of its key, "RSA" or "ECDSA". notes: (reason, message) of what deserves a warning."""

    reference: CertificateRef
    key: Secret
    kind: str
    notes: tuple[tuple[str, str], ...] = ()


def certificate_of_secret(credentials: Credentials, namespaces: tuple[str, ...], name: str, now: datetime) -> Loaded:
    """The certificate in the Secret `name` of the first namespace that has one. Raises TrustError."""
    for namespace, secret in _named(credentials, namespaces, name):
        where = f"secret {namespace}/{name}"
        chain, key = secret.certificate, secret.private_key
        if not chain or key is None:
            missing = "tls.key" if chain else "tls.crt"
            raise TrustError(f"{where} has no {missing}; a TLS secret has the keys tls.crt and tls.key")
        loaded = load(chain.encode(), key.reveal(), where, now)
        return replace(loaded, notes=(*loaded.notes, _STAPLE)) if secret.staple else loaded
    places = " or ".join(dict.fromkeys(namespaces))
    raise TrustError(
        f"there is no secret {name!r} in namespace {places}; add a Secret document of type kubernetes.io/tls with that name"
    )


@dataclass(frozen=True)
class Authorities:
    """Whom the other side's certificate must come from. ca: PEM bundle. crl: PEM revocation lists, "" = none are looked at."""

    ca: str
    crl: str = ""
    notes: tuple[tuple[str, str], ...] = ()


def authorities_of_secret(
    credentials: Credentials, namespaces: tuple[str, ...], name: str, now: datetime, *, alone: bool = False
) -> Authorities:
    """The CA bundle in the Secret `name-cacert`, else in `name`; alone: in `name` only. Raises TrustError."""
    candidates = (name,) if alone else (f"{name}{CA_SUFFIX}", name)
    for candidate in candidates:
        for namespace, secret in _named(credentials, namespaces, candidate):
            if secret.ca:
                where = f"secret {namespace}/{candidate}"
                return authorities(secret.ca.encode(), secret.crl.encode(), where, where, now)
    places = " or ".join(dict.fromkeys(namespaces))
    named = f"secret {name} has not" if alone else f"neither secret {name}{CA_SUFFIX} nor {name} has"
    raise TrustError(
        f"no CA found: {named} the key ca.crt in namespace {places}; the other side's certificates cannot be checked without one"
    )


def authorities_of_files(credentials: Credentials, ca: str, crl: str, now: datetime) -> Authorities:
    """crl "": none. Raises TrustError."""
    lists = file_of(credentials, crl) if crl else b""
    return authorities(file_of(credentials, ca), lists, f"file {ca}", f"file {crl}", now)


def authorities(ca: bytes, crl: bytes, where: str, crl_where: str, now: datetime) -> Authorities:
    """crl b"": none. Raises TrustError for what no TLS library would load."""
    bundle = ca_bundle(ca, where)
    return replace(revocations(crl, crl_where, now), ca=bundle) if crl else Authorities(bundle)


def revocations(crl: bytes, where: str, now: datetime) -> Authorities:
    """Revocation lists alone. One past its date is a note: until there is a newer one nobody's certificate passes, because nobody
    knows whose was revoked since. Raises TrustError for what cannot be read."""
    blocks, notes = _CRL.findall(crl), []
    if not blocks:
        raise TrustError(f"{where}: has no revocation list in it; it should hold PEM text with BEGIN X509 CRL")
    for number, block in enumerate(blocks, 1):
        try:
            end = x509.load_pem_x509_crl(block).next_update_utc
        except ValueError as error:
            raise TrustError(f"{where}: revocation list {number} of {len(blocks)} is damaged: {error}") from error
        if end is not None and end <= now:
            text = (
                f"{where}: the revocation list was good until {end:%Y-%m-%d %H:%M} UTC; no certificate passes until it is replaced"
            )
            notes.append(("RevocationListExpired", text))
    return Authorities("", "".join(block.decode("ascii", "replace") + "\n" for block in blocks), tuple(notes))


def certificate_of_files(credentials: Credentials, chain: str, key: str, now: datetime) -> Loaded:
    """The certificate in two files. Raises TrustError."""
    return load(file_of(credentials, chain), file_of(credentials, key), f"file {chain}", now)


def ca_of_file(credentials: Credentials, path: str) -> str:
    """Raises TrustError."""
    return ca_bundle(file_of(credentials, path), f"file {path}")


def file_of(credentials: Credentials, path: str) -> bytes:
    """Raises TrustError when plane could not read it."""
    content = credentials.files.get(path)
    if content is None:
        raise TrustError(f"file {path} has not been read yet")
    if content.fault:
        raise TrustError(f"file {path}: {content.fault}")
    return content.data


def ca_bundle(pem: bytes, where: str) -> str:
    """Checks that it holds certificates. Raises TrustError."""
    read_certificates(pem, where)
    return pem.decode("ascii", "replace")


def load(chain: bytes, key: bytes, where: str, now: datetime) -> Loaded:
    """Raises TrustError for what no TLS library would load; an expired or future certificate is a note."""
    certificates = read_certificates(chain, where)
    secret = Secret(key)
    check_pair(certificates, secret, where)
    leaf, notes = certificates[0], []
    if leaf.not_valid_after_utc <= now:
        text = f"{where}: the certificate expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; it is served all the same, replace it"
        notes.append(("CertificateExpired", text))
    elif leaf.not_valid_before_utc > now:
        text = f"{where}: the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check the clock"
        notes.append(("CertificateNotYetValid", text))
    kind = "RSA" if isinstance(leaf.public_key(), rsa.RSAPublicKey) else "ECDSA"
    return Loaded(CertificateRef(chain.decode("ascii", "replace"), secret.digest, where), secret, kind, tuple(notes))


def _named(credentials: Credentials, namespaces: tuple[str, ...], name: str) -> Iterator[tuple[str, SecretDocument]]:
    for namespace in namespaces:
        secret = credentials.secrets.get((namespace, name))
        if secret is not None:
            yield namespace, secret
