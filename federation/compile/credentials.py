"""Certificates and keys that documents name: found, read, checked, and split into what is public and what is not.

Theory of operation. A credential is a Kubernetes Secret by name or files by path; plane has read the files, so this stays free
of I/O. Istio's rules: keys `tls.crt` and `tls.key`, or `cert` and `key`; the CA in `ca.crt` or `cacert`, else in the Secret
`NAME-cacert`. An expired certificate is served with a warning, since whether to trust it is the client's decision; one that cannot be read
or whose key does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from federation.trust.certificate import check_pair, read_certificates
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import CertificateRef

_CERTIFICATE_KEYS = ("tls.crt", "cert")
_PRIVATE_KEYS = ("tls.key", "key")
_CA_KEYS = ("ca.crt", "cacert")


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
    """All that documents may name. secrets: (namespace, name) → the Secret document's data, decoded."""

    secrets: Mapping[tuple[str, str], Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    files: Mapping[str, FileContent] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """A certificate that can be served. notes: (reason, message) of what deserves a warning."""

    reference: CertificateRef
    key: Secret
    notes: tuple[tuple[str, str], ...] = ()


def certificate_of_secret(credentials: Credentials, namespaces: tuple[str, ...], name: str, now: datetime) -> Loaded:
    """The certificate in the Secret `name` of the first namespace that has one. Raises TrustError."""
    namespace, data = _secret(credentials, namespaces, name)
    where = f"secret {namespace}/{name}"
    chain, key = _first(data, _CERTIFICATE_KEYS), _first(data, _PRIVATE_KEYS)
    if chain is None or key is None:
        missing = "tls.crt" if chain is None else "tls.key"
        raise TrustError(f"{where} has no {missing}; a TLS secret has the keys tls.crt and tls.key")
    return load(chain, key, where, now)


def ca_of_secret(credentials: Credentials, namespaces: tuple[str, ...], name: str) -> str:
    """The CA bundle (PEM) in the Secret `name`, or in `name-cacert`. Raises TrustError."""
    for candidate in (name, f"{name}-cacert"):
        for namespace in namespaces:
            found = _first(credentials.secrets.get((namespace, candidate), {}), _CA_KEYS)
            if found is not None:
                return ca_bundle(found, f"secret {namespace}/{candidate}")
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


def _secret(credentials: Credentials, namespaces: tuple[str, ...], name: str) -> tuple[str, Mapping[str, bytes]]:
    for namespace in namespaces:
        data = credentials.secrets.get((namespace, name))
        if data is not None:
            return namespace, data
    places = " or ".join(dict.fromkeys(namespaces))
    raise TrustError(
        f"there is no secret {name!r} in namespace {places}; add a Secret document of type kubernetes.io/tls with that name"
    )


def _first(data: Mapping[str, bytes], keys: tuple[str, ...]) -> bytes | None:
    return next((data[key] for key in keys if key in data), None)
