"""One service name, as several sources describe it, made into one Service: who wins each field, and why.

The rule: sources of the own cluster first, then the oldest `created`, then the shard key's order. Names of a cluster set (MCS API) have no
own cluster: there the oldest ServiceExport wins in every cluster alike (KEP-1645), whoever asks. A source that
says nothing of a field (no addresses, protocol UNKNOWN, no name) does not compete for it. Ports are the union by name, then
by number; endpoints and subject alternative names are unions. A loser's port keeps working under the winner's name: its
endpoints are renamed with it. Nothing depends on the order in which sources spoke. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from discovery.model import Endpoint, Port, Protocol, Provenance, Resolution, Service, ShardKey

T = TypeVar("T")


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One source's word on a service."""

    key: ShardKey
    service: Service


class Finding(msgspec.Struct, frozen=True, order=True):
    """Two sources contradict each other on a field: what was decided, for whom and against whom. Without losers: a remark of the winner
    on its own registry (field `notes`)."""

    hostname: str
    field: str
    message: str
    winner: ShardKey
    losers: tuple[ShardKey, ...]

    @property
    def conflict(self) -> bool:
        return bool(self.losers)


CLUSTER_SET = ".svc.clusterset.local"


def merge(claims: Sequence[Claim], own: str) -> tuple[Service, tuple[Finding, ...]]:
    """The one Service, and the contradictions it hides. claims: at least one, all of one hostname, at most one per shard;
    own: the own cluster's name. A single claim comes back as it is, the same object."""
    if len(claims) == 1:
        return claims[0].service, tuple(_notes(claims))
    merging = _Merging(claims, own)
    service = merging.service()
    return service, (*merging.findings, *_notes(merging.claims))


def explain(claims: Sequence[Claim], own: str) -> tuple[Provenance, ...]:
    """Which source won each field of the merged service, and why; endpoints one by one. The cost is that of a merge."""
    merging = _Merging(claims, own, explaining=True)
    merging.service()
    return (*merging.provenance, *(_endpoint_provenance(found, merging.why) for found in merging.found))


class _Found:
    """An endpoint of the union, the claim it is from, and the claims that say the same."""

    __slots__ = ("claim", "endpoint", "others")

    def __init__(self, endpoint: Endpoint, claim: Claim) -> None:
        self.endpoint = endpoint
        self.claim = claim
        self.others: list[Claim] = []


