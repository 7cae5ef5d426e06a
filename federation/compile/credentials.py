"""Certificates and keys that documents name: found, read, checked, and split into what is public and what is not.

Theory of operation. A credential is a Kubernetes Secret by name or files by path; plane has read the files, so this stays free
of I/O. A CA that is not in the Secret itself is in the Secret `NAME-cacert`, as in Istio. An expired certificate is served with a
warning, since whether to trust it is the client's decision; one that cannot be read or whose key does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from federation.resources.kubernetes import Secret as SecretDocument
from federation.trust.certificate import check_pair, read_certificates
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import CertificateRef


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
    """A certificate that can be served. notes: (reason, message) of what deserves a warning."""

    reference: CertificateRef
    key: Secret
    notes: tuple[tuple[str, str], ...] = ()


def certificate_of_secret(credentials: Credentials, namespaces: tuple[str, ...], name: str, now: datetime) -> Loaded:
    """The certificate in the Secret `name` of the first namespace that has one. Raises TrustError."""
    for namespace, secret in _named(credentials, namespaces, name):
        where = f"secret {namespace}/{name}"
        chain, key = secret.certificate, secret.private_key
        if not chain or key is None:
            missing = "tls.key" if chain else "tls.crt"
            raise TrustError(f"{where} has no {missing}; a TLS secret has the keys tls.crt and tls.key")
        return load(chain.encode(), key.reveal(), where, now)
    places = " or ".join(dict.fromkeys(namespaces))
    raise TrustError(
        f"there is no secret {name!r} in namespace {places}; add a Secret document of type kubernetes.io/tls with that name"
    )


def ca_of_secret(credentials: Credentials, namespaces: tuple[str, ...], name: str) -> str:
    """The CA bundle (PEM) in the Secret `name`, or in `name-cacert`. Raises TrustError."""
    for candidate in (name, f"{name}-cacert"):
        for namespace, secret in _named(credentials, namespaces, candidate):
            if secret.ca:
                return ca_bundle(secret.ca.encode(), f"secret {namespace}/{candidate}")
    places = " or ".join(dict.fromkeys(namespaces))
    raise TrustError(
        f"no CA found: neither secret {name} nor {name}-cacert in namespace {places} has the key ca.crt; "
        "clients' certificates cannot be checked without one"
    )


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
    return Loaded(CertificateRef(chain.decode("ascii", "replace"), secret.digest, where), secret, tuple(notes))


def _named(credentials: Credentials, namespaces: tuple[str, ...], name: str) -> Iterator[tuple[str, SecretDocument]]:
    for namespace in namespaces:
        secret = credentials.secrets.get((namespace, name))
        if secret is not None:
            yield namespace, secret
