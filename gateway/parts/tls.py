"""TLS of both sides, as a Snapshot says it. Nothing secret is in it: private keys are named by digest and travel beside it."""

from __future__ import annotations

import enum

import msgspec


class CertificateRef(msgspec.Struct, frozen=True, gc=False):
    """A certificate chain (PEM, leaf first; public) and the digest (hex SHA-256 of the key's PEM) of its private key in Secrets."""

    chain: str
    key: str
    name: str = ""  # where it came from, for people: "secret shop/web-tls", "file /etc/…"


class TlsMode(enum.Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    OPTIONAL_MUTUAL = "OPTIONAL_MUTUAL"  # a client certificate is asked for; one that is given must be valid
    ISTIO_MUTUAL = "ISTIO_MUTUAL"  # mutual with SPIFFE identities, verified against `bundles` by trust domain


class DownstreamTls(msgspec.Struct, frozen=True, gc=False):
    """TLS towards clients of one filter chain.

    certificates: one, or one each of RSA and ECDSA: the client's signature algorithms choose.
    ca: PEM bundle that client certificates must chain to (MUTUAL, OPTIONAL_MUTUAL). crl: PEM revocation lists; "" = none checked.
    bundles: trust domain → PEM roots; after the handshake the chain is verified again against the bundle of the trust domain in its
    own URI SAN (ISTIO_MUTUAL, east-west).
    subject_alt_names: when not empty, a client certificate must carry one of them (DNS, URI, email or IP SAN, exact).
    spki, hashes: pins, hex SHA-256 of the client certificate's SubjectPublicKeyInfo and of its DER; when any is written one must match.
    min_version, max_version: "TLSv1_0" … "TLSv1_3"; "" = TLS 1.2 and the newest there is. cipher_suites: OpenSSL names for TLS 1.2.
    """

    mode: TlsMode
    certificates: tuple[CertificateRef, ...]
    ca: str = ""
    crl: str = ""
    bundles: tuple[tuple[str, str], ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    spki: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ("http/1.1",)
    min_version: str = ""
    max_version: str = ""
    cipher_suites: tuple[str, ...] = ()


class UpstreamTlsMode(enum.Enum):
    SIMPLE = "SIMPLE"
    MUTUAL = "MUTUAL"
    ISTIO_MUTUAL = "ISTIO_MUTUAL"


class UpstreamTls(msgspec.Struct, frozen=True, gc=False):
    """TLS towards endpoints. sni "" = taken from the request's Host. ca "" = the system's roots. crl as in DownstreamTls.

    subject_alt_names: the server's certificate must carry one (exact; SPIFFE URIs included); empty = the name in sni is checked
    for SIMPLE and MUTUAL. bundles: as in DownstreamTls, for ISTIO_MUTUAL and for peers. TLS 1.3 only when `peer` (between gateways).
    alpn: what is offered for HTTP; TCP offers `istio` to peers and nothing elsewhere.
    """

    mode: UpstreamTlsMode
    sni: str = ""
    ca: str = ""
    crl: str = ""
    bundles: tuple[tuple[str, str], ...] = ()
    certificate: CertificateRef | None = None
    subject_alt_names: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ("http/1.1",)
    insecure_skip_verify: bool = False
    peer: bool = False
