"""The nameserver against dnsmasq: 5,000 names, asked at random by dnsperf over UDP, one core each.

Cases: `known` names, as they are asked for again and again; `unknown` ones, each another, which no cache can know; `peculiar` questions, with
a client's cookie, as dig sends them. `delay`: what an HTTP connection through the same worker waits for its answer meanwhile, of requests
one after the other: the flood must not be felt there.
"""

from __future__ import annotations

import random
import re
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from bench import tools
from bench.contest import LOAD_CORE, PROXY_CORE, Contest, Contestant, Reading, Starter
from bench.peers import Ports, node_document
from bench.process import Pinned, free_port, stopping

NAMES = 5_000
ZONE = "bench.test"
EMPTY = "none.svc.cluster.local"  # a zone of ours without any of these names
_UNDER_WAY = 100  # questions at once: dnsperf's default
_CLIENTS = 8  # sockets that dnsperf asks from
_ONE_BY_ONE_S = 0.002  # between two requests of the probe: 500 a second cost the worker 1 %

CASES = ("known", "unknown", "peculiar")
PEERS = ("dnsmasq",)


def measure(names: Sequence[str], *, seconds: int, rounds: int, console: Console) -> dict[str, Any]:
    """names: of `PEERS`, others are passed over. Raises tools.Missing without dnsperf."""
    dnsperf = tools.found("dnsperf", "dnsperf")
    contest = Contest("nameserver", primary="rate", unit="answers/s", console=console)
    starters: dict[str, Starter] = {"fedgate": _fedgate}
    starters |= {"dnsmasq": _dnsmasq} if "dnsmasq" in names or not set(names) & set(PEERS) else {}
    processes: list[Pinned] = []
    with TemporaryDirectory(prefix="bench-dns-") as place, stopping(processes):
        folder = Path(place)
        files = {"known": folder / "known", "unknown": folder / "unknown", "peculiar": folder / "known"}
        _write_questions(files["known"], files["unknown"])
        contestants = contest.enter(starters, folder, processes)
        cases = {case: partial(_ask, dnsperf, files[case], case, seconds=seconds) for case in CASES}
        contest.run(contestants, cases, rounds=rounds)
    return contest.summary()


def address(number: int) -> str:
    return f"10.64.{number // 250}.{number % 250 + 1}"


def _write_questions(known: Path, unknown: Path) -> None:
    chosen = random.Random(1)
    order = [chosen.randrange(NAMES) for _ in range(20 * NAMES)]
    known.write_text("".join(f"s{number}.{ZONE} A\n" for number in order))
    unknown.write_text("".join(f"s{number}.{EMPTY} A\n" for number in range(1_000_000)))


def _fedgate(folder: Path) -> Contestant:
    ports = Ports.fresh(())
    node = node_document(folder, ports)
    port, http = (int(_port(node, name)) for name in ("dns", "http"))
    ports = Ports(http, 0, ports.admin, (port,))
    (folder / "gateway.yaml").write_text(node + "".join(_entries()))
    command = [*tools.fedgate(), "run", "-c", str(folder / "gateway.yaml")]
    return _started("fedgate", command, folder, ports, seconds=120)


def _port(node: str, name: str) -> str:
    match = re.search(rf"{name}: '127\.0\.0\.1:(\d+)'", node)
    assert match, f"the Node's document has no {name} port"
    return match[1]


def _entries() -> Iterator[str]:
    for number in range(NAMES):
        yield f"""---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: s{number}, namespace: bench}}
spec:
  hosts: [s{number}.{ZONE}]
  addresses: [{address(number)}]
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{{address: 127.0.0.1}}]
"""


def _dnsmasq(folder: Path) -> Contestant:
    port = free_port()
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address(number)} s{number}.{ZONE}\n" for number in range(NAMES)))
    settings = folder / "dnsmasq.conf"
    lines = [f"port={port}", "listen-address=127.0.0.1", "bind-interfaces", "no-resolv", "no-hosts", f"addn-hosts={hosts}"]
    lines += [f"local=/{ZONE}/{EMPTY}/", "cache-size=10000", "local-ttl=30", "keep-in-foreground", "user=", "pid-file="]
    settings.write_text("\n".join(lines) + "\n")
    command = [tools.found("dnsmasq", "dnsmasq-base"), f"--conf-file={settings}"]
    return _started("dnsmasq", command, folder, Ports(0, 0, 0, (port,)), seconds=20)


