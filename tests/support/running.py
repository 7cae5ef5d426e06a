"""Real gateways and workloads as processes of a test: started, waited for, signalled, and always ended, by pid.

    shop = Workloads(folder, "v1", "v2")                    # real HTTP servers, one port a name
    east = Fedgate(folder, "east")                          # documents, state and free ports of one gateway
    east.write("shop", service("reviews.shop", …), …)       # a file of documents, replaced whole; may be done while it runs
    with running(shop, east):                               # ready and listening inside, killed at the end
        answer = await east.get("/", host="reviews.shop")

Every gateway and every set of workloads has a loopback address of its own, so that a port that was free stays free: outgoing
connections of other tests are made from 127.0.0.1. What runs is in RUNNING; showing_logs.py shows their logs when a test fails.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import yaml
from running_gateway import FEDGATE, PATIENCE_S, free_ports, request, until

from appliance.demo.stage import tree
from federation.trust.operations import bundle, init_ca

WORKLOAD = pathlib.Path(__file__).parent / "workload.py"
RUNNING = []

# Short against what is waited for (a Python process starts in 0.3 s and more), and asking 50 times a second costs the cores nothing.
POLL_S = 0.02

_numbers = itertools.count(1)
_never = threading.Event()


def wait_until(ask, what, *, within=PATIENCE_S):
    """Ask until the answer is true, and return it; an OSError is a no. For synchronous code: `until` is the same for trio."""
    last = None
    for _ in range(int(within / POLL_S)):
        try:
            last = ask()
            if last:
                return last
        except OSError as error:
            last = error
        _never.wait(POLL_S)
    raise AssertionError(f"not in {within:g} s: {what}; last: {last!r}")


def fresh_address():
    """A loopback address that nobody else uses: told apart by this process's id and a counter."""
    return f"127.{100 + (os.getpid() >> 8) % 100}.{os.getpid() % 256}.{next(_numbers) % 250 + 1}"


class Program:
    """A command that may be started, signalled and started again. Its output goes to `log`."""

    def __init__(self, name, folder):
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.process = None

    def command(self):
        raise NotImplementedError

    def start(self):
        """Returns at once; `wait_ready` waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {key: value for key, value in os.environ.items() if key != "FEDGATE_LOG"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
            )
        RUNNING.append(self)

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with status {self.process.returncode}:\n{self.text()[-4000:]}")
            return self.is_ready()

        try:
            wait_until(ready, f"{self.name} is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.text()[-4000:]}") from None

    def is_ready(self):
        raise NotImplementedError

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def signal(self, number):
        """To all its processes."""
        for pid in tree(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        """All its processes, at once; returns when they are gone."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE_S)
            self.process.stdin.close()
        if self in RUNNING:
            RUNNING.remove(self)

    def __repr__(self):
        return f"<{type(self).__name__} {self.name} {self.process and self.process.pid}>"


@contextlib.contextmanager
def running(*programs):
    """All started, then all ready; killed at the end, the last first."""
    try:
        for program in programs:
            program.start()
        for program in programs:
            program.wait_ready()
        yield
    finally:
        for program in reversed(programs):
            program.kill()


class Workloads(Program):
    """Workloads in one process: they are killed and stopped together. port["v1"] once it runs."""

    def __init__(self, folder, *names):
        super().__init__(f"workloads-{'-'.join(names)}", folder)
        self.names = names
        self.address = fresh_address()
        self.ports = dict(zip(names, free_ports(len(names), self.address), strict=True))

    def command(self):
        pairs = [f"{name}={port}" for name, port in self.ports.items()]
        return [sys.executable, "-I", "-S", str(WORKLOAD), self.address, *pairs]

    def is_ready(self):
        return all(fetch(self.address, port, "/healthz") is not None for port in self.ports.values())

    def seen(self, name):
        """The requests that reached it."""
        return json.loads(fetch(self.address, self.ports[name], "/seen"))

    def endpoint(self, name, *, locality="", labels=None, port="http"):
        """As a ServiceEntry writes it."""
        written = {"address": self.address, "ports": {port: self.ports[name]}}
        return written | ({"locality": locality} if locality else {}) | ({"labels": labels} if labels else {})


def fetch(address, port, path):
    """The body of a 200, else None. Raises OSError."""
    try:
        with urllib.request.urlopen(f"http://{address}:{port}{path}", timeout=5) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        return None


