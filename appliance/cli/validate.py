"""`fedgate validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.output import Output


def validate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files or folders of YAML documents.")],
    output: Annotated[Output, typer.Option("-o", "--output", help="text for people, json for programs.")] = Output.TABLE,
) -> None:
    """Judge documents, each by itself, and name every error at once. Exit status 0 when all are valid, else 1.

    Example: fedgate validate routes/ -o json
    """
    import msgspec

    from federation.validate import examine

    found = examine(paths)
    if output is Output.JSON:
        typer.echo(msgspec.json.encode(found.report).decode())
    else:
        for line in found.lines:
            typer.echo(line, err=True)
        documents = found.report.documents
        bad = sum(not entry.valid for entry in documents)
        typer.echo(f"{len(documents)} documents, {bad} of them invalid" if bad else f"{len(documents)} documents, all valid")
    raise typer.Exit(0 if found.report.valid else 1)
