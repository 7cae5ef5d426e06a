"""curl against one gateway whose routes are the same on a plain and on a TLS port: over HTTP/1.1 and HTTP/2, in all four ways."""

import functools
import json
import re
import shutil
import subprocess

import certs
import trio
from running import Fedgate, Workloads, listening, routes, running, server, service, to

HOST = "shop.example.com"
WEB = certs.Authority("web")
WAYS = {
    "http": ("http", ["--http1.1"]),
    "https": ("https", ["--http1.1"]),
    "h2c": ("http", ["--http2-prior-knowledge"]),
    "h2": ("https", ["--http2"]),
}


class World:
    """`gateway` and `workloads`; running inside `with world.running()`."""

    def __init__(self, folder, *more, hosts=(HOST,)):
        """hosts: of the servers; ["*"] also takes clients that send no name, or another."""
        self.hosts = list(hosts)
        self.workloads, self.gateway = Workloads(folder, "one"), Fedgate(folder)
        leaf, place = WEB.leaf(HOST), self.gateway.folder
        for name, data in (("chain.pem", leaf.chain.encode()), ("key.pem", leaf.key.reveal()), ("ca.pem", WEB.bundle.encode())):
            (place / name).write_bytes(data)
        self.tls = {"mode": "SIMPLE", "serverCertificate": str(place / "chain.pem"), "privateKey": str(place / "key.pem")}
        self.write(*more)

    def write(self, *more):
        """The documents; more: servers beside the plain and the TLS one."""
        self.gateway.write(
            "shop",
            listening("web", server(self.gateway, self.hosts), server(self.gateway, self.hosts, tls=self.tls), *more),
            service("one.shop", [self.workloads.endpoint("one")]),
            routes("one", [HOST], {"route": [to("one.shop")]}, gateways=["web"]),
        )

    def running(self):
        return running(self.workloads, self.gateway)

    async def curl(self, way, *options, paths=("/",), port=None, data=None):
        """The CompletedProcess. way: of WAYS; data: its standard input."""
        scheme, protocol = WAYS[way]
        port = port or (self.gateway.secure if scheme == "https" else self.gateway.ingress)
        known = ["--resolve", f"{HOST}:{port}:{self.gateway.address}", "--cacert", str(self.gateway.folder / "ca.pem")]
        urls = [f"{scheme}://{HOST}:{port}{path}" for path in paths]
        return await run("curl", "-sS", "--max-time", "20", *known, *protocol, *options, *urls, data=data)


async def run(*command, within=60, data=None):
    """A command's CompletedProcess, without blocking the loop."""
    call = functools.partial(subprocess.run, capture_output=True, timeout=within, check=False, input=data)
    return await trio.to_thread.run_sync(call, [str(word) for word in command])


def version():
    """(major, minor) of this machine's curl, (0, 0) without one."""
    said = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout if shutil.which("curl") else ""
    found = re.match(r"curl (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def keeps_connections(way):
    """Whether this curl can use a connection twice that way: 7.87 and 7.88 cannot with prior knowledge (curl's issue 10634)."""
    return way != "h2c" or not (7, 87) <= version() <= (7, 88)


def answered(done):
    """(head as text, body) of `curl -i`; the last head if there were several."""
    assert done.returncode == 0, done.stderr
    head, rest = b"", done.stdout
    while rest.startswith(b"HTTP/"):
        head, _, rest = rest.partition(b"\r\n\r\n")
    return head.decode().lower(), rest


def seen(done):
    """What the workload saw, by its JSON."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