class Fedgate(Program):
    """One gateway. `ingress` and `secure` are free ports for Gateway documents; the rest is in the Node document."""

    def __init__(self, folder, cluster="east", *, locality="r1/z1", workers=1, defaults="fedgate"):
        super().__init__(f"fedgate-{cluster}", folder / cluster)
        self.cluster, self.locality, self.workers, self.defaults = cluster, locality, workers, defaults
        self.trust_domain = f"{cluster}.example.com"
        self.address = fresh_address()
        ports = free_ports(7, self.address)
        self.admin, self.health, self.east_west, self.mesh, self.ingress, self.secure, self.dns = ports
        self.state, self.documents = self.folder / "state", self.folder / "documents"
        self.access_log = self.folder / "access.log"
        self.write("node", self.node())

    def node(self, **spec):
        """Its Node document; spec: fields beside the usual ones."""
        listen = {"admin": self.admin, "health": self.health, "eastWest": self.east_west, "http": self.mesh, "dns": self.dns}
        usual = {
            "cluster": self.cluster,
            "locality": self.locality,
            "trustDomain": self.trust_domain,
            "workers": self.workers,
            "defaults": self.defaults,
            "stateDir": str(self.state),
            "listen": {name: f"{self.address}:{port}" for name, port in listen.items()},
            "accessLog": {"path": str(self.access_log), "format": "json"},
        }
        metadata = {"name": f"gw-{self.cluster}", "namespace": "fedgate", "labels": {"istio": "ingressgateway"}}
        return {"apiVersion": "fedgate.io/v1", "kind": "Node", "metadata": metadata, "spec": usual | spec}

    def write(self, name, *documents):
        """Replace the file `name`.yaml by these documents, in one step. A str is written as it is."""
        self.documents.mkdir(parents=True, exist_ok=True)
        beside = self.folder / f"{name}.new"
        beside.write_text("---\n".join(one if isinstance(one, str) else yaml.safe_dump(one) for one in documents))
        beside.replace(self.documents / f"{name}.yaml")

    def found_ca(self):
        """A CA in its state directory, so that it has an identity; returns the path of its bundle."""
        path = self.folder / "bundle.pem"
        if not path.exists():
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
            init_ca(self.state / "ca", self.trust_domain, cluster=self.cluster)
            path.write_text(bundle(self.state / "ca"))
        return path

    def know(self, *others, exports=("*",), **changes):
        """Peer documents about the others and an Export to them. changes: fields of every Peer's spec."""
        self.found_ca()
        peers = [
            document(
                "Peer",
                other.cluster,
                {
                    "trustDomain": other.trust_domain,
                    "addresses": [f"{other.address}:{other.east_west}"],
                    "bundle": {"path": str(other.found_ca())},
                    **changes,
                },
            )
            for other in others
        ]
        export = document("Export", "shop", {"services": list(exports), "peers": [other.cluster for other in others]})
        self.write("peers", *peers, *([export] if exports else []))

    def command(self):
        return [*FEDGATE, str(self.documents)]

    def is_ready(self):
        """By its readiness, and everything that shall listen is bound or says why not, in the Snapshot that is published."""
        if fetch(self.address, self.health, "/healthz/ready") is None:
            return False
        snapshot = json.loads(fetch(self.address, self.admin, "/api/v1/snapshot"))
        rows = json.loads(fetch(self.address, self.admin, "/api/v1/listeners"))["items"]
        bound = [row for row in rows if row["bound"] or row["error"]]
        return snapshot["version"] == snapshot["running"] and len(bound) == len(rows) > 0

    def pids(self, word):
        """Of its processes whose command line has this word: `worker` or `control`."""
        found = []
        for pid in tree(self.process.pid):
            with contextlib.suppress(OSError):
                if f"\0{word}\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                    found.append(pid)
        return sorted(found)

    async def get(self, path="/", *, host, port=None, **options):
        """One request on a connection of its own, to the mesh port unless told."""
        return await request(self.address, port or self.mesh, path, host=host, **options)

    async def api(self, name):
        """`/api/v1/NAME` of its admin port."""
        return (await request(self.address, self.admin, f"/api/v1/{name}")).json()

    async def rows(self, name):
        return (await self.api(name))["items"]

    def logged(self):
        """The access log so far, as dicts."""
        lines = self.access_log.read_text().splitlines() if self.access_log.exists() else []
        return [json.loads(line) for line in lines]

    async def wait_logged(self, good, *, within=PATIENCE_S):
        """The first line of the access log that is good; lines are written a moment after their answer."""

        async def lines():
            return [line for line in self.logged() if good(line)]

        return (await until(lines, bool, within=within))[0]


async def established(*gateways):
    """Wait until every peer of each is connected."""
    for gateway in gateways:
        await until(
            lambda gateway=gateway: gateway.rows("peers"), lambda rows: rows and all(row["state"] == "connected" for row in rows)
        )


# --------------------------------------------------------------------------------------------------------- documents

_GROUPS = {
    "networking.istio.io/v1": ("Gateway", "VirtualService", "DestinationRule", "ServiceEntry", "WorkloadEntry", "WorkloadGroup"),
    "fedgate.io/v1": ("Node", "Peer", "Export", "ServicePolicy", "ExternalService"),
}


def document(kind, name, spec, *, namespace=""):
    """A document as a dict."""
    version = next(version for version, kinds in _GROUPS.items() if kind in kinds)
    place = {"namespace": namespace or "shop"} if "istio" in version else {}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **place}, "spec": spec}


def service(host, endpoints, *, number=80):
    """A ServiceEntry of fixed endpoints."""
    port = {"number": number, "name": "http", "protocol": "HTTP"}
    spec = {"hosts": [host], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": [port], "endpoints": list(endpoints)}
    return document("ServiceEntry", host.replace(".", "-"), spec)


def routes(name, hosts, *http, gateways=()):
    """A VirtualService; without gateways it is about the mesh port."""
    spec = {"hosts": list(hosts), "http": list(http)} | ({"gateways": list(gateways)} if gateways else {})
    return document("VirtualService", name, spec)


def to(host, subset="", weight=None):
    """One weighted destination of a route."""
    destination = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": destination} | ({"weight": weight} if weight is not None else {})


def server(gateway, hosts, *, port=None, tls=None, name=""):
    """A server of a Gateway document, on a port of that gateway."""
    number = port or (gateway.secure if tls else gateway.ingress)
    protocol = "HTTPS" if tls else "HTTP"
    written = {"port": {"number": number, "name": name or f"{protocol.lower()}-{number}", "protocol": protocol}}
    return written | {"bind": gateway.address, "hosts": list(hosts)} | ({"tls": tls} if tls else {})


def listening(name, *servers):
    """A Gateway document."""
    return document("Gateway", name, {"selector": {"istio": "ingressgateway"}, "servers": list(servers)})
