"""Limits of a whole gateway with two workers: what one bucket, one circuit breaker has, and not one a worker."""

from collections import Counter

import pytest
import trio
from running import Fedgate, Workloads, document, running, service

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e-limits")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    folder = tmp_path_factory.mktemp("limits")
    workloads = Workloads(folder, "v1")
    gateway = Fedgate(folder, workers=2, defaults="istio")
    limit = {"requests": 20, "per": "1h", "by": ["source"], "match": {"x-limited": "yes"}}
    pools = {
        "requests": {"http": {"http2MaxRequests": 6}},
        "connections": {"tcp": {"maxConnections": 4}, "http": {"http1MaxPendingRequests": 6}},
    }
    gateway.write(
        "shop",
        *(service(f"{name}.shop", [workloads.endpoint("v1")]) for name in ("limited", *pools)),
        document("ServicePolicy", "limited", {"hosts": ["limited.shop"], "rateLimits": [limit]}),
        *(
            document("DestinationRule", name, {"host": f"{name}.shop", "trafficPolicy": {"connectionPool": pool}})
            for name, pool in pools.items()
        ),
    )
    with running(workloads, gateway):
        yield gateway


async def asked(gateway, number, path="/", **options):
    """So many requests at once, each on a connection of its own, so that both workers have some."""
    answers = []

    async def ask():
        answers.append(await gateway.get(path, **options))

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(ask)
    return answers


async def test_a_rate_limit_is_of_the_gateway(gateway):
    answers = await asked(gateway, 80, host="limited.shop", headers=[("x-limited", "yes")])
    statuses = Counter(answer.status for answer in answers)
    assert 20 <= statuses[200] <= 22  # one a worker too many at most
    assert statuses[429] == 80 - statuses[200]
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.body == b"local_rate_limited"
    line = await gateway.wait_logged(lambda line: line["response_code"] == 429)
    assert (line["response_flags"], line["response_code_details"]) == ("RL", "local_rate_limited")
    others = await asked(gateway, 30, host="limited.shop")
    assert {answer.status for answer in others} == {200}  # it is about requests with that header


async def test_a_circuit_breaker_is_of_the_gateway(gateway):
    answers = await asked(gateway, 60, "/sleep/1.5", host="requests.shop")
    statuses = Counter(answer.status for answer in answers)
    assert 6 <= statuses[200] <= 8
    assert statuses[503] == 60 - statuses[200]
    refused = next(answer for answer in answers if answer.status == 503)
    assert refused.headers["x-envoy-overloaded"] == "true"
    line = await gateway.wait_logged(lambda line: line["response_code"] == 503)
    assert line["response_flags"] == "UO"
    again = await gateway.get("/", host="requests.shop")
    assert again.status == 200  # it counts what is in flight, and that is over


async def test_who_waits_for_a_connection_gets_one_that_is_given_back(gateway):
    answers = await asked(gateway, 9, "/sleep/0.3", host="connections.shop")
    statuses = Counter(answer.status for answer in answers)
    # Four connections of the gateway, and one a worker whatever the other holds; six wait, dialling ones too.
    assert statuses[200] >= 6
    assert statuses[200] + statuses[503] == 9
