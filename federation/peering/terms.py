"""What was agreed with a peer, as plain data: from a Peer document and the Export documents that name it.

Pure. The peering code knows these and no documents, so that tokens and other ways to join can make them too.
"""

from __future__ import annotations

import msgspec

from discovery.loss import KEEP_FOREVER, LossPolicy


class PeerTerms(msgspec.Struct, frozen=True):
    """One peer. addresses: `HOST:PORT` or `[V6]:PORT`, each dialled (none: it only dials us). bundle: PEM roots of its trust domain.
    imports: host patterns (exact, `*.suffix`, `*`) that it may claim. loss: what becomes of what it said once there is no session."""

    name: str
    trust_domain: str
    addresses: tuple[str, ...] = ()
    bundle: str = ""
    imports: tuple[str, ...] = ("*",)
    loss: LossPolicy = KEEP_FOREVER


class ExportTerms(msgspec.Struct, frozen=True):
    """One Export document. services: host patterns that are offered; peers: names of Peers, or `*`. tls: terminate | passthrough."""

    name: str
    services: tuple[str, ...]
    peers: tuple[str, ...]
    tls: str = "terminate"


class Finding(msgspec.Struct, frozen=True, order=True):
    """Something a peer says that is not believed: what and why, for its status."""

    subject: str
    message: str
