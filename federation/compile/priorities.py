"""Which priority each endpoint of a backend has.

Theory of operation. Istio compares the gateway's locality with the endpoint's: 0 same subzone, 1 same zone, 2 same region,
3 elsewhere, and 4 for what a `failover: {from, to}` of the gateway's region does not name. failoverPriority compares labels
instead: N labels give N minus the length of the matched prefix. Used together, the labels decide first. What comes out is
compacted to 0..n without holes. Zone-aware: regions only, as zones are weighed and not ranked. distribute has no priorities:
localities have weights, and those that it does not name get nothing. Under fedgate's own defaults the gateway's cluster comes before
all of that; a DestinationRule that sets localityLbSetting takes that away again, because then it decides to the letter.

A registry's own order (Endpoint.tier: a later SRV priority, a backup member) decides last, within one level of all that: it says who
stands in for whom where the registry is, and knows nothing of how far away that is from this gateway. So a backup nearby comes before
what is far away. It holds without localities too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from discovery.model import Endpoint, Locality

ELSEWHERE = 3  # another region; failover moves what it does not name behind it
NOT_NAMED = 4
LOCALITY_LEVELS = 5  # how many locality levels there are within one level of failoverPriority (Istio composes with this base)

CLUSTER_LABEL, NETWORK_LABEL = "topology.istio.io/cluster", "topology.istio.io/network"
REGION_LABEL, ZONE_LABEL = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
SUBZONE_LABEL = "topology.istio.io/subzone"


class Place(msgspec.Struct, frozen=True):
    """Where the gateway stands."""

    cluster: str = ""
    network: str = ""
    locality: Locality = Locality()
    labels: tuple[tuple[str, str], ...] = ()


class LocalityPolicy(msgspec.Struct, frozen=True):
    """What decides priorities. enabled False: one priority. failover: (from region, to region). regions_only: zones and subzones do
    not count. distribute: (from pattern, ((to pattern, weight), …))."""

    enabled: bool = True
    own_cluster_first: bool = False
    failover: tuple[tuple[str, str], ...] = ()
    failover_priority: tuple[str, ...] = ()
    regions_only: bool = False
    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()


ALL_EQUAL = LocalityPolicy(enabled=False)


def locality_level(here: Locality, there: Locality, failover: Iterable[tuple[str, str]] = ()) -> int:
    """0..4, as Istio's loadbalancer.go computes it."""
    if here.region != there.region:
        for source, target in failover:
            if source == here.region:
                return ELSEWHERE if there.region == target else NOT_NAMED
        return ELSEWHERE
    if here.zone != there.zone:
        return 2
    return 0 if here.subzone == there.subzone else 1


def label_level(rules: Sequence[str], here: Mapping[str, str], there: Mapping[str, str]) -> int:
    """len(rules) minus the matched prefix. `key=value` stands for a gateway whose label had that value."""
    for matched, rule in enumerate(rules):
        key, equals, value = rule.partition("=")
        wanted = value if equals else here.get(key, "")
        if there.get(key, "") != wanted:
            return len(rules) - matched
    return 0


def priorities(endpoints: Sequence[Endpoint], place: Place, policy: LocalityPolicy) -> list[int]:
    """One priority per endpoint, 0 first, no holes."""
    if not policy.enabled and not any(endpoint.tier for endpoint in endpoints):
        return [0] * len(endpoints)
    own = _labels(place.labels, place.cluster, place.network, place.locality) if policy.failover_priority else {}
    keys = [_key(endpoint, place, own, policy) for endpoint in endpoints]
    ranks = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [ranks[key] for key in keys]


def _key(endpoint: Endpoint, place: Place, own: Mapping[str, str], policy: LocalityPolicy) -> tuple[int, int, int]:
    if not policy.enabled:
        return 0, 0, endpoint.tier
    foreign = policy.own_cluster_first and is_foreign(endpoint, place.cluster)
    locality = locality_level(place.locality, endpoint.locality, policy.failover)
    if policy.regions_only and locality < ELSEWHERE:
        locality = 0
    level = 0
    if policy.failover_priority:
        there = _labels(endpoint.labels, endpoint.cluster, endpoint.network, endpoint.locality)
        level = label_level(policy.failover_priority, own, there)
        if not policy.failover and not policy.regions_only:
            return int(foreign), level, endpoint.tier
    return int(foreign), level * LOCALITY_LEVELS + locality, endpoint.tier


def locality_matches(pattern: str, locality: Locality) -> bool:
    """Istio's LocalityMatch: `*` is any region, zone or subzone, and so is what is left out (of zone and subzone)."""
    parts = (*pattern.split("/"), "*", "*")[:3]
    return all(part in ("*", own) for part, own in zip(parts, (locality.region, locality.zone, locality.subzone), strict=True))


def distribution(endpoints: Iterable[Endpoint], here: Locality, policy: LocalityPolicy) -> dict[str, int] | None:
    """Weight by locality (as text) for a gateway at `here`, by the first `from` that it is in; None when it is in none. A pattern
    that matches several localities divides its weight among them by the weights of their endpoints, rounded up (Istio). A
    locality that is not in the answer gets nothing, even if everything else is dead (trap 12)."""
    to = next((to for source, to in policy.distribute if locality_matches(source, here)), None)
    if to is None:
        return None
    sizes: dict[Locality, int] = {}
    for endpoint in endpoints:
        sizes[endpoint.locality] = sizes.get(endpoint.locality, 0) + endpoint.weight
    found: dict[str, int] = {}
    for pattern, weight in to:
        matched = [each for each in sizes if locality_matches(pattern, each) and str(each) not in found]
        total = sum(sizes[each] for each in matched)
        found.update({str(each): -(-sizes[each] * weight // total) for each in matched if sizes[each]})
    return found


def is_foreign(endpoint: Endpoint, cluster: str) -> bool:
    """Whether the endpoint belongs to another cluster. A peer's always does, whatever it calls its cluster."""
    return bool(endpoint.peer) or endpoint.cluster not in ("", cluster)


def _labels(labels: Iterable[tuple[str, str]], cluster: str, network: str, locality: Locality) -> dict[str, str]:
    """Labels as failoverPriority sees them: the topology ones follow from where the endpoint is."""
    topology = {
        CLUSTER_LABEL: cluster,
        NETWORK_LABEL: network,
        REGION_LABEL: locality.region,
        ZONE_LABEL: locality.zone,
        SUBZONE_LABEL: locality.subzone,
    }
    return {**dict(labels), **{key: value for key, value in topology.items() if value}}
