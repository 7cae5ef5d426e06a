"""How the load of one priority is spread over its localities: by written weights, or as much as it can carry to the own one.

Theory of operation. *Weights* (Istio distribute, Envoy locality_weighted_lb): a locality counts its weight times
min(1, overprovisioning * in service / hosts). One without a weight gets nothing, whatever becomes of the others. *Zone-aware*
(Envoy zone_aware_lb): per locality two shares are compared, that of the gateways and that of the endpoints. If the endpoints' share here is
at least the gateways', everything stays. Else as much stays as this locality's endpoints can carry, and the rest goes where the endpoints'
share is above the gateways', in proportion to what is spare there.

Pure: no I/O, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Mapping

WHOLE = 10_000
"""Envoy counts shares in ten-thousandths, in whole numbers."""


def weighted_shares(
    weights: Mapping[str, int], hosts: Mapping[str, float], in_service: Mapping[str, float], overprovisioning: int
) -> dict[str, float]:
    """The share (of 1.0) of each locality that has any; empty when none has."""
    effective = {}
    for name, weight in weights.items():
        whole = hosts.get(name, 0.0)
        if whole > 0:
            effective[name] = weight * min(1.0, overprovisioning / 100 * in_service.get(name, 0.0) / whole)
    total = sum(effective.values())
    return {name: value / total for name, value in effective.items() if value > 0}


def zone_shares(here: str, gateways: Mapping[str, int], endpoints: Mapping[str, int]) -> dict[str, float] | None:
    """The share (of 1.0) of each locality for a gateway in `here`. gateways, endpoints: how many there are in service by locality.
    None where it is not applied: nothing here, or only one locality."""
    if not endpoints.get(here) or len(endpoints) < 2 or not gateways.get(here):
        return None
    ours, theirs = _shares(gateways), _shares(endpoints)
    if theirs[here] >= ours[here]:
        return {here: 1.0}
    stays = theirs[here] * WHOLE // ours[here]
    spare = {name: share - ours.get(name, 0) for name, share in theirs.items() if name != here and share > ours.get(name, 0)}
    total = sum(spare.values())
    if not total:  # rounding left no locality with anything spare: evenly, as Envoy draws one at random
        spare = {name: 1 for name in theirs if name != here}
        total = len(spare)
    found = {name: (WHOLE - stays) / WHOLE * value / total for name, value in spare.items()}
    if stays:
        found[here] = stays / WHOLE
    return found


def _shares(counts: Mapping[str, int]) -> dict[str, int]:
    total = sum(counts.values())
    return {name: WHOLE * count // total for name, count in counts.items()}
