"""The control process of `python -m bench catalog`: the product's own, with five made-up registries and a clock on every turn.

Theory of operation. Started by the real supervisor in place of `appliance control`, so everything from a source's update to the workers'
"applied" is the product's path. A trio instrument takes the time of every turn of every task, by the wall and by this thread's processor
time: what others do on a busy machine shows in the first only. The figures go to the file named in FEDGATE_BENCH_RESULT.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import trio

from appliance import control
from appliance.admin.app import View
from appliance.control import Begun, Parts
from appliance.main import begin, view
from appliance.supervisor import supervise
from appliance.telemetry import logs
from bench import catalog_data as data
from discovery.model import Service
from discovery.source import Follower
from discovery.update import Reset, Update, Upsert
from federation.plane import Plane

CHANGES = int(os.environ.get("FEDGATE_BENCH_CHANGES", "300"))
BETWEEN = 0.12  # seconds between two changes, longer than the plane coalesces, so that each is measured by itself
SETTLED = 3.0  # seconds after the large change, in which the state directory is written for the first time
APPLIED_WITHIN = 300.0  # seconds; a worker takes 8 s of processor time to make 100,000 endpoints ready


class Registry:
    """A made-up source: says what it is told to, when it is told to."""

    def __init__(self, name: str, cluster: str) -> None:
        self.name = name
        self.cluster = cluster
        self.begin = trio.Event()
        self.services: tuple[Service, ...] = ()
        self._send, self._said = trio.open_memory_channel[Update](10_000)

    def say(self, update: Update) -> None:
        self._send.send_nowait(update)

    @trio.as_safe_channel
    async def watch(self) -> AsyncGenerator[Update, None]:
        await self.begin.wait()
        yield Reset(self.services)
        async for update in self._said:
            yield update


class Turns(trio.abc.Instrument):
    """How long every turn of every task took. `since` forgets what was before."""

    def __init__(self) -> None:
        self.since()

    def since(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.thread_time()
        self.wall = self.processor = 0.0  # sums
        self.by_task: dict[str, float] = {}
        self.longest: list[tuple[float, float, str]] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._wall, self._processor = time.perf_counter(), time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        processor, wall = time.thread_time() - self._processor, time.perf_counter() - self._wall
        self.wall += wall
        self.processor += processor
        name = ".".join(task.name.split(".")[-2:])
        self.by_task[name] = self.by_task.get(name, 0.0) + processor
        if processor > 0.003:
            self.longest.append((processor, wall, name))

    def figures(self) -> dict[str, Any]:
        by_processor = sorted(self.longest, reverse=True)
        return {
            "longest_ms": round(by_processor[0][0] * 1000, 2) if by_processor else 0.0,
            "longest_wall_ms": round(max((wall for _, wall, _ in self.longest), default=0.0) * 1000, 2),
            "processor_ms": round(self.processor * 1000, 2),
            "slowest": [
                f"{name} {processor * 1000:.1f} ms ({wall * 1000:.1f} by the wall)" for processor, wall, name in by_processor[:12]
            ],
        }


class Measurement:
    """Waits for the plane, then measures one thing after the other."""

    def __init__(self, plane: Plane, registries: Sequence[Registry]) -> None:
        self.plane = plane
        self.registries = registries
        self.parts: Parts | None = None
        self.turns = Turns()
        self.result: dict[str, Any] = {}

    async def run(self) -> None:
        trio.lowlevel.add_instrument(self.turns)
        await self._applied()
        for index, registry in enumerate(self.registries):
            registry.services = data.of_source(index)
        gc.collect()
        self.result["before_mb"] = resident_mb()
        await self._merge()
        await trio.sleep(SETTLED)
        await self._change()
        await self._again()
        self.result["memory"] = {"now_mb": resident_mb(), "most_mb": resident_mb("VmHWM")}
        result = Path(os.environ["FEDGATE_BENCH_RESULT"])
        beside = result.with_suffix(".part")
        beside.write_text(json.dumps(self.result))
        beside.rename(result)

    async def _merge(self) -> None:
        """All five registries say everything at once."""
        self.turns.since()
        began = time.perf_counter()
        for registry in self.registries:
            registry.begin.set()
        seen = -1
        while len(self.plane.catalog.shards) < len(self.registries) + 1 or not self._whole():
            seen, _ = await self.plane._feed.catalog.newer_than(seen)
        merged = time.perf_counter() - began
        figures, merging = self.turns.figures(), self.turns.by_task.get("Follower.run", 0.0)
        await self._applied()
        self.result["merge"] = {
            "merged_ms": round(merged * 1000, 1),
            "merge_processor_ms": round(merging * 1000, 1),
            "applied_ms": round((time.perf_counter() - began) * 1000, 1),
            "services": len(self.plane.catalog.services),
            "endpoints": sum(len(each.endpoints) for each in self.plane.catalog.services.values()),
            "merging": figures,
            "turns": self.turns.figures(),
        }

    def _whole(self) -> bool:
        sizes = {key.source: len(shard) for key, shard in self.plane.catalog.shards.items()}
        return all(sizes.get(registry.name) == len(registry.services) for registry in self.registries)

    async def _change(self) -> None:
        """One endpoint at a time."""
        computed, applied, all_turns = [], [], []
        source = 1
        for service in data.changes(source, CHANGES):
            await trio.sleep(BETWEEN)
            self.turns.since()
            before = self.plane.snapshots.version
            began = time.perf_counter()
            self.registries[source].say(Upsert(service))
            await self.plane.snapshots.newer_than(before)
            computed.append((time.perf_counter() - began, self.turns.processor))
            await self._applied()
            applied.append(time.perf_counter() - began)
            all_turns += self.turns.longest
        self.turns.longest = all_turns
        self.result["change"] = {
            "compute_ms": _spread([processor for _, processor in computed]),
            "compute_wall_ms": _spread([wall for wall, _ in computed]),
            "applied_ms": _spread(applied),
            "turns": self.turns.figures(),
        }

    async def _again(self) -> None:
        """A registry that was lost says the same again."""
        self.turns.since()
        registry = self.registries[0]
        before = self.plane.catalog
        registry.say(Reset(registry.services))
        await trio.sleep(2)
        self.result["again"] = {"same": self.plane.catalog is before, "turns": self.turns.figures()}

    async def _applied(self) -> None:
        """Until all workers run what the plane has published last."""
        with trio.fail_after(APPLIED_WITHIN):
            while True:
                journal = self.parts.journal if self.parts else None
                version = journal.applied.version if journal and journal.applied else ""
                if version == self.plane.snapshots.value.version and self._everything():
                    return
                await trio.sleep(0.001)

    def _everything(self) -> bool:
        """Whether the Snapshot is made of the whole catalog."""
        compiled = self.plane.compiled
        if compiled is None or compiled.setting.inputs.services is not self.plane.catalog.services:
            return False
        return compiled.snapshot.version == self.plane.snapshots.value.version


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    at = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "most": len(ordered) - 1}
    return {name: round(ordered[index] * 1000, 2) for name, index in at.items()}


def resident_mb(field: str = "VmRSS") -> float:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    return round(int(found[1]) / 1024, 1) if found else 0.0


class MeasuredPlane:
    """A plane whose life has a measurement in it."""

    def __init__(self, begun: Begun) -> None:
        plane = begun.plane
        assert isinstance(plane, Plane)
        self._plane = plane
        cluster = plane._node.spec.cluster
        registries = [Registry(name, cluster if index < 3 else "west") for index, name in enumerate(data.SOURCES)]
        plane._followers += [Follower(each, plane._feed, clock=time.time, rng=plane._around.rng) for each in registries]
        plane._all_spoke = lambda: True  # type: ignore[method-assign]
        self.measurement = Measurement(plane, registries)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plane, name)

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._plane.run)
            nursery.start_soon(self.measurement.run)


_running: list[MeasuredPlane] = []


def _begin(paths: Sequence[str]) -> Begun:
    begun = begin(paths)
    measured: Any = MeasuredPlane(begun)
    _running.append(measured)
    return Begun(measured, begun.settings)


def _view(parts: Parts) -> View:
    for measured in _running:
        measured.measurement.parts = parts
    return view(parts)


def main() -> int:
    """`supervise NODE`: a gateway whose control process is this one."""
    if sys.argv[1:2] != ["supervise"]:
        return control.main(sys.argv[1:], _begin, _view)
    logs.configure("supervisor")
    worker = (sys.executable, "-P", "-m", "appliance", "worker")
    return supervise(sys.argv[2:], control=(sys.executable, "-m", "bench.catalog_control"), worker=worker)


if __name__ == "__main__":
    sys.exit(main())
