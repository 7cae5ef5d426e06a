"""Real peers that are written in Python, each in a virtual environment of its own.

`tests/live/<peer>/requirements.txt` pins every package of it. pip fetches them, from whatever index it is configured for. What was installed
stays in ~/.cache/fedgate-peers/<peer>-<hash of the pins>, so it is done once (OpenStack: 178 packages, two minutes) and again when they
change. A peer that is given a `prepare` step has what that makes beside it: databases with their tables, which take longer than all else.

    python tests/live/python_peers.py openstack        # installs it and says where it is
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path

from peer_cache import cache_folder

HERE = Path(__file__).parent


def install(peer: str) -> Path:
    """The virtual environment of a peer, made if it is not there yet. Raises RuntimeError with pip's own words."""
    pins = HERE / peer / "requirements.txt"
    stamp = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:20]
    return _once(f"{peer}-{stamp}", lambda made: _install(made, pins))


def prepared(peer: str, key: str, prepare: Callable[[Path, Path], None]) -> Path:
    """A folder that `prepare(environment, folder)` has filled, once for this environment and key."""
    environment = install(peer)
    stamp = hashlib.sha256(key.encode()).hexdigest()[:12]
    return _once(f"{environment.name}-{stamp}", lambda made: prepare(environment, made))


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of this name in the cache. Two that ask at once make it once; what was made halfway is not there."""
    cache = cache_folder()
    made = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir()
            make(made)
            (made / "complete").touch()  # last: an environment cannot be renamed when it is whole, as its paths are in it
    return made


def _install(made: Path, pins: Path) -> None:
    venv.create(made, with_pip=True)
    with tempfile.TemporaryFile("w+") as said:
        pip = [made / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement", pins]
        if subprocess.run(pip, stdout=said, stderr=said, check=False).returncode:
            said.seek(0)
            raise RuntimeError(f"cannot install {pins}:\n{said.read()[-4000:]}")


if __name__ == "__main__":
    print(install(sys.argv[1]))
