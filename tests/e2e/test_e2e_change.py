"""What changes while traffic runs: documents, a worker that is killed, a control process that is killed. No request pays for it."""

import os
import signal

import pytest
import trio
from running import Fedgate, Workloads, listening, routes, running, server, service, to
from running_gateway import until
from traffic import Clients, wire

pytestmark = pytest.mark.slow

HOST = "shop.example.com"


def route(*actions):
    return routes("shop", [HOST], *actions, gateways=["web"])


def direct(text):
    return {"directResponse": {"status": 200, "body": {"string": text}}}


@pytest.fixture
def world(tmp_path):
    """(gateway with 2 workers, workloads), not started; everything goes to the workload `one`."""
    workloads, gateway = Workloads(tmp_path, "one", "two"), Fedgate(tmp_path, workers=2)
    services = [service(f"{name}.shop", [workloads.endpoint(name)]) for name in workloads.names]
    gateway.write("services", listening("web", server(gateway, [HOST])), *services)
    gateway.write("routes", route({"route": [to("one.shop")]}))
    return gateway, workloads


def clients(gateway, count=50):
    return Clients(gateway.address, gateway.ingress, wire(host=HOST), count=count)


async def test_twenty_snapshots_under_load_cost_no_request(world):
    gateway, workloads = world
    with running(workloads, gateway):
        async with trio.open_nursery() as nursery:
            load = clients(gateway)
            await nursery.start(load.run)
            await load.more(200)
            for number in range(20):
                text = f"version {number}"
                action = {"route": [to("two.shop" if number % 2 else "one.shop")]}
                gateway.write("routes", route({"match": [{"uri": {"exact": "/version"}}], **direct(text)}, action))

                async def version():
                    return (await gateway.get("/version", host=HOST, port=gateway.ingress)).body.decode()

                await until(version, lambda said, text=text: said == text)
                await load.more(20)
            load.stop()
        assert load.lost == []
        assert load.bad == []
        assert load.slowest < 1.0
        served = {name: len(workloads.seen(name)) for name in workloads.names}
        assert all(served.values()), served


async def test_a_killed_worker_costs_what_it_was_carrying_and_strands_no_new_connection(world):
    gateway, workloads = world
    with running(workloads, gateway):
        async with trio.open_nursery() as nursery:
            load, probes = clients(gateway), Probes(gateway)
            await nursery.start(load.run)
            nursery.start_soon(probes.run)
            await load.more(500)
            assert load.lost == []
            victim = gateway.pids("worker")[0]
            os.kill(victim, signal.SIGKILL)
            await load.more(1000)
            await until(
                lambda: gateway.api("snapshot"), lambda row: all(worker["up"] for worker in row["workers"]) and row["running"]
            )
            await load.more(500)
            load.stop()
            probes.scope.cancel()
        assert load.bad == []
        assert 1 <= len(load.lost) <= load.count, "the victim carried something, and a client loses one request at most"
        assert len({number for number, _ in load.lost}) == len(load.lost)
        assert len(probes.failed) <= 3, probes.failed
        assert probes.slowest < 1.0
        assert victim not in gateway.pids("worker")
        assert len(gateway.pids("worker")) == 2


async def test_a_killed_control_process_costs_nothing_and_its_successor_takes_changes(world):
    gateway, workloads = world
    with running(workloads, gateway):
        async with trio.open_nursery() as nursery:
            load = clients(gateway)
            await nursery.start(load.run)
            await load.more(200)
            (victim,) = gateway.pids("control")
            os.kill(victim, signal.SIGKILL)
            await load.more(500)
            gateway.write("routes", route(direct("after")))
            await until(lambda: gateway.get(host=HOST, port=gateway.ingress), lambda answer: answer.body == b"after")
            await load.more(100)
            load.stop()
        assert load.lost == []
        assert load.bad == []
        assert victim not in gateway.pids("control")


class Probes:
    """A new connection 50 times a second, one request on each."""

    def __init__(self, gateway):
        self.gateway, self.failed, self.slowest = gateway, [], 0.0
        self.scope = trio.CancelScope()

    async def run(self):
        with self.scope:
            async with trio.open_nursery() as nursery:
                while True:
                    nursery.start_soon(self.one)
                    await trio.sleep(0.02)

    async def one(self):
        began = trio.current_time()
        try:
            answer = await self.gateway.get(host=HOST, port=self.gateway.ingress, within=5)
            if answer.status != 200:
                self.failed.append(answer)
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            self.failed.append(error)
        self.slowest = max(self.slowest, trio.current_time() - began)
