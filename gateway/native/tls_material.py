"""What TLS contexts are made of: versions and ciphers, roots, revocation lists, certificates with their keys.

Theory of operation. Everything is loaded from what the Snapshot says (PEM text) and from Secrets; what cannot be used is a TlsFault, or
a sentence in `faults` when the rest can serve. Python loads keys and revocation lists from files only. They are written to an anonymous
memory file that no other process can name and that is gone when it is closed; they never touch a disk.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import ssl
import warnings
from collections.abc import Callable, Iterator

from cryptography import x509

from gateway.native import identity
from gateway.secret import Secret, Secrets
from gateway.snapshot import CertificateRef

_VERSIONS = {
    "TLSv1_0": ssl.TLSVersion.TLSv1,
    "TLSv1_1": ssl.TLSVersion.TLSv1_1,
    "TLSv1_2": ssl.TLSVersion.TLSv1_2,
    "TLSv1_3": ssl.TLSVersion.TLSv1_3,
}


class TlsFault(Exception):
    """A part of the configuration of which no context can be made: what is wrong, with which certificate, what to do."""


_OLD = ("TLSv1_0", "TLSv1_1")


def limit(context: ssl.SSLContext, least: str, most: str, suites: tuple[str, ...]) -> None:
    """Versions and, for TLS 1.2 and older, ciphers. "" and () = the default. Raises TlsFault."""
    least = least or (most if most in _OLD else "TLSv1_2")
    # OpenSSL's default security level has no cipher left for TLS 1.0 and 1.1, nor a signature algorithm.
    names = [*(suites or ("DEFAULT",)), "@SECLEVEL=0"] if least in _OLD else list(suites)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # whoever asks for TLS 1.0 by name knows
            context.minimum_version = _VERSIONS[least]
            if most:
                context.maximum_version = _VERSIONS[most]
        if names:
            context.set_ciphers(":".join(names))
    except KeyError as error:
        raise TlsFault(f"unknown TLS version {error}; say one of {', '.join(_VERSIONS)}") from None
    except (ssl.SSLError, ValueError) as error:
        raise TlsFault(f"TLS versions {least} to {most or 'newest'} with {suites}: {error}") from None


def roots(pem: str, whose: str) -> list[x509.Certificate]:
    """Raises TlsFault."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise TlsFault(f"the CA bundle for {whose} cannot be read: {error}; it must be PEM certificates") from None


def trust(context: ssl.SSLContext, anchors: list[x509.Certificate]) -> None:
    """These and no other. What a user names is an anchor even if it is an intermediate."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if anchors:
        context.load_verify_locations(cadata=identity.der(anchors))


def revoke(context: ssl.SSLContext, crl: str, whose: str) -> None:
    """Every certificate of a chain is looked up in the list of its issuer, and an issuer without a list is refused: Envoy's rule, as
    Istio configures it. Raises TlsFault."""
    if not crl:
        return
    try:
        with _memory_file(crl.encode()) as path:
            context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise TlsFault(f"the revocation list for {whose} cannot be read: {_plain(error)}; it must be PEM") from None
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def load_certificates(
    context: ssl.SSLContext,
    refs: tuple[CertificateRef, ...],
    secrets: Secrets,
    *,
    faults: list[str],
    clock: Callable[[], float],
) -> None:
    """Load each that can be (one per kind of key is used, OpenSSL picks by what the client understands). Raises TlsFault when none can."""
    loaded = 0
    for ref in refs:
        name = f"certificate {ref.name or 'without a name'}"
        key = secrets.get(ref.key)
        if key is None:
            faults.append(f"{name}: {_MISSING_KEY} yet (digest {ref.key[:12]}…)")
            continue
        try:
            leaf = x509.load_pem_x509_certificate(ref.chain.encode())
            _load_pair(context, ref.chain, key)
        except (ssl.SSLError, ValueError) as error:
            faults.append(f"{name}: does not load: {_plain(error)}; give a PEM chain, leaf first, and its own unencrypted key")
            continue
        loaded += 1
        faults += _date_faults(name, leaf, moment(clock))
    if not loaded:
        raise TlsFault("; ".join(faults) or "no certificate is configured")


def _date_faults(name: str, leaf: x509.Certificate, now: datetime.datetime) -> list[str]:
    if now > leaf.not_valid_after_utc:
        return [f"{name}: expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, the other side will refuse it; renew it"]
    if now < leaf.not_valid_before_utc:
        return [f"{name}: not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; look at this machine's clock"]
    return []


def _load_pair(context: ssl.SSLContext, chain: str, key: Secret) -> None:
    with _memory_file(key.reveal().rstrip() + b"\n" + chain.encode()) as path:
        # Without a password OpenSSL would ask the terminal for that of an encrypted key, and the gateway would stand.
        context.load_cert_chain(path, password=lambda: b"")


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _plain(error: Exception) -> str:
    """OpenSSL's reason in words people know."""
    reason = getattr(error, "reason", None) or str(error)
    return {
        "KEY_VALUES_MISMATCH": "the private key is not this certificate's",
        "NO_START_LINE": "there is no PEM block in it",
        "PEM_LIB": "the PEM cannot be read",
        "PEM lib": "the PEM cannot be read",
        "EE_KEY_TOO_SMALL": "its key is too small",
    }.get(reason, reason)


_MISSING_KEY = "its private key has not arrived"


def complete(faults: list[str]) -> bool:
    """None of them may heal by itself when a key arrives."""
    return not any(_MISSING_KEY in fault for fault in faults)


def moment(clock: Callable[[], float]) -> datetime.datetime:
    """A wall clock's time as certificates have it."""
    return datetime.datetime.fromtimestamp(clock(), datetime.UTC)
