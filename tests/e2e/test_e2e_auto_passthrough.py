"""AUTO_PASSTHROUGH between two gateways, from their documents: the one in the west asks by server name, as Istio's gateways of other networks
do, and the one in the east takes TLS to the workload that the name means, without a route of its own."""

import contextlib
import ssl

import certs
import pytest
import trio
from running import Fedgate, document, listening, routes, running, server, to
from running_gateway import request, until
from traffic import client_context

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-auto-passthrough")]

WORKLOADS = certs.Authority("workloads")
HOST = "vault.example.com"
NAMES = {"/v1": "outbound_.443_.v1_.vault.shop", "/v2": "outbound_.443_.v2_.vault.shop", "/": "outbound_.443_._.vault.shop"}
LEAF = WORKLOADS.leaf("vault.shop", NAMES["/"])
REFUSED = {
    "/unknown": "outbound_.443_._.unknown.shop",
    "/port": "outbound_.444_._.vault.shop",
    "/subset": "outbound_.443_.v3_.vault.shop",
    "/outside": "outbound_.443_._.else.where",
}


class Vault:
    """A workload that ends TLS itself and answers HTTP with its name; /hold is never answered."""

    def __init__(self, name, sock):
        self.name, self.sock = name, sock
        self.port = sock.getsockname()[1]

    async def run(self):
        context = LEAF.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        listener = trio.SSLListener(trio.SocketListener(self.sock), context, https_compatible=True)
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, stream):
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await stream.receive_some(65536):
                if b"GET /hold " not in data:
                    body = self.name.encode()
                    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


def entry(name, endpoints):
    port = {"number": 443, "name": "tls", "protocol": "TLS"}
    spec = {"hosts": [name], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": [port], "endpoints": endpoints}
    return document("ServiceEntry", name.replace(".", "-"), spec)


def eastern(gateway, vaults, *hosts):
    """What the east serves: everything under `shop`, unless told."""
    endpoints = [{"address": gateway.address, "ports": {"tls": each.port}, "labels": {"version": each.name}} for each in vaults]
    subsets = [{"name": each.name, "labels": {"version": each.name}} for each in vaults]
    auto = {
        "port": {"number": gateway.secure, "name": "tls", "protocol": "TLS"},
        "bind": gateway.address,
        "hosts": list(hosts or ["*.shop"]),
        "tls": {"mode": "AUTO_PASSTHROUGH"},
    }
    yield listening("auto", auto)
    yield entry("vault.shop", endpoints)
    yield entry("else.where", endpoints)
    yield document("DestinationRule", "vault", {"host": "vault.shop", "subsets": subsets})


def western(gateway, east):
    """What the west asks the east for, by path."""
    yield listening("web", server(gateway, [HOST]))
    rules = []
    for number, (path, name) in enumerate((NAMES | REFUSED).items()):
        host = f"far{number}.shop"
        port = {"number": 80, "name": "http", "protocol": "HTTP"}
        endpoints = [{"address": east.address, "ports": {"http": east.secure}}]
        spec = {"hosts": [host], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": [port], "endpoints": endpoints}
        yield document("ServiceEntry", f"far{number}", spec)
        tls = {"mode": "SIMPLE", "sni": name, "caCertificates": "workloads.pem", "subjectAltNames": ["vault.shop"]}
        yield document("DestinationRule", f"far{number}", {"host": host, "trafficPolicy": {"tls": tls}})
        match = {"exact": path} if path == "/" else {"prefix": path}
        rules.append({"match": [{"uri": match}], "route": [to(host)]})
    yield routes("far", [HOST], *rules, gateways=["web"])


@contextlib.asynccontextmanager
async def vaults_of(gateway):
    """Both workloads, beside this gateway."""
    async with trio.open_nursery() as nursery:
        found = []
        for name in ("v1", "v2"):
            sock = trio.socket.socket()
            await sock.bind((gateway.address, 0))
            sock.listen()
            found.append(Vault(name, sock))
            nursery.start_soon(found[-1].run)
        yield found
        nursery.cancel_scope.cancel()


async def test_the_name_in_the_hello_says_where_to(tmp_path):
    east, west = Fedgate(tmp_path, "east"), Fedgate(tmp_path, "west")
    async with vaults_of(east) as vaults:
        east.write("node", east.node(drainDuration="1s"))
        east.write("services", *eastern(east, vaults))
        west.write("services", *western(west, east))
        (west.documents / "workloads.pem").write_text(WORKLOADS.pem)
        with running(east, west):

            async def ask(path):
                answer = await request(west.address, west.ingress, path, host=HOST)
                return answer.status, answer.body

            assert await ask("/v1") == (200, b"v1")
            assert await ask("/v2") == (200, b"v2")
            found = {await ask("/") for _ in range(20)}
            assert found <= {(200, b"v1"), (200, b"v2")}
            for path in REFUSED:
                status, _ = await ask(path)
                assert status == 503, path
            refused = [row for row in east.logged() if row["upstream_cluster"] not in (None, "-")]
            assert {row["upstream_cluster"] for row in refused} <= {
                f"inbound|443|{subset}|vault.shop" for subset in ("", "v1", "v2")
            }
            await withdrawn(east, vaults, ask)


async def withdrawn(east, vaults, ask):
    """The host is taken off the server: nobody new is taken to it, who is there has the drain's time."""
    plain = await trio.open_tcp_stream(east.address, east.secure)
    stream = trio.SSLStream(plain, client_context(WORKLOADS), server_hostname=NAMES["/"], https_compatible=True)
    await stream.send_all(b"GET / HTTP/1.1\r\nhost: vault.shop\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    east.write("services", *eastern(east, vaults, "other.shop"))
    await until(lambda: ask("/"), lambda answer: answer[0] == 503, within=15)
    with trio.fail_after(5):
        assert await stream.receive_some() == b""
    await trio.aclose_forcefully(stream)
    ended = await east.wait_logged(
        lambda row: row["requested_server_name"] == NAMES["/"] and row["connection_termination_details"] == "no_longer_offered"
    )
    assert ended["response_flags"] == "-"
