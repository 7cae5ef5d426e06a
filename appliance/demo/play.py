"""`fedgate demo`: brings the world up, plays the story, shows it, takes everything down again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tempfile
from pathlib import Path

import msgspec
import trio
from rich.console import Console

from appliance.demo.stage import Stage, StageError, refuse_taken_addresses
from appliance.demo.story import Result, Story
from appliance.demo.view import result_table, stderr_console, watch
from appliance.demo.world import ADMIN_PORT, CLUSTERS, HOST, INGRESS, INGRESS_PORT, MESH_PORT, hostname

# Peers' sessions, first health checks and connection pools: what a steady phase must not be charged for.
SETTLE_S = 3.0


class Options(msgspec.Struct, frozen=True):
    """seconds: length of the whole run. blackhole: SIGSTOP in place of SIGKILL. keep: leave it running afterwards."""

    seconds: float = 40.0
    json: bool = False
    keep: bool = False
    blackhole: bool = False


def play(options: Options) -> int:
    """Runs the demo; exit status 0 only if traffic really moved and came back. Always ends what it started (unless killed itself)."""
    console = stderr_console()
    try:
        refuse_taken_addresses()
        folder = Path(tempfile.mkdtemp(prefix="fedgate-demo-"))
        result = trio.run(_play, options, folder, console)
    except StageError as trouble:
        console.print(f"[red]the demo could not start:[/] {trouble}", highlight=False)
        return 1
    except (KeyboardInterrupt, BaseExceptionGroup) as trouble:
        if isinstance(trouble, BaseExceptionGroup) and trouble.split(KeyboardInterrupt)[1] is not None:
            raise
        console.print("stopped")
        return 130
    if result.problems:
        console.print(f"logs and documents are in {folder}", highlight=False)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if result.problems else 0


async def _play(options: Options, folder: Path, console: Console) -> Result:
    stage = Stage(folder)
    try:
        console.print(f"three clusters in two regions, in {folder} …", highlight=False)
        stage.write_documents()
        await stage.open()
        await trio.sleep(SETTLE_S)
        story = Story(stage, seconds=options.seconds, blackhole=options.blackhole)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, story, console)
            result = await story.run()
            nursery.cancel_scope.cancel()
        if options.json:
            print(msgspec.json.format(msgspec.json.encode(result), indent=1).decode())
        else:
            Console().print(result_table(result))
        for failure, count in result.failures.items():
            console.print(f"[yellow]failed[/] {count} × {failure}", highlight=False)
        for problem in result.problems:
            console.print(f"[red]✗[/] {problem}", highlight=False)
        if options.keep:
            await _keep(folder, console)
        return result
    finally:
        stage.close()


async def _keep(folder: Path, console: Console) -> None:
    peer = CLUSTERS[-1]
    lines = (
        f"curl -s -H 'Host: {HOST}' http://{INGRESS.gateway}:{INGRESS_PORT}/productpage",
        f"curl -s -H 'Host: {hostname('ratings')}' http://{INGRESS.gateway}:{MESH_PORT}/",
        f"curl -s -H 'Host: {hostname('reviews')}' http://{peer.gateway}:{MESH_PORT}/",
        f"curl -s http://{INGRESS.gateway}:{ADMIN_PORT}/metrics | grep fedgate_",
        f"fedgate get endpoints --address {INGRESS.gateway}:{ADMIN_PORT}",
        f"fedgate get peers --address {INGRESS.gateway}:{ADMIN_PORT}",
    )
    console.print(f"\nEverything still runs (the gateway of east-2 is gone); documents and logs: {folder}\n", highlight=False)
    for line in lines:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    console.print("\nCtrl-C ends it.")
    with contextlib.suppress(KeyboardInterrupt), trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return
