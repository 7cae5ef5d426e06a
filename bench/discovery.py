"""From a registry to a routed request: how long after a change is seen in a real registry does traffic follow it?

Each registry (Consul, Kubernetes with its endpoint-slice controller, Nomad) runs for itself, and one `fedgate run` reads it. A watch of the
benchmark's own, independent of the gateway, says when the registry shows a change; requests through the gateway, one after the other on one
connection, say when it is followed. Both clocks are one clock. Cases:

    service    a new service's first endpoint: until the first request is answered by it
    endpoint   a second endpoint of a service: until the first request is answered by it
    removal    it goes again: until the last request is answered by it

A figure below 0 (the gateway heard it before the watch) counts as 0. What a registry needs to make a change visible at all is not in it.
Changes are 0.1 to 0.3 s apart, as single changes are in life.
"""

from __future__ import annotations

import http.client
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import registries, tools
from bench.registries import NAMES, Registry, State, gateway_of

REGISTRIES = ("consul", "kubernetes", "nomad")
CASES = ("service", "endpoint", "removal")
AIM_MS = 100.0  # p99; Istio's debounce alone takes that
EACH_ROUND = 20  # changes of every case: five rounds make a hundred, the least of which a 99th percentile can be said

_PATIENCE_S = 30.0  # for one change, on a machine that does other things too
_PAUSE_S = 0.001  # between two requests, so that asking does not take the gateway's core
# Between two changes, at random: a gateway that has just taken in a change lets 50 ms pass before the next, so that a rollout costs it twenty
# rounds a second; changes that hunt each other would measure that and nothing else.
_APART_S = (0.1, 0.3)
_AFTER_S = 0.2  # that a removal is watched for: twice the aim
OLD, NEW = NAMES


def measure(names: Sequence[str], *, rounds: int, console: Console) -> dict[str, Any]:
    """names: of REGISTRIES, others are passed over; none means all. Raises tools.Missing when not one of them can run."""
    chosen = [name for name in REGISTRIES if name in names] or list(REGISTRIES)
    result: dict[str, Any] = {"aim_ms": AIM_MS, "registries": {}, "broken": {}}
    for name in chosen:
        if why := registries.missing(name):
            result["broken"][name] = why
            console.print(f"{name}: {why}", style="yellow", markup=False)
            continue
        with TemporaryDirectory(prefix=f"bench-{name}-") as place, registries.started(name, Path(place)) as registry:
            result["registries"][name] = _one(registry, Path(place), name, rounds * EACH_ROUND, console)
    if not result["registries"]:
        raise tools.Missing("none of the registries can run here")
    return result


def _one(registry: Registry, folder: Path, name: str, count: int, console: Console) -> dict[str, Any]:
    samples: dict[str, list[float]] = {case: [] for case in CASES}
    with gateway_of(folder, [{"name": name, **registry.source}]) as gateway:
        for number in range(-2, count):  # two to warm up
            made = _round(registry, gateway, f"bench-{name}-{number + 2}")
            if number >= 0:
                for case, value in made.items():
                    samples[case].append(value)
            if number >= 0 and (number + 1) % EACH_ROUND == 0:
                told = ", ".join(f"{case} {_figures(values)['p99_ms']:.1f}" for case, values in samples.items())
                console.print(f"{name}: {number + 1} of {count}; p99 in ms so far: {told}", markup=False)
    return {case: _figures(values) for case, values in samples.items()}


def _round(registry: Registry, gateway: Any, service: str) -> dict[str, float]:
    """One service comes, gets a second endpoint, loses it, and goes. Seconds by case."""
    registry.prepare(service)
    made: dict[str, float] = {}
    with closing(_Prober(gateway.address, gateway.mesh, registry.host(service))) as prober:
        made["service"] = _until_first(registry, prober, service, OLD, frozenset({OLD}))
        made["endpoint"] = _until_first(registry, prober, service, NEW, frozenset(NAMES))
        made["removal"] = _until_last(registry, prober, service)
    registry.remove(service, OLD)
    return made


