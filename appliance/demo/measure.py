"""What the samples of a run say, phase by phase. Pure: samples in, figures out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from appliance.demo.load import Sample, percentile

# "The new steady state": every cluster's share within 10 points of it, 4 samples of a window; with 5 a busy machine never settled.
NEAR = 0.1 + 1e-9
WINDOW = 40  # samples over which a share is read: ten rounds of the four requests, so one sample is 2.5 points
SETTLED = 0.4  # the last part of a phase that counts as its steady state


class Phase(msgspec.Struct, frozen=True):
    """The figures of one phase. Times in ms after the phase's event; None: nothing failed, or it never settled."""

    name: str
    requests: int
    failed: int
    last_failed_ms: float | None
    moved_ms: float | None
    p50_ms: float
    p99_ms: float
    share: dict[str, float]


def share(samples: Sequence[Sample]) -> dict[str, float]:
    """Cluster → part of the answered requests that its services served, 0..1, rounded to 4 places."""
    served = Counter(sample.served_by.split("/")[0] for sample in samples if not sample.failed and sample.served_by)
    total = sum(served.values())
    return {cluster: round(count / total, 4) for cluster, count in sorted(served.items())} if total else {}


def _differ(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    return max((abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in {*one, *other}), default=1.0)


def moved_ms(samples: Sequence[Sample], steady: Mapping[str, float], *, event_s: float) -> float | None:
    """From the event until the share of traffic stays within 10 points of `steady`; None when it never does.

    Read over windows of WINDOW requests in the order they were due; the moment is when the first request of the first window is
    due after which no window differs any more."""
    ordered = sorted(samples, key=lambda sample: sample.due_s)
    settled: float | None = None
    for start in range(max(1, len(ordered) - WINDOW + 1)):
        window = ordered[start : start + WINDOW]
        if any(sample.failed for sample in window) or _differ(share(window), steady) > NEAR:
            settled = None
        elif settled is None:
            settled = max(0.0, (window[0].due_s - event_s) * 1000)
    return settled


def phase(name: str, samples: Sequence[Sample], *, begin_s: float, end_s: float) -> Phase:
    """Figures of the requests that ended in [begin_s, end_s); the phase's event was at begin_s."""
    mine = [sample for sample in samples if begin_s <= sample.due_s + sample.took_ms / 1000 < end_s]
    failed = [sample for sample in mine if sample.failed]
    took = sorted(sample.took_ms for sample in mine if not sample.failed)
    late = [sample for sample in mine if sample.due_s >= end_s - SETTLED * (end_s - begin_s)]
    steady = share(late)
    after = [sample for sample in mine if sample.due_s >= begin_s]
    return Phase(
        name=name,
        requests=len(mine),
        failed=len(failed),
        last_failed_ms=round(max((s.due_s - begin_s) * 1000 + s.took_ms for s in failed), 1) if failed else None,
        moved_ms=_rounded(moved_ms(after, steady, event_s=begin_s)),
        p50_ms=round(percentile(took, 0.5), 2),
        p99_ms=round(percentile(took, 0.99), 2),
        share=steady,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
