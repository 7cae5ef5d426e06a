"""Processes pinned to a core, and what /proc says of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from appliance.demo.stage import tree

TICK = os.sysconf("SC_CLK_TCK")


class Pinned:
    """A program of ours on one core, ended (with its children) by `stop`. Its output goes to a file."""

    def __init__(self, name: str, command: list[str], *, core: int | None, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        prefix = [] if core is None else ["taskset", "-c", str(core)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*prefix, *command], stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True
            )
        self.pid = self._process.pid

    def wait_listening(self, address: str, port: int, *, seconds: float = 20) -> None:
        """Returns when something accepts there. Raises RuntimeError with the end of the log when nothing does."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((address, port), 0.5):
                return
            if self._process.poll() is not None:
                break
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        raise RuntimeError(f"{self.name} does not listen on {address}:{port}:\n{self.log.read_text(errors='replace')[-2000:]}")

    def wait_answering(self, port: int, host: str, *, seconds: float = 20) -> None:
        """Returns when a GET / there is answered 200. Raises RuntimeError with the last answer and the end of the log when it never is."""
        deadline, answer, waiting = time.monotonic() + seconds, "nothing", threading.Event()
        while time.monotonic() < deadline and self._process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            try:
                connection.request("GET", "/", headers={"host": host})
                response = connection.getresponse()
                answer = f"{response.status} {response.read(200)!r}"
                if response.status == 200:
                    return
            except (OSError, http.client.HTTPException) as trouble:
                answer = repr(trouble)
            finally:
                connection.close()
            waiting.wait(0.05)
        said = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.name} does not answer 200 on port {port}, the last was {answer}:\n{said}")

    def tree(self) -> list[int]:
        """Pids of the process and all its descendants."""
        return tree(self.pid)

    def cpu_seconds(self) -> float:
        """User and system time of the tree so far."""
        total = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += int(fields[11]) + int(fields[12])
        return total / TICK

    def largest_mb(self) -> float:
        """Resident memory of the largest process of the tree (for fedgate: of its workers and control)."""
        return max((resident_mb(pid) for pid in self.tree()), default=0.0)

    def signal(self, number: int) -> None:
        """To every process of the tree, children first."""
        for pid in reversed(self.tree()):
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def stop(self) -> None:
        """TERM to the tree, KILL after 3 s."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self._process.wait()


def resident_mb(pid: int) -> float:
    """VmRSS in MB; 0 for a process that is gone."""
    with contextlib.suppress(OSError):
        match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(match[1]) / 1024 if match else 0.0
    return 0.0


@contextlib.contextmanager
def stopping(processes: list[Pinned]) -> Iterator[None]:
    """Ends every process appended to the list, last first, whatever happens inside."""
    try:
        yield
    finally:
        for process in reversed(processes):
            process.stop()


_given: set[int] = set()


def free_port(address: str = "127.0.0.1") -> int:
    """A port nobody listens on now, and that was not given before. Others on this machine could take it in between; benchmarks say so
    when they do."""
    while True:
        with socket.socket() as probe:
            probe.bind((address, 0))
            port: int = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
