"""Services by their virtual addresses, with whole gateways: by name through the nameserver, TCP by address and port, HTTP whatever Host says,
the same addresses after a restart and on another gateway, and a range that is routed to a gateway in a network namespace."""

import contextlib
import itertools
import json
import os
import signal
import socket

import dns.asyncquery
import dns.message
import pytest
import trio
from peers.pods import ip, missing
from running import Fedgate, Workloads, document, established, fetch, routes, running, to
from running_gateway import FEDGATE, free_ports, request, until
from traffic import raw, wire

from federation.vips import home

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-vips")]

_ranges = itertools.count(os.getpid() % 120)


def fresh_range():
    """254 addresses of the loopback network that no other gateway here has."""
    return f"127.26.{next(_ranges) % 250}.0/24"


def service(host, endpoint, *, http=0, tcp=0, **more):
    ports = [{"number": http, "name": "http", "protocol": "HTTP"}] if http else []
    ports += [{"number": tcp, "name": "db", "protocol": "TCP"}] if tcp else []
    spec = {"hosts": [host], "location": "MESH_INTERNAL", "resolution": "STATIC", "ports": ports, "endpoints": [endpoint]}
    return document("ServiceEntry", host.replace(".", "-"), spec | more)


def endpoint(workloads, name):
    """One HTTP server, for both ports: what is relayed may as well be HTTP."""
    number = workloads.ports[name]
    return {"address": workloads.address, "ports": {"http": number, "db": number}}


def with_vips(gateway, network, **more):
    gateway.write("node", gateway.node(vips={"range": network, "range6": "", **more}))
    return gateway


async def resolve(gateway, name, kind="A"):
    answer = await dns.asyncquery.udp(dns.message.make_query(name, kind), gateway.address, port=gateway.dns, timeout=5)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


async def addresses(gateway, *hosts):
    """Each name's one address, once all have one."""

    async def ask():
        return {host: await resolve(gateway, host) for host in hosts}

    found = await until(ask, lambda found: all(len(each) == 1 for each in found.values()))
    return {host: each[0] for host, each in found.items()}


async def by(address, port, *, host="anything.example"):
    """Which workload answers there."""
    answer = await request(address, port, "/", host=host)
    return answer.headers.get("x-served-by", answer.status)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vips")
    shop = Workloads(folder, "reviews", "ratings")
    gateway = with_vips(Fedgate(folder, workers=2), fresh_range())
    gateway.http, gateway.tcp = free_ports(2, "0.0.0.0")
    gateway.write(
        "shop",
        service("reviews.shop.svc.cluster.local", endpoint(shop, "reviews"), http=gateway.http, tcp=gateway.tcp),
        service("ratings.shop.svc.cluster.local", endpoint(shop, "ratings"), http=gateway.http, tcp=gateway.tcp),
    )
    edge = {"port": {"number": gateway.http, "name": "http", "protocol": "HTTP"}, "bind": gateway.address, "hosts": ["*"]}
    gateway.write(
        "edge",
        document("Gateway", "edge", {"selector": {"istio": "ingressgateway"}, "servers": [edge]}),
        routes("shop", ["shop.example.com"], {"route": [to(NAMES[1])]}, gateways=["edge"]),
    )
    with running(shop, gateway):
        yield gateway


NAMES = ("reviews.shop.svc.cluster.local", "ratings.shop.svc.cluster.local")


async def test_a_tcp_service_is_reached_by_its_address_and_port(world):
    found = await addresses(world, *NAMES)
    assert len(set(found.values())) == 2
    for host, address in found.items():
        assert await by(address, world.tcp) == host.partition(".")[0]


async def test_http_goes_to_the_service_that_has_the_address_and_to_the_named_one_at_the_http_port(world):
    found = await addresses(world, *NAMES)
    for host, address in found.items():
        own = host.partition(".")[0]
        for said in (host, f"{own}.shop:{world.http}", NAMES[0], NAMES[1], "elsewhere.example", address, f"{address}:{world.http}"):
            assert await by(address, world.http, host=said) == own
        assert await by(world.address, world.mesh, host=f"{host}:{world.http}") == own
        assert await by(world.address, world.mesh, host=f"{address}:{world.http}") == own


async def test_a_gateway_on_one_address_keeps_its_port(world):
    assert await by(world.address, world.http, host="shop.example.com") == "ratings"
    assert await by(world.address, world.http, host=NAMES[0]) == 404


