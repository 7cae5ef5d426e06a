"""`python -m bench WHAT`: the benchmarks, as ratios to peers measured in the same run. WHAT is one of

  http1        requests/s, HTTP/1.1, plain and TLS, and latency at a fixed load
  tls          handshakes/s and CPU a handshake, full and resumed
  mtls         a client, two gateways with mutual TLS between them, a backend
  h2, grpc     requests/s and calls/s over HTTP/2
  passthrough  GB/s of TCP and of TLS passed through by SNI
  connections  new TCP connections/s
  dns          answers/s of the nameserver against dnsmasq, and what traffic waits meanwhile
  discovery    how long after a change in a real Consul, Kubernetes or Nomad traffic follows it (--peers names them)
  idle         memory of 10,000 idle connections
  workers      two workers against one
  drill        a dead region: what fails, and for how long
  soak         minutes of mixed traffic: does memory grow?
  catalog      100,000 endpoints of five registries: merge, one change, memory, against what the design allows
  all          all of these, one after the other

Example: python -m bench http1 --peers envoy,haproxy,nginx --seconds 3 --rounds 5 --json result.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench import catalog, contest, discovery, dns, drill, eastwest, http1, http2, idle, layer4, soak, tls, tools, workers

PEERS = "envoy,haproxy,nginx"
WIDTH = 160  # columns of tables that go into a file


class Options(msgspec.Struct, frozen=True):
    """What was asked for on the command line."""

    names: list[str]
    seconds: int
    rounds: int
    minutes: int
    cases: list[str]
    console: Console

    @property
    def usual(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "rounds": self.rounds, "console": self.console}


Result = dict[str, Any]
Measure = Callable[[Options], Result]

BENCHMARKS: dict[str, tuple[Measure, Callable[[Result], Table]]] = {
    "http1": (lambda o: http1.measure(["fedgate", *o.names], cases=o.cases or http1.CASES, **o.usual), http1.table),
    "tls": (lambda o: tls.measure(o.names, **o.usual), contest.table),
    "mtls": (lambda o: eastwest.measure(o.names, **o.usual), contest.table),
    "h2": (lambda o: http2.measure(o.names, cases=o.cases or http2.CASES, **o.usual), contest.table),
    "grpc": (lambda o: http2.measure_grpc(o.names, **o.usual), contest.table),
    "passthrough": (lambda o: layer4.measure_passthrough(o.names, rounds=o.rounds, console=o.console), contest.table),
    "connections": (lambda o: layer4.measure_connections(o.names, **o.usual), contest.table),
    "dns": (lambda o: dns.measure(o.names, **o.usual), contest.table),
    "discovery": (lambda o: discovery.measure(o.names, rounds=o.rounds, console=o.console), discovery.table),
    "idle": (lambda o: idle.measure(o.names, console=o.console), idle.table),
    "workers": (lambda o: workers.measure(o.names, **o.usual), workers.table),
    "drill": (
        lambda o: drill.measure([name for name in o.names if name == "envoy"], seconds=max(o.seconds, 15), console=o.console),
        drill.table,
    ),
    "catalog": (lambda o: catalog.measure(console=o.console), catalog.table),
    "soak": (lambda o: soak.measure(minutes=o.minutes, console=o.console), soak.table),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=(*BENCHMARKS, "all"))
    parser.add_argument(
        "--peers",
        default=PEERS,
        help="comma-separated; what is missing is left out with a note; compiled: fedgate with compiled codecs",
    )
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement; of drill: after the event, 15 at least")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--minutes", type=int, default=10, help="of soak")
    parser.add_argument(
        "--cases", default="", help="of http1 (plain, plain+8, tls, tls+8) or h2 (small, +5, +5 paths, …), comma-separated"
    )
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when everything ran, 1 when something needed is missing or broke; what did run is written in any case."""
    arguments, console = _arguments(), Console(stderr=True)
    shown = Console(width=None if sys.stdout.isatty() else WIDTH)
    options = Options(
        names=[name for name in arguments.peers.split(",") if name],
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        minutes=arguments.minutes,
        cases=[case for case in arguments.cases.split(",") if case],
        console=console,
    )
    chosen = list(BENCHMARKS) if arguments.what == "all" else [arguments.what]
    results: dict[str, Result] = {}
    failed = False
    console.print(subprocess.run([*tools.fedgate(), "version"], capture_output=True, text=True).stdout.strip(), highlight=False)
    for what in chosen:
        measure, table = BENCHMARKS[what]
        try:
            results[what] = measure(options)
        except (tools.Missing, RuntimeError) as trouble:
            console.print(str(trouble), style="red", markup=False)
            failed = True
            continue
        shown.print(table(results[what]))
        failed = failed or "fedgate" in results[what].get("broken", {})
        if arguments.json:
            arguments.json.write_text(json.dumps(_written(results, arguments.what), indent=1) + "\n")
    return 1 if failed else 0


def _written(results: dict[str, Result], what: str) -> Result:
    """One benchmark's figures at the top level; of several, http1's are there, and the others under their names."""
    if what != "all":
        return results[what]
    return {**results.get("http1", {}), **{name: result for name, result in results.items() if name != "http1"}}


if __name__ == "__main__":
    sys.exit(main())
