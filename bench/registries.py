"""Real registries for the discovery benchmark: each adds and removes one endpoint, and watches on its own what a client of it would see.

They are the ones of the live tests, started by the same launchers. `known` and `wait` are an independent watch: `known` reads what is there,
`wait` blocks until something else is.
"""

from __future__ import annotations

import importlib
import json
import sys
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
LIVE = Path(__file__).parents[1] / "tests" / "live"
NAMES = ("old", "new")
"""Two workloads, which listen already."""

State = tuple[frozenset[str], Any]
"""Which of the workloads are registered, and where the watch goes on."""


class Registry(Protocol):
    """One real registry. source: what the Node's YAML says of it."""

    source: dict[str, Any]

    def host(self, service: str) -> str: ...
    def prepare(self, service: str) -> None:
        """What a service needs before it has an endpoint."""
        ...

    def add(self, service: str, workload: str) -> None: ...
    def remove(self, service: str, workload: str) -> None: ...
    def known(self, service: str) -> State: ...
    def wait(self, service: str, state: State) -> State: ...


def _launcher(name: str) -> Any:
    """A module of the tests' support: looked for when it is needed, so that other benchmarks do without the tests."""
    sys.path[:0] = [str(path) for path in (SUPPORT, LIVE) if str(path) not in sys.path]
    return importlib.import_module(name)


def missing(name: str) -> str:
    """Why a registry cannot be run here; "" if it can."""
    if name == "kubernetes":
        return str(_launcher("peers.kubernetes").missing() or _launcher("peers.pods").missing())
    return str(_launcher("go_peers").NO_GO)


@contextmanager
def started(name: str, folder: Path) -> Iterator[Registry]:
    """It runs inside, with both workloads. Raises RuntimeError when it cannot be built or started."""
    with {"consul": _consul, "kubernetes": _kubernetes, "nomad": _nomad}[name](folder) as registry:
        yield registry


@contextmanager
def gateway_of(folder: Path, sources: list[dict[str, Any]]) -> Iterator[Any]:
    """A gateway (tests/support/running.py) that reads them, running inside."""
    gateway = _launcher("running").Fedgate(folder, locality="r1/z1")
    gateway.write("node", gateway.node(sources=sources))
    with _launcher("running").running(gateway):
        yield gateway


class _Agent(ABC):
    """What Consul and Nomad have in common here: services come and go with their instances, and an instance is told by its port."""

    def __init__(self, kind: str, agent: Any, workloads: Any) -> None:
        self.source = {kind: {"address": agent.url}}
        self._agent, self._address, self._ports = agent, workloads.address, workloads.ports

    def host(self, service: str) -> str:
        return f"{service}.default.svc.cluster.local"

    def prepare(self, service: str) -> None:  # noqa: B027  (nothing is needed before its first instance)
        pass

    def known(self, service: str) -> State:
        return self.wait(service, (frozenset(), 0))

    def wait(self, service: str, state: State) -> State:
        ports, index = self._asked(service, state[1])
        return frozenset(name for name in NAMES if self._ports[name] in ports), max(index, 1)

    @abstractmethod
    def _asked(self, service: str, index: int) -> tuple[set[int], int]:
        """Its instances' ports, by a blocking query where there is an index."""


class _Consul(_Agent):
    def add(self, service: str, workload: str) -> None:
        self._agent.register(service, f"{service}-{workload}", self._address, self._ports[workload])

    def remove(self, service: str, workload: str) -> None:
        self._agent.deregister(f"{service}-{workload}")

    def _asked(self, service: str, index: int) -> tuple[set[int], int]:
        found, now = self._agent.watch(service, index)
        return {entry["Service"]["Port"] for entry in found}, now


class _Nomad(_Agent):
    """Services come and go with jobs that run already: starting a program takes both cores of a small machine for 200 ms, which would be
    measured instead."""

    def add(self, service: str, workload: str) -> None:
        self._agent.place(service, self._address, self._ports[workload])

    def remove(self, service: str, workload: str) -> None:
        self._agent.displace(service, self._address, self._ports[workload])

    def _asked(self, service: str, index: int) -> tuple[set[int], int]:
        found, now = self._agent.registered(service, index=index)
        return {each["Port"] for each in found}, now


class _Kubernetes:
    """A Pod that becomes ready or goes; the endpoint-slice controller does the rest. The watch is of the service's slices."""

    def __init__(self, cluster: Any, addresses: dict[str, str]) -> None:
        self._cluster, self._addresses = cluster, addresses
        self.source = {"kubernetes": {"kubeconfig": str(cluster.kubeconfig())}}

    def host(self, service: str) -> str:
        return f"{service}.shop.svc.cluster.local"

    def prepare(self, service: str) -> None:
        self._cluster.service(service)

    def add(self, service: str, workload: str) -> None:
        self._cluster.pod(f"{service}-{workload}", self._addresses[workload], app=service)

    def remove(self, service: str, workload: str) -> None:
        self._cluster.delete("v1", "pods", f"{service}-{workload}")

    def known(self, service: str) -> State:
        listed = self._cluster.request("GET", self._path(service))
        return self._read(listed["items"]), self._stream(service, listed["metadata"]["resourceVersion"])

    def wait(self, service: str, state: State) -> State:
        line = state[1].readline()
        if not line:
            raise RuntimeError("the watch of the EndpointSlices ended")
        return self._read([json.loads(line)["object"]]), state[1]

    def _path(self, service: str) -> str:
        path = self._cluster.path("discovery.k8s.io/v1", "endpointslices")
        return f"{path}?labelSelector=kubernetes.io%2Fservice-name%3D{service}"

    def _stream(self, service: str, version: str) -> Any:
        url = f"{self._cluster.server}{self._path(service)}&watch=1&resourceVersion={version}"
        return urllib.request.urlopen(url, timeout=60, context=self._cluster._context)

    def _read(self, slices: list[dict[str, Any]]) -> frozenset[str]:
        ready = {
            address
            for each in slices
            for endpoint in each.get("endpoints") or ()
            if endpoint["conditions"].get("ready")
            for address in endpoint["addresses"]
        }
        return frozenset(name for name in NAMES if self._addresses[name] in ready)


@contextmanager
def _consul(folder: Path) -> Iterator[Registry]:
    with _agent(_launcher("peers.consul").Consul(folder), folder) as running:
        yield _Consul("consul", *running)


@contextmanager
def _nomad(folder: Path) -> Iterator[Registry]:
    with _agent(_launcher("peers.nomad").Nomad(folder), folder) as running:
        yield _Nomad("nomad", *running)


@contextmanager
def _agent(agent: Any, folder: Path) -> Iterator[tuple[Any, Any]]:
    workloads = _launcher("running").Workloads(folder, *NAMES)
    with _launcher("running").running(workloads, agent):
        yield agent, workloads


@contextmanager
def _kubernetes(folder: Path) -> Iterator[Registry]:
    with (
        _launcher("peers.kubernetes").Kubernetes(folder / "kubernetes", address="127.22.0.9") as cluster,
        _launcher("peers.pods").Pods(folder, "10.77.9") as pods,
    ):
        cluster.node("node-a", zone="z1", region="r1", address="10.77.9.201")
        yield _Kubernetes(cluster, {name: pods.add(name) for name in NAMES})