async def test_short_names_and_reverse_lead_to_the_same(world):
    found = await addresses(world, *NAMES)
    reviews = found[NAMES[0]]
    for name in ("reviews.shop", "reviews.shop.svc", "reviews.shop.global"):
        assert await resolve(world, name) == [reviews]
    assert await resolve(world, ".".join(reversed(reviews.split("."))) + ".in-addr.arpa", "PTR") == [f"{NAMES[0]}."]
    assert await resolve(world, f"_db._tcp.{NAMES[0]}", "SRV") == [f"0 100 {world.tcp} {NAMES[0]}."]


async def test_what_is_no_services_address_is_closed(world):
    found = await addresses(world, *NAMES)
    network = next(iter(found.values())).rpartition(".")[0]
    free = next(each for each in (f"{network}.{n}" for n in range(1, 255)) if each not in found.values())
    assert await raw(free, world.tcp, wire(host=NAMES[0])) == b""
    assert await raw("127.0.0.1", world.tcp, wire(host=NAMES[0])) == b""
    assert await raw("127.0.0.1", world.http, wire(host=NAMES[0])) == b""


async def test_a_service_that_comes_has_an_address_and_one_that_goes_has_none(world):
    host = "late.shop.svc.cluster.local"
    shop = {"address": world.address, "ports": {"db": world.health}}
    world.write("late", service(host, shop, tcp=world.tcp))
    address = (await addresses(world, host))[host]

    async def status():
        try:
            return (await request(address, world.tcp, "/healthz/ready", host="a")).status
        except (OSError, trio.BrokenResourceError, IndexError):
            return 0

    await until(status, lambda found: found == 200)
    world.write("late")

    async def gone():
        return await resolve(world, host)

    await until(gone, lambda found: found == [])
    assert await raw(address, world.tcp, wire(host=host)) == b""


def meeting(count=254):
    """Two names that want the same address, the one that sorts later first."""
    homes = {}
    for number in itertools.count():
        host = f"s{number}.shop.svc.cluster.local"
        other = homes.setdefault(home(host, count + 2), host)
        if other != host:
            return max(host, other), min(host, other)
    return None


async def test_addresses_are_the_same_after_a_restart_and_on_another_gateway(tmp_path):
    first, second = meeting()
    network = fresh_range()
    gateway = with_vips(Fedgate(tmp_path, "east"), network)
    shop = {"address": gateway.address, "ports": {"db": gateway.admin}}
    documents = [service(host, shop, tcp=free_ports(1, "0.0.0.0")[0]) for host in (first, second)]
    gateway.write("first", documents[0])
    kept = gateway.state / "vips.json"

    async def rows():
        return {row[0] for row in json.loads(kept.read_text())["rows"]} if kept.exists() else set()

    with running(gateway):
        before = await addresses(gateway, first)
        gateway.write("second", documents[1])
        before |= await addresses(gateway, second)
        await until(rows, lambda found: found == {first, second})
        gateway.signal(signal.SIGKILL)
    with running(gateway):
        assert await addresses(gateway, first, second) == before
    kept.unlink()
    with running(gateway):  # what is not remembered is found again by hash, where nobody meets anybody
        assert await addresses(gateway, first, second) == {first: before[second], second: before[first]}
    one, other = (with_vips(Fedgate(tmp_path / name, "east"), network) for name in ("one", "other"))
    for each in (one, other):
        each.write("shop", *(documents if each is one else reversed(documents)))
    with running(one, other):
        assert await addresses(one, first, second) == await addresses(other, first, second)


async def test_two_services_are_told_that_the_range_is_not_free(tmp_path):
    network = fresh_range()
    inside = network.replace(".0/24", ".77")
    gateway = with_vips(Fedgate(tmp_path), network)
    shop = {"address": gateway.address, "ports": {"db": gateway.admin}}
    gateway.write("taken", service("taken.example.com", shop, tcp=free_ports(1, "0.0.0.0")[0], addresses=[inside]))
    with running(gateway):
        assert (await addresses(gateway, "taken.example.com"))["taken.example.com"] == inside
        assert "lies in the range of virtual addresses" in gateway.text()


