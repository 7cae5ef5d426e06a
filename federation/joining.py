"""Peer and Export documents → what peering is told: terms, bundles, offers.

Theory of operation. Pure but for the slots of Offering. A bundle that was good is not replaced by nothing: a file that breaks is a
Problem and the old roots stay. What is offered is kept by peer and hostname, so a change of one service costs that service.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from datetime import datetime

from discovery.loss import KEEP_FOREVER
from discovery.model import Service
from discovery.watch import Watchable
from federation.compile.credentials import FileContent
from federation.compile.inputs import located
from federation.compile.services import subject_of
from federation.compile.status import Problem, warning
from federation.peering.offer import offers
from federation.peering.terms import ExportTerms, PeerTerms
from federation.peering.wire import ExportedService
from federation.resources.resources import Resources
from federation.trust.bundle import parse_bundle
from federation.trust.identity import TrustError
from gateway.verdicts import Verdicts

_AT_ONCE = 100  # services in one step: 10 to 50 µs each


def bundles_of(
    resources: Resources, files: Mapping[str, FileContent], before: Mapping[str, str], now: datetime
) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """trust domain → PEM roots of every Peer, and what is wrong with the files. before: the last result."""
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for peer in resources.peers:
        domain, path = peer.spec.trust_domain, located(peer.spec.bundle.path, peer.origin)
        content = files.get(path, FileContent(fault="has not been read yet"))
        try:
            if content.fault:
                raise TrustError(f"{path}: {content.fault}")
            found.setdefault(domain, parse_bundle(content.data, domain, where=path, now=now).roots)
        except TrustError as error:
            if domain in before:
                found.setdefault(domain, before[domain])
                text = f"{error}; the roots read before stay in use"
                problems.append(warning(subject_of(peer), "spec.bundle.path", "BundleNotUsable", text))
            else:
                problems.append(warning(subject_of(peer), "spec.bundle.path", "BundleNotUsable", str(error)))
    return found, tuple(problems)


def peer_terms(resources: Resources, bundles: Mapping[str, str]) -> dict[str, PeerTerms]:
    """By name; the first of two of one name."""
    found: dict[str, PeerTerms] = {}
    for peer in resources.peers:
        spec = peer.spec
        addresses = tuple(str(address) for address in spec.addresses)
        bundle, loss = bundles.get(spec.trust_domain, ""), spec.on_loss.policy if spec.on_loss is not None else KEEP_FOREVER
        found.setdefault(peer.name, PeerTerms(peer.name, spec.trust_domain, addresses, bundle, tuple(spec.imports), loss))
    return found


def export_terms(resources: Resources) -> tuple[ExportTerms, ...]:
    return tuple(
        ExportTerms(each.name, tuple(each.spec.services), tuple(each.spec.peers), each.spec.tls.value) for each in resources.exports
    )


class Offering:
    """What each peer is offered, as slots that peering reads. Never waits."""

    def __init__(self, cluster: str) -> None:
        self._cluster = cluster
        self._slots: dict[str, Watchable[tuple[ExportedService, ...]]] = {}
        self._offered: dict[str, dict[str, ExportedService]] = {}
        self._peers: Mapping[str, PeerTerms] = {}
        self._exports: tuple[ExportTerms, ...] = ()

    def slot(self, peer: str) -> Watchable[tuple[ExportedService, ...]]:
        """Of a peer that may not be known yet; it is offered nothing then."""
        return self._slots.setdefault(peer, Watchable(()))

    def agree(self, peers: Mapping[str, PeerTerms], exports: tuple[ExportTerms, ...]) -> bool:
        """The terms are these now. True when everything must be offered anew."""
        if (peers, exports) == (self._peers, self._exports):
            return False
        self._peers, self._exports = peers, exports
        for name in self._slots.keys() - peers.keys():
            self._offered.pop(name, None)
            self._slots[name].set(())
        return True

    def offering(
        self, services: Mapping[str, Service], verdicts: Verdicts, touched: Collection[str]
    ) -> Generator[None, None, None]:
        """The services named in `touched` are these now; one that is not among `services` is gone. In steps; slots change in the last
        one of each peer, so that nobody is told a part of it as if it were all."""
        several = sorted(touched)
        for name, terms in self._peers.items():
            old = self._offered.get(name, {})
            made: dict[str, ExportedService] = {}
            for start in range(0, len(several), _AT_ONCE):
                present = [services[each] for each in several[start : start + _AT_ONCE] if each in services]
                found = offers(present, self._exports, verdicts, cluster=self._cluster, peer=terms)
                made.update((each.hostname, each) for each in found)
                yield
            new = {hostname: each for hostname, each in old.items() if hostname not in touched or hostname in made}
            new.update({hostname: each for hostname, each in made.items() if old.get(hostname) != each})
            if new != old or name not in self._offered:
                self._offered[name] = new
                self.slot(name).set(tuple(new[hostname] for hostname in sorted(new)))
            yield

    def __repr__(self) -> str:
        return f"<Offering {', '.join(f'{name}: {len(found)}' for name, found in sorted(self._offered.items()))}>"
