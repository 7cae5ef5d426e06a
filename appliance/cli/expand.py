"""`fedgate expand`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def expand(
    files: Annotated[
        list[Path], typer.Option("-f", "--file", metavar="FILE", help="A file with ExternalServices; may be repeated.")
    ],
) -> None:
    """Print the documents that ExternalServices stand for: ServiceEntry, DestinationRule, VirtualService, Gateway and ServicePolicy,
    which could be written in their place. The first four are Istio's and work there.

    Example: fedgate expand -f payments.yaml
    """
    from federation.expand import expand as documents_of

    found = documents_of(files)
    for line in found.errors:
        typer.echo(line, err=True)
    if found.text:
        typer.echo(found.text, nl=False)
    raise typer.Exit(1 if found.errors else 0)
