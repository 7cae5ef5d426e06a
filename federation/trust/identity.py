"""SPIFFE identities, read strictly: who a certificate speaks for.

Pure. An identity is `spiffe://TRUSTDOMAIN/PATH`. The rules are those of the SPIFFE-ID standard (sections 2.1 to 2.4), and anything
that two readers could read differently is refused, because an identity is an authorisation: upper case, ports, user names,
queries, fragments, percent escapes, empty or dotted path segments. A certificate has exactly one URI name (X509-SVID section 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

MAX_ID_BYTES = 2048  # SPIFFE-ID 2.3: implementations must take this many and must not make longer ones
MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID 2.1

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+\Z")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+\Z")


class TrustError(ValueError):
    """Something about certificates, keys, bundles or identities that a person has to put right; the text says how."""


class SpiffeId(msgspec.Struct, frozen=True, order=True):
    """trust_domain and path; path is "" or begins with a slash. Make one with `parse`."""

    trust_domain: str
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """`spiffe://east.example.com/ns/shop/sa/web` → SpiffeId. Raises TrustError saying which rule it breaks."""
        if len(text.encode()) > MAX_ID_BYTES:
            raise TrustError(f"SPIFFE id {text[:60]!r}… is longer than {MAX_ID_BYTES} bytes")
        if not text.startswith("spiffe://"):
            raise TrustError(f"{text!r} is not a SPIFFE id; it must begin with spiffe://")
        domain, slash, path = text[len("spiffe://") :].partition("/")
        check_trust_domain(domain)
        if slash:
            for segment in path.split("/"):
                if not _SEGMENT.match(segment) or segment in (".", ".."):
                    raise TrustError(
                        f"SPIFFE id {text!r}: path segment {segment!r} is not one or more of A-Z a-z 0-9 . _ - (nor is it . or ..)"
                    )
        return cls(domain, slash + path)

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}{self.path}"


def check_trust_domain(name: str) -> str:
    """Returns `name`. Raises TrustError when it is no trust domain: lower-case letters, digits, dot, dash, underscore, 1 to 255."""
    if not _TRUST_DOMAIN.match(name) or len(name) > MAX_TRUST_DOMAIN_BYTES:
        raise TrustError(
            f"trust domain {name[:MAX_TRUST_DOMAIN_BYTES]!r} is not 1 to {MAX_TRUST_DOMAIN_BYTES} of a-z 0-9 . _ - "
            "(no port, no user name, no upper case); write it like east.example.com"
        )
    return name


def sole_identity(uri_names: Iterable[str]) -> SpiffeId:
    """The identity of a certificate whose URI SANs are given. Raises TrustError unless there is exactly one, and a good one."""
    names = list(uri_names)
    if len(names) != 1:
        raise TrustError(f"the certificate has {len(names)} URI names, a SPIFFE certificate has exactly one")
    return SpiffeId.parse(names[0])


def workload_id(trust_domain: str, namespace: str, service_account: str) -> SpiffeId:
    """Istio's form, `spiffe://TD/ns/NS/sa/SA`. Raises TrustError when a part has a character that no identity may have."""
    for part in (namespace, service_account):
        if "/" in part:
            raise TrustError(f"{part!r} is not a namespace or service account: it has a slash")
    return SpiffeId.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")


def gateway_id(trust_domain: str) -> SpiffeId:
    """Who a fedgate gateway of that trust domain is; no other identity of a fedgate peer may open the east-west port."""
    return workload_id(trust_domain, "fedgate", "gateway")
