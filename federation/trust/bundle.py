"""Trust bundles: the root certificates by which the identities of one trust domain are known.

A Bundle is of one trust domain, always: pooled roots would let one peer's CA sign another's identities. PEM files for now; SPIFFE's
JWKS form (which names the trust domain and a refresh hint) is another reader beside `parse_bundle`, giving the same Bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from federation.trust.certificate import identity_of, is_authority, read_certificates, to_pem, uri_names
from federation.trust.files import read_file
from federation.trust.identity import TrustError, check_trust_domain

MAX_BUNDLE_BYTES = 1 << 20  # a thousand roots; a file beyond that is not a bundle


class Bundle(msgspec.Struct, frozen=True):
    """trust_domain and its roots (PEM, expired ones left out). not_after: when the last of them expires, UTC."""

    trust_domain: str
    roots: str
    not_after: datetime


Bundles = Mapping[str, Bundle]
"""trust domain → Bundle"""


def parse_bundle(pem: bytes | str, trust_domain: str, *, where: str, now: datetime | None = None) -> Bundle:
    """The roots of `trust_domain` in `pem`. Raises TrustError: no certificate, one that is no CA (a leaf), one whose own name is of
    another trust domain, or all expired. Some expired beside good ones is a root change in progress, and fine."""
    check_trust_domain(trust_domain)
    now = now or datetime.now(UTC)
    certificates = read_certificates(pem, where)
    for certificate in certificates:
        if not is_authority(certificate):
            subject = ", ".join(uri_names(certificate)) or certificate.subject.rfc4514_string()
            raise TrustError(
                f"{where}: {subject!r} is not a CA's certificate but a leaf; a bundle holds roots: write it with `fedgate ca bundle`"
            )
        if uri_names(certificate) and identity_of(certificate).trust_domain != trust_domain:
            raise TrustError(
                f"{where}: this root is of trust domain {identity_of(certificate).trust_domain}, but should be of {trust_domain}; "
                "is it another peer's file?"
            )
    good = [certificate for certificate in certificates if certificate.not_valid_after_utc > now]
    latest = max(certificate.not_valid_after_utc for certificate in certificates)
    if not good:
        raise TrustError(
            f"{where}: every root in it has expired (the last {latest:%Y-%m-%d %H:%M} UTC); ask the peer for a new `fedgate ca bundle`"
        )
    return Bundle(trust_domain=trust_domain, roots=to_pem(good), not_after=latest)


def read_bundle(path: Path, trust_domain: str, *, now: datetime | None = None) -> Bundle:
    """`parse_bundle` of a file. Raises TrustError that names the path also when the file is missing, unreadable or far too long."""
    data = read_file(path, f"the root certificates (PEM) of trust domain {trust_domain}, from `fedgate ca bundle` over there")
    if len(data) > MAX_BUNDLE_BYTES:
        raise TrustError(f"{path}: has {len(data)} bytes, a bundle has at most {MAX_BUNDLE_BYTES}; is it the right file?")
    return parse_bundle(data, trust_domain, where=str(path), now=now)
