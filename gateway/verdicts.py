"""What is known of endpoints' health beside the Snapshot: the overlay that control publishes and engines apply.

Keyed twice, so that one event is one small message: by (backend, endpoint id) for what a check or a peer's counts say, and by
address for what holds for every backend behind it (a peer's gateway that has gone silent).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from discovery.model import Health


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """Of one endpoint, or of one group of a peer's endpoints (`healthy` of `total` workloads behind it).

    A workload: health decides, healthy/total are 1/1 or 0/1. A peer's group: healthy/total are its counts, and health says
    whether the counts are still to be believed.
    """

    health: Health
    healthy: int = 1
    total: int = 1
    reason: str = ""


class AddressState(enum.Enum):
    """Of a peer's gateway address: suspect = its session went silent, workers must confirm; down = out at once."""

    SUSPECT = "suspect"
    DOWN = "down"


class Verdicts(msgspec.Struct, frozen=True):
    """endpoints: backend name → (endpoint id or group → Verdict); what is not named is healthy, 1/1. addresses: key → state;
    what is not named is up. evacuated: cluster → per mille of its traffic that may still go there."""

    endpoints: Mapping[str, Mapping[str, Verdict]] = {}
    addresses: Mapping[str, AddressState] = {}
    evacuated: Mapping[str, int] = {}


class VerdictsDelta(msgspec.Struct, frozen=True):
    """Whole inner mappings of the backends that changed, and addresses that changed; None = removed."""

    whole: bool = False
    endpoints: Mapping[str, Mapping[str, Verdict] | None] = {}
    addresses: Mapping[str, AddressState | None] = {}
    evacuated: Mapping[str, int] | None = None


def difference(old: Verdicts | None, new: Verdicts) -> VerdictsDelta:
    """What turns `old` into `new`; the whole when old is None."""
    if old is None:
        return VerdictsDelta(whole=True, endpoints=new.endpoints, addresses=new.addresses, evacuated=new.evacuated)
    endpoints: dict[str, Mapping[str, Verdict] | None] = {
        name: inner
        for name, inner in new.endpoints.items()
        if old.endpoints.get(name) is not inner and old.endpoints.get(name) != inner
    }
    endpoints.update({name: None for name in old.endpoints if name not in new.endpoints})
    addresses: dict[str, AddressState | None] = {k: s for k, s in new.addresses.items() if old.addresses.get(k) is not s}
    addresses.update({key: None for key in old.addresses if key not in new.addresses})
    return VerdictsDelta(
        endpoints=endpoints, addresses=addresses, evacuated=None if old.evacuated == new.evacuated else new.evacuated
    )


def applied(old: Verdicts, delta: VerdictsDelta) -> Verdicts:
    """`old` with the delta; the inverse of `difference`."""
    if delta.whole:
        old = Verdicts()
    endpoints = dict(old.endpoints)
    for name, inner in delta.endpoints.items():
        if inner is None:
            endpoints.pop(name, None)
        else:
            endpoints[name] = inner
    addresses = dict(old.addresses)
    for key, state in delta.addresses.items():
        if state is None:
            addresses.pop(key, None)
        else:
            addresses[key] = state
    return Verdicts(
        endpoints=endpoints,
        addresses=addresses,
        evacuated=old.evacuated if delta.evacuated is None else delta.evacuated,
    )
