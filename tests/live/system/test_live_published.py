"""Two gateways of one cluster before three real registries: they agree on virtual addresses through Consul, and one writes what Consul
does not know into it, for those who ask only there, until it leaves."""

import subprocess
import sys

import dns.asyncquery
import dns.message
import pytest
import trio
from peers.three import ALL, HOST, NAMESPACE, Three, do, missing, who
from running import Fedgate, running
from running_gateway import request, until

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # the first time they are built
    pytest.mark.xdist_group("live-published"),
]

CART = "cart.shop.svc.cluster.local"  # Nomad's alone
PUBLISHED = "fed-cart-shop"


@pytest.fixture
def three(tmp_path):
    if why := missing():
        pytest.skip(why)
    with Three(tmp_path, number=62) as made:
        made.offer()
        made.nomad.submit("cart", tags=made.tags, namespace=NAMESPACE)
        yield made


async def test_what_consul_lacks_is_written_there_and_taken_back(three, tmp_path):
    shared = {"consul": {"address": three.consul.url}}
    one, other = Fedgate(tmp_path / "one"), Fedgate(tmp_path / "other")
    one.write("node", one.node(**three.node(shared=shared, publish=[shared])))
    other.write("node", other.node(**three.node(shared=shared)))
    with running(one, other):
        for gateway in (one, other):
            await until(lambda gateway=gateway: sources(gateway, HOST), lambda found: found == {f"east/{name}" for name in ALL})
            await until(lambda gateway=gateway: sources(gateway, CART), lambda found: found == {"east/nomad"})
        addresses = {}
        for host in (HOST, CART):
            (addresses[host],) = await until(lambda host=host: resolve(one, host), lambda found: len(found) == 1)
            assert await until(lambda host=host: resolve(other, host), bool) == [addresses[host]]

        # Consul has what Nomad alone had, behind the gateways' address, and nothing that it offers itself.
        (entry,) = await until(lambda: do(instances, three, PUBLISHED), lambda found: found and passing(found[0]))
        assert (entry["Service"]["Address"], entry["Service"]["Port"]) == (addresses[CART], three.port)
        assert "fed-web-shop" not in await do(three.consul.get, "/v1/catalog/services")
        assert await ask(three.consul.address, three.consul_dns, f"{PUBLISHED}.service.consul") == [addresses[CART]]
        answer = await request(addresses[CART], three.port, host=CART)
        assert (answer.status, answer.body.decode()) == (200, *await do(three.allocations, "cart"))

        # What was written does not come back as a service: not after news from Consul that is younger.
        await do(three.register, "consul", service="fence")
        for gateway in (one, other):
            names = await until(lambda gateway=gateway: hosts(gateway), lambda found: "fence.shop.svc.cluster.local" in found)
            assert not [name for name in names if "fed-" in name]
            assert await sources(gateway, CART) == {"east/nomad"}

        # Nomad forgets a service with its last instance; Consul, which is away just then, learns of it when it is back.
        three.consul.kill()
        await do(three.scale, 0, "cart")
        await until(lambda: hosts(one), lambda found: CART not in found)
        assert await resolve(other, HOST) == [addresses[HOST]]
        three.consul.start()
        await do(three.consul.wait_ready)
        await until(lambda: do(instances, three, PUBLISHED), lambda found: not found)
        await until(lambda: one.rows("publishers"), lambda rows: [row["connected"] for row in rows] == [True])

        # It comes back at its address.
        await do(three.scale, 1, "cart")
        (entry,) = await until(lambda: do(instances, three, PUBLISHED), lambda found: found and passing(found[0]))
        assert entry["Service"]["Address"] == addresses[CART]
        # Nomad names an instance that has just been started, before it listens.
        await until(lambda: request(addresses[CART], three.port, host=CART), lambda answer: who(answer) == "nomad")

        await do(fedgate, "leave", "-c", one.documents)
        assert await do(instances, three, PUBLISHED) == []
        nodes = {node["Node"] for node in await do(three.consul.get, "/v1/catalog/nodes")}
        assert not [node for node in nodes if node.startswith("fed-")], nodes
        assert await ask(three.consul.address, three.consul_dns, f"{PUBLISHED}.service.consul") == []
        assert who(await request(addresses[CART], three.port, host=CART)) == "nomad"  # it goes on serving
        assert who(await request(addresses[HOST], three.port, host=HOST)) in ALL


def instances(three, name):
    return three.consul.get(f"/v1/health/service/{name}?consistent")


def passing(instance):
    return {check["Status"] for check in instance["Checks"]} == {"passing"}


async def hosts(gateway):
    return [row["hostname"] for row in await gateway.rows("services")]


async def sources(gateway, host):
    return {source for row in await gateway.rows("services") if row["hostname"] == host for source in row["sources"]}


async def resolve(gateway, host):
    return await ask(gateway.address, gateway.dns, host)


async def ask(address, port, name):
    with trio.fail_after(10):
        answer = await dns.asyncquery.udp(dns.message.make_query(name, "A"), address, port=port)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


def fedgate(*words):
    command = [sys.executable, "-P", "-m", "appliance", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
