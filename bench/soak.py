"""Minutes of mixed traffic through one fedgate gateway: does its memory grow?

All at once: HTTP/1.1 plain and TLS (kept connections), new TLS connections, HTTP/2 in clear text, TCP connections of many sizes, and a
change of the documents (endpoints leave and return) every CHANGE_S. A minute's resident memory of the worker and of the control process
is noted; `slope_mb_min` is the line through the second half of the minutes, after pools, caches and the allocator have filled. What a
gateway cannot carry (a kind of load whose generator says that all failed) is named under `broken`.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import tools
from bench.contest import LOAD_CORE, PROXY_CORE
from bench.http1 import PATH
from bench.idle import is_worker
from bench.peers import Ports, node_document, service_entry
from bench.process import Pinned, free_port, resident_mb
from bench.scene import BODY, Scene, scene

CHANGE_S = 1.0  # of the documents: sixty a minute, far more than a calm registry makes
SLICE_S = 10  # of a load before it starts afresh
ENOUGH = 4  # minutes, to say anything of growth


def slope(values: Sequence[float]) -> float:
    """Least squares: by how much the values grow from one to the next; 0 for fewer than two."""
    count = len(values)
    if count < 2:
        return 0.0
    middle, mean = (count - 1) / 2, sum(values) / count
    return sum((index - middle) * (value - mean) for index, value in enumerate(values)) / sum(
        (i - middle) ** 2 for i in range(count)
    )


class Tcp:
    """A port of the gateway and the endpoints behind it."""

    def __init__(self, endpoints: tuple[int, ...]) -> None:
        self.port = free_port()
        self.endpoints = endpoints


def documents(folder: Path, ports: Ports, certificate: Path, key: Path, tcp: Tcp, without: int) -> str:
    """The gateway's, with one endpoint (by its index) left out."""
    kept = [port for index, port in enumerate(ports.endpoints) if index != without]
    http = "\n".join(f"    - {{address: 127.0.0.1, ports: {{http: {port}}}}}" for port in kept)
    bulk = "\n".join(f"    - {{address: 127.0.0.1, ports: {{tcp: {port}}}}}" for port in tcp.endpoints)
    return (
        node_document(folder, ports)
        + f"""---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: web, namespace: fedgate}}
spec:
  selector: {{istio: ingressgateway}}
  servers:
  - {{port: {{number: {ports.http}, name: http, protocol: HTTP}}, bind: 127.0.0.1, hosts: ['*']}}
  - port: {{number: {ports.https}, name: https, protocol: HTTPS}}
    bind: 127.0.0.1
    hosts: ['*']
    tls: {{mode: SIMPLE, serverCertificate: {certificate}, privateKey: {key}}}
  - {{port: {{number: {tcp.port}, name: tcp, protocol: TCP}}, bind: 127.0.0.1, hosts: ['*']}}
---
{service_entry(http)}---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bulk, namespace: fedgate}}
spec:
  hosts: [bulk.test]
  ports: [{{number: 9000, name: tcp, protocol: TCP}}]
  resolution: STATIC
  endpoints:
{bulk}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: be, namespace: fedgate}}
spec:
  hosts: ['*']
  gateways: [web]
  http: [{{route: [{{destination: {{host: be.test, port: {{number: 80}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bulk, namespace: fedgate}}
spec:
  hosts: [bulk.test]
  gateways: [web]
  tcp: [{{match: [{{port: {tcp.port}}}], route: [{{destination: {{host: bulk.test, port: {{number: 9000}}}}}}]}}]
"""
    )


def _loads(ports: Ports, tcp: Tcp) -> dict[str, list[list[str]]]:
    """By name, commands that are run one after the other for ever."""
    local, seconds = ["127.0.0.1"], str(SLICE_S)
    http = ["taskset", "-c", str(LOAD_CORE)]
    dial = str(tools.compiled("dial"))
    sizes = ("1", "20000", "3000000")
    return {
        "http1": [[*http, str(tools.compiled("offered")), *local, str(ports.http), "be.test", PATH, "64", "1500", seconds]],
        "tls": [[*http, tools.found("wrk", "wrk"), "-t1", "-c16", f"-d{seconds}s", f"https://127.0.0.1:{ports.https}{PATH}"]],
        "handshakes": [
            [*http, str(tools.compiled("handshakes")), *local, str(ports.https), "be.test", PATH, "2", seconds, "resumed"]
        ],
        "http2": [
            [*http, tools.found("h2load", "nghttp2-client"), "-c4", "-m10", f"-D{seconds}", f"http://127.0.0.1:{ports.http}{PATH}"]
        ],
        "tcp": [[*http, dial, "bytes", *local, str(tcp.port), "8", size] for size in sizes]
        + [[*http, dial, "connections", *local, str(tcp.port), "4", "2"]],
    }


def good(name: str, output: str) -> bool:
    """Whether a load generator was answered at all, by what it printed."""
    if name == "tls":
        return " requests in" in output and ", 0 requests" not in output and " 0 requests in" not in output
    if name == "http2":
        return "status codes: " in output and "status codes: 0 2xx" not in output
    try:
        said = json.loads(output)
    except ValueError:
        return False
    return bool(said.get("done", said.get("sent", 0)) and said["failed"] < said.get("done", said.get("sent", 0)))