async def test_a_tcp_service_of_another_cluster_is_reached_by_its_address_here(tmp_path):
    host, number = "db.shop.svc.cluster.local", free_ports(1, "0.0.0.0")[0]
    shop = Workloads(tmp_path, "db")
    east, west = with_vips(Fedgate(tmp_path, "east"), fresh_range()), Fedgate(tmp_path, "west")
    east.know(west, exports=())
    west.know(east)
    west.write("shop", service(host, {"address": shop.address, "ports": {"db": shop.ports["db"]}}, tcp=number))
    with running(shop, west, east):
        await established(east)
        address = (await addresses(east, host))[host]

        async def ask():
            try:
                return await by(address, number)
            except (OSError, trio.BrokenResourceError, IndexError):
                return ""

        assert await until(ask, bool) == "db"
        assert await resolve(east, "db.shop.svc.clusterset.local") == [address]


# ---------------------------------------------------------------------------------------------------- true AnyIP, routed


class Elsewhere(Fedgate):
    """A gateway in a network namespace, joined with this one by a cable; the other end is the client."""

    def __init__(self, folder, number):
        super().__init__(folder)
        self.space, self.cable = f"fgv{number}", f"fgv{number}c"
        self.client, self.address, self.range = f"10.78.{number}.1", f"10.78.{number}.2", f"10.78.{number + 100}.0/24"
        self.node_with(addRoute=False)

    def node_with(self, **more):
        with_vips(self, self.range, **more)

    def is_ready(self):
        """Its admin port answers loopback clients only."""
        return fetch(self.address, self.health, "/healthz/ready") is not None

    def command(self):
        return ["ip", "netns", "exec", self.space, *FEDGATE, str(self.documents)]

    def __enter__(self):
        self.__exit__()
        ip("netns", "add", self.space)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.space)
        ip("address", "add", f"{self.client}/30", "dev", self.cable)
        ip("link", "set", self.cable, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.address}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            ip("-n", self.space, *words)
        ip("route", "add", self.range, "via", self.address)
        return self

    def __exit__(self, *_):
        ip("link", "delete", self.cable, check=False)
        ip("netns", "delete", self.space, check=False)


@pytest.fixture
def elsewhere(tmp_path):
    why = missing()
    if why:
        pytest.skip(why)
    with Elsewhere(tmp_path, os.getpid() % 100 + 1) as gateway:
        yield gateway


@contextlib.contextmanager
def workload(address):
    """An HTTP server at the client's end of the cable."""
    with socket.create_server((address, 0)) as sock:
        yield sock


async def answer_all(sock):
    async def serve(stream):
        async with stream:
            await stream.receive_some(65536)
            await stream.send_all(b"HTTP/1.1 200 OK\r\nx-served-by: far\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    sock.setblocking(False)
    await trio.serve_listeners(serve, [trio.SocketListener(trio.socket.from_stdlib_socket(sock))])


@pytest.mark.parametrize("added_by", ["the gateway", "somebody else"])
async def test_a_range_that_is_routed_to_the_gateway(elsewhere, added_by, nursery):
    gateway, host = elsewhere, "far.shop.svc.cluster.local"
    if added_by == "the gateway":
        gateway.node_with(addRoute=True)
    else:
        ip("-n", gateway.space, "route", "add", "local", gateway.range, "dev", "lo")
    with workload(gateway.client) as sock:
        nursery.start_soon(answer_all, sock)
        number = sock.getsockname()[1]
        shop = {"address": gateway.client, "ports": {"http": number, "db": number}}
        gateway.write("shop", service(host, shop, http=80, tcp=5432))
        with running(gateway):
            address = (await addresses(gateway, host))[host]
            assert await by(address, 5432) == "far"
            assert await by(address, 80, host=host) == "far"
            assert await by(address, 80, host="elsewhere.example") == "far"
            assert await raw(gateway.address, 5432, wire(host=host)) == b""
        nursery.cancel_scope.cancel()


async def test_a_range_that_is_not_local_is_not_listened_on(elsewhere):
    host = "far.shop.svc.cluster.local"
    elsewhere.write("shop", service(host, {"address": elsewhere.client, "ports": {"db": 1}}, tcp=5432))
    with running(elsewhere):
        address = (await addresses(elsewhere, host))[host]
        assert "vips.not_local" in elsewhere.text()
        assert f"ip route add local {elsewhere.range} dev lo" in elsewhere.text()
        with pytest.raises(OSError, match="failed"):
            await raw(elsewhere.address, 5432, b"")
        assert address.startswith("10.78.")
