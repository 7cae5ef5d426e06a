"""`fedgate run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.failure import fail


def run(
    config: Annotated[
        list[Path],
        typer.Option("-c", "--config", metavar="PATH", help="A file or folder of YAML documents, watched; may be repeated."),
    ],
) -> None:
    """Run a gateway until SIGTERM, which drains it; SIGHUP reads everything again.

    The documents hold exactly one Node. Everything else (Gateway, VirtualService, Peer …) may be added, changed and removed while
    it runs. Set FEDGATE_LOG=debug for more words.

    Example: fedgate run -c node.yaml -c routes/
    """
    for path in config:
        if not path.exists():
            fail(f"{path} does not exist; -c takes a file or folder of YAML documents")
    from appliance.supervisor import supervise
    from appliance.telemetry import logs

    logs.configure("supervisor")
    logs.append_only()
    # -P: the working directory is not where this program's modules come from.
    process = (sys.executable, "-P", "-m", "appliance")
    paths = [str(path.resolve()) for path in config]
    raise typer.Exit(supervise(paths, control=(*process, "control"), worker=(*process, "worker")))