class Driver:
    """One kind of load until `stop`; runs: of its generator; broken: what the last bad one said."""

    def __init__(self, name: str, commands: list[list[str]], stopping: threading.Event) -> None:
        self.name, self.runs, self.bad, self.broken = name, 0, 0, ""
        self._commands, self._stopping = commands, stopping
        self.thread = threading.Thread(target=self._drive, name=name, daemon=True)
        self.thread.start()

    def _drive(self) -> None:
        while not self._stopping.is_set():
            for command in self._commands:
                if self._stopping.is_set():
                    return
                try:
                    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + SLICE_S, check=False)
                except subprocess.TimeoutExpired:
                    done = subprocess.CompletedProcess(command, -1, "", "hangs")
                self.runs += 1
                if done.returncode or not good(self.name, done.stdout):
                    self.bad += 1
                    self.broken = (done.stderr or done.stdout)[-300:]
                    self._stopping.wait(1)


def _changes(here: Scene, path: Path, ports: Ports, tcp: Tcp, stopping: threading.Event) -> Iterator[int]:
    """Rewrites the documents every CHANGE_S; yields how often so far."""
    number = 0
    while not stopping.wait(CHANGE_S):
        beside = path.with_suffix(".new")
        beside.write_text(documents(here.folder, ports, here.certificate, here.key, tcp, number % (len(ports.endpoints) + 1)))
        beside.replace(path)
        number += 1
        yield number


def measure(*, minutes: int, console: Console, minute_s: float = 60.0) -> dict[str, Any]:
    """What `--json` writes: memory by minute, slopes, what was driven. minute_s: shorter for a trial."""
    samples: dict[str, list[float]] = {"worker": [], "control": []}
    stopping = threading.Event()
    with scene() as here:
        here.backend("backend", "be", str(BODY))
        ports = Ports.fresh(here.endpoints)
        tcp = Tcp((free_port(), free_port()))
        bulk = [str(tools.compiled("bulk")), *(f"127.0.0.1:{port}" for port in tcp.endpoints)]
        here.processes.append(Pinned("bulk", bulk, core=LOAD_CORE, log=here.folder / "bulk.log"))
        folder = here.folder / "documents"
        folder.mkdir()
        path = folder / "gateway.yaml"
        path.write_text(documents(here.folder, ports, here.certificate, here.key, tcp, len(ports.endpoints)))
        gateway = Pinned("fedgate", [*tools.fedgate(), "run", "-c", str(folder)], core=PROXY_CORE, log=here.folder / "output.log")
        here.processes.append(gateway)
        gateway.wait_listening("127.0.0.1", ports.http)
        gateway.wait_listening("127.0.0.1", tcp.port)
        drivers = [Driver(name, commands, stopping) for name, commands in _loads(ports, tcp).items()]
        began, changes = time.monotonic(), 0
        for number in _changes(here, path, ports, tcp, stopping):
            changes = number
            if time.monotonic() - began < (len(samples["worker"]) + 1) * minute_s:
                continue
            _sample(gateway, samples)
            console.print(
                f"[dim]minute {len(samples['worker'])}: worker {samples['worker'][-1]:.1f} MB, control {samples['control'][-1]:.1f} MB[/]"
            )
            if len(samples["worker"]) >= minutes:
                stopping.set()
        for driver in drivers:
            driver.thread.join(2 * SLICE_S + 60)
    half = {name: values[len(values) // 2 :] for name, values in samples.items()}
    return {
        "minutes": len(samples["worker"]),
        "mb": samples,
        "slope_mb_min": {name: round(slope(values), 3) for name, values in half.items()},
        "changes": changes,
        "runs": {driver.name: {"runs": driver.runs, "bad": driver.bad} for driver in drivers},
        "broken": {driver.name: driver.broken for driver in drivers if driver.bad == driver.runs},
        "said": {driver.name: driver.broken for driver in drivers if driver.bad},
    }


def _sample(gateway: Pinned, samples: dict[str, list[float]]) -> None:
    pids = gateway.tree()
    workers = [pid for pid in pids if is_worker(pid)]
    samples["worker"].append(round(max((resident_mb(pid) for pid in workers), default=0.0), 2))
    samples["control"].append(round(max((resident_mb(pid) for pid in pids if pid not in workers), default=0.0), 2))


def table(result: dict[str, Any]) -> Table:
    """For people."""
    shown = Table(title=f"Soak of {result['minutes']} minutes, {result['changes']} changes of the documents: resident MB")
    for column in ("process", "first minute", "middle", "last", "slope, MB a minute (second half)"):
        shown.add_column(column, justify="left" if column == "process" else "right")
    for name, values in result["mb"].items():
        if values:
            shown.add_row(
                name,
                *(f"{mb:.1f}" for mb in (values[0], values[len(values) // 2], values[-1])),
                f"{result['slope_mb_min'][name]:+.2f}",
            )
    for name, counts in result["runs"].items():
        shown.add_row(name, f"{counts['runs']} runs", f"{counts['bad']} bad", "", "", style="dim")
    return shown
