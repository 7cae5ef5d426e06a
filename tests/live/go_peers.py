"""Real peers that are written in Go, built from source as ordinary Go tool dependencies.

`tests/live/<peer>/go.mod` names a peer's commands in its `tool` lines, pinned with go.sum beside it: Go itself fetches and verifies, with
whatever proxy and checksum database it is configured for. What was built stays in ~/.cache/fedgate-peers/<hash of both files and the
flags>, so a peer is built once (h2spec takes a minute, larger ones ten) and again when its versions change.

    python tests/live/go_peers.py h2spec        # builds it and says where it is
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from peer_cache import cache_folder

HERE = Path(__file__).parent
NO_GO = "" if shutil.which("go") else "no Go toolchain: `go` is not on PATH"
"""Why nothing can be built on this machine; empty if it can."""


def _go(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["go", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`go {' '.join(arguments)}` in {folder} failed:\n{done.stderr[-4000:]}")
    return done.stdout


LDFLAGS = {
    # Built from modules, it does not know its own version and calls itself v0.0.0, which its clients and its own feature gates judge.
    "kubernetes": "-X k8s.io/component-base/version.gitVersion=v1.36.3",
}
"""What a peer's linker is told besides `-s -w`."""


def build(peer: str) -> Path:
    """The folder with the commands of tests/live/<peer>/go.mod, built if they are not there yet.

    Two that ask at once build it once. Raises RuntimeError with Go's own words if it cannot be built, FileNotFoundError without Go."""
    source = HERE / peer
    ldflags = " ".join(("-s -w", *([LDFLAGS[peer]] if peer in LDFLAGS else [])))
    stamp = hashlib.sha256(b"\0".join(((source / "go.mod").read_bytes(), (source / "go.sum").read_bytes(), ldflags.encode())))
    cache = cache_folder()
    made = cache / stamp.hexdigest()[:32]
    with (cache / f"{made.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.is_dir():
            return made
        tools = [tool["Path"] for tool in json.loads(_go(source, "mod", "edit", "-json"))["Tool"]]
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            out = Path(scratch) / "out"
            _go(source, "build", "-mod=readonly", "-trimpath", "-ldflags", ldflags, "-o", f"{out}/", *tools)
            out.rename(made)  # whole or not at all
    return made


if __name__ == "__main__":
    if NO_GO:
        sys.exit(NO_GO)
    print(build(sys.argv[1]))
