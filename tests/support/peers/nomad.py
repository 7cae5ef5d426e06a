"""A real Nomad: a server and a client, each on a loopback address of its own, with the raw_exec driver.

    agent = Nomad(folder)
    with running(agent):
        agent.submit("web", count=2)          # each instance is a small HTTP server that answers with its allocation's name
        agent.scale("web", 0)

`restart`, `pause` and `resume` are about the server; what runs runs on. Leaving ends everything, the jobs' processes too.
"""

import contextlib
import json
import os
import pathlib
import signal
import sys
import urllib.error
import urllib.request

from running import Program, fresh_address, wait_until
from running_gateway import free_ports

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "live"))
import go_peers

# /healthz fails while the file FAIL-<name> is there; everything else answers with who answers.
SERVER = """
import http.server, os, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        bad = self.path == "/healthz" and os.path.exists(sys.argv[3])
        body = os.environ["NOMAD_ALLOC_ID"].encode()
        self.send_response(503 if bad else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer.request_queue_size = 128
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Answer).serve_forever()
"""
SECOND = 1_000_000_000


class Agent(Program):
    """One process of Nomad, on an address of its own."""

    def __init__(self, name, folder, **settings):
        super().__init__(name, folder)
        self.address = fresh_address()
        self.http, self.rpc, self.serf = free_ports(3, self.address)
        self.url = f"http://{self.address}:{self.http}"
        self.settings = settings

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "name": self.name,
            "datacenter": "dc1",
            "data_dir": str(self.folder / self.name),
            "bind_addr": self.address,
            "advertise": dict.fromkeys(("http", "rpc", "serf"), self.address),
            "disable_update_check": True,
            "ports": {"http": self.http, "rpc": self.rpc, "serf": self.serf},
        }
        self._config.write_text(json.dumps(config | self.settings))
        super().start()

    @property
    def _config(self):
        return self.folder / f"{self.name}.json"

    def command(self):
        return [str(go_peers.build("nomad") / "nomad"), "agent", "-config", str(self._config)]

    def is_ready(self):
        with urllib.request.urlopen(f"{self.url}/v1/status/leader", timeout=5) as answer:
            return len(answer.read()) > 4


