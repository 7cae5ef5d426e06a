"""A real Consul: one server agent of a datacenter, on a loopback address of its own, with Connect and cluster peering.

    one, two = Consul(folder, "dc1"), Consul(folder, "dc2")
    with running(one, two):
        one.join(two)                                    # WAN-joined datacenters
        one.register("web", "web-1", "127.0.0.9", 8080)  # an instance with a check of its own; again: it changes
        two.import_from(one, "dc1-cluster", ["web"])     # cluster peering: `two` sees web of the peer `dc1-cluster`

`pause` and `resume` stop and go on, `kill` and `start` are a crash; what was written is on disk.
"""

import base64
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

NODE = "outside"  # of what is registered: no agent runs there, so nothing is compared with it


class Consul(Program):
    def __init__(self, folder, datacenter="dc1", **settings):
        super().__init__(f"consul-{datacenter}", pathlib.Path(folder) / f"consul-{datacenter}")
        self.datacenter = datacenter
        self.address = fresh_address()
        names = ("http", "server", "serf_lan", "serf_wan", "grpc", "grpc_tls")
        self.ports = dict(zip(names, free_ports(len(names), self.address), strict=True))
        self.url = f"http://{self.address}:{self.ports['http']}"
        self.settings = settings

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        config = {
            "datacenter": self.datacenter,
            "node_name": f"server-{self.datacenter}",
            "server": True,
            "bootstrap": True,
            "data_dir": str(self.folder / "data"),
            **dict.fromkeys(("bind_addr", "client_addr", "advertise_addr", "advertise_addr_wan"), self.address),
            "disable_update_check": True,
            "log_level": "warn",
            "connect": {"enabled": True},
            "peering": {"enabled": True},
            "ports": {"dns": -1, **self.ports},
            "performance": {"raft_multiplier": 1},
        }
        (self.folder / "config.json").write_text(json.dumps(config | self.settings))
        super().start()

    def command(self):
        return [str(go_peers.build("consul") / "consul"), "agent", "-config-file", str(self.folder / "config.json")]

    def is_ready(self):
        return bool(self.get("/v1/status/leader")) and "consul" in self.get("/v1/catalog/services?consistent")

    # ------------------------------------------------------------------------------------------------------- its API

    def call(self, method, path, body=None, *, within=15, raw=None):
        """The answer's JSON. Raises OSError (HTTPError is one)."""
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        with urllib.request.urlopen(request, timeout=within) as answer:
            text = answer.read()
            return json.loads(text) if text else None

    def get(self, path):
        return self.call("GET", path)

    def register(self, name, ident, address, port, *, status="passing", node=NODE, tags=(), meta=None, **service):
        """An instance with a check of its own; if it is there already, it is changed. status None: without a check."""
        written = {
            "ID": ident,
            "Service": name,
            "Address": address,
            "Port": port,
            "Tags": list(tags),
            "Meta": meta or {},
            **service,
        }
        check = {"CheckID": f"check-{ident}", "Name": "told by the test", "ServiceID": ident, "Status": status}
        body = {"Node": node, "Address": address, "SkipNodeUpdate": False, "Service": written}
        self.call("PUT", "/v1/catalog/register", body | ({"Check": check} if status else {}))

    def deregister(self, ident, *, node=NODE):
        self.call("PUT", "/v1/catalog/deregister", {"Node": node, "ServiceID": ident})

    def put(self, key, text):
        self.call("PUT", f"/v1/kv/{key}", raw=text.encode())

    def value(self, key):
        (found,) = self.get(f"/v1/kv/{key}?consistent")
        return base64.b64decode(found["Value"] or "")

    def delete(self, key):
        self.call("DELETE", f"/v1/kv/{key}?recurse")

    def watch(self, name, index=0):
        """(instances, index) of a service, by a blocking query when an index is given: a watch of the test's own."""
        wait = f"?index={index}&wait=30s" if index else "?consistent"
        with urllib.request.urlopen(f"{self.url}/v1/health/service/{name}{wait}", timeout=60) as answer:
            return json.loads(answer.read()), int(answer.headers["X-Consul-Index"])

    # ------------------------------------------------------------------------------------------------------- two of them

    def join(self, other):
        """One federation of datacenters, by the WAN."""
        self.call("PUT", f"/v1/agent/join/{other.address}:{other.ports['serf_wan']}?wan=1")
        both = {self.datacenter, other.datacenter}
        for one in (self, other):
            wait_until(lambda one=one: set(one.get("/v1/catalog/datacenters")) == both, f"{self} and {other} see each other")
        wait_until(lambda: "consul" in self.get(f"/v1/catalog/services?dc={other.datacenter}"), f"{self} asks {other}")

    def import_from(self, other, peer, names):
        """Join the cluster `other` by cluster peering, under the name `peer` here; it exports these services to us."""
        token = other.call("POST", "/v1/peering/token", {"PeerName": f"to-{peer}"})["PeeringToken"]
        other.export(f"to-{peer}", names)

        def established():
            self.call("POST", "/v1/peering/establish", {"PeerName": peer, "PeeringToken": token})
            return True

        wait_until(established, f"{self} peers with {other}", within=30)
        wait_until(lambda: self.get(f"/v1/peering/{peer}")["State"] == "ACTIVE", f"{self} peers with {other}", within=30)

    def export(self, peer, names):
        """What the peer of that name is exported, all of it."""
        services = [{"Name": name, "Consumers": [{"Peer": peer}]} for name in names]
        self.call("PUT", "/v1/config", {"Kind": "exported-services", "Name": "default", "Services": services})

    # ------------------------------------------------------------------------------------------------------- what goes wrong

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def forget(self):
        """Its disk is lost. Only while it does not run."""
        for path in sorted((self.folder / "data").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
