"""A large catalog: 10,000 services with 100,000 endpoints from five registries at once, then one endpoint's change at a time.

What runs is the product: supervisor, control process and two workers; only the registries are made up (`catalog_control`). The figures:

    merge      processor time until everything is in the catalog, and the longest turn of any task on the way: other links wait as long
    applied    until the workers run a Snapshot of all of it
    change     one endpoint changes: processor time until the new Snapshot is published, and time until both workers run it
    memory     resident, of the control process

A turn is judged by the processor time of the thread that ran it, because on a machine that does other work it is interrupted by that; by
the wall it is shown beside.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.process import Pinned, free_port, stopping

WITHIN = 600  # seconds; it takes 40 on two idle cores
_ROOT = Path(__file__).resolve().parent.parent

LIMITS = {
    "merge_ms": 1000.0,
    "turn_ms": 20.0,
    "compute_ms": 10.0,
    "applied_ms": 50.0,
    "memory_mb": 600.0,
}
"""What the design allows (DESIGN sections 2 and 9)."""


def measure(*, console: Console) -> dict[str, Any]:
    """{figures, limits, broken}; what `--json` writes. Raises RuntimeError when the gateway does not get through."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "node.yaml").write_text(_node())
        result = here / "result.json"
        with _running(here, result) as process:
            _wait_for(result, process)
            details = json.loads(result.read_text())
    return report(judged(details), console)


def judged(details: dict[str, Any]) -> dict[str, Any]:
    """The figures that the design names, and which of them are over what it allows."""
    figures = {
        "merge_ms": details["merge"]["merge_processor_ms"],
        "turn_ms": max(details[part]["turns"]["longest_ms"] for part in ("merge", "change", "again")),
        "compute_ms": details["change"]["compute_ms"]["p99"],
        "applied_ms": details["change"]["applied_ms"]["p99"],
        "memory_mb": details["memory"]["most_mb"],
    }
    over = {name: f"{figures[name]} is over {limit}" for name, limit in LIMITS.items() if figures[name] > limit}
    return {"figures": figures, "limits": LIMITS, "over": over, "details": details, "broken": {}}


def report(result: dict[str, Any], console: Console) -> dict[str, Any]:
    for name, words in result["over"].items():
        console.print(f"{name}: {words}", style="yellow", markup=False)
    return result


def table(result: dict[str, Any]) -> Table:
    """For people."""
    details, figures = result["details"], result["figures"]
    merge, change = details["merge"], details["change"]
    shown = Table(title=f"{merge['services']:,} services, {merge['endpoints']:,} endpoints, five registries")
    for column in ("what", "allowed", "measured", "beside"):
        shown.add_column(column, justify="left" if column in ("what", "beside") else "right")
    slowest = [turn for part in ("merge", "change", "again") for turn in details[part]["turns"]["slowest"]]
    rows = [
        (
            "all merged, processor ms",
            "merge_ms",
            f"{merge['merged_ms']:,.0f} ms by the wall; in workers after {merge['applied_ms']:,.0f} ms",
        ),
        ("longest turn of control, processor ms", "turn_ms", slowest[0] if slowest else ""),
        (
            "a change computed, processor ms p99",
            "compute_ms",
            f"p50 {change['compute_ms']['p50']}, by the wall {change['compute_wall_ms']['p50']}",
        ),
        (
            "a change in all workers, ms p99",
            "applied_ms",
            f"p50 {change['applied_ms']['p50']}, most {change['applied_ms']['most']}",
        ),
        ("control process, MB", "memory_mb", f"{details['memory']['now_mb']} at the end"),
    ]
    for words, name, beside in rows:
        mark = "" if figures[name] <= LIMITS[name] else " [red]over[/]"
        shown.add_row(words, f"{LIMITS[name]:,.0f}", f"{figures[name]:,.1f}{mark}", beside)
    return shown


def _node() -> str:
    ports = {name: f"127.0.0.1:{free_port()}" for name in ("admin", "health", "eastWest", "dns", "http")}
    node = {
        "apiVersion": "fedgate.io/v1",
        "kind": "Node",
        "metadata": {"name": "gw", "namespace": "fedgate"},
        "spec": {
            "cluster": "east",
            "locality": "region-1/zone-0",
            "workers": 2,
            "drainDuration": "0s",
            "stateDir": "./state",
            "listen": ports,
        },
    }
    return json.dumps(node)


@contextlib.contextmanager
def _running(here: Path, result: Path) -> Iterator[Pinned]:
    processes: list[Pinned] = []
    command = [sys.executable, "-m", "bench.catalog_control", "supervise", str(here / "node.yaml")]
    environment = {"FEDGATE_BENCH_RESULT": str(result), "PYTHONPATH": str(_ROOT)}
    with stopping(processes):
        process = Pinned("fedgate", command, core=None, log=here / "log", env=environment)
        processes.append(process)
        yield process


def _wait_for(result: Path, process: Pinned) -> None:
    deadline, waiting = time.monotonic() + WITHIN, threading.Event()
    while time.monotonic() < deadline:
        if result.exists():
            return
        if "Traceback" in process.log.read_text(errors="replace"):
            break
        waiting.wait(0.5)
    lines = [line for line in process.log.read_text(errors="replace").splitlines() if "lending" not in line and "moved" not in line]
    raise RuntimeError("the catalog benchmark did not get through:\n" + "\n".join(lines[-40:]))
