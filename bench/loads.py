"""The load generators, as functions from a proxy to a Reading: wrk, h2load, and the C programs beside this file. All run on core 0.

A load that got no answer at all raises RuntimeError with what the generator and the proxy said; one with some wrong answers says so in
the Reading's `errors`.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence

from bench import tools
from bench.contest import LOAD_CORE, Contestant, Reading
from bench.http1 import PATH, wrk

GENEROUS_S = 120  # beyond the time a load was given: a generator that hangs is an error, not the end of the run


def keep_alive(contestant: Contestant, port: int, *, seconds: int, case: str = "plain") -> Reading:
    """HTTP/1.1 on 64 kept connections by wrk; case as in http1."""
    (first, *_), before = contestant.processes, contestant.cpu_seconds()
    reading = wrk(first, port, case, seconds=seconds)
    count = reading.count
    used = contestant.cpu_seconds() - before
    amounts = {"rps": reading.rps, "cpu_us": used / max(1, count) * 1e6, "p50_ms": reading.p50_ms, "p99_ms": reading.p99_ms}
    return Reading(amounts, reading.errors)


def h2load(contestant: Contestant, options: Sequence[str], urls: Sequence[str], *, seconds: int) -> Reading:
    """HTTP/2 on 16 connections of 10 streams each."""
    program = tools.found("h2load", "nghttp2-client")
    text, used = _run(contestant, [program, "-t1", "-c16", "-m10", f"-D{seconds}", *options, *urls])
    spoken = re.search(r"Application protocol: (\S+)", text)
    if spoken and not spoken[1].startswith("h2"):
        raise RuntimeError(f"{contestant.name} chose {spoken[1]}, not HTTP/2")
    found = parsed_h2load(text)
    if found["done"] < 1 or found["good"] < 1:
        raise RuntimeError(f"no good answer to h2load:\n{text[-800:]}\n{_said(contestant)}")
    bad = found["total"] - found["good"]
    amounts = {"rps": found["rps"], "cpu_us": used / found["done"] * 1e6, "mean_ms": found["mean_ms"]}
    return Reading(amounts, f"{bad:.0f} of {found['total']:.0f} not good" if bad else "")


_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def parsed_h2load(text: str) -> dict[str, float]:
    """rps, total, done, good (status 2xx), mean_ms of what h2load printed. Raises RuntimeError when it is something else."""
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
    counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded", text)
    status = re.search(r"status codes: (\d+) 2xx", text)
    times = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)\s", text)
    if not (rate and counts and status):
        raise RuntimeError(f"h2load printed:\n{text[-800:]}")
    mean_ms = float(times[1]) * _UNITS[times[2]] if times else 0.0
    return {"rps": float(rate[1]), "total": int(counts[1]), "done": int(counts[2]), "good": int(status[1]), "mean_ms": mean_ms}


def own(contestant: Contestant, program: str, *words: str, amounts: Mapping[str, str], per: str = "done") -> Reading:
    """One of the C load generators; amounts: name → name in its JSON. cpu_us is the proxies' CPU for each of what `per` counts."""
    text, used = _run(contestant, [str(tools.compiled(program)), *words])
    try:
        said = json.loads(text)
    except ValueError:
        raise RuntimeError(f"{program} printed {text!r}\n{_said(contestant)}") from None
    if not said[per]:
        raise RuntimeError(f"nothing was done for {program}: {text.strip()}\n{_said(contestant)}")
    found = {name: float(said[theirs]) for name, theirs in amounts.items()}
    return Reading(found | {"cpu_us": used / said[per] * 1e6}, f"{said['failed']} failed" if said["failed"] else "")


def handshakes(contestant: Contestant, port: int, how: str, *, connections: int, seconds: int) -> Reading:
    """New TLS connections with one request each; how: full or resumed. The share that was resumed is an amount."""
    words = ["127.0.0.1", str(port), "be.test", PATH, str(connections), str(seconds), how]
    amounts = {"rate": "rate", "p50_us": "p50_us", "p99_us": "p99_us", "resumed": "resumed", "done": "done"}
    reading = own(contestant, "handshakes", *words, amounts=amounts)
    found = dict(reading.amounts)
    found["resumed_share"] = found.pop("resumed") / found.pop("done")
    return Reading(found, reading.errors)


def _run(contestant: Contestant, command: Sequence[str], *, within: float = GENEROUS_S) -> tuple[str, float]:
    """(what it printed, the CPU seconds of the proxies meanwhile). Raises RuntimeError when it fails or hangs."""
    before = contestant.cpu_seconds()
    try:
        done = subprocess.run(
            ["taskset", "-c", str(LOAD_CORE), *command], capture_output=True, text=True, timeout=within, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{command[0]} was not done after {within:g} s\n{_said(contestant)}") from None
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}\n{_said(contestant)}")
    return done.stdout, contestant.cpu_seconds() - before


def _said(contestant: Contestant) -> str:
    """The ends of the proxies' logs."""
    return "\n".join(process.log.read_text(errors="replace")[-800:] for process in contestant.processes)
