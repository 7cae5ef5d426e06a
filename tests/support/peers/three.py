"""Three real registries at once, Consul, Kubernetes and Nomad, and one service that all of them offer.

    with Three(folder) as three:
        three.offer()                       # web in the namespace shop: one workload behind each registry
        gateway.write("node", gateway.node(**three.node()))
        who(answer)                             # `consul`, `kubernetes` or `nomad`, by who answered

Kubernetes wants addresses that are none of the loopback's, so its workload lives in a network namespace; the others are on loopback. Clients
name one port, `three.port`, whichever of them a workload is behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
from concurrent.futures import ThreadPoolExecutor

import go_peers
import peers.kubernetes
import peers.pods
import trio
from peers.consul import Consul
from peers.kubernetes import Kubernetes
from peers.nomad import Nomad
from peers.pods import Pods
from running import Workloads, fresh_address, running, wait_until
from running_gateway import free_ports, until

ALL = {"consul", "kubernetes", "nomad"}
NAMESPACE = "shop"
HOST = "web.shop.svc.cluster.local"
ZONE = "dc1"  # Nomad's datacenter is a zone: Kubernetes' nodes and the gateway are in it too, so all endpoints are as near
LOCALITY = f"r1/{ZONE}"


def missing():
    """Why they cannot run here; "" if they can. Builds what was not built yet."""
    if why := peers.kubernetes.missing() or peers.pods.missing():
        return why
    try:
        for name in ("consul", "kubernetes", "nomad"):
            go_peers.build(name)
    except (RuntimeError, OSError) as error:
        return f"{name} cannot be built: {str(error)[-500:]}"
    return ""


class Three:
    """A context manager; leaving it ends everything. port: free when it was made."""

    def __init__(self, folder, *, number=60):
        """number: the third part of the network of Kubernetes' workloads, 10.77.N.0/24; one a test session."""
        self.folder = pathlib.Path(folder)
        self.consul = Consul(self.folder, "dc1")
        (self.consul_dns,) = free_ports(1, self.consul.address)
        self.consul.settings["ports"] = {**self.consul.ports, "dns": self.consul_dns}
        self.nomad = Nomad(self.folder)
        self.kubernetes = Kubernetes(self.folder / "kubernetes", address=fresh_address())
        self.pods = Pods(self.folder, f"10.77.{number}", prefix="fgs")
        self.workloads = Workloads(self.folder, "consul", "consul-2")
        (self.port,) = free_ports(1)
        self.vips = f"127.29.{1 + os.getpid() % 250}.0/24"
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        with self._stack as stack, ThreadPoolExecutor(1) as beside:
            kubernetes = beside.submit(self.kubernetes.__enter__)
            stack.push(self.kubernetes)
            stack.enter_context(self.pods)
            stack.enter_context(running(self.consul, self.nomad, self.workloads))
            kubernetes.result()
            self.kubernetes.node("node-a", zone=ZONE, region="r1", address=f"{self.pods.network}.253")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    def offer(self):
        """`web` in each of them, with one workload; returns when each says so itself."""
        self.register("consul")
        self.nomad.call("PUT", "/v1/namespace/shop", {"Name": NAMESPACE})
        self.nomad.submit("web", tags=self.tags, namespace=NAMESPACE)
        self.kubernetes.service("web", port=self.port)
        self.add_pod("kubernetes")
        wait_until(self.allocations, f"{self.nomad} runs web")

    @property
    def tags(self):
        return [f"fedgate-port={self.port}", "http"]

    def register(self, name, *, service="web"):
        """The workload of that name, in Consul."""
        self.register_at(service, name, self.workloads.address, self.workloads.ports[name])

    def register_at(self, service, name, address, number, *, protocol="http"):
        """Whatever listens there, in Consul, as an instance SERVICE-NAME."""
        meta = {"fedgate-namespace": NAMESPACE, "fedgate-port": str(self.port), "fedgate-protocol": protocol}
        self.consul.register(service, f"{service}-{name}", address, number, meta=meta)

    def add_pod(self, name):
        """A workload of that name and its Pod, which runs; returns its address."""
        address = self.pods.add(name)
        self.kubernetes.pod(name, address, app="web")
        return address

    def scale(self, count, name="web"):
        """Nomad's instances."""
        body = {"Count": count, "Target": {"Group": "all"}}
        self.nomad.call("PUT", f"/v1/job/{name}/scale?namespace={NAMESPACE}", body)

    def instances(self, name="web"):
        """(address, port) of each in Nomad."""
        return {(each["Address"], each["Port"]) for each in self._registrations(name)}

    def allocations(self, name="web"):
        """Of Nomad's service."""
        return {each["AllocID"] for each in self._registrations(name)}

    def _registrations(self, name):
        return self.nomad.call("GET", f"/v1/service/{name}?namespace={NAMESPACE}") or ()

    def sources(self):
        return [
            {"name": "consul", "consul": {"address": self.consul.url}},
            {"name": "kubernetes", "kubernetes": {"kubeconfig": str(self.kubernetes.kubeconfig())}},
            {"name": "nomad", "nomad": {"address": self.nomad.url}},
        ]

    def node(self, **spec):
        """What a gateway's Node document says of them."""
        return {"sources": self.sources(), "locality": LOCALITY, "vips": {"range": self.vips, "range6": ""}, **spec}


def who(answer):
    """The name of the workload that answered, `nomad` for one of Nomad's; else the status."""
    if answer.status != 200:
        return answer.status
    return json.loads(answer.body)["served_by"] if answer.body.startswith(b"{") else "nomad"


# ------------------------------------------------------------------------------------------------------ asked of a gateway


async def do(function, *arguments, **named):
    """Run something that waits."""
    return await trio.to_thread.run_sync(lambda: function(*arguments, **named))


async def spread(gateway, requests=30):
    """Who answered each of so many requests."""
    return [who(await gateway.get(host=HOST)) for _ in range(requests)]


async def kept(steady, *names):
    """Everybody of these goes on answering, and nobody else does."""
    assert set(await steady.more(300)) == set(names)


async def lost(gateway, name, *, within=30):
    """Wait until the gateway says that it lost this source; what that said stands."""
    row = await until(lambda: _source(gateway, name), lambda row: not row["connected"], within=within)
    assert (row["state"], row["endpoints"]) == ("kept", 1), row
    assert row["problem"]


async def back(gateway, name):
    await until(lambda: _source(gateway, name), lambda row: row["connected"] and not row["problem"], within=30)


async def _source(gateway, name):
    return next(row for row in await gateway.rows("sources") if row["name"] == name)
