"""What `fedgate ca …` does, as plain functions; the commands only read arguments and print.

    fedgate ca init   DIRECTORY --trust-domain TD       init_ca(directory, trust_domain, cluster=…) → Authority
    fedgate ca init   DIRECTORY --renew                 renew_ca(directory, root_key=…) → Authority
    fedgate ca issue  DIRECTORY SPIFFE_ID --out DIR     issue(directory, spiffe_id, dns_names=…, ttl=…, out=DIR) → Issued
    fedgate ca bundle DIRECTORY                         bundle(directory) → PEM text for the other cluster's Peer document
    fedgate ca show   PATH                              show(path) → list of CertificateFacts (a file, a CA or a state directory)

All raise TrustError (a ValueError whose text is for people) and never overwrite. DIRECTORY is a CA directory, or a state directory
that has one in `ca/`. A gateway whose CA is elsewhere is given `--out STATE_DIR`: the files land where the keeper looks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from federation.trust.authority import LEAF_TTL, Authority, Issued, init, open_authority, renew
from federation.trust.certificate import CertificateFacts, facts_of, read_certificates, to_pem
from federation.trust.files import private_directory, read_file, write_private
from federation.trust.identity import TrustError

CA_DIRECTORY = "ca"
IDENTITY_CHAIN = "identity.pem"
IDENTITY_KEY = "identity.key"
IDENTITY_BUNDLE = "identity-bundle.pem"


def init_ca(directory: Path, trust_domain: str, *, cluster: str = "", now: datetime | None = None) -> Authority:
    """Creates root and intermediate in `directory`. Raises TrustError when it holds anything already."""
    return init(directory, trust_domain, cluster=cluster, now=now)


def renew_ca(directory: Path, *, root_key: Path | None = None, now: datetime | None = None) -> Authority:
    """A new certificate for the intermediate, signed by the root's key, from `root_key` or the CA's directory. Raises TrustError."""
    return renew(ca_directory(directory), root_key=root_key, now=now)


def issue(
    directory: Path,
    spiffe_id: str,
    *,
    dns_names: Sequence[str] = (),
    ttl: timedelta = LEAF_TTL,
    out: Path | None = None,
    overwrite: bool = False,
    now: datetime | None = None,
) -> Issued:
    """Signs a leaf; with `out`, writes `identity.pem`, `identity.key` and `identity-bundle.pem` there (0600), whole file by whole file.

    overwrite: an earlier identity in `out` is replaced, else TrustError. Raises TrustError for all that Authority.issue does."""
    authority = open_authority(ca_directory(directory))
    if out is not None and not overwrite:
        for name in (IDENTITY_CHAIN, IDENTITY_KEY):
            if (out / name).exists():
                raise TrustError(f"{out / name}: is there already; say --overwrite to replace it")
    issued = authority.issue(spiffe_id, dns_names, ttl, now=now)
    if out is not None:
        private_directory(out)
        write_private(out / IDENTITY_BUNDLE, authority.bundle().encode())
        write_private(out / IDENTITY_KEY, issued.key.reveal())
        write_private(out / IDENTITY_CHAIN, issued.chain.encode())  # last: the keeper reloads when it changes
    return issued


def bundle(directory: Path) -> str:
    """PEM of the roots that others need to know this cluster's gateways by. Needs root.pem only. Raises TrustError."""
    path = ca_directory(directory) / "root.pem"
    data = read_file(path, "the CA's root certificate; `fedgate ca init` makes one")
    return to_pem(read_certificates(data, str(path)))


def show(path: Path) -> list[CertificateFacts]:
    """Every certificate in a PEM file, or in the `*.pem` files of a CA or state directory. Raises TrustError when there is none."""
    if not path.is_dir():
        return [facts_of(c) for c in read_certificates(read_file(path, "certificates in PEM"), str(path))]
    files = sorted(path.glob("*.pem")) + sorted((path / CA_DIRECTORY).glob("*.pem"))
    if not files:
        raise TrustError(f"{path}: has no certificate files (*.pem); `fedgate ca init` makes a CA")
    return [facts_of(c) for file in files for c in read_certificates(read_file(file, "certificates in PEM"), str(file))]


def ca_directory(directory: Path) -> Path:
    """`directory` itself when it is a CA's, else its `ca/`."""
    inner = directory / CA_DIRECTORY
    return inner if not (directory / "root.pem").exists() and inner.is_dir() else directory