class _Merging:
    """One pass over ranked claims. `provenance` (if it is to explain itself), `findings` and `found` fill as the fields are decided."""

    def __init__(self, claims: Sequence[Claim], own: str, *, explaining: bool = False) -> None:
        self._own = own
        self._explaining = explaining
        self.claims = sorted(claims, key=lambda claim: _rank(claim, own))
        self._hostname = claims[0].service.hostname
        self.provenance: list[Provenance] = []
        self.findings: list[Finding] = []
        self.found: list[_Found] = []

    def service(self) -> Service:
        ports, renamed = self._ports()
        field = self._field
        return Service(
            hostname=self._hostname,
            namespace=field("namespace", contradicts=True),
            ports=ports,
            endpoints=self._union(renamed),
            addresses=field("addresses"),
            labels=field("labels"),
            resolution=field("resolution", contradicts=True),
            external=field("external", contradicts=True, silent=None),
            subject_alt_names=self._subject_alt_names(),
            headless=self._headless(),
            created=self._created(),
        )

    def why(self, winner: Claim, losers: Sequence[Claim]) -> str:
        """In which step of the rule `winner` left the first of `losers` behind."""
        if not losers:
            return "only one says it"
        rank, other = _rank(winner, self._own), _rank(losers[0], self._own)
        if rank[0] != other[0]:
            return "own cluster first"
        if rank[1] != other[1]:
            return f"oldest, created {winner.service.created}"
        return "first by shard key"

    def _field(self, name: str, *, contradicts: bool = False, silent: Any = ()) -> Any:
        """The first claim that says something wins. silent: what stands for "says nothing" besides the empty text."""
        said = [(claim, getattr(claim.service, name)) for claim in self.claims]
        first = said[0][1]
        if not self._explaining and all(value == first for _, value in said):
            return first  # as almost always
        spoken = [(claim, value) for claim, value in said if value != silent and value != ""]
        return self._decide(name, spoken, contradicts=contradicts) if spoken else said[0][1]

    def _decide(self, name: str, spoken: Sequence[tuple[Claim, T]], *, contradicts: bool) -> T:
        winner, value = spoken[0]
        if len(spoken) == 1 and not self._explaining:
            return value
        losers = [claim for claim, other in spoken if other != value]
        if not losers and not self._explaining:
            return value
        agree = not losers and len(spoken) > 1
        reason = "all agree" if agree else self.why(winner, losers)
        keys = tuple(claim.key for claim in losers)
        self.provenance.append(Provenance(name, winner.key, reason, keys))
        if contradicts and losers:
            others = "; ".join(f"{claim.key} says {_words(other)}" for claim, other in spoken if other != value)
            self._find(name, f"{winner.key} says {_words(value)} and is followed ({reason}); {others}", winner, keys)
        return value

    def _find(self, name: str, message: str, winner: Claim, losers: tuple[ShardKey, ...]) -> None:
        self.findings.append(Finding(self._hostname, name, message, winner.key, losers))

    def _ports(self) -> tuple[tuple[Port, ...], list[dict[str, str]]]:
        """The union of ports, and for each claim how its ports' names became the union's."""
        same = self.claims[0].service.ports
        if not self._explaining and all(claim.service.ports == same for claim in self.claims) and _distinct(same):
            return same, [{}] * len(self.claims)
        slots: list[list[tuple[Claim, Port]]] = []
        for claim in self.claims:
            self._place(claim, slots)
        renamed: list[dict[str, str]] = [{} for _ in self.claims]
        index = {claim.key: position for position, claim in enumerate(self.claims)}
        ports = []
        for slot in slots:
            port = self._port(slot)
            ports.append(port)
            for claim, other in slot:
                if other.name != port.name:
                    renamed[index[claim.key]][other.name] = port.name
        return tuple(ports), renamed

    def _place(self, claim: Claim, slots: list[list[tuple[Claim, Port]]]) -> None:
        """Put each of the claim's ports into the slot it shares a name with, else a number, else into a new one."""
        by_name = {port.name: slot for slot in slots for port in [_named(slot)] if port is not None}
        by_number = {_number(slot[0][1]): slot for slot in slots}
        rest = []
        for port in claim.service.ports:
            if port.name in by_name:
                by_name[port.name].append((claim, port))
            else:
                rest.append(port)
        for port in rest:
            slot = by_number.get(_number(port))
            if slot is None:
                slots.append([(claim, port)])
            elif slot[-1][0] is not claim:
                slot.append((claim, port))
            else:
                winner, kept = slot[0]
                taken = f"its number is taken by port {kept.name!r} of {winner.key}"
                message = f"port {port.name or port.number} of {claim.key} is not offered: {taken}"
                self._find(f"ports[{port.number}]", message, winner, (claim.key,))

    def _port(self, slot: Sequence[tuple[Claim, Port]]) -> Port:
        name = f"ports[{slot[0][1].number}]"
        number = self._decide(f"{name}.number", [(claim, port.number) for claim, port in slot], contradicts=True)
        named = [(claim, port.name) for claim, port in slot if port.name]
        if named:
            self._decide(f"{name}.name", named, contradicts=True)
        known = [(claim, port.protocol) for claim, port in slot if port.protocol is not Protocol.UNKNOWN]
        protocol = self._decide(f"{name}.protocol", known, contradicts=True) if known else Protocol.UNKNOWN
        target = next((port.target for _, port in slot if port.target), 0)
        return Port(number, named[0][1] if named else "", protocol, target)

    def _union(self, renamed: Sequence[dict[str, str]]) -> tuple[Endpoint, ...]:
        """As `_endpoints`, without a word of who said what."""
        if self._explaining or any(renamed):
            return self._endpoints(renamed)
        first: dict[Any, Claim] = {}
        found = []
        for claim in self.claims:
            for endpoint in claim.service.endpoints:
                ports = endpoint.ports
                identity = (endpoint.address, endpoint.cluster, ports if len(ports) < 2 else tuple(sorted(ports)))
                if first.setdefault(identity, claim) is claim:
                    found.append(endpoint)
        return tuple(found)

    def _endpoints(self, renamed: Sequence[dict[str, str]]) -> tuple[Endpoint, ...]:
        """The union. What two claims say of one cluster's address and ports is one endpoint, the first claim's. One claim
        may say an address twice: a peer's gateway stands once for each locality behind it."""
        first: dict[Any, _Found] = {}
        for claim, names in zip(self.claims, renamed, strict=True):
            for endpoint in claim.service.endpoints:
                ports = endpoint.ports
                if names:
                    ports = tuple((names.get(name, name), number) for name, number in ports)
                identity = (endpoint.cluster, endpoint.address, ports if len(ports) < 2 else tuple(sorted(ports)))
                known = first.get(identity)
                if known is not None and known.claim is not claim:
                    known.others.append(claim)
                    continue
                found = _Found(endpoint if ports == endpoint.ports else msgspec.structs.replace(endpoint, ports=ports), claim)
                first.setdefault(identity, found)
                self.found.append(found)
        return tuple(found.endpoint for found in self.found)

    def _subject_alt_names(self) -> tuple[str, ...]:
        spoken = [claim for claim in self.claims if claim.service.subject_alt_names]
        if spoken and self._explaining:
            reason = "union of all that say it" if len(spoken) > 1 else "only one says it"
            self.provenance.append(Provenance("subject_alt_names", spoken[0].key, reason))
        return tuple(dict.fromkeys(name for claim in spoken for name in claim.service.subject_alt_names))

    def _headless(self) -> bool:
        """A peer has no word in it: what is behind its gateway is reached through that, whatever it is over there."""
        said = [(claim, claim.service.headless) for claim in self.claims]
        spoken = [(claim, value) for claim, value in said if not any(endpoint.peer for endpoint in claim.service.endpoints)]
        return self._decide("headless", spoken or said, contradicts=True)

    def _created(self) -> str:
        """Since when this cluster has it, as peers are told; without it here, the oldest there is."""
        here = [claim for claim in self.claims if claim.key.cluster == self._own] or self.claims
        winner = min(here, key=lambda claim: _age(claim.service.created))
        if not self._explaining:
            return winner.service.created
        spoken = [claim for claim in self.claims if claim.service.created]
        reason = "only one says it" if len(spoken) < 2 else "oldest of the own cluster" if here is not self.claims else "oldest"
        self.provenance.append(Provenance("created", winner.key, reason))
        return winner.service.created


