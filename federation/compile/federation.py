"""Who the peers are and what each may have: Peer and Export documents, with the bundles that trust has loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from federation.compile.inputs import Inputs
from federation.compile.names import covers
from federation.compile.services import subject_of
from federation.compile.status import Problem, problem
from federation.resources.document import Document
from federation.resources.fedgate import Export

EVERYBODY = "*"


@dataclass(frozen=True)
class PeerFacts:
    """bundle: PEM roots of the peer's trust domain, "" when trust has none (then it is not spoken to)."""

    name: str
    trust_domain: str
    bundle: str
    imports: tuple[str, ...]


@dataclass(frozen=True)
class Federation:
    """peers by name; exports as written, with the names of the peers they mean."""

    peers: Mapping[str, PeerFacts]
    exports: tuple[tuple[Document[Export], frozenset[str]], ...]
    problems: tuple[Problem, ...]

    def may_have(self, hostname: str) -> tuple[str, ...]:
        """Names of the peers that a service is exported to, sorted."""
        found: set[str] = set()
        for document, peers in self.exports:
            if any(covers(pattern.lower(), hostname) for pattern in document.spec.services):
                found |= peers
        return tuple(sorted(found))

    def may_claim(self, peer: str, hostname: str) -> bool:
        """Whether we take this service from that peer."""
        facts = self.peers.get(peer)
        return facts is not None and any(covers(pattern.lower(), hostname) for pattern in facts.imports)

    def bundles(self) -> tuple[tuple[str, str], ...]:
        """trust domain → roots, of every peer that has them."""
        return tuple(sorted({(each.trust_domain, each.bundle) for each in self.peers.values() if each.bundle}))


def federation(inputs: Inputs) -> Federation:
    """Raises nothing; a peer without a bundle and an export to nobody are Problems."""
    problems: list[Problem] = []
    peers: dict[str, PeerFacts] = {}
    for document in inputs.resources.peers:
        spec = document.spec
        bundle = inputs.bundles.get(spec.trust_domain, "")
        peers.setdefault(document.name, PeerFacts(document.name, spec.trust_domain, bundle, tuple(spec.imports)))
        if not bundle:
            text = f"there are no usable roots for trust domain {spec.trust_domain} (from {spec.bundle.path}); no traffic goes to this peer"
            problems.append(problem(subject_of(document), "spec.bundle.path", "BundleNotUsable", text))
    exports = []
    for export in inputs.resources.exports:
        named = frozenset(peers) if EVERYBODY in export.spec.peers else frozenset(export.spec.peers) & peers.keys()
        exports.append((export, named))
        for index, name in enumerate(export.spec.peers):
            if name != EVERYBODY and name not in peers:
                text = f"there is no Peer {name!r}; write one, or take it out"
                problems.append(problem(subject_of(export), f"spec.peers[{index}]", "PeerNotFound", text))
    return Federation(peers, tuple(exports), tuple(problems))
