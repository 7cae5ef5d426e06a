"""Virtual addresses agreed on through a real Consul: by whole gateways of one cluster that learn of services in different orders, and while
the agent is gone."""

import itertools
import os

import dns.asyncquery
import dns.message
import go_peers
import pytest
import trio
from conformance_store import check_store
from peers.consul import Consul
from running import Fedgate, document, running
from running_gateway import until

from discovery.clients.consul import ConsulConnection
from federation.consul_store import ConsulStore
from federation.vips import home

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(900),  # the first time it is built
    pytest.mark.skipif(bool(go_peers.NO_GO), reason=go_peers.NO_GO),
    pytest.mark.xdist_group("live-consul"),
]


@pytest.fixture
def consul(tmp_path):
    try:
        go_peers.build("consul")
    except (RuntimeError, OSError) as error:
        pytest.skip(f"Consul cannot be built: {str(error)[-500:]}")
    return Consul(tmp_path)


def service(host):
    ports = [{"number": 5432, "name": "db", "protocol": "TCP"}]
    endpoint = {"address": "127.0.0.9", "ports": {"db": 1}}
    return document(
        "ServiceEntry", host.replace(".", "-"), {"hosts": [host], "resolution": "STATIC", "ports": ports, "endpoints": [endpoint]}
    )


def meeting():
    """Three names that want one address of 254, and another."""
    homes = {}
    for number in itertools.count():
        host = f"s{number}.shop.svc.cluster.local"
        found = homes.setdefault(home(host, 256), [])
        found.append(host)
        if len(found) == 3:
            return [*found, next(names[0] for slot, names in homes.items() if names is not found)]
    return []


async def resolve(gateway, host):
    answer = await dns.asyncquery.udp(dns.message.make_query(host, "A"), gateway.address, port=gateway.dns, timeout=5)
    return [rdata.to_text() for rrset in answer.answer for rdata in rrset]


async def addresses(gateway, *hosts):
    async def ask():
        return {host: await resolve(gateway, host) for host in hosts}

    return await until(ask, lambda found: all(len(each) == 1 for each in found.values()))


async def test_the_store_is_one(consul):
    with running(consul):
        async with ConsulStore(ConsulConnection(consul.url), "fedgate/shared") as store:
            await check_store(store)


async def test_gateways_of_a_cluster_agree(consul, tmp_path):
    one, other = Fedgate(tmp_path / "one"), Fedgate(tmp_path / "other")
    vips = {"range": f"127.26.{250 + os.getpid() % 5}.0/24", "range6": ""}
    for gateway in (one, other):
        gateway.write("node", gateway.node(shared={"consul": {"address": consul.url}}, vips=vips))
    first, second, third, fourth = meeting()
    with running(consul, one, other):
        one.write("first", service(third))
        other.write("first", service(first))
        await addresses(one, third)
        await addresses(other, first)
        every = (first, second, third)
        one.write("second", service(second), service(first))
        other.write("second", service(third), service(second))
        found = await addresses(one, *every)
        assert await addresses(other, *every) == found
        assert len({address for (address,) in found.values()}) == 3
        kept = one.state / "vips.json"
        await until(lambda: trio.to_thread.run_sync(kept.read_text), lambda text: all(host in text for host in every))
        consul.kill()
        one.write("third", service(fourth))
        await until(lambda: trio.to_thread.run_sync(one.text), lambda text: "vips.store_lost" in text)
        assert await resolve(one, fourth) == []  # known, and without an address
        assert await addresses(one, *every) == found
        one.kill()
        one.start()
        await trio.to_thread.run_sync(one.wait_ready)
        assert await addresses(one, *every) == found  # from its state directory
        consul.start()
        late = await addresses(one, fourth)
        other.write("third", service(fourth))
        assert await addresses(other, fourth) == late
        assert await addresses(one, *every) == found
