"""Three real registries under one gateway, paused under traffic: Consul for longer than its queries block, so that it is given up."""

import pytest
import trio
from peers.three import ALL, HOST, Three, back, do, kept, lost, missing, spread
from running import Fedgate, running
from running_gateway import until
from steady import steadily

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # the first time they are built
    pytest.mark.xdist_group("live-outlasting"),
]


async def test_a_pause_longer_than_queries_last_costs_nothing_and_is_noticed(tmp_path):
    """Consul's queries block for 60 s and a sixteenth; the others are paused meanwhile, all three for a moment."""
    if why := missing():
        pytest.skip(why)
    gateway = Fedgate(tmp_path)
    with Three(tmp_path, number=61) as three:
        three.offer()
        gateway.write("node", gateway.node(**three.node()))
        with running(gateway):
            await until(lambda: spread(gateway), lambda found: set(found) == ALL)
            async with steadily(gateway.address, gateway.mesh, host=HOST) as steady:
                await paused(three, gateway, steady)
            assert not steady.failed


async def paused(three, gateway, steady):
    three.consul.pause()
    three.kubernetes.pause()
    await kept(steady, *ALL)
    three.nomad.pause()  # not for long: it takes its clients for lost when it has not heard of them for 20 s
    await kept(steady, *ALL)
    three.nomad.resume()
    await lost(gateway, "consul", within=90)
    await kept(steady, *ALL)
    three.kubernetes.resume()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, three.register, "consul-2")  # waits for it to go on
        await steady.more(20)
        three.consul.resume()
    await steady.only("consul-2", *ALL)
    await back(gateway, "consul")
    await do(three.consul.deregister, "web-consul-2")
    await do(three.add_pod, "kubernetes-2")
    await do(three.scale, 0)
    await steady.only("consul", "kubernetes", "kubernetes-2")
