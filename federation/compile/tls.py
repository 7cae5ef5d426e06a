"""TLS of both sides: what a Gateway's server and a DestinationRule write → DownstreamTls and UpstreamTls.

Theory of operation. Keys are collected in a Keyring and named by digest. What cannot be had is a TrustError: the caller leaves
out the server, or leaves the backend without endpoints. Falling back to plain text is never the answer.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

import msgspec

from federation.compile.credentials import (
    Authorities,
    Credentials,
    Identity,
    Loaded,
    authorities_of_files,
    authorities_of_secret,
    certificate_of_files,
    certificate_of_secret,
    file_of,
    revocations,
)
from federation.compile.names import gateway_identity
from federation.resources.destination_rule import ClientTlsMode, ClientTLSSettings
from federation.resources.server_tls import ServerTLSSettings, TlsProtocol, hash_pin, spki_pin
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

HTTP_ALPN: tuple[str, ...] = ("h2", "http/1.1")
"""What servers that end TLS and carry HTTP offer, the best first."""
EAST_WEST_ALPN: tuple[str, ...] = ("h2", "http/1.1", "istio")
"""What the port that peers dial offers: HTTP as above, and `istio` for services that are TCP."""

Notes = list[tuple[str, str]]
"""(reason, message) of what works but deserves a warning"""


class Keyring:
    """What certificates may be taken from, and the private keys that were taken: digest → Secret, to travel beside the Snapshot."""

    def __init__(self, credentials: Credentials, identity: Identity | None, *, trust_domain: str, now: datetime) -> None:
        self.credentials = credentials
        self.identity = identity
        self.trust_domain = trust_domain
        self.now = now
        self.secrets: dict[str, Secret] = {}

    def own(self) -> CertificateRef:
        """The gateway's own certificate. Raises TrustError when it has none."""
        if self.identity is None:
            raise TrustError("this gateway has no identity of its own; make one with `fedgate ca init` and `fedgate ca issue`")
        self.secrets[self.identity.key.digest] = self.identity.key
        return CertificateRef(self.identity.chain, self.identity.key.digest, "this gateway's identity")

    def own_bundles(self) -> tuple[tuple[str, str], ...]:
        return ((self.trust_domain, self.identity.bundle),) if self.identity else ()

    def keep(self, loaded: Loaded, notes: Notes) -> CertificateRef:
        self.secrets[loaded.key.digest] = loaded.key
        notes.extend(loaded.notes)
        return loaded.reference

    def __repr__(self) -> str:
        return f"<Keyring {len(self.secrets)} keys>"


def downstream_tls(
    settings: ServerTLSSettings, namespaces: tuple[str, ...], keys: Keyring, notes: Notes, alpn: tuple[str, ...]
) -> DownstreamTls:
    """Of a server that ends TLS. namespaces: where credentialName is looked up, in order. alpn: `HTTP_ALPN`, or () for TCP.
    Raises TrustError."""
    mode = TlsMode(settings.effective_mode.value)
    least, most = _version(settings.min_protocol_version), _version(settings.max_protocol_version)
    base = DownstreamTls(mode, (), alpn=alpn, min_version=least, max_version=most, cipher_suites=settings.suites)
    if mode is not TlsMode.SIMPLE:
        base = msgspec.structs.replace(
            base,
            subject_alt_names=tuple(settings.subject_alt_names),
            spki=tuple(spki_pin(each) for each in settings.verify_certificate_spki),
            hashes=tuple(hash_pin(each) for each in settings.verify_certificate_hash),
        )
    if mode is TlsMode.ISTIO_MUTUAL:
        own, bundles = keys.own(), keys.own_bundles()
        return msgspec.structs.replace(base, certificates=(own,), bundles=bundles, crl=_own_crl(settings, keys, notes))
    if mode is not TlsMode.SIMPLE:
        trusted = _authorities(settings, namespaces, keys)
        notes.extend(trusted.notes)
        base = msgspec.structs.replace(base, ca=trusted.ca, crl=trusted.crl)
    # Last, because it keeps the keys: none is sent that nothing names.
    return msgspec.structs.replace(base, certificates=_certificates(settings, namespaces, keys, notes))


def _certificates(
    settings: ServerTLSSettings, namespaces: tuple[str, ...], keys: Keyring, notes: Notes
) -> tuple[CertificateRef, ...]:
    """One or two. Of two, one that cannot be had is a note and the other serves. Raises TrustError when none can."""
    given, now = keys.credentials, keys.now
    if settings.secrets:
        loads = [partial(certificate_of_secret, given, namespaces, name, now) for name in settings.secrets]
    else:
        loads = [partial(certificate_of_files, given, chain, key, now) for chain, key in settings.pairs]
    found: dict[str, Loaded] = {}
    failed: list[TrustError] = []
    for load in loads:
        try:
            loaded = load()
        except TrustError as error:
            failed.append(error)
            continue
        first = found.setdefault(loaded.kind, loaded)
        if first is not loaded:
            text = f"{loaded.reference.name} has a key of the same kind ({loaded.kind}) as {first.reference.name}; it is not used"
            notes.append(("SameKeyType", text))
    if not found:
        raise failed[0]
    notes.extend(("InvalidCertificateRef", f"{error}; the other certificate alone is served") for error in failed)
    return tuple(keys.keep(each, notes) for each in found.values())


