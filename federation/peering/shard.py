"""What we believe of one peer: its claims as discovery Services, over all of its addresses.

Pure. Several addresses are gateways of one cluster and say the same; one of them is believed at a time, the first that gave its whole picture
and still talks. When its session is lost the next one takes over; when none is left, the last picture stands.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from discovery.model import Service
from federation.peering import session as s
from federation.peering.accept import Address, accepted
from federation.peering.terms import Finding, PeerTerms
from federation.peering.wire import ExportedService, Hello


class View(msgspec.Struct, frozen=True):
    """epoch changes when everything is to be taken anew (a Reset); services by hostname; findings: what was not believed. live: the one
    who said it still talks to us."""

    epoch: int
    services: Mapping[str, Service]
    findings: tuple[Finding, ...] = ()
    live: bool = True


class Shard:
    """Fed with what the sessions learn; `view()` is what came of it, None before any whole picture. What is unchanged is the same object."""

    def __init__(self, terms: PeerTerms) -> None:
        self._terms = terms
        self._addresses: tuple[Address, ...] = ()
        self._pictures: dict[str, tuple[Hello, dict[str, ExportedService]]] = {}
        self._believed: str | None = None  # key of the address whose picture counts, while its session lives
        self._made: dict[str, tuple[ExportedService, Service | Finding]] = {}
        self._hello: Hello | None = None
        self._epoch = 0

    @property
    def live(self) -> bool:
        """Somebody who is believed talks to us."""
        return self._believed is not None

    @property
    def hello(self) -> Hello | None:
        """Of the gateway that is, or was last, believed."""
        return self._hello

    def readdress(self, addresses: Collection[Address]) -> bool:
        """The peer's gateways are these now. True when that changes the view."""
        new = tuple(sorted(addresses))
        if new == self._addresses:
            return False
        self._addresses = new
        self._remake({name: exported for name, (exported, _) in self._made.items()}, anew=True)
        return self._hello is not None

    def learn(self, address: str, hello: Hello, action: s.Action) -> bool:
        """What the session with `address` says. True when that changes the view."""
        match action:
            case s.Replaced(services):
                self._pictures[address] = (hello, {each.hostname: each for each in services})
                if self._believed is None:
                    self._believed = address
                if self._believed == address:
                    self._believe(address)
                    return True
                return False
            case s.Changed(service):
                self._pictures[address][1][service.hostname] = service
                change = {service.hostname: service}
            case s.Gone(hostname):
                self._pictures[address][1].pop(hostname, None)
                change = {}
                if self._believed == address:
                    self._made.pop(hostname, None)
            case _:
                return False
        if self._believed != address:
            return False
        self._remake(change)
        return True

    def lost(self, address: str) -> bool:
        """The session with `address` has ended. True when that changes the view: another one's picture is believed now, or the view is
        no longer live."""
        self._pictures.pop(address, None)
        if self._believed != address:
            return False
        self._believed = next(iter(self._pictures), None)
        if self._believed is not None:
            self._believe(self._believed)
        return True

    def view(self) -> View | None:
        if self._hello is None:
            return None
        return View(
            epoch=self._epoch,
            services={name: made for name, (_, made) in self._made.items() if isinstance(made, Service)},
            findings=tuple(sorted(made for _, made in self._made.values() if isinstance(made, Finding))),
            live=self.live,
        )

    def _believe(self, address: str) -> None:
        hello, picture = self._pictures[address]
        anew = self._hello is None or (hello.cluster, hello.network) != (self._hello.cluster, self._hello.network)
        self._hello = hello
        self._epoch += 1
        self._made = {name: made for name, made in self._made.items() if name in picture}
        self._remake(picture, anew=anew)

    def _remake(self, exported: Mapping[str, ExportedService], *, anew: bool = False) -> None:
        hello = self._hello
        if hello is None:
            return
        for name, each in exported.items():
            old = self._made.get(name)
            if old is not None and not anew and old[0] == each:
                continue
            made = accepted(each, self._terms, cluster=hello.cluster, network=hello.network, addresses=self._addresses)
            self._made[name] = (each, old[1] if old is not None and old[1] == made else made)
