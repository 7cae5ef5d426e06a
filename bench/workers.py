"""Two workers against one: what a request costs, and how evenly connections and load spread.

The proxy and the load generator share both cores here (two workers need two), so requests/s say little; CPU per request is the figure:
with two workers it should be that of one. `share` is the busier worker's part: of the connections (counted from its descriptors while
they are open), and of the CPU. 50 is even; the aim is at most 60 with 256 connections or more.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import http1, tools
from bench.contest import Contest, Contestant
from bench.idle import is_worker
from bench.process import TICK
from bench.scene import BODY, scene

CONNECTIONS = 256
ESTABLISHED = "01"  # as /proc/net/tcp writes the state


def accepted(tcp: Iterable[str], port: int) -> set[str]:
    """Inodes of the established sockets whose own port this is, from the lines of /proc/net/tcp."""
    found = set()
    for line in tcp:
        fields = line.split()
        if len(fields) > 9 and fields[3] == ESTABLISHED and int(fields[1].rsplit(":", 1)[1], 16) == port:
            found.add(fields[9])
    return found


def by_process(pids: Iterable[int], inodes: set[str]) -> Counter[int]:
    """How many of these sockets each process holds."""
    found: Counter[int] = Counter()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                    found[pid] += target.startswith("socket:[") and target[8:-1] in inodes
    return found


def busier_share(counts: Iterable[float]) -> float:
    """The largest part, in percent; 0 for nothing."""
    known = list(counts)
    return round(100 * max(known) / sum(known), 1) if sum(known) else 0.0


def _all_serve(contestant: Contestant, *, seconds: float = 20) -> None:
    """Returns when every worker of a fedgate takes connections, by its log. Raises RuntimeError when they never do."""
    (process,), waiting = contestant.processes, threading.Event()
    for _ in range(int(seconds / 0.05)):
        if process.log.read_text(errors="replace").count('"worker.serving"') >= contestant.ports.workers:
            return
        waiting.wait(0.05)
    raise RuntimeError(f"not all {contestant.ports.workers} workers of {contestant.name} serve: {process.log.read_text()[-2000:]}")


def _cpu(pid: int) -> float:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK
    return 0.0


def _one(contestant: Contestant, seconds: int) -> dict[str, float]:
    """One run of wrk; counts connections in its middle."""
    (process,) = contestant.processes
    workers = [pid for pid in process.tree() if is_worker(pid)]
    before = {pid: _cpu(pid) for pid in workers}
    counts: Counter[int] = Counter()

    def count() -> None:
        with open("/proc/net/tcp") as tcp:
            counts.update(by_process(workers, accepted(tcp, contestant.ports.http)))

    halfway = threading.Timer(seconds / 2, count)
    halfway.start()
    reading = http1.wrk(process, contestant.ports.http, "plain", seconds=seconds, connections=CONNECTIONS, core=None)
    halfway.join()
    used = {pid: _cpu(pid) - before[pid] for pid in workers}
    return {
        "rps": reading.rps,
        "cpu_us": reading.cpu_us,
        "workers_cpu_us": sum(used.values()) / max(1, reading.count) * 1e6,
        "connections_share": busier_share(counts.values()),
        "cpu_share": busier_share(used.values()),
    }


def measure(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """{proxy: {1: medians, 2: medians, "cpu_ratio": …}}; what `--json` writes. Envoy, if it is among the names, for comparison."""
    contest = Contest("Workers", primary="rps", unit="requests/s", console=console)
    result: dict[str, Any] = {}
    with scene() as here:
        here.backend("backend", "be", str(BODY))
        running: dict[tuple[str, int], Contestant] = {}
        for workers in (1, 2):
            chosen = ["fedgate", *(name for name in names if name == "envoy")]
            folder = here.folder / f"workers-{workers}"
            for contestant in contest.enter(here.proxies(chosen, workers=workers, core=None), folder, here.processes):
                running[contestant.name, workers] = contestant
                if contestant.name == "fedgate":
                    _all_serve(contestant)
        runs: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in running}
        for number in range(rounds):
            for key, contestant in running.items():
                with contextlib.suppress(tools.Missing):
                    runs[key].append(_one(contestant, seconds))
            console.print(f"[dim]workers: round {number + 1} of {rounds}[/]")
    for (name, workers), readings in runs.items():
        medians = {field: round(statistics.median(one[field] for one in readings), 2) for field in readings[0]}
        worst = max(one["connections_share"] for one in readings)
        result.setdefault(name, {})[str(workers)] = medians | {"worst_connections_share": worst}
    for figures in result.values():
        if {"1", "2"} <= set(figures):
            figures["cpu_ratio"] = round(figures["2"]["cpu_us"] / figures["1"]["cpu_us"], 3)
    return {"connections": CONNECTIONS, "proxies": result, "broken": contest.broken}


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"One worker and two, {result['connections']} connections")
    columns = (
        "proxy",
        "workers",
        "requests/s",
        "CPU µs a request",
        "busier: % of connections (worst)",
        "% of CPU",
        "CPU, two / one",
    )
    for column in columns:
        shown.add_column(column, justify="left" if column == "proxy" else "right")
    for name, figures in result["proxies"].items():
        for workers in ("1", "2"):
            one = figures.get(workers)
            if one is None:
                continue
            shares = ["–", "–"]
            if workers == "2" and one["connections_share"]:
                shares = [f"{one['connections_share']:.0f} ({one['worst_connections_share']:.0f})", f"{one['cpu_share']:.0f}"]
            ratio = f"{figures['cpu_ratio']:.2f}" if workers == "2" and "cpu_ratio" in figures else ""
            shown.add_row(name, workers, f"{one['rps']:,.0f}", f"{one['cpu_us']:.1f}", *shares, ratio)
    return shown
