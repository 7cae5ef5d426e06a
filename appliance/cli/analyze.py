"""`fedgate analyze`."""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.output import Output

FOUND_ISSUES = 79
"""The exit status of `istioctl analyze` when it finds some, which pipelines look for."""


class Threshold(enum.Enum):
    """Levels as they are written."""

    INFO = "Info"
    WARNING = "Warning"
    ERROR = "Error"


def analyze(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders of YAML documents.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="text for people, json for programs.")] = Output.TABLE,
    output_threshold: Annotated[Threshold, typer.Option(case_sensitive=False, help="The least that is printed.")] = Threshold.INFO,
    failure_threshold: Annotated[
        Threshold, typer.Option(case_sensitive=False, help="The least that makes the exit status 79.")
    ] = Threshold.ERROR,
) -> None:
    """Judge documents together, as one gateway would run them: names that lead nowhere, hosts that no Gateway serves, failover that
    cannot happen; and each document by itself, as validate does. Nothing outside the documents is asked. Exit status 0, or 79.

    Example: fedgate analyze routes/ node.yaml --failure-threshold Warning
    """
    import msgspec

    from federation.analyze.finding import Level
    from federation.analyzing import at_least, findings_in, message

    found = findings_in(paths, datetime.now(UTC))
    shown = [message(each) for each in at_least(Level[output_threshold.name], found)]
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(shown).decode())
    else:
        for each in shown:
            typer.echo(str(each))
        if not shown:
            typer.echo(f"No issues of level {output_threshold.value} found." if found else "No issues found.")
    raise typer.Exit(FOUND_ISSUES if at_least(Level[failure_threshold.name], found) else 0)
