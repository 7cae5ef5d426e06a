"""The embedded certificate authority of one cluster: a root, one intermediate, and the leaves it signs.

Theory of operation. A directory (mode 0700) holds four files (0600): `root.pem`, `root.key`, `intermediate.pem`,
`intermediate.key`. Leaves are signed by the intermediate, so `root.key` may be moved away, and is needed again only to
renew the intermediate. What other trust domains are given is `bundle()`: the root alone. The trust domain is not kept beside the
certificates but in them, as the URI name `spiffe://TRUSTDOMAIN` (X509-SVID section 4.1: a signing certificate may carry it).
All keys are ECDSA P-256. A new directory appears by one rename, complete; nothing that exists is ever overwritten.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from federation.trust import forms
from federation.trust.certificate import check_pair, identity_of, read_certificates, to_pem
from federation.trust.files import private_directory, read_file, write_private
from federation.trust.identity import SpiffeId, TrustError, check_trust_domain
from gateway.secret import Secret

LEAF_TTL = timedelta(hours=24)  # FIELD section 0: what Istio gives workloads
MAX_LEAF_TTL = timedelta(days=90)  # the same row: the longest Istio signs
MIN_LEAF_TTL = timedelta(minutes=1)  # shorter, and half life is within clock skew of the start
ROOT_LIFE = timedelta(days=3650)  # the same row: ten years
INTERMEDIATE_LIFE = timedelta(days=730)  # outlives any leaf by far; renewed by the keeper while the root's key is there
RENEW_AT = 0.8  # the last fifth of its life, as Istio renews its self-signed root


class Issued(msgspec.Struct, frozen=True):
    """A certificate chain (PEM, leaf first, then the intermediate) with its private key, and when it is good."""

    chain: str
    key: Secret
    identity: str
    not_before: datetime
    not_after: datetime


class Authority:
    """A certificate authority that can sign leaves: made by `init` or `open_authority`."""

    def __init__(
        self, directory: Path, root: x509.Certificate, intermediate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.directory = directory
        self.root = root
        self.intermediate = intermediate
        self._key = key

    @property
    def trust_domain(self) -> str:
        return identity_of(self.root).trust_domain

    def bundle(self) -> str:
        """PEM of the trust domain's root certificates: what peers need to know, nothing secret."""
        return to_pem([self.root])

    def issue(
        self, spiffe_id: str | SpiffeId, dns_names: Sequence[str] = (), ttl: timedelta = LEAF_TTL, *, now: datetime | None = None
    ) -> Issued:
        """Signs a leaf for a SPIFFE id of this trust domain, good for TLS clients and servers, from two minutes ago until `ttl` from now.

        Raises TrustError: a foreign trust domain, an id without a path, a ttl outside one minute to 90 days, a DNS name that
        is none, or an intermediate that has expired. A leaf never outlives the intermediate."""
        now = now or datetime.now(UTC)
        identity = SpiffeId.parse(str(spiffe_id))
        if identity.trust_domain != self.trust_domain:
            raise TrustError(
                f"{identity} is of trust domain {identity.trust_domain}; this CA ({self.directory}) signs for {self.trust_domain} only"
            )
        if not identity.path:
            raise TrustError(
                f"{identity} names a trust domain, not a workload; write like spiffe://{self.trust_domain}/ns/shop/sa/web"
            )
        if not MIN_LEAF_TTL <= ttl <= MAX_LEAF_TTL:
            raise TrustError(f"ttl {ttl} is not between {MIN_LEAF_TTL} and {MAX_LEAF_TTL}")
        if now >= self.intermediate.not_valid_after_utc:
            raise TrustError(
                f"{self.directory / 'intermediate.pem'}: expired {self.intermediate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; {_RENEW}"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        until = min(now + ttl, self.intermediate.not_valid_after_utc)
        leaf = forms.leaf(key.public_key(), identity, dns_names, forms.Signer(self.intermediate, self._key), forms.life(now, until))
        return Issued(
            chain=to_pem([leaf, self.intermediate]),
            key=Secret(_key_pem(key)),
            identity=str(identity),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )

    def __repr__(self) -> str:
        return f"<Authority {self.trust_domain} intermediate until {self.intermediate.not_valid_after_utc:%Y-%m-%d}>"


_RENEW = "put root.key back beside it and run `fedgate ca init --renew`, or restart the gateway with root.key in place"


def init(directory: Path, trust_domain: str, *, cluster: str = "", now: datetime | None = None) -> Authority:
    """Creates a CA: `directory` with root and intermediate, whole or not at all. Behind `fedgate ca init`.

    Raises TrustError when the directory holds anything already, or cannot be made, or trust_domain is no trust domain."""
    check_trust_domain(trust_domain)
    now = now or datetime.now(UTC)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise TrustError(f"{directory}: is there already and is never overwritten; use another directory, or move this one away")
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    identity = SpiffeId(trust_domain)
    root = forms.root(root_key, identity, forms.life(now, now + ROOT_LIFE))
    signer = forms.Signer(root, root_key)
    intermediate = forms.intermediate(key.public_key(), identity, cluster, signer, forms.life(now, now + INTERMEDIATE_LIFE))
    content = {
        "root.pem": to_pem([root]).encode(),
        "root.key": _key_pem(root_key),
        "intermediate.pem": to_pem([intermediate]).encode(),
        "intermediate.key": _key_pem(key),
    }
    _write_new(directory, content)
    return Authority(directory, root, intermediate, key)


def open_authority(directory: Path) -> Authority:
    """The CA kept in `directory`. Needs root.pem, intermediate.pem and intermediate.key; root.key may be away. Raises TrustError."""
    [root, *_] = read_certificates(read_file(directory / "root.pem", "the CA's root certificate"), str(directory / "root.pem"))
    where = directory / "intermediate.pem"
    [intermediate, *_] = read_certificates(read_file(where, "the CA's intermediate certificate"), str(where))
    pem = read_file(directory / "intermediate.key", "the intermediate's private key")
    check_pair([intermediate], Secret(pem), str(directory / "intermediate.key"))
    try:
        intermediate.verify_directly_issued_by(root)
    except Exception as error:  # cryptography raises three kinds: ValueError, TypeError, InvalidSignature
        raise TrustError(f"{where}: was not signed by {directory / 'root.pem'}; the files are of different CAs") from error
    identity_of(root)
    return Authority(directory, root, intermediate, _load_key(pem))


def wants_renewal(authority: Authority, now: datetime) -> bool:
    """True in the last fifth of the intermediate's life."""
    born, dies = authority.intermediate.not_valid_before_utc, authority.intermediate.not_valid_after_utc
    return now >= born + (dies - born) * RENEW_AT


def renew(directory: Path, *, root_key: Path | None = None, now: datetime | None = None) -> Authority:
    """A new intermediate certificate for the same intermediate key, so that leaves signed before stay good. Behind `fedgate ca init --renew`.

    root_key: where the root's key is, when not in the directory. Raises TrustError when it is not there or is another root's."""
    now = now or datetime.now(UTC)
    old = open_authority(directory)
    where = root_key or directory / "root.key"
    pem = read_file(where, "the root's private key, which signs intermediates")
    check_pair([old.root], Secret(pem), str(where))
    signer = forms.Signer(old.root, _load_key(pem))
    until = min(now + INTERMEDIATE_LIFE, old.root.not_valid_after_utc)
    public = old._key.public_key()
    new = forms.intermediate(public, SpiffeId(old.trust_domain), forms.cluster_of(old.intermediate), signer, forms.life(now, until))
    write_private(directory / "intermediate.pem", to_pem([new]).encode())
    return Authority(directory, old.root, new, old._key)


def _write_new(directory: Path, content: dict[str, bytes]) -> None:
    private_directory(directory.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))  # mkdtemp makes it 0700
    except OSError as error:
        raise TrustError(f"{directory}: cannot make the CA's directory: {error.strerror or error}") from error
    try:
        for name, data in content.items():
            write_private(temporary / name, data)
        os.rename(temporary, directory)  # over an empty directory or nothing; fails if another init was quicker
    except OSError as error:
        raise TrustError(f"{directory}: is there already and is never overwritten ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TrustError("the CA's key is not an ECDSA key; this CA was not made by fedgate")
    return key
