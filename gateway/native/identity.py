"""Who is at the other end of a mutual handshake: SPIFFE ids, and the second verification of the chain behind them.

Theory of operation. OpenSSL verifies a handshake against one pool of roots. With the roots of several trust domains in it, the CA
of one could sign an identity of another and pass. So after the handshake the chain is verified again, whole, against the roots of
that trust domain alone which the leaf's one URI SAN names: signatures, validity, CA flags, path lengths, key usages, name
constraints, by `cryptography.x509.verification`, a second implementation of RFC 5280 in a memory-safe language. (A walk of our own
would be as long and less tried. Its server profile wants a DNS name, which SPIFFE leaves do not have; so the profile for clients is
used in both directions, with our check of the purpose.) It costs about 0.4 ms a connection between gateways; these live long.

A resumed session carries no chain, only the leaf: what was verified then cannot be verified again, and is refused here. `tls` sees
to it that such contexts never resume.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import ssl
from collections.abc import Callable, Iterable

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from gateway.native.connection import ClientCertificate

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH

# SPIFFE-ID.md sections 2.1 to 2.3: trust domain and path segments have these characters only, no port, query or fragment; 2,048
# bytes in all. A leaf has a path (X509-SVID.md section 2).
_SPIFFE = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+)")
_SPIFFE_LIMIT = 2048
_ANY = verification.Criticality.AGNOSTIC
# RFC 5280 profile of leaf purposes: a certificate without this extension, or with this entry, is good for everything.
_ANY_PURPOSE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE


class PeerRefused(OSError):
    """The other side's certificate does not prove what is asked of it. The connection is to be closed. An OSError, as every way in
    which a connection can fail is. `reason` is one phrase."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Proof(msgspec.Struct, frozen=True):
    """What a handshake proved. identity, trust_domain: of a SPIFFE leaf verified against its own bundle, else "". certificate: of
    any verified peer, None if none was asked for."""

    identity: str = ""
    trust_domain: str = ""
    certificate: ClientCertificate | None = None


NOTHING = Proof()


def split_spiffe_id(text: str) -> tuple[str, str] | None:
    """(trust domain, path with its leading slash) of a SPIFFE id of a workload, or None."""
    match = _SPIFFE.fullmatch(text) if len(text) <= _SPIFFE_LIMIT else None
    return (match[1], match[2]) if match else None


def verified_chain(tls: ssl.SSLObject) -> list[x509.Certificate]:
    """The chain that OpenSSL built and verified, leaf first, root last. Empty for a resumed session, or if no certificate came.

    The one place that knows where Python keeps it: a public method from 3.13, before that one of the object beneath.
    """
    public = getattr(tls, "get_verified_chain", None)
    if public is not None:
        return [x509.load_der_x509_certificate(der) for der in public() or ()]
    beneath = tls._sslobj  # type: ignore[attr-defined]  # CPython 3.10 to 3.12
    return [x509.load_pem_x509_certificate(each.public_bytes().encode()) for each in beneath.get_verified_chain() or ()]


def leaf_of(tls: ssl.SSLObject) -> x509.Certificate | None:
    """The other side's own certificate, also of a resumed session; None if none came."""
    der = tls.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der) if der else None


class Bundles:
    """Roots by trust domain. `faults`: what of them could not be read; the trust domains concerned have no roots, so nobody of
    theirs is let in."""

    def __init__(self, bundles: Iterable[tuple[str, str]]) -> None:
        self.faults: list[str] = []
        self.roots: list[x509.Certificate] = []  # of all, for the handshake's pool
        self._stores: dict[str, verification.Store] = {}
        for trust_domain, pem in bundles:
            try:
                roots = x509.load_pem_x509_certificates(pem.encode())
                self._stores[trust_domain] = verification.Store(roots)
            except ValueError as error:
                self.faults.append(f"bundle of trust domain {trust_domain}: {error}; put the PEM of its root certificates there")
                continue
            self.roots += roots

    def prove(self, chain: list[x509.Certificate], purpose: ObjectIdentifier, now: datetime.datetime, *, by: str = "") -> Proof:
        """Verify the chain against the bundle of the trust domain in its leaf's URI SAN. by: as in `describe`. Raises PeerRefused."""
        if not chain:
            raise PeerRefused("no certificate chain to verify")
        leaf = chain[0]
        certificate = describe(leaf, by=by)
        if len(certificate.uris) != 1:
            raise PeerRefused(f"certificate has {len(certificate.uris)} URI names, not exactly one SPIFFE id")
        identity = certificate.uris[0]
        parts = split_spiffe_id(identity)
        if parts is None:
            raise PeerRefused("certificate's URI name is not the SPIFFE id of a workload")
        store = self._stores.get(parts[0])
        if store is None:
            raise PeerRefused(f"no bundle for trust domain {parts[0]}")
        try:
            builder = verification.PolicyBuilder().store(store).time(now)
            builder = builder.extension_policies(ca_policy=_POLICIES[purpose][0], ee_policy=_POLICIES[purpose][1])
            builder.build_client_verifier().verify(leaf, chain[1:])
        except (verification.VerificationError, x509.UnsupportedGeneralNameType, ValueError) as error:
            raise PeerRefused(f"chain does not verify against the bundle of {parts[0]}: {error}") from None
        return Proof(identity=identity, trust_domain=parts[0], certificate=certificate)


