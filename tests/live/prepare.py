"""Builds and installs the real peers of `tests/live/*/`, one after the other, so that no test waits minutes for that.

What cannot be had here is said, with the reason, and is no failure: the tests that need it are skipped with the same reason.

    python tests/live/prepare.py            # all; the first time most of an hour, then seconds
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import go_peers
import python_peers

HERE = Path(__file__).parent


def _prepare(peer: str) -> str:
    if (HERE / peer / "go.mod").exists():
        if go_peers.NO_GO:
            raise RuntimeError(go_peers.NO_GO)
        return str(go_peers.build(peer))
    return str(python_peers.install(peer))


def main() -> None:
    """Prepare all, and say what became of each."""
    for folder in sorted(HERE.iterdir()):
        if (folder / "go.mod").exists() or (folder / "requirements.txt").exists():
            began = time.monotonic()
            try:
                where = _prepare(folder.name)
                print(f"{folder.name}: {where} ({time.monotonic() - began:.0f} s)", flush=True)
            except (OSError, RuntimeError) as error:
                print(
                    f"{folder.name}: cannot be had here, its tests are skipped: {str(error)[-1500:]}", file=sys.stderr, flush=True
                )


if __name__ == "__main__":
    main()
