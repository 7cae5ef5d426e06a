"""TLS of both sides: what a Gateway's server and a DestinationRule write → DownstreamTls and UpstreamTls.

Theory of operation. Keys are collected in a Keyring and named by digest. What cannot be had is a TrustError: the caller leaves
out the server, or leaves the backend without endpoints. Falling back to plain text is never the answer.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from federation.compile.credentials import (
    Credentials,
    Identity,
    Loaded,
    ca_of_file,
    ca_of_secret,
    certificate_of_files,
    certificate_of_secret,
)
from federation.compile.names import gateway_identity
from federation.resources.destination_rule import ClientTlsMode, ClientTLSSettings
from federation.resources.gateway import ServerTlsMode, ServerTLSSettings, TlsProtocol
from federation.trust.identity import TrustError
from gateway.secret import Secret
from gateway.snapshot import CertificateRef, DownstreamTls, TlsMode, UpstreamTls, UpstreamTlsMode

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


def downstream_tls(settings: ServerTLSSettings, namespaces: tuple[str, ...], keys: Keyring, notes: Notes) -> DownstreamTls:
    """namespaces: where credentialName is looked up, in order. Raises TrustError."""
    least, most = _version(settings.min_protocol_version), _version(settings.max_protocol_version)
    return msgspec.structs.replace(_server_side(settings, namespaces, keys, notes), min_version=least, max_version=most)


def _server_side(settings: ServerTLSSettings, namespaces: tuple[str, ...], keys: Keyring, notes: Notes) -> DownstreamTls:
    names = tuple(settings.subject_alt_names)
    if settings.mode is ServerTlsMode.ISTIO_MUTUAL:
        return DownstreamTls(TlsMode.ISTIO_MUTUAL, (keys.own(),), bundles=keys.own_bundles(), subject_alt_names=names)
    given = keys.credentials
    if settings.credential_name:
        loaded = certificate_of_secret(given, namespaces, settings.credential_name, keys.now)
    else:
        loaded = certificate_of_files(given, settings.server_certificate, settings.private_key, keys.now)
    if settings.mode is not ServerTlsMode.MUTUAL:
        return DownstreamTls(TlsMode.SIMPLE, (keys.keep(loaded, notes),))
    if settings.credential_name:
        ca = ca_of_secret(given, namespaces, settings.credential_name)
    else:
        ca = ca_of_file(given, settings.ca_certificates)
    return DownstreamTls(TlsMode.MUTUAL, (keys.keep(loaded, notes),), ca=ca, subject_alt_names=names)


def east_west_tls(keys: Keyring, bundles: tuple[tuple[str, str], ...]) -> DownstreamTls:
    """Of the port that peers dial: TLS 1.3, both sides proven by SPIFFE identities. Raises TrustError."""
    return DownstreamTls(TlsMode.ISTIO_MUTUAL, (keys.own(),), bundles=bundles, min_version="TLSv1_3")


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
    ca = ca_of_file(given, settings.ca_certificates) if settings.ca_certificates else ""
    if name and not ca:
        ca = ca_of_secret(given, namespaces, name)
    return UpstreamTls(
        UpstreamTlsMode.MUTUAL if mutual else UpstreamTlsMode.SIMPLE,
        sni=settings.sni,
        ca=ca,
        certificate=certificate,
        subject_alt_names=names,
        insecure_skip_verify=settings.insecure_skip_verify,
    )


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
