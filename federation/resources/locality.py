"""Which localities traffic goes to: Istio's LocalityLoadBalancerSetting and ZoneAwareLoadBalancerSetting.

A locality pattern is `region[/zone[/subzone]]`; `*` at its end, or nothing, is every zone or subzone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from federation.resources.checks import duplicates, fault, range_fault, warning
from federation.resources.message import Fault, Message, Path
from federation.resources.scalars import Flag, Whole

LEVEL_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
SMALLEST_ZONED = 6  # Envoy's min_cluster_size


def locality_pattern_fault(pattern: str) -> str | None:
    """Istio's rules: one `*`, at the end; no part empty."""
    if not pattern:
        return "the locality is empty; write region, region/zone or region/zone/subzone, with `*` at the end for any"
    if pattern.count("*") > 1 or ("*" in pattern and pattern.split("/")[-1] != "*"):
        return f"locality {pattern} wildcard '*' number can not exceed 1 and must be in the end; write for example us-east/*"
    parts = pattern.split("/")
    if len(parts) > 3 or not all(parts):
        return (
            f"locality {pattern} must not contain empty region/zone/subzone info; write region, region/zone or region/zone/subzone"
        )
    return None


def overlaps(one: str, other: str) -> bool:
    """Some locality is in both patterns."""
    first, second = _parts(one), _parts(other)
    return first[: len(second)] == second or second[: len(first)] == first


def _parts(pattern: str) -> list[str]:
    return [part for part in pattern.split("/") if part != "*"]


def _pattern_faults(patterns: Sequence[str], at: Sequence[Path]) -> Iterator[Fault]:
    for index, (pattern, path) in enumerate(zip(patterns, at, strict=True)):
        message = locality_pattern_fault(pattern)
        if message is None:
            earlier = next((each for each in patterns[:index] if each and overlaps(each, pattern)), None)
            if earlier is not None:
                message = f"locality {pattern} overlap with previous specified ones ({earlier}); keep one"
        yield from fault(path, message)


class Failover(Message):
    """Regions: when `from` has not enough left, its traffic goes to `to` first."""

    from_: str = Field(default="", alias="from")
    to: str = ""

    def faults(self) -> Iterator[Fault]:
        for name, region in (("from", self.from_), ("to", self.to)):
            if not region:
                yield Fault((name,), f"`{name}` is empty; write a region")
            if "/" in region:
                yield Fault((name,), "failover names regions only; write the part before the first `/`")
            if "*" in region:
                yield Fault((name,), "failover names one region, no `*`; write one entry per region")
        if self.from_ == self.to:
            yield Fault((), "failover from a region to itself; write two different regions")


class Distribute(Message):
    """For gateways in `from`: locality pattern → per cent. Localities that `to` does not name get nothing."""

    from_: str = Field(default="", alias="from")
    to: dict[str, Whole] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        for locality, weight in self.to.items():
            if not 1 <= weight <= 100:
                yield Fault(("to", locality), "locality weight must be in range [1, 100]; leave a locality out to send it nothing")
        total = sum(self.to.values())
        if total != 100:
            yield Fault(("to",), f"total locality weight {total} != 100; write weights that add up to 100")
        yield from _pattern_faults(list(self.to), [("to", each) for each in self.to])


class LocalityLbSetting(Message):
    """Istio's LocalityLoadBalancerSetting. enabled None: not written (on, by the mesh's default)."""

    enabled: Flag | None = None
    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if self.distribute and self.failover:
            yield Fault((), "can not simultaneously specify 'distribute' and 'failover'; keep one")
        if self.distribute and self.failover_priority:
            yield from warning(("failoverPriority",), "distribute is written, so failoverPriority does nothing; keep one")
        yield from failover_faults(self.failover, self.failover_priority, levels=not self.failover)
        yield from _pattern_faults(
            [each.from_ for each in self.distribute], [("distribute", index, "from") for index in range(len(self.distribute))]
        )


class ZoneAwareLbSetting(Message):
    """Istio's ZoneAwareLoadBalancerSetting: the own region first, and in it as much in the own zone as that can carry."""

    enabled: Flag | None = None
    min_cluster_size: Whole | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()

    def faults(self) -> Iterator[Fault]:
        yield from fault(("minClusterSize",), range_fault(self.min_cluster_size, 0))
        yield from failover_faults(self.failover, self.failover_priority, levels=False)


def failover_faults(failover: Sequence[Failover], labels: Sequence[str], *, levels: bool) -> Iterator[Fault]:
    """levels: the labels of region, zone and subzone are fine."""
    for index, region in duplicates([entry.from_ for entry in failover]):
        yield from warning(("failover", index), f"failover from `{region}` is written twice; the first holds")
    for index, label in enumerate(labels):
        key = label.partition("=")[0]
        if not key:
            yield Fault(("failoverPriority", index), "the label is empty; write key or key=value")
        elif key in LEVEL_LABELS and not levels:
            message = f"can not simultaneously set 'failover' and topology label '{key}' in 'failover_priority'; remove one"
            yield Fault(("failoverPriority", index), message)
    for index, label in duplicates(list(labels)):
        yield Fault(("failoverPriority", index), f"`{label[:80]}` is written twice; remove one")