class Nomad:
    """A server, whose API is at `url`, and a client, which runs the jobs. They are two processes because a client that starts together with
    its server cannot register what it runs, and kills it."""

    def __init__(self, folder, name="nomad"):
        self.folder = pathlib.Path(folder) / name
        self.workloads = fresh_address()
        self.server = Agent(f"{name}-server", self.folder, server={"enabled": True, "bootstrap_expect": 1})
        self.client = Agent(
            f"{name}-client",
            self.folder,
            client={
                "enabled": True,
                "servers": [f"{self.server.address}:{self.server.rpc}"],
                "network_interface": "lo",
                "node_class": "small",
                "meta": {"rack": "r7"},
                "options": {"driver.allowlist": "raw_exec", "fingerprint.denylist": "env_aws,env_gce,env_azure,env_digitalocean"},
            },
            plugin={"raw_exec": {"config": {"enabled": True}}},
        )
        self.url = self.server.url
        self._placed = {}

    def start(self):
        self.server.start()
        self.client.start()

    def wait_ready(self):
        """It takes jobs. Raises AssertionError with the agents' logs."""
        self.server.wait_ready()
        wait_until(self._takes_jobs, f"{self.client} is ready\n{self.client.text()[-2000:]}")

    def _takes_jobs(self):
        return any(node["Status"] == "ready" for node in self.call("GET", "/v1/nodes"))

    def call(self, method, path, body=None, *, within=30):
        """The answer's JSON. Raises OSError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=within) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise OSError(f"{method} {path}: {error.code} {error.read()[:200]!r}") from None

    def submit(self, name, *, count=1, tags=(), check=False, namespace="default"):
        """A job of one group. check: an HTTP check every second, which `fail(name)` makes fail."""
        checks = [{"Name": "alive", "Type": "http", "Path": "/healthz", "Interval": SECOND, "Timeout": SECOND}] if check else []
        service = {
            "Name": name,
            "Provider": "nomad",
            "PortLabel": "http",
            "Address": self.workloads,
            "Tags": list(tags),
            "Checks": checks,
        }
        task = {
            "Name": "serve",
            "Driver": "raw_exec",
            "Config": {
                "command": sys.executable,
                "args": ["-I", "-S", "-c", SERVER, self.workloads, "${NOMAD_PORT_http}", str(self._failing(name))],
            },
            "KillTimeout": SECOND,
            "Resources": {"CPU": 20, "MemoryMB": 32},
            "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        }
        group = {
            "Name": "all",
            "Count": count,
            "Networks": [{"DynamicPorts": [{"Label": "http"}]}],
            "Services": [service],
            "Tasks": [task],
            "Update": {"MaxParallel": 0},  # no deployments: while one is under way a job cannot be scaled
            "EphemeralDisk": {"SizeMB": 10},
        }
        job = {"ID": name, "Name": name, "Namespace": namespace, "Type": "service", "Datacenters": ["dc1"], "TaskGroups": [group]}
        self.call("PUT", "/v1/jobs", {"Job": job})

    def place(self, name, address, port):
        """Register what listens on address:port already. A job that waits has that port and gets the service while it runs, so that
        nothing is started but the first time."""
        self._placed.setdefault((address, port), []).append(name)
        self._submit_placed(address, port)

    def displace(self, name, address, port):
        self._placed[address, port].remove(name)
        self._submit_placed(address, port)

    def _submit_placed(self, address, port):
        services = [
            {"Name": name, "Provider": "nomad", "PortLabel": "http", "Address": address} for name in self._placed[address, port]
        ]
        task = {
            "Name": "wait",
            "Driver": "raw_exec",
            "Config": {"command": "/bin/sleep", "args": ["36000"]},
            "Resources": {"CPU": 20, "MemoryMB": 16},
            "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
        }
        group = {
            "Name": "all",
            "Networks": [{"ReservedPorts": [{"Label": "http", "Value": port}]}],
            "Services": services,
            "Tasks": [task],
            "Update": {"MaxParallel": 0},
            "EphemeralDisk": {"SizeMB": 10},
        }
        job = {"ID": f"placed-{port}", "Name": "placed", "Type": "service", "Datacenters": ["dc1"], "TaskGroups": [group]}
        self.call("PUT", "/v1/jobs", {"Job": job})

    def scale(self, name, count):
        self.call("PUT", f"/v1/job/{name}/scale", {"Count": count, "Target": {"Group": "all"}})

    def fail(self, name, failing=True):
        """The check's answer from now on."""
        if failing:
            self._failing(name).touch()
        else:
            self._failing(name).unlink(missing_ok=True)

    def _failing(self, name):
        return self.folder / f"FAIL-{name}"

    def registered(self, name, *, index=0):
        """(registrations, index), by a blocking query when an index is given: a watch of the test's own."""
        wait = f"&index={index}&wait=30s" if index else ""
        request = urllib.request.Request(f"{self.url}/v1/service/{name}?namespace=default{wait}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read()), int(answer.headers["X-Nomad-Index"])

    def pause(self):
        """The server: what runs runs on."""
        os.kill(self.server.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.server.process.pid, signal.SIGCONT)

    def restart(self):
        """Kill the server and start it again, where it was."""
        self.server.kill()
        self.server.start()

    def kill(self):
        """Everything, and what it started: a job's processes outlive their agent."""
        self.client.kill()
        self.server.kill()
        for entry in pathlib.Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and str(self.folder).encode() in (entry / "cmdline").read_bytes() + _place(entry):
                    os.kill(int(entry.name), signal.SIGKILL)
        self._unmount()

    def _unmount(self):
        """Nomad mounts a small file system for each allocation's secrets, when it may."""
        mounted = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines() if str(self.folder) in line]
        for place in sorted(mounted, reverse=True):
            os.system(f"umount -l '{place}'")


def _place(entry):
    return os.readlink(entry / "cwd").encode()
