"""`fedgate version`."""

from __future__ import annotations

import platform
from importlib import metadata, util

import typer


def version() -> None:
    """Print the version of fedgate and of Python, and whether the codecs are compiled.

    Example: fedgate version
    """
    codec = util.find_spec("gateway.native.codec.http2")
    codecs = "in Python" if codec is not None and (codec.origin or "").endswith(".py") else "compiled"
    typer.echo(f"fedgate {metadata.version('fedgate')} (Python {platform.python_version()}, codecs {codecs})")