def _started(name: str, command: list[str], folder: Path, ports: Ports, *, seconds: float) -> Contestant:
    process = Pinned(name, command, core=PROXY_CORE, log=folder / "output.log")
    try:
        _wait_answering(ports.endpoints[0], seconds, process)
    except BaseException:
        process.stop()
        raise
    return Contestant(name, (process,), ports)


def _wait_answering(port: int, seconds: float, process: Pinned) -> None:
    """Until the last name has its address. Raises RuntimeError."""
    labels = f"s{NAMES - 1}.{ZONE}".split(".")
    name = b"".join(bytes([len(label)]) + label.encode() for label in labels) + b"\0"
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0" + name + b"\0\1\0\1"
    until = time.monotonic() + seconds
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        while time.monotonic() < until:
            try:
                sock.send(question)
                if sock.recv(1232).endswith(socket.inet_aton(address(NAMES - 1))):
                    return
            except OSError:
                threading.Event().wait(0.1)
    raise RuntimeError(f"{process.name} does not answer:\n{process.log.read_text(errors='replace')[-2000:]}")


def _ask(dnsperf: str, questions: Path, case: str, contestant: Contestant, *, seconds: int) -> Reading:
    port = contestant.ports.endpoints[0]
    command = ["taskset", "-c", str(LOAD_CORE), dnsperf, "-s", "127.0.0.1", "-p", str(port), "-d", str(questions)]
    command += ["-l", str(seconds), "-c", str(_CLIENTS), "-T", "1", "-q", str(_UNDER_WAY)]
    command += ["-E", "10:0102030405060708"] if case == "peculiar" else []
    before = contestant.cpu_seconds()
    with _probing(contestant.ports.http) as delays:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)
    used = contestant.cpu_seconds() - before
    amounts = figures(done.stdout, done.stderr)
    answered = amounts["rate"] * seconds
    amounts["cpu_us"] = used / answered * 1e6 if answered else 0.0
    if delays:
        amounts |= {"delay_p50_ms": statistics.median(delays), "delay_p99_ms": sorted(delays)[int(len(delays) * 0.99)]}
        amounts["delay_most_ms"] = max(delays)
    return Reading(amounts, errors=f"{amounts['lost']:.0f} lost" if amounts["lost"] else "")


def figures(output: str, errors: str = "") -> dict[str, float]:
    """rate and what was lost, of what dnsperf prints. Raises RuntimeError when it gave up."""
    rate, lost = re.search(r"Queries per second:\s+([\d.]+)", output), re.search(r"Queries lost:\s+(\d+)", output)
    latency = re.search(r"Average Latency \(s\):\s+([\d.]+)", output)
    if rate is None or lost is None:
        raise RuntimeError(f"dnsperf gave up: {(errors or output).strip()[-500:]}")
    return {"rate": float(rate[1]), "lost": float(lost[1]), "latency_ms": float(latency[1]) * 1000 if latency else 0.0}


@contextmanager
def _probing(port: int) -> Iterator[list[float]]:
    """Requests one after the other on one connection meanwhile; the list gets their milliseconds. Port 0: none."""
    delays: list[float] = []
    if not port:
        yield delays
        return
    ended = threading.Event()
    thread = threading.Thread(target=_probe, args=(port, delays, ended.is_set, ended.wait), daemon=True)
    thread.start()
    try:
        yield delays
    finally:
        ended.set()
        thread.join(5)


def _probe(port: int, delays: list[float], ended: Callable[[], bool], wait: Callable[[float], object]) -> None:
    """A name that nothing is routed for: the worker answers by itself."""
    with socket.create_connection(("127.0.0.1", port), 5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not ended():
            began = time.perf_counter()
            sock.sendall(b"GET / HTTP/1.1\r\nhost: nothing.test\r\n\r\n")
            if not sock.recv(65536):
                return
            delays.append((time.perf_counter() - began) * 1000)
            wait(_ONE_BY_ONE_S)
