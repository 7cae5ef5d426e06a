"""`fedgate demo`."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    seconds: Annotated[float, typer.Option(help="Length of the whole run; 20 is enough.", min=18)] = 40.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the table.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running afterwards, with curl lines to try.")] = False,
    blackhole: Annotated[bool, typer.Option("--blackhole", help="SIGSTOP in place of the kill: no error, no answer.")] = False,
) -> None:
    """Three clusters in two regions on this machine; a region is taken away under traffic, comes back, then a gateway dies.

    Real processes, real mutual TLS between the gateways, steady traffic through the ingress. Ends with a table of what happened;
    exit status 0 only if traffic really moved and came back.

    Example: fedgate demo --seconds 20 --json
    """
    from appliance.demo.play import Options, play  # heavy, and only this command needs it

    raise typer.Exit(play(Options(seconds=seconds, json=json, keep=keep, blackhole=blackhole)))
