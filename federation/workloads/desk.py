"""Who is registered: workloads that say of themselves that they are there, and have to say so again before their lease is over. Pure.

Theory of operation. A WorkloadGroup says what its workloads have in common; a Claim is what one of them says; both together are a
WorkloadEntry document, which is read like any that a user wrote, so ServiceEntries select it and a mistake in it is told to whoever claims.
A group that goes away takes its workloads out of the documents; the registrations stay until their leases end, as a file may be back soon.
Registering again renews; a claim that says something else replaces what was said before.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from discovery.document import Origin, RawDocument, path_of
from federation.resources.document import Document
from federation.resources.message import Fault
from federation.resources.service_entry import WorkloadEntry
from federation.resources.strict import read_message
from federation.resources.workload_group import WorkloadGroup, token_sums

MOST_IN_GROUP = 4096  # as endpoints of a ServiceEntry
MOST = 10_000  # of one gateway: with a probe every 10 s each that is 1,000 probes a second
LEASE = 30.0  # seconds; a workload that says nothing for three heartbeats of 10 s is gone
SHORTEST_LEASE, LONGEST_LEASE = 5.0, 86_400.0  # below: a loaded machine misses its own heartbeat; above: write a WorkloadEntry

GroupKey = tuple[str, str]
"""(namespace, name) of a WorkloadGroup."""

Key = tuple[str, str, str]
"""(namespace, group, address) of a workload."""


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a workload says of itself, besides its address. What it leaves out the group's template says. lease: seconds."""

    ports: dict[str, int] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""
    lease: float = LEASE


class Registered(msgspec.Struct, frozen=True):
    """since, expires: seconds of the wall clock."""

    key: Key
    claim: Claim
    since: float
    expires: float


class Refused(Exception):
    """A claim that is not taken. status: of HTTP; the text says what to do."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Desk:
    """registered: by key, in the order of registration. groups: as `agree` said."""

    def __init__(self, registered: Iterable[Registered] = ()) -> None:
        self.registered: dict[Key, Registered] = {each.key: each for each in registered}
        self.groups: Mapping[GroupKey, Document[WorkloadGroup]] = {}

    def agree(self, groups: Iterable[Document[WorkloadGroup]]) -> None:
        """These are the groups now."""
        self.groups = {(each.namespace, each.name): each for each in groups}

    def admits(self, namespace: str, group: str, token: str) -> bool:
        """Whether a workload with this token may register there. A group that does not exist admits nobody."""
        found = self.groups.get((namespace, group))
        offered = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
        sums = token_sums(found.metadata.annotations) if found is not None else ()
        return (
            sum(hmac.compare_digest(each.encode(), offered.encode()) for each in sums) > 0
        )  # all of them, so that time tells nothing

    def register(self, namespace: str, group: str, address: str, claim: Claim, now: float) -> Registered:
        """Take or renew a registration. Raises Refused."""
        found = self.groups.get((namespace, group))
        if found is None:
            raise Refused(f"there is no WorkloadGroup {namespace}/{group}; write one, or mend the name", 404)
        if not SHORTEST_LEASE <= claim.lease <= LONGEST_LEASE:
            raise Refused(f"lease: {claim.lease:g} s is not within {SHORTEST_LEASE:g} s and {LONGEST_LEASE:g} s; write 30", 400)
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            raise Refused(
                f"`{address[:80]}` is no IP; a workload registers the address that this gateway reaches it at", 400
            ) from None
        key = (namespace, group, address)
        old = self.registered.get(key)
        new = Registered(key, claim, old.since if old is not None and old.claim == claim else now, now + claim.lease)
        if old is None:
            self._check_room(namespace, group)
        _, faults = read_message(WorkloadEntry, entry(new, found)["spec"])
        wrong = [fault for fault in faults if not fault.warning]
        if wrong:
            raise Refused("; ".join(_said(fault) for fault in wrong), 400)
        self.registered[key] = new
        return new

    def _check_room(self, namespace: str, group: str) -> None:
        members = sum(1 for key in self.registered if key[:2] == (namespace, group))
        if members >= MOST_IN_GROUP or len(self.registered) >= MOST:
            raise Refused(f"{members} workloads are registered there, {len(self.registered)} in all, which is the most", 429)

    def deregister(self, key: Key) -> bool:
        """Whether it was there."""
        return self.registered.pop(key, None) is not None

    def expire(self, now: float) -> list[Registered]:
        """Take out what has not been renewed, and return it."""
        gone = [each for each in self.registered.values() if each.expires <= now]
        for each in gone:
            del self.registered[each.key]
        return gone

    @property
    def next_expiry(self) -> float | None:
        return min((each.expires for each in self.registered.values()), default=None)

    def document(self, key: Key) -> RawDocument | None:
        """The WorkloadEntry of a registered workload; None while its group is not there."""
        registered, group = self.registered[key], self.groups.get(key[:2])
        if group is None:
            return None
        return RawDocument(Origin(f"workloads:{'/'.join(key)}"), entry(registered, group))

    def __repr__(self) -> str:
        return f"<Desk of {len(self.registered)} workloads in {len(self.groups)} groups>"


def entry(registered: Registered, group: Document[WorkloadGroup]) -> dict[str, Any]:
    """As Istio's control plane writes it for a workload that registers itself."""
    namespace, name, address = registered.key
    claim, template = registered.claim, group.spec.template
    said = {
        "address": address,
        "ports": {**template.ports, **claim.ports},
        "labels": {**group.spec.metadata.labels, **template.labels, **claim.labels},
        "network": claim.network or template.network,
        "locality": claim.locality or str(template.locality),
        "weight": claim.weight or template.weight,
        "serviceAccount": claim.service_account or template.service_account,
    }
    plain = address.replace(":", "-").replace(".", "-").strip("-")
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": f"{name}-{plain}", "namespace": namespace},
        "spec": {key: value for key, value in said.items() if value},
    }


def _said(fault: Fault) -> str:
    where = path_of(fault.path)
    return f"{where}: {fault.message}" if where else fault.message