def describe(leaf: x509.Certificate, *, by: str = "") -> ClientCertificate:
    """Its names, its hash and itself. by: the URI name of the certificate that it was given in return. Raises PeerRefused when the
    certificate's names cannot be read."""
    try:
        names = _names(leaf)
        subject = leaf.subject.rfc4514_string()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise PeerRefused(f"certificate cannot be read: {error}") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    dns = names.get_values_for_type(x509.DNSName) if names else []
    pem = leaf.public_bytes(serialization.Encoding.PEM).decode("ascii")
    return ClientCertificate(subject=subject, uris=tuple(uris), dns=tuple(dns), hash=hash_of(leaf), pem=pem, by=by)


def uri_of(chain: str) -> str:
    """The first URI name of the first certificate of a PEM chain, "" when it has none or cannot be read."""
    try:
        names = _names(x509.load_pem_x509_certificate(chain.encode()))
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ""
    found = names.get_values_for_type(x509.UniformResourceIdentifier) if names else []
    return found[0] if found else ""


def hash_of(leaf: x509.Certificate) -> str:
    """Hex SHA-256 of the whole certificate (DER)."""
    return leaf.fingerprint(hashes.SHA256()).hex()


def key_hash(leaf: x509.Certificate) -> str:
    """Hex SHA-256 of its SubjectPublicKeyInfo (DER): the same for every certificate of one key. Raises PeerRefused."""
    try:
        key = leaf.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PeerRefused(f"certificate's key cannot be read: {error}") from None
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


def names_of(leaf: x509.Certificate) -> set[str]:
    """Every subject alternative name as text: DNS names in lower case, URIs, e-mail and IP addresses. Raises PeerRefused."""
    try:
        names = _names(leaf)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise PeerRefused(f"certificate cannot be read: {error}") from None
    if names is None:
        return set()
    found = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    found.update(names.get_values_for_type(x509.UniformResourceIdentifier))
    found.update(names.get_values_for_type(x509.RFC822Name))
    found.update(str(address) for address in names.get_values_for_type(x509.IPAddress))
    return found


def der(certificates: Iterable[x509.Certificate]) -> bytes:
    """What `SSLContext.load_verify_locations(cadata=…)` takes."""
    return b"".join(each.public_bytes(serialization.Encoding.DER) for each in certificates)


def _names(leaf: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


# ------------------------------------------------------------------------------------------------------- the profile

_Check = Callable[[verification.Policy, x509.Certificate, x509.ExtensionType | None], None]


def _has_purpose(purpose: ObjectIdentifier) -> _Check:
    def check(policy: verification.Policy, certificate: x509.Certificate, extension: x509.ExtensionType | None) -> None:
        if isinstance(extension, x509.ExtendedKeyUsage) and purpose not in extension and _ANY_PURPOSE not in extension:
            raise ValueError("extended key usage does not allow this purpose")

    return check


def _signs_only_itself(policy: verification.Policy, certificate: x509.Certificate, extension: x509.ExtensionType | None) -> None:
    """X509-SVID.md section 4.3: a leaf signs its handshakes and never certificates."""
    if isinstance(extension, x509.KeyUsage) and (extension.key_cert_sign or extension.crl_sign or not extension.digital_signature):
        raise ValueError("key usage is not that of a leaf")


def _policies(purpose: ObjectIdentifier) -> tuple[verification.ExtensionPolicy, verification.ExtensionPolicy]:
    """The library's profiles for the public web, without what private CAs (Istio's with plugged-in certificates, OpenSSL before 3)
    leave out: key identifiers, which only help to find a path."""
    authorities = verification.ExtensionPolicy.webpki_defaults_ca()
    leaves = verification.ExtensionPolicy.webpki_defaults_ee().may_be_present(x509.KeyUsage, _ANY, _signs_only_itself)
    relaxed = [
        policy.may_be_present(x509.SubjectKeyIdentifier, _ANY, None)
        .may_be_present(x509.AuthorityKeyIdentifier, _ANY, None)
        .may_be_present(x509.ExtendedKeyUsage, _ANY, _has_purpose(purpose))
        for policy in (authorities, leaves)
    ]
    return relaxed[0], relaxed[1]


_POLICIES = {purpose: _policies(purpose) for purpose in (CLIENT_AUTH, SERVER_AUTH)}


def trust_domain(identity: str) -> str:
    """`TD` of `spiffe://TD/…`."""
    return identity.removeprefix("spiffe://").partition("/")[0]
