"""The demo's plot: steady traffic, a region's services go away, the region comes back, a whole gateway goes away; and its verdict.

The verdict is strict: every event must hit what carried at least a fifth of the traffic in the second before, traffic must really
move and come back. Otherwise the reasons are listed and the exit status is 1.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Sequence

import msgspec
import trio

from appliance.demo.load import Load, Request, Sample
from appliance.demo.measure import Phase, phase, share
from appliance.demo.stage import Stage
from appliance.demo.world import CLUSTERS, GATEWAY_DOWN, HOST, INGRESS, INGRESS_PORT, REGION_DOWN

# Parts of the whole time. Return is slower than leaving, on purpose: processes start, pass their checks, are held back, ramp up.
PHASES = {"steady": 0.15, "region-down": 0.25, "region-back": 0.4, "gateway-down": 0.2}
RATE = 60.0  # requests a second, open loop
TIMEOUT_S = 5.0  # of the client
HIT = 0.2  # an event must hit at least this share of the traffic
REQUESTS = tuple(Request(name, HOST, f"/{name}") for name in ("productpage", "details", "reviews", "ratings"))
IN_REGION = frozenset(here.name for here in CLUSTERS if here.region == REGION_DOWN)
STEADY = "steady"
GONE = {"region-down": IN_REGION, "gateway-down": frozenset({GATEWAY_DOWN.name})}


class Result(msgspec.Struct, frozen=True):
    """What `--json` prints. problems: why the run does not count as a success; empty when it does.
    failures: what failed (request, and status or why there was no answer) → how often."""

    requests: int
    failed: int
    phases: tuple[Phase, ...]
    event: str
    problems: tuple[str, ...] = ()
    failures: dict[str, int] = {}


class Story:
    """One run over an open Stage. `phase_name` and `load` are there for who wants to watch."""

    def __init__(self, stage: Stage, *, seconds: float, blackhole: bool) -> None:
        self.phase_name = STEADY
        self.load = Load(
            (INGRESS.gateway, INGRESS_PORT), lambda number: REQUESTS[number % len(REQUESTS)], rate=RATE, timeout_s=TIMEOUT_S
        )
        self._stage = stage
        self._seconds = seconds
        self._signal = signal.SIGSTOP if blackhole else signal.SIGKILL
        self._events: list[tuple[str, float]] = []
        self._before: dict[str, dict[str, float]] = {}

    async def run(self) -> Result:
        """Plays all phases. Leaves the world as the last event left it."""
        begins_s = 0.0
        async with trio.open_nursery() as nursery:
            await nursery.start(self.load.run, self._seconds)
            for name, part in PHASES.items():
                await trio.sleep_until(self.load.started_at + begins_s)
                begins_s += part * self._seconds
                self._begin(name)
                await self._event(name)
        return self._result()

    def _begin(self, name: str) -> None:
        now = self.load.now_s
        self._before[name] = share([s for s in self.load.samples if now - 1 <= s.due_s + s.took_ms / 1000 < now])
        self._events.append((name, now))
        self.phase_name = name

    async def _event(self, name: str) -> None:
        if name == "region-down":
            self._stage.signal_region(REGION_DOWN, self._signal)
        elif name == "region-back":
            await self._stage.revive_region(REGION_DOWN)
        elif name == "gateway-down":
            self._stage.signal_gateway(GATEWAY_DOWN, self._signal)

    def _result(self) -> Result:
        samples: Sequence[Sample] = self.load.samples
        ends = [begin for _, begin in self._events[1:]] + [float("inf")]
        horizon = max((s.due_s + s.took_ms / 1000 for s in samples), default=0.0) + 0.001
        phases = tuple(
            phase(name, samples, begin_s=begin, end_s=min(end, horizon))
            for (name, begin), end in zip(self._events, ends, strict=True)
        )
        return Result(
            requests=len(samples),
            failed=sum(sample.failed for sample in samples),
            phases=phases,
            event="SIGSTOP" if self._signal == signal.SIGSTOP else "SIGKILL",
            problems=tuple(problems(phases, self._before)),
            failures=dict(Counter(f"{s.target}: {s.error or s.status}" for s in samples if s.failed)),
        )


def problems(phases: Sequence[Phase], before: dict[str, dict[str, float]]) -> list[str]:
    """Why a run proves nothing, or proves that failover does not work. before: phase → share in the second before its event."""
    found = []
    by_name = {phase.name: phase for phase in phases}
    for name, gone in GONE.items():
        hit = sum(before[name].get(cluster, 0.0) for cluster in gone)
        if hit < HIT:
            found.append(
                f"{name}: what was taken away carried {hit:.0%} of the traffic in the second before; under {HIT:.0%} proves nothing"
            )
        left = sum(by_name[name].share.get(cluster, 0.0) for cluster in gone)
        if left > 0.05 or not by_name[name].share:
            found.append(f"{name}: {left:.0%} of the traffic is still answered by what was taken away")
    steady, back = by_name[STEADY].share, by_name["region-back"].share
    found += [
        f"region-back: {cluster} has {back.get(cluster, 0):.0%} of the traffic again, it had {steady.get(cluster, 0):.0%}"
        for cluster in sorted(IN_REGION)
        if abs(back.get(cluster, 0) - steady.get(cluster, 0)) > 0.1
    ]
    found += [f"{phase.name}: the traffic did not settle" for phase in phases if phase.moved_ms is None]
    return found
