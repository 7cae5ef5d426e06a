"""`fedgate leave`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def leave(
    config: Annotated[Path, typer.Option("-c", "--config", metavar="PATH", help="The Node document: its stateDir has the socket.")],
) -> None:
    """Take out of Consul and Designate what this gateway wrote there, for good, before it is taken out of service.

    A gateway that only stops leaves its entries, so that a restart takes no services away; other gateways of the cluster write their
    own. It goes on serving, and publishes again when it is started anew. What could not be taken back is said, and the exit status is 1: run
    it again. Needs the rights on the unix socket, as the gateway's user has.

    Example: fedgate leave -c node.yaml && systemctl stop fedgate
    """
    from appliance.cli.client import command, state_directory

    command(state_directory(config) / "admin.sock", "POST", "/api/v1/leave")
    typer.echo("taken back")
