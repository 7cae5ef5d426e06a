"""`python -m appliance`: the `fedgate` command, and the processes that the supervisor starts.

What a worker loads is an import contract, so its branch comes first and imports nothing else.
"""

from __future__ import annotations

import sys


def run() -> int:
    """Dispatch on the first argument."""
    match sys.argv[1:2]:
        case ["worker"]:
            from appliance import worker

            return worker.main(sys.argv[2:])
        case ["control"]:
            from appliance.main import control

            return control(sys.argv[2:])
        case _:
            from appliance.main import main

            return main()


if __name__ == "__main__":
    sys.exit(run())