def _until_first(registry: Registry, prober: _Prober, service: str, workload: str, wanted: frozenset[str]) -> float:
    watch = _Watch(registry, service, wanted)
    _rest()
    registry.add(service, workload)
    answered, deadline = 0.0, time.monotonic() + _PATIENCE_S
    while not (answered and watch.seen):
        if prober.ask() == workload and not answered:
            answered = time.monotonic()
        watch.check(deadline)
    return max(0.0, answered - watch.seen)


def _until_last(registry: Registry, prober: _Prober, service: str) -> float:
    watch = _Watch(registry, service, frozenset({OLD}))
    _rest()
    registry.remove(service, NEW)
    last, deadline = 0.0, time.monotonic() + _PATIENCE_S
    while not watch.seen or time.monotonic() < max(watch.seen, last) + _AFTER_S:
        if prober.ask() == NEW:
            last = time.monotonic()
        watch.check(deadline)
    return max(0.0, last - watch.seen)


def _rest() -> None:
    threading.Event().wait(random.uniform(*_APART_S))


class _Watch:
    """The benchmark's own watch, which is under way when this returns. seen: when the registry showed what is wanted, 0.0 before."""

    def __init__(self, registry: Registry, service: str, wanted: frozenset[str]) -> None:
        self.seen = 0.0
        self._trouble = ""
        self._what = f"{service} to have {sorted(wanted)}"
        state = registry.known(service)
        threading.Thread(target=self._run, args=(lambda now: registry.wait(service, now), state, wanted), daemon=True).start()

    def _run(self, wait: Callable[[State], State], state: State, wanted: frozenset[str]) -> None:
        try:
            while state[0] != wanted:
                state = wait(state)
            self.seen = time.monotonic()
        except (OSError, RuntimeError, ValueError) as error:
            self._trouble = f"{type(error).__name__}: {error}"

    def check(self, deadline: float) -> None:
        """Raises RuntimeError when it takes too long, or the watch failed."""
        if self._trouble or time.monotonic() > deadline:
            raise RuntimeError(f"waiting for {self._what}, registry or gateway: {self._trouble or f'not in {_PATIENCE_S:g} s'}")


class _Prober:
    """Requests to one host, one after the other."""

    def __init__(self, address: str, port: int, host: str) -> None:
        self._connection = http.client.HTTPConnection(address, port, timeout=5)
        self._host = host
        self._pause = threading.Event()

    def ask(self) -> str:
        """Which workload answered, "" when none did."""
        self._pause.wait(_PAUSE_S)
        try:
            self._connection.request("GET", "/", headers={"host": self._host})
            answer = self._connection.getresponse()
            answer.read()
            return answer.getheader("x-served-by") or ""
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return ""

    def close(self) -> None:
        self._connection.close()


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    """p99 of fewer than a hundred is the worst."""
    values = sorted(value * 1000 for value in seconds)
    place = min(len(values) - 1, int(len(values) * 0.99))
    return {
        "p50_ms": round(statistics.median(values), 1),
        "p99_ms": round(values[place], 1),
        "worst_ms": round(values[-1], 1),
        "count": len(values),
    }


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"discovery: change seen in the registry → traffic follows it, ms (aim: p99 ≤ {result['aim_ms']:g})")
    for column in ("registry", "case", "p50", "p99", "worst", "changes", ""):
        shown.add_column(column, justify="left" if column in ("registry", "case") else "right")
    for name, cases in result["registries"].items():
        for case, figures in cases.items():
            good = "" if figures["p99_ms"] <= result["aim_ms"] else "above the aim"
            numbers = (f"{figures[key]:.1f}" for key in ("p50_ms", "p99_ms", "worst_ms"))
            shown.add_row(name, case, *numbers, str(figures["count"]), good)
    for name, why in result["broken"].items():
        shown.add_row(name, why)
    return shown
