"""The drill in small: two endpoints near, two far, nothing written but ServiceEntry, Gateway, VirtualService; the near ones go away."""

import signal

import pytest
import trio
from running import Fedgate, Workloads, listening, routes, running, server, service, to

from appliance.demo.load import Load, Request

pytestmark = pytest.mark.slow

HOST = "shop.example.com"
RATE = 100
BEFORE_S = 2.5  # 250 answers: their p99, which silence is judged by, is not the one slow answer at the start
NEAR, FAR = ("near1", "near2"), ("far1", "far2")


@pytest.mark.parametrize("event", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_dead_region_costs_no_request(tmp_path, event):
    near, far, gateway = Workloads(tmp_path, *NEAR), Workloads(tmp_path, *FAR), Fedgate(tmp_path)
    endpoints = [near.endpoint(name, locality="r1/z1") for name in NEAR] + [far.endpoint(name, locality="r2/z2") for name in FAR]
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST])),
        service("shop.test", endpoints),
        routes("shop", [HOST], {"route": [to("shop.test")]}, gateways=["web"]),
    )
    with running(near, far, gateway):
        load = Load((gateway.address, gateway.ingress), lambda number: Request("shop", HOST, f"/{number}"), rate=RATE)
        async with trio.open_nursery() as nursery:
            await nursery.start(load.run, BEFORE_S + 4.5)
            await trio.sleep_until(load.started_at + BEFORE_S)
            near.signal(event)
            at = load.now_s
        near.signal(signal.SIGCONT)
    before = [sample for sample in load.samples if sample.due_s + sample.took_ms / 1000 < at]
    assert {sample.served_by for sample in before} == set(NEAR)
    assert [sample for sample in load.samples if sample.failed] == []
    late = [sample for sample in load.samples if sample.due_s > at + 2]
    assert {sample.served_by for sample in late} == set(FAR)
    assert max(sample.took_ms for sample in load.samples) <= 1500
