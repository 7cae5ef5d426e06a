"""`fedgate version`."""

from __future__ import annotations

import platform
from importlib import metadata

import typer


def version() -> None:
    """Print the version of fedgate and of Python.

    Example: fedgate version
    """
    typer.echo(f"fedgate {metadata.version('fedgate')} (Python {platform.python_version()})")
