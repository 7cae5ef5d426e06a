"""`python -m bench http1|drill|all`: the benchmarks, as ratios to peers measured in the same run.

Example: python -m bench http1 --peers envoy,haproxy,nginx --seconds 3 --rounds 5 --json result.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import drill, http1, tools


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("http1", "drill", "all"))
    parser.add_argument("--peers", default="envoy,haproxy,nginx", help="comma-separated; what is missing is left out with a note")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement (http1); after the event (drill)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (http1)")
    parser.add_argument("--cases", default=",".join(http1.CASES), help="of http1: plain, plain+8, tls, tls+8")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args()


def main() -> int:
    """Exit status 0 when everything ran, 1 when something needed is missing or broke."""
    arguments, console = _arguments(), Console(stderr=True)
    names = [name for name in arguments.peers.split(",") if name]
    result: dict[str, Any] = {}
    try:
        if arguments.what in ("http1", "all"):
            cases = arguments.cases.split(",")
            result = http1.measure(
                ["fedgate", *names], seconds=arguments.seconds, rounds=arguments.rounds, cases=cases, console=console
            )
            Console().print(http1.table(result))
        if arguments.what in ("drill", "all"):
            drilled = drill.measure(
                [name for name in names if name == "envoy"], seconds=max(arguments.seconds, 15), console=console
            )
            Console().print(drill.table(drilled))
            result = {**result, "drill": drilled}
    except (tools.Missing, RuntimeError) as trouble:
        console.print(str(trouble), style="red", markup=False)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
