"""Resilience through a whole engine: what is refused, what it is told, what the endpoint is told, who comes back."""

import pytest
import trio
from h2_talk import Client, Http2Workload, plain
from native_engine import NAME, OK, Workload, backend, endpoint, forward, host, running

from gateway.snapshot import EndpointSet, Http2, Limits, Node, Outlier, Overload, RateLimit, RetryBudget, RetryPolicy


def parts(*workloads, retry=None, timeout_ms=0, **options):
    endpoints = tuple(endpoint(each.port) for each in workloads)
    return backend(**options), EndpointSet(NAME, endpoints), host(forward(retry=retry, timeout_ms=timeout_ms))


async def until(condition):
    """A state of the engine that no event tells."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.01)


@pytest.mark.slow
async def test_a_worker_that_holds_too_much_memory_sheds_and_says_so():
    workload = Workload()
    node = Node(name="gw", cluster="east", overload=Overload(memory_mb=1))
    async with running(workloads=[workload], node=node) as gateway:
        await until(lambda: gateway.engine.overload.shedding)
        answer = await gateway.get("/")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"x-envoy-overloaded: true\r\n" in answer
        assert answer.endswith(b"overloaded")
        assert workload.requests == []
        assert dict(gateway.engine.statistics().refused)["overload-memory"] == 1
        # Limits that are lifted by a Snapshot are lifted at once.
        gateway.node = Node(name="gw", cluster="east", overload=Overload(memory_mb=-1))
        gateway.snapshots.set(gateway.snapshot(*parts(workload)))
        await until(lambda: not gateway.engine.overload.shedding)
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200 ")


async def test_connections_over_the_nodes_limit_are_closed():
    node = Node(name="gw", cluster="east", overload=Overload(connections=1))
    async with running(workloads=[Workload()], node=node) as gateway, await gateway.connect() as first:
        await first.send_all(b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200 ")
        assert await gateway.get("/") == b""
        assert dict(gateway.engine.statistics().refused)["too-many-connections"] == 1


async def test_a_rate_limit_answers_429():
    workload = Workload()
    limited = parts(workload, rate_limits=(RateLimit(2, 3_600_000, by=(("header", "x-key"),)),))
    async with running(*limited, workloads=[workload]) as gateway:
        answers = [await gateway.get("/", "x-key: a\r\n") for _ in range(3)]
        assert [answer[9:12] for answer in answers] == [b"200", b"200", b"429"]
        assert answers[2].endswith(b"\r\n\r\nlocal_rate_limited")
        assert (await gateway.get("/", "x-key: b\r\n")).startswith(b"HTTP/1.1 200 ")
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200 ")
        assert len(workload.requests) == 4


async def test_the_endpoint_is_told_the_attempt_and_how_long_it_is_waited_for():
    count = 0

    def answer(request):
        nonlocal count
        count += 1
        return b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n" if count < 3 else OK

    workload = Workload(answer)
    retry = RetryPolicy(attempts=2, conditions=("503",), per_try_timeout_ms=700, base_ms=1)
    async with running(*parts(workload, retry=retry, timeout_ms=3000), workloads=[workload]) as gateway:
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200 ")
    for number, request in enumerate(workload.requests, 1):
        assert b"x-envoy-attempt-count: %d\r\n" % number in request.lower()
        assert b"x-envoy-expected-rq-timeout-ms: 700\r\n" in request.lower()


async def test_a_retry_over_the_budget_is_not_made_and_the_answer_stands():
    workload = Workload(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
    retry = RetryPolicy(conditions=("503",), base_ms=1)
    async with running(*parts(workload, retry=retry, retry_budget=RetryBudget(0, 0)), workloads=[workload]) as gateway:
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 503 ")
        assert len(workload.requests) == 1
        assert gateway.engine.statistics().backends[0].overflow == 1
    workload = Workload(b"HTTP/1.1 503 no\r\ncontent-length: 0\r\n\r\n")
    async with running(*parts(workload, retry=retry, retry_budget=RetryBudget(0, 1)), workloads=[workload]) as gateway:
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 503 ")
        assert len(workload.requests) == 3
        assert gateway.engine.statistics().backends[0].retries == 2


async def test_a_limiter_that_refused_is_not_asked_again_by_5xx():
    workload = Workload(b"HTTP/1.1 503 no\r\nx-envoy-ratelimited: true\r\ncontent-length: 0\r\n\r\n")
    retry = RetryPolicy(conditions=("5xx",), base_ms=1)
    async with running(*parts(workload, retry=retry), workloads=[workload]) as gateway:
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 503 ")
        assert len(workload.requests) == 1


async def test_one_connection_serves_those_who_wait_one_after_the_other():
    running_now = most = 0

    async def answer(stream, request):
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await trio.sleep(0.02)
        running_now -= 1
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(*parts(workload, limits=Limits(connections=1)), workloads=[workload]) as gateway:
        answers = []

        async def get():
            answers.append((await gateway.get("/"))[9:12])

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(get)
        assert answers == [b"200"] * 8
        assert (most, workload.connections) == (1, 1)
        state = gateway.engine.runtime.states[NAME]
        assert (state.queued, state.active) == (0, 0)


async def test_who_would_wait_over_the_limit_is_refused_at_once():
    release = trio.Event()

    async def answer(stream, request):
        await release.wait()
        await stream.send_all(OK)
        return True

    workload = Workload(answer)
    async with running(*parts(workload, limits=Limits(connections=1, pending=1)), workloads=[workload]) as gateway:
        answers = []

        async def get():
            answers.append(await gateway.get("/"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            await until(lambda: workload.requests)
            nursery.start_soon(get)
            state = gateway.engine.runtime.states[NAME]
            await until(lambda: state.queued == 1)
            refused = await gateway.get("/")
            assert refused.startswith(b"HTTP/1.1 503 ")
            assert b"x-envoy-overloaded: true\r\n" in refused
            release.set()
        assert [each[9:12] for each in answers] == [b"200"] * 2


async def test_trap_10_of_three_endpoints_ten_per_cent_eject_nobody_and_all_of_them_are_503():
    def three():
        return [Workload(b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n") for _ in range(3)]

    workloads = three()
    async with running(*parts(*workloads, outlier=Outlier()), workloads=workloads) as gateway:
        for _ in range(40):
            assert (await gateway.get("/")).startswith(b"HTTP/1.1 500 ")
        assert not any(each.ejected_for_ms for each in gateway.engine.statistics().endpoints)
    workloads = three()
    async with running(*parts(*workloads, outlier=Outlier(max_ejection_percent=100)), workloads=workloads) as gateway:
        answers = [(await gateway.get("/"))[9:12] for _ in range(40)]
        assert answers[-1] == b"503"  # trap 11: all are out, and panic is off
        assert b"no healthy upstream" in await gateway.get("/")


async def test_trap_11_with_a_panic_threshold_all_are_asked_again():
    workloads = [Workload(b"HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n") for _ in range(2)]
    everybody = parts(*workloads, outlier=Outlier(max_ejection_percent=100), panic_percent=50)
    async with running(*everybody, workloads=workloads) as gateway:
        assert {(await gateway.get("/"))[9:12] for _ in range(40)} == {b"500"}


GRPC = [("content-type", "application/grpc")]


@pytest.mark.parametrize(
    ("head", "trailers", "ejected"), [([("grpc-status", "14")], None, True), ([], [("grpc-status", "14")], False)]
)
async def test_outlier_detection_counts_what_a_grpc_status_in_the_head_stands_for(head, trailers, ejected):
    """As Envoy: in the head it is 503; in the trailers, after a head of 200, it is nobody's fault but the call's."""
    workload = Http2Workload(plain(b"", headers=GRPC + head, trailers=trailers))
    options = {"outlier": Outlier(consecutive_5xx=3, max_ejection_percent=100), "http2": Http2(always=True)}
    async with running(*parts(workload, **options), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        for _ in range(3):
            await client.ask(b"x", method="POST", headers=[*GRPC, ("te", "trailers")])
        assert bool(gateway.engine.statistics().endpoints[0].ejected_for_ms) is ejected


async def test_an_answer_of_the_gateway_to_a_grpc_call_over_the_rate_limit():
    workload = Workload()
    limited = parts(workload, rate_limits=(RateLimit(1, 3_600_000),))
    async with running(*limited, workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        assert (await gateway.get("/")).startswith(b"HTTP/1.1 200 ")
        talk = await client.ask(b"x", method="POST", headers=[*GRPC, ("te", "trailers")])
        assert (talk.status, talk.head[b"grpc-status"], talk.head[b"grpc-message"]) == (200, b"14", b"local_rate_limited")
