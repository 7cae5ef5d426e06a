"""What the demo shows: a live view in a terminal (a line a second elsewhere), and the table at the end."""

from __future__ import annotations

import sys

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from appliance.demo.load import percentile
from appliance.demo.measure import share
from appliance.demo.story import PHASES, STEADY, Result, Story
from appliance.demo.world import CLUSTERS

BAR = 40  # characters for 100 %
REFRESH_S = 0.25
CAPTIONS = {
    "steady": "all is well: each service is served where it is nearest",
    "region-down": "the services of us-east are gone",
    "region-back": "the services of us-east are back",
    "gateway-down": "the whole gateway of east-2 is gone",
}
COLOURS = {"east-1": "green", "east-2": "cyan", "west-1": "yellow"}


async def watch(story: Story, console: Console) -> None:
    """Shows the run until cancelled."""
    if not console.is_terminal:
        await _lines(story, console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_frame(story), refresh=True)
            await trio.sleep(REFRESH_S)


async def _lines(story: Story, console: Console) -> None:
    while True:
        await trio.sleep(1)
        rate, failed, shares, p50, p99 = _last_second(story)
        split = "  ".join(f"{name} {part:4.0%}" for name, part in shares.items())
        console.print(
            f"{story.load.now_s:5.1f} s  {story.phase_name:12}  {rate:3} req/s  {failed:2} failed  {split}  p50 {p50:.1f} p99 {p99:.1f} ms"
        )


def _last_second(story: Story) -> tuple[int, int, dict[str, float], float, float]:
    now = story.load.now_s
    recent = [s for s in story.load.samples[-200:] if s.due_s + s.took_ms / 1000 >= now - 1]
    took = sorted(sample.took_ms for sample in recent if not sample.failed)
    shares = share(recent)
    by_cluster = {here.name: shares.get(here.name, 0.0) for here in CLUSTERS}
    return len(recent), sum(s.failed for s in recent), by_cluster, percentile(took, 0.5), percentile(took, 0.99)


def _frame(story: Story) -> Group:
    rate, failed, shares, p50, p99 = _last_second(story)
    steps = Text()
    for name in PHASES:
        steps.append(f" {name} ", style="reverse bold" if name == story.phase_name else "dim")
        steps.append(" ")
    rows = Table.grid(padding=(0, 1))
    for here in CLUSTERS:
        part = shares[here.name]
        bar = Text("█" * round(part * BAR) + "·" * (BAR - round(part * BAR)), style=COLOURS[here.name])
        rows.add_row(f"{here.name}", Text(here.region, style="dim"), bar, f"{part:4.0%}")
    failures = sum(sample.failed for sample in story.load.samples)
    line = Text(
        f"{rate} requests/s   p50 {p50:.1f} ms   p99 {p99:.1f} ms   failed in the last second: {failed}   in all: {failures}"
    )
    return Group(steps, Text(CAPTIONS[story.phase_name], style="italic"), rows, line)


def result_table(result: Result) -> Table:
    """The table at the end."""
    shown = Table(
        title=f"What happened ({result.event}); {result.requests:,} requests, {result.failed} failed", title_justify="left"
    )
    for heading in ("phase", "requests", "failed", "last failed", "moved after", "p50", "p99", *(here.name for here in CLUSTERS)):
        shown.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase in result.phases:
        shown.add_row(
            phase.name,
            f"{phase.requests:,}",
            str(phase.failed),
            _ms(phase.last_failed_ms),
            "–" if phase.name == STEADY else _ms(phase.moved_ms),
            _ms(phase.p50_ms),
            _ms(phase.p99_ms),
            *(f"{phase.share.get(here.name, 0):.0%}" for here in CLUSTERS),
        )
    return shown


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def stderr_console() -> Console:
    """Where the live view goes, so that --json on standard output stays clean."""
    return Console(file=sys.stderr)
