"""Workloads with addresses of their own, as Pods have them: each in a network namespace on one bridge. Kubernetes refuses loopback addresses
in EndpointSlices.

    with Pods(tmp_path, "10.77.1") as pods:
        one = pods.add("v1")            # an HTTP server at 10.77.1.N:8080, which says its name
        pods.remove(one)
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from running import fetch, wait_until

WORKLOAD = pathlib.Path(__file__).parents[1] / "workload.py"
PORT = 8080


def missing():
    """Why there can be none here; "" if there can."""
    if not shutil.which("ip"):
        return "no `ip` command: install the package iproute2"
    if os.geteuid() != 0:
        return "network namespaces need root"
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "this machine has no network namespaces"


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True)


class Pods:
    """network: the first three parts of their addresses. Leaving it takes bridge, namespaces and workloads away."""

    def __init__(self, folder, network="10.77.1", *, prefix="fgk"):
        self.folder = pathlib.Path(folder)
        self.network = network
        self._bridge = f"{prefix}{network.rpartition('.')[2]}b"
        self._name = f"{prefix}{network.rpartition('.')[2]}n"
        self._running = {}
        self._number = 0

    def __enter__(self):
        self._alone = pathlib.Path(tempfile.gettempdir(), f"{self._bridge}.lock").open("w")
        fcntl.flock(self._alone, fcntl.LOCK_EX)  # another run of the same tests on this machine ends first: its addresses are ours
        ip("link", "delete", self._bridge, check=False)  # of a run that was killed
        ip("link", "add", self._bridge, "type", "bridge")
        ip("address", "add", f"{self.network}.254/24", "dev", self._bridge)
        ip("link", "set", self._bridge, "up")
        return self

    def __exit__(self, *_):
        for address in list(self._running):
            self.remove(address)
        ip("link", "delete", self._bridge, check=False)
        self._alone.close()

    def add(self, name):
        """Start a workload that says `name`; returns its address once it answers."""
        self._number += 1
        address, space = f"{self.network}.{self._number}", f"{self._name}{self._number}"
        ip("netns", "delete", space, check=False)
        ip("netns", "add", space)
        ip("link", "add", f"{space}v", "type", "veth", "peer", "name", "eth0", "netns", space)
        ip("link", "set", f"{space}v", "master", self._bridge, "up")
        ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", space, "link", "set", "eth0", "up")
        command = ["ip", "netns", "exec", space, sys.executable, "-I", "-S", str(WORKLOAD), address, f"{name}={PORT}"]
        with (self.folder / f"pod-{name}-{self._number}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
        self._running[address] = (space, process)
        wait_until(lambda: fetch(address, PORT, "/healthz") is not None, f"the workload {name} answers")
        return address

    def remove(self, address):
        """End it; its address answers nobody."""
        space, process = self._running.pop(address)
        process.kill()
        process.wait()
        process.stdin.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "delete", space)
