"""What most benchmarks begin with: a folder, a backend that answers on four ports of core 0, and the HTTP proxies that were asked for."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import peers, tools
from bench.certificates import self_signed
from bench.contest import LOAD_CORE, PROXY_CORE, Contestant, Starter
from bench.peers import Ports
from bench.process import Pinned, free_port, stopping

ENDPOINTS = 4
BODY = 64  # bytes of an answer
DESCRIPTORS = 32768  # 10,000 connections, twice, and what is not a connection


class Scene:
    """`folder`, `endpoints` (ports), a certificate; `processes` end with the scene."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Pinned] = []
        self.certificate, self.key = self_signed(folder)
        self.endpoints = tuple(free_port() for _ in range(ENDPOINTS))

    def backend(self, program: str, *words: str) -> None:
        """Starts `bench/PROGRAM.c` with these words and the endpoints' addresses on the load generator's core."""
        command = [str(tools.compiled(program)), *words, *(f"127.0.0.1:{port}" for port in self.endpoints)]
        process = Pinned(program, command, core=LOAD_CORE, log=self.folder / f"{program}.log")
        self.processes.append(process)
        process.wait_listening("127.0.0.1", self.endpoints[0])

    def proxies(
        self,
        names: Sequence[str],
        *,
        upstream: str = "HTTP",
        downstream: str = "HTTP",
        workers: int = 1,
        core: int | None = PROXY_CORE,
    ) -> dict[str, Starter]:
        """A starter for each name of peers.PEERS. core None: the proxy's processes run where the kernel puts them."""

        def start(name: str, folder: Path) -> Contestant:
            ports = Ports.fresh(self.endpoints, upstream=upstream, downstream=downstream, workers=workers)
            process = peers.start(name, folder, ports, self.certificate, self.key, core=core)
            return Contestant(name, (process,), ports)

        return {name: partial(start, name) for name in names}


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """A scene in a scratch folder; everything in it is ended and removed. As many descriptors as this user may have, and at least
    DESCRIPTORS where the system lets it, are allowed to it and to what it starts: proxies with 10,000 connections need two for each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, DESCRIPTORS), max(most, DESCRIPTORS)))
    except (ValueError, OSError):  # raising the hard limit is for those who may
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with TemporaryDirectory(prefix="fedgate-bench-") as scratch:
        made = Scene(Path(scratch))
        with stopping(made.processes):
            yield made
