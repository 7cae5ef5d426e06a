"""How a command says that it could not: one line on stderr, exit status 1. Never a traceback for a user's mistake."""

from __future__ import annotations

from typing import NoReturn

import typer


def fail(message: str) -> NoReturn:
    """Print `fedgate: MESSAGE` on stderr and exit with status 1."""
    typer.echo(f"fedgate: {message}", err=True)
    raise typer.Exit(1)