def _notes(claims: Iterable[Claim]) -> Iterator[Finding]:
    for claim in claims:
        for note in claim.service.notes:
            yield Finding(claim.service.hostname, "notes", f"{claim.key}: {note}", claim.key, ())


def _rank(claim: Claim, own: str) -> tuple[bool, tuple[bool, float], ShardKey]:
    foreign = claim.key.cluster != own and not claim.service.hostname.endswith(CLUSTER_SET)
    return (foreign, _age(claim.service.created), claim.key)


@lru_cache(maxsize=4096)  # a merge asks again and again for the same few
def _age(created: str) -> tuple[bool, float]:
    """Sorts RFC 3339 times oldest first, and what is none after them all."""
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return (True, 0.0)
    return (False, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())


def _distinct(ports: Sequence[Port]) -> bool:
    """Whether the rule would leave these ports as they are: every one known by a name and a number of its own."""
    return all(port.name for port in ports) and len({port.name for port in ports}) == len({_number(port) for port in ports}) == len(
        ports
    )


def _named(slot: Sequence[tuple[Claim, Port]]) -> Port | None:
    return next((port for _, port in slot if port.name), None)


def _number(port: Port) -> tuple[int, bool]:
    """TCP and UDP have numbers of their own: DNS serves 53 on both."""
    return (port.number, port.protocol is Protocol.UDP)


def _words(value: Any) -> str:
    return str(value.value) if isinstance(value, Protocol | Resolution) else repr(value)


def _endpoint_provenance(found: _Found, why: Callable[[Claim, Sequence[Claim]], str]) -> Provenance:
    losers = tuple(claim.key for claim in found.others)
    return Provenance(f"endpoints[{_place_of(found.endpoint)}]", found.claim.key, why(found.claim, found.others), losers)


def _place_of(endpoint: Endpoint) -> str:
    """With its port numbers: several endpoints of one service may share an address."""
    numbers = ",".join(str(number) for _, number in endpoint.ports if number)
    host = f"[{endpoint.address}]" if ":" in endpoint.address and numbers else endpoint.address
    return f"{host}:{numbers}" if numbers else host