def _authorities(settings: ServerTLSSettings, namespaces: tuple[str, ...], keys: Keyring) -> Authorities:
    """In Istio's order: caCertCredentialName, the (first) Secret of the certificates, files. Raises TrustError."""
    given, now = keys.credentials, keys.now
    if settings.ca_cert_credential_name:
        return authorities_of_secret(given, namespaces, settings.ca_cert_credential_name, now, alone=True)
    if settings.secrets:
        return authorities_of_secret(given, namespaces, settings.secrets[0], now)
    return authorities_of_files(given, settings.ca_certificates, settings.ca_crl, now)


def _own_crl(settings: ServerTLSSettings, keys: Keyring, notes: Notes) -> str:
    """caCrl beside ISTIO_MUTUAL: revocation of the mesh's own certificates. Raises TrustError."""
    if not settings.ca_crl or keys.identity is None:
        return ""
    lists = file_of(keys.credentials, settings.ca_crl)
    read = revocations(lists, f"file {settings.ca_crl}", keys.now)
    notes.extend(read.notes)
    return read.crl


def east_west_tls(keys: Keyring, bundles: tuple[tuple[str, str], ...]) -> DownstreamTls:
    """Of the port that peers dial: TLS 1.3, both sides proven by SPIFFE identities. Raises TrustError."""
    return DownstreamTls(TlsMode.ISTIO_MUTUAL, (keys.own(),), bundles=bundles, alpn=EAST_WEST_ALPN, min_version="TLSv1_3")


def upstream_tls(
    settings: ClientTLSSettings, service_names: tuple[str, ...], namespaces: tuple[str, ...], keys: Keyring, notes: Notes
) -> UpstreamTls | None:
    """None = plain text (DISABLE). service_names: the ServiceEntry's subjectAltNames, which the rule's override. Raises TrustError."""
    if settings.mode is ClientTlsMode.DISABLE:
        return None
    names = tuple(settings.subject_alt_names) or service_names
    if settings.mode is ClientTlsMode.ISTIO_MUTUAL:
        own, bundles = keys.own(), keys.own_bundles()
        mode = UpstreamTlsMode.ISTIO_MUTUAL
        return UpstreamTls(mode, sni=settings.sni, bundles=bundles, certificate=own, subject_alt_names=names)
    given, name = keys.credentials, settings.credential_name
    mutual = settings.mode is ClientTlsMode.MUTUAL
    certificate = None
    if mutual and name:
        certificate = keys.keep(certificate_of_secret(given, namespaces, name, keys.now), notes)
    elif mutual:
        certificate = keys.keep(certificate_of_files(given, settings.client_certificate, settings.private_key, keys.now), notes)
    trusted = _trusted(settings, namespaces, keys)
    notes.extend(trusted.notes)
    return UpstreamTls(
        UpstreamTlsMode.MUTUAL if mutual else UpstreamTlsMode.SIMPLE,
        sni=settings.sni,
        ca=trusted.ca,
        crl=trusted.crl,
        certificate=certificate,
        subject_alt_names=names,
        insecure_skip_verify=settings.insecure_skip_verify,
    )


def _trusted(settings: ClientTLSSettings, namespaces: tuple[str, ...], keys: Keyring) -> Authorities:
    """Whom endpoints' certificates must come from; an empty bundle is the system's. Raises TrustError."""
    given, now = keys.credentials, keys.now
    if settings.ca_certificates:
        return authorities_of_files(given, settings.ca_certificates, settings.ca_crl, now)
    if settings.credential_name and not settings.insecure_skip_verify:
        return authorities_of_secret(given, namespaces, settings.credential_name, now)
    if not settings.ca_crl:
        return Authorities("")
    return revocations(file_of(given, settings.ca_crl), f"file {settings.ca_crl}", now)


def peer_tls(trust_domain: str, bundle: str, sni: str, keys: Keyring) -> UpstreamTls:
    """Towards another fedgate gateway. Raises TrustError when this one has no identity."""
    return UpstreamTls(
        UpstreamTlsMode.ISTIO_MUTUAL,
        sni=sni,
        bundles=((trust_domain, bundle),),
        certificate=keys.own(),
        subject_alt_names=(gateway_identity(trust_domain),),
        peer=True,
    )


def _version(version: TlsProtocol) -> str:
    return "" if version is TlsProtocol.TLS_AUTO else version.value.replace("TLSV", "TLSv")
