"""HTTP/1.1 through fedgate and through its peers, as ratios of one run.

The proxy has core 1 to itself; the load generator and the backend share core 0. Rounds are interleaved (each round measures every
peer, in a new order), so that what disturbs the machine disturbs all; figures are medians over rounds. Four cases: a small request,
one with eight more headers, both plain and over TLS; 64 keep-alive connections. Then the same offered load for all, 70 % of what
Envoy did at most, for latency.
"""

from __future__ import annotations

import json
import random
import re
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench import peers, tools
from bench.certificates import self_signed
from bench.process import Pinned, free_port, stopping

CONNECTIONS = 64
HEADERS = (
    "accept: application/json, text/plain, */*",
    "accept-language: en-GB,en;q=0.9",
    "accept-encoding: gzip, deflate, br",
    "cache-control: no-cache",
    "referer: https://shop.example.test/catalogue/books?page=4",
    "x-tenant: example-tenant-0042",
    "x-client-version: 7.31.0",
    "sec-fetch-mode: cors",
)
PATH = "/api/v1/users/42/orders?limit=10"
LATENCY_LOAD = 0.7  # of Envoy's most: loaded, but not saturated


class Reading(msgspec.Struct, frozen=True):
    """One case of one peer in one round. cpu_us: the proxy's own CPU per request; count: requests answered."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    errors: str = ""
    count: int = 0


CASES = ("plain", "plain+8", "tls", "tls+8")


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if match is None:
        raise ValueError(f"wrk printed {text!r} where a time was expected")
    return float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}[match[2]]


def wrk(process: Pinned, port: int, case: str, *, seconds: int, connections: int = CONNECTIONS, core: int | None = 0) -> Reading:
    """Drives one peer as hard as it can with one thread, on core 0 unless told otherwise."""
    scheme = "https" if case.startswith("tls") else "http"
    extra = [part for header in HEADERS for part in ("-H", header)] if case.endswith("+8") else []
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, tools.found("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *extra]
    before = process.cpu_seconds()
    output = subprocess.run([*command, f"{scheme}://127.0.0.1:{port}{PATH}"], capture_output=True, text=True, check=True).stdout
    used = process.cpu_seconds() - before
    rate, count = re.search(r"Requests/sec:\s+([\d.]+)", output), re.search(r"(\d+) requests in", output)
    half, tail = re.search(r"\n\s+50%\s+(\S+)", output), re.search(r"\n\s+99%\s+(\S+)", output)
    if not (rate and count and half and tail):
        raise RuntimeError(f"{process.name} answered nothing to wrk:\n{output}\n{process.log.read_text(errors='replace')[-1000:]}")
    trouble = re.search(r"Non-2xx.*: \d+|Socket errors: .*", output)
    return Reading(
        rps=float(rate[1]),
        p50_ms=_milliseconds(half[1]),
        p99_ms=_milliseconds(tail[1]),
        cpu_us=used / max(1, int(count[1])) * 1e6,
        errors=trouble[0] if trouble else "",
        count=int(count[1]),
    )


def offered(port: int, rate: float, *, seconds: int) -> dict[str, float]:
    """The same load for everyone, open loop; latency in microseconds counted from when each request was due."""
    command = ["taskset", "-c", "0", str(tools.compiled("offered")), "127.0.0.1", str(port), "be.test", PATH]
    done = subprocess.run([*command, str(CONNECTIONS), str(int(rate)), str(seconds)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the offered load broke off: {done.stderr.strip()}")
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def measure(names: Sequence[str], *, seconds: int, rounds: int, cases: Sequence[str] = CASES, console: Console) -> dict[str, Any]:
    """Runs everything; returns what `--json` writes. A peer that this machine does not have is left out with a note."""
    with TemporaryDirectory(prefix="fedgate-bench-") as scratch:
        folder, running, processes = Path(scratch), dict[str, tuple[Pinned, peers.Ports]](), list[Pinned]()
        with stopping(processes):
            certificate, key = self_signed(folder)
            endpoints = tuple(free_port() for _ in range(4))
            backend = [str(tools.compiled("backend")), "be", "64", *(f"127.0.0.1:{port}" for port in endpoints)]
            processes.append(Pinned("backend", backend, core=0, log=folder / "backend.log"))
            processes[0].wait_listening("127.0.0.1", endpoints[0])
            for name in names:
                try:
                    ports = peers.Ports.fresh(endpoints)
                    process = peers.start(name, folder / name, ports, certificate, key, core=1)
                except tools.Missing as missing:
                    console.print(f"[yellow]without {name}:[/] {missing}")
                    continue
                processes.append(process)
                running[name] = (process, ports)
            readings = _rounds(running, seconds=seconds, rounds=rounds, cases=cases, console=console)
            latency = _latency(running, readings, seconds=seconds, rounds=rounds, console=console)
            memory = {name: round(process.largest_mb(), 1) for name, (process, _) in running.items()}
    return _summary(readings, latency, memory)


Running = dict[str, tuple[Pinned, peers.Ports]]
Readings = dict[str, dict[str, list[Reading]]]


def _rounds(running: Running, *, seconds: int, rounds: int, cases: Sequence[str], console: Console) -> Readings:
    readings: Readings = {name: {case: [] for case in cases} for name in running}
    order = random.Random(1)
    for name, (process, ports) in running.items():  # warm: connections, caches, JIT-less but not allocation-less
        wrk(process, ports.http, "plain", seconds=1)
        wrk(process, ports.https, "tls", seconds=1)
        console.print(f"[dim]warmed {name}[/]")
    for number in range(rounds):
        for case in cases:
            for name in order.sample(list(running), len(running)):
                process, ports = running[name]
                port = ports.https if case.startswith("tls") else ports.http
                readings[name][case].append(wrk(process, port, case, seconds=seconds))
        last = "  ".join(f"{name} {readings[name]['plain'][-1].rps:,.0f}" for name in running if "plain" in cases)
        console.print(f"[dim]round {number + 1} of {rounds}: plain requests/s: {last}[/]")
    return readings


def _latency(running: Running, readings: Readings, *, seconds: int, rounds: int, console: Console) -> dict[str, dict[str, float]]:
    yardstick = "envoy" if "envoy" in running else next(iter(running))
    most = statistics.median(reading.rps for reading in readings[yardstick]["plain"]) if "plain" in readings[yardstick] else 0.0
    if not most:
        return {}
    rate = LATENCY_LOAD * most
    collected: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    order = random.Random(2)
    for _ in range(rounds):
        for name in order.sample(list(running), len(running)):
            collected[name].append(offered(running[name][1].http, rate, seconds=seconds + 1))
    console.print(f"[dim]offered {rate:,.0f} requests/s to each[/]")
    return {
        name: {
            "offered_rps": rate,
            **{key: statistics.median(run[key] for run in runs) for key in ("p50_us", "p99_us", "p999_us", "failed")},
        }
        for name, runs in collected.items()
    }


def _summary(readings: Readings, latency: dict[str, dict[str, float]], memory: dict[str, float]) -> dict[str, Any]:
    def median(name: str, case: str, field: str) -> float:
        return float(statistics.median(getattr(reading, field) for reading in readings[name][case]))

    cases = list(next(iter(readings.values()), {}))
    others = [name for name in readings if name != "fedgate"]
    by_case: dict[str, dict[str, Any]] = {
        case: {
            name: {
                "rps": round(median(name, case, "rps")),
                "rps_all": [round(reading.rps) for reading in readings[name][case]],
                "p50_ms": round(median(name, case, "p50_ms"), 3),
                "p99_ms": round(median(name, case, "p99_ms"), 3),
                "cpu_us": round(median(name, case, "cpu_us"), 2),
                "errors": [reading.errors for reading in readings[name][case] if reading.errors],
            }
            for name in readings
        }
        for case in cases
    }

    def ratios(case: str) -> dict[str, float]:
        mine = by_case[case].get("fedgate")
        return {name: round(mine["rps"] / by_case[case][name]["rps"], 3) for name in others} if mine else {}

    first = cases[0] if cases else ""
    summary: dict[str, Any] = {
        "ratio": ratios(first) if first else {},
        "rps": {name: by_case[first][name]["rps"] for name in readings} if first else {},
        "p99_ms": {name: round(figures["p99_us"] / 1000, 3) for name, figures in latency.items()},
        "ratios": {case: ratios(case) for case in cases},
        "cases": by_case,
        "latency": latency,
        "memory_mb": memory,
    }
    if "envoy" in latency and "fedgate" in latency:
        summary["p99_ratio"] = {"envoy": round(latency["fedgate"]["p99_us"] / latency["envoy"]["p99_us"], 3)}
    return summary


def table(summary: dict[str, Any]) -> Table:
    """The summary for people."""
    cases = list(summary["cases"])
    shown = Table(title="HTTP/1.1, 64 connections, one core a proxy: requests/s (CPU µs a request)")
    shown.add_column("proxy")
    for case in cases:
        shown.add_column(case, justify="right")
    shown.add_column(f"p99 ms at {LATENCY_LOAD:.0%} of Envoy's most", justify="right")
    shown.add_column("MB", justify="right")
    for name in summary["rps"]:
        row = [f"{summary['cases'][case][name]['rps']:,} ({summary['cases'][case][name]['cpu_us']:.1f})" for case in cases]
        shown.add_row(name, *row, f"{summary['p99_ms'].get(name, float('nan')):.2f}", f"{summary['memory_mb'][name]:.0f}")
    for other in summary["ratio"]:
        shown.add_row(f"fedgate / {other}", *(f"{summary['ratios'][case][other]:.2f}" for case in cases), "", "", style="bold")
    return shown
