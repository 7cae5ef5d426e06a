"""One benchmark of several proxies: rounds interleaved, each case of each proxy measured in every round, medians and ratios.

Every proxy is one or more processes on core 1, the load generator and the backends have core 0. A proxy that breaks in a case (it
does not start, it answers wrongly, the load generator gives up) is left out of that case and named under `broken`: the others' figures
stand. A proxy that this machine does not have is left out with a note.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench import tools
from bench.peers import Ports
from bench.process import Pinned

PROXY_CORE = 1
LOAD_CORE = 0
SHOWN_ERRORS = 200  # characters


class Contestant(msgspec.Struct, frozen=True):
    """A proxy that runs; its processes are measured together."""

    name: str
    processes: tuple[Pinned, ...]
    ports: Ports

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self.processes)

    def largest_mb(self) -> float:
        return max(process.largest_mb() for process in self.processes)


class Reading(msgspec.Struct, frozen=True):
    """One case of one proxy in one round. amounts: name → figure; errors: what the load generator complained about."""

    amounts: Mapping[str, float]
    errors: str = ""


Starter = Callable[[Path], Contestant]
Case = Callable[[Contestant], Reading]
Readings = dict[str, dict[str, list[Reading]]]  # case → proxy → one a round


class Contest:
    """`enter` the proxies, `run` the cases, `summary`. primary: the amount that ratios are made of; more is better."""

    def __init__(self, title: str, *, primary: str, unit: str, console: Console) -> None:
        self.title, self.primary, self.unit = title, primary, unit
        self.readings: Readings = {}
        self.broken: dict[str, dict[str, str]] = {}
        self.memory: dict[str, float] = {}
        self._console = console
        self._order = random.Random(1)

    def enter(self, starters: Mapping[str, Starter], folder: Path, processes: list[Pinned]) -> list[Contestant]:
        """Starts each in a folder of its own; those that could not be are noted. What runs is appended to `processes`."""
        entered = []
        for name, start in starters.items():
            place = folder / name.replace(" ", "-").replace("/", "-")
            place.mkdir(parents=True, exist_ok=True)
            try:
                contestant = start(place)
            except tools.Missing as missing:
                self._console.print(f"[yellow]without {name}:[/] {escape(str(missing))}")
                continue
            except RuntimeError as trouble:
                self._break(name, "start", trouble)
                continue
            processes.extend(contestant.processes)
            entered.append(contestant)
        return entered

    def run(self, contestants: Sequence[Contestant], cases: Mapping[str, Case], *, rounds: int, warm: bool = True) -> None:
        """Measures. warm: one uncounted round before (connections, caches). What took memory is noted at the end."""
        for case, measure in cases.items() if warm else ():
            for contestant in contestants:
                self._one(contestant, case, measure)
        for number in range(rounds):
            for case, measure in cases.items():
                for contestant in self._order.sample(list(contestants), len(contestants)):
                    reading = self._one(contestant, case, measure)
                    if reading is not None:
                        self.readings.setdefault(case, {}).setdefault(contestant.name, []).append(reading)
            self._console.print(f"[dim]{self.title}: round {number + 1} of {rounds}{self._last()}[/]")
        for contestant in contestants:
            self.memory[contestant.name] = max(self.memory.get(contestant.name, 0.0), round(contestant.largest_mb(), 1))

    def _one(self, contestant: Contestant, case: str, measure: Case) -> Reading | None:
        if case in self.broken.get(contestant.name, {}):
            return None
        try:
            return measure(contestant)
        except RuntimeError as trouble:
            self._break(contestant.name, case, trouble)
            return None

    def _break(self, name: str, case: str, trouble: Exception) -> None:
        self.broken.setdefault(name, {})[case] = str(trouble)
        self._console.print(f"[red]{name}, {case}:[/] {escape(str(trouble)[-800:])}")

    def _last(self) -> str:
        for case, by_name in self.readings.items():
            figures = "  ".join(f"{name} {readings[-1].amounts[self.primary]:,.4g}" for name, readings in by_name.items())
            return f": {case}, {self.unit}: {figures}"
        return ""

    def summary(self) -> dict[str, Any]:
        """What `--json` writes."""
        return summarised(self.readings, primary=self.primary) | {
            "title": self.title,
            "unit": self.unit,
            "primary": self.primary,
            "memory_mb": self.memory,
            "broken": self.broken,
        }


def summarised(readings: Readings, *, primary: str) -> dict[str, Any]:
    """Medians of every amount by case and proxy; ratios of fedgate to the others by the primary amount, and of CPU (less is better)."""
    cases = {case: {name: _medians(rounds, primary) for name, rounds in by_name.items()} for case, by_name in readings.items()}
    ratios = {case: _ratios(by_name, primary) for case, by_name in cases.items()}
    first = next(iter(cases), "")
    return {
        "ratio": ratios.get(first, {}),
        "ratios": ratios,
        "cpu_ratios": {case: _ratios(by_name, "cpu_us") for case, by_name in cases.items()},
        "cases": cases,
    }


def _medians(rounds: Sequence[Reading], primary: str) -> dict[str, Any]:
    names = list(rounds[0].amounts)
    figures: dict[str, Any] = {name: _rounded(statistics.median(one.amounts[name] for one in rounds)) for name in names}
    figures[f"{primary}_all"] = [_rounded(one.amounts[primary]) for one in rounds]
    figures["errors"] = [one.errors[:SHOWN_ERRORS] for one in rounds if one.errors]
    return figures


def _rounded(figure: float) -> float:
    """To what a benchmark can tell apart."""
    return round(figure) if figure >= 1000 else float(f"{figure:.4g}")


def _ratios(by_name: Mapping[str, Mapping[str, Any]], amount: str) -> dict[str, float]:
    mine = by_name.get("fedgate", {}).get(amount)
    if mine is None:
        return {}
    others = {name: figures.get(amount) for name, figures in by_name.items() if name != "fedgate"}
    return {name: round(mine / theirs, 3) for name, theirs in others.items() if theirs}


def table(summary: Mapping[str, Any]) -> Table:
    """The summary for people, a row a case: the primary amount, in brackets the CPU, and fedgate's ratios. `!`: some answers were bad."""
    cases = summary["cases"]
    names = list(dict.fromkeys(name for by_name in cases.values() for name in by_name))
    others = [name for name in names if name != "fedgate" and "fedgate" in names]
    shown = Table(title=f"{summary['title']}: {summary['unit']} (the proxy's CPU)")
    shown.add_column("case")
    for name in names:
        shown.add_column(name, justify="right")
    for other in others:
        shown.add_column(f"fedgate / {other}", justify="right", style="bold")
    for case, by_name in cases.items():
        ratios = summary["ratios"][case]
        shown.add_row(
            case,
            *(_cell(by_name.get(name), summary["primary"]) for name in names),
            *(f"{ratios[other]:.2f}" if other in ratios else "–" for other in others),
        )
    shown.add_row("largest process, MB", *(f"{summary['memory_mb'].get(name, 0):.0f}" for name in names), style="dim")
    return shown


def _cell(figures: Mapping[str, Any] | None, primary: str) -> str:
    if figures is None:
        return "–"
    amount, cpu = figures[primary], ""
    if "cpu_us" in figures:
        cpu = f" ({figures['cpu_us']:.1f} µs)"
    elif "cpu_s_gb" in figures:
        cpu = f" ({figures['cpu_s_gb']:.3f} s/GB)"
    return (f"{amount:,.0f}" if amount >= 100 else f"{amount:.2f}") + cpu + (" !" if figures["errors"] else "")
