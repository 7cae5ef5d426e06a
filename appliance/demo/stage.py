"""The demo's processes: gateways (`fedgate run`) and services, started, killed, stopped and started again.

Every process is ours and ends with us: services ask the kernel to die with their parent, gateways are ended by `close`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import trio

from appliance.demo.world import CLUSTERS, EAST_WEST_PORT, HEALTH_PORT, INGRESS, INGRESS_PORT, Cluster, documents, listens
from federation.trust.operations import bundle, init_ca

READY_S = 60.0  # three gateways and eight services start at once on two cores: seconds, not minutes
LISTEN_POLL_S = 0.05


class StageError(Exception):
    """The world could not be brought up; the text says why and where to look."""


class Stage:
    """Everything that runs. `folder` holds documents, state, logs; services are keyed (cluster, service)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._gateways: dict[str, subprocess.Popen[bytes]] = {}
        self._services: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def write_documents(self) -> None:
        """CA and configuration of every cluster; each is given the others' bundles, as people would hand them over."""
        bundles: dict[str, str] = {}
        for here in CLUSTERS:
            state = self.folder / here.name / "state"
            state.mkdir(mode=0o700, parents=True)
            init_ca(state / "ca", here.trust_domain, cluster=here.name)
            path = self.folder / f"{here.name}-bundle.pem"
            path.write_text(bundle(state / "ca"))
            bundles[here.name] = str(path)
        for here in CLUSTERS:
            (self.folder / f"{here.name}.yaml").write_text(documents(here, str(self.folder / here.name / "state"), bundles))

    async def open(self) -> None:
        """Starts everything and waits until every gateway is ready. Raises StageError."""
        async with trio.open_nursery() as nursery:
            for here in CLUSTERS:
                for service in here.services:
                    nursery.start_soon(self.start_service, here, service)
                self.start_gateway(here)
        with trio.move_on_after(READY_S) as patience:
            for here in CLUSTERS:
                await self._wait_ready(here)
        if patience.cancelled_caught:
            raise StageError(f"the gateways were not ready within {READY_S:g} s; their logs are in {self.folder}")

    async def start_service(self, here: Cluster, service: str) -> None:
        versions = [f"{version}={port}" for version, port in listens(here, service).items()]
        who = [service, here.name, here.workloads, here.gateway, str(os.getpid())]
        command = [sys.executable, "-m", "appliance.demo.bookshop", *who, *versions]
        self._services[here.name, service] = self._start(f"{here.name}-{service}", command)
        for port in listens(here, service).values():
            with trio.move_on_after(READY_S):
                await _wait_listening(here.workloads, port)

    def start_gateway(self, here: Cluster) -> None:
        command = [sys.executable, "-m", "appliance.main", "run", "-c", str(self.folder / f"{here.name}.yaml")]
        self._gateways[here.name] = self._start(f"{here.name}-gateway", command)

    def signal_region(self, region: str, number: int) -> None:
        """To every service process of a region."""
        for here in CLUSTERS:
            if here.region == region:
                for service in here.services:
                    self._services[here.name, service].send_signal(number)

    def signal_gateway(self, here: Cluster, number: int) -> None:
        """To all processes of one gateway: supervisor, control and workers."""
        for pid in tree(self._gateways[here.name].pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def revive_region(self, region: str) -> None:
        """What was killed is started again, all at once; what was stopped goes on. Returns when all listen."""
        async with trio.open_nursery() as nursery:
            for here in CLUSTERS:
                for service in here.services if here.region == region else ():
                    process = self._services[here.name, service]
                    process.send_signal(signal.SIGCONT)
                    if process.poll() is not None:
                        nursery.start_soon(self.start_service, here, service)

    def close(self) -> None:
        """Ends every process, gateways first, with SIGKILL: nothing here has anything to save."""
        for process in (*self._gateways.values(), *self._services.values()):
            for pid in tree(process.pid) if process.poll() is None else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    def _start(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        # Not trio's open_process: it starts children from a thread of its own, and "die with your parent" follows that thread.
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    async def _wait_ready(self, here: Cluster) -> None:
        gateway = self._gateways[here.name]
        while True:
            if gateway.poll() is not None:
                log = (self.folder / f"{here.name}-gateway.log").read_text(errors="replace")
                raise StageError(f"the gateway of {here.name} ended with status {gateway.returncode}:\n{log[-2000:]}")
            if await _ready(here.gateway):
                await _wait_listening(here.gateway, EAST_WEST_PORT)
                return
            await trio.sleep(LISTEN_POLL_S)


async def _ready(address: str) -> bool:
    with contextlib.suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(address, HEALTH_PORT) as stream:
            await stream.send_all(b"GET /healthz/ready HTTP/1.1\r\nhost: ready\r\nconnection: close\r\n\r\n")
            return (await stream.receive_some(64)).startswith(b"HTTP/1.1 200")
    return False


async def _wait_listening(address: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            await (await trio.open_tcp_stream(address, port)).aclose()
            return
        await trio.sleep(LISTEN_POLL_S)


def refuse_taken_addresses() -> None:
    """Raises StageError: a clear word before anything is started, when another demo runs or loopback has one address only."""
    wanted = [(here.gateway, port) for here in CLUSTERS for port in (EAST_WEST_PORT, HEALTH_PORT)] + [
        (INGRESS.gateway, INGRESS_PORT)
    ]
    wanted += [(here.workloads, port) for here in CLUSTERS for service in here.services for port in listens(here, service).values()]
    for address, port in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as trouble:
                hint = (
                    "does another `fedgate demo` run?"
                    if trouble.errno == errno.EADDRINUSE
                    else "the demo needs all of 127.0.0.0/8, as on Linux"
                )
                raise StageError(f"cannot listen on {address}:{port}: {trouble.strerror}; {hint}") from None


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    found: list[int] = []
    todo: list[int] = [pid]
    while todo:
        found.append(todo.pop())
        todo += _children(found[-1])
    return found


def _children(pid: int) -> Iterable[int]:
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            yield from map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
