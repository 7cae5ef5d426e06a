"""10,000 idle keep-alive connections: what memory they cost. Each has carried one request, so that nothing about it is still unmade.

The figure that counts is the whole gateway's resident memory with the connections open (fedgate: supervisor, control and worker); beside
it the worker's own, and what was there before. Connections come from several loopback addresses, as one has 28,000 ports.
"""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contest import Contest, Contestant
from bench.http1 import PATH
from bench.process import resident_mb
from bench.scene import BODY, scene

CONNECTIONS = 10_000
A_SOURCE = 5000  # connections from one loopback address
APART = 256  # descriptors of a proxy that are not connections
REQUEST = f"GET {PATH} HTTP/1.1\r\nhost: be.test\r\nuser-agent: idle\r\n\r\n".encode()


@contextlib.contextmanager
def held(port: int, count: int) -> Iterator[None]:
    """So many connections to 127.0.0.1:port, each of which was answered once. Raises RuntimeError when one is not."""
    with contextlib.ExitStack() as stack:
        for number in range(count):
            client = stack.enter_context(socket.socket())
            client.settimeout(10)
            client.bind((f"127.0.0.{1 + number // A_SOURCE}", 0))
            try:
                client.connect(("127.0.0.1", port))
                client.sendall(REQUEST)
                answer = client.recv(4096)
            except OSError as trouble:
                raise RuntimeError(f"connection {number + 1} of {count}: {trouble}") from trouble
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"connection {number + 1} of {count} was answered {answer[:60]!r}")
        yield


def _memory(contestant: Contestant) -> dict[str, float]:
    """MB of the whole, and of the largest of the processes that carry traffic."""
    by_pid = {pid: resident_mb(pid) for process in contestant.processes for pid in process.tree()}
    workers = [megabytes for pid, megabytes in by_pid.items() if contestant.name != "fedgate" or is_worker(pid)]
    return {"gateway_mb": round(sum(by_pid.values()), 1), "worker_mb": round(max(workers, default=0.0), 1)}


def is_worker(pid: int) -> bool:
    """Of fedgate's processes, by its command line."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"\0worker\0" in file.read()
    return False


def measure(names: Sequence[str], *, console: Console, connections: int = CONNECTIONS) -> dict[str, Any]:
    """{proxy: {before, with, kb_a_connection}}; what `--json` writes. Of the peers only Envoy and nginx: HAProxy's memory is set aside
    by its own limit of connections."""
    contest = Contest("Idle connections", primary="gateway_mb", unit="MB", console=console)
    result: dict[str, Any] = {}
    with scene() as here:
        here.backend("backend", "be", str(BODY))
        allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if connections > (allowed - APART) // 2:
            connections = (allowed - APART) // 2
            console.print(f"[yellow]{connections:,} connections only:[/] this user may have {allowed:,} descriptors a process")
        chosen = ["fedgate", *(name for name in names if name != "haproxy")]
        for contestant in contest.enter(here.proxies(chosen), here.folder, here.processes):
            try:
                contestant.processes[0].wait_answering(contestant.ports.http, "be.test")
                before = _memory(contestant)
                with held(contestant.ports.http, connections):
                    during = _memory(contestant)
            except RuntimeError as trouble:
                console.print(f"{contestant.name}: {trouble}", style="red", markup=False)
                contest.broken[contestant.name] = {"idle": str(trouble)}
                continue
            each_kb = (during["worker_mb"] - before["worker_mb"]) * 1024 / connections
            result[contestant.name] = {"before": before, "with": during, "kb_a_connection": round(each_kb, 2)}
            console.print(f"[dim]{contestant.name}: {during['gateway_mb']:,.0f} MB with {connections:,} connections[/]")
    return {"connections": connections, "proxies": result, "broken": contest.broken}


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"{result['connections']:,} idle connections: resident MB")
    for column in ("proxy", "worker before", "worker with", "whole gateway before", "whole gateway with", "KB a connection"):
        shown.add_column(column, justify="left" if column == "proxy" else "right")
    for name, figures in result["proxies"].items():
        before, during = figures["before"], figures["with"]
        cells = (before["worker_mb"], during["worker_mb"], before["gateway_mb"], during["gateway_mb"])
        shown.add_row(name, *(f"{cell:,.0f}" for cell in cells), f"{figures['kb_a_connection']:.1f}")
    return shown
