"""CORS, faults, deadlines, hashes: as a client and an endpoint see them."""

import pytest
import trio
from h2_talk import Client, Http2Workload
from native_engine import NAME, OK, Workload, backend, endpoint, host, read_until, running

from gateway.snapshot import (
    Balance,
    Cors,
    EndpointSet,
    Fault,
    Forward,
    HashPolicy,
    HeaderOperations,
    Http2,
    ListenerKind,
    MatchKind,
    Node,
    RetryPolicy,
    Route,
    RouteMatch,
    Split,
    StringMatch,
)

EVERYBODY = 1_000_000


def parts(*workloads, fault=None, cors=None, timeout_ms=0, response_headers=HeaderOperations(), **options):  # noqa: B008  frozen
    action = Forward((Split(NAME),), timeout_ms=timeout_ms, retry=RetryPolicy(immediate=True))
    route = Route("r", RouteMatch(), action, fault=fault, cors=cors, response_headers=response_headers)
    return backend(**options), EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)), host(route)


async def test_a_fault_answers_in_the_endpoints_place():
    workload = Workload()
    operations = HeaderOperations(set=(("x-route", "1"),))
    fault = Fault(abort_status=418, abort_share=EVERYBODY)
    async with running(*parts(workload, fault=fault, response_headers=operations), workloads=[workload]) as gateway:
        answer = await gateway.get()
        assert answer.startswith(b"HTTP/1.1 418 ")
        assert answer.endswith(b"fault filter abort")
        assert dict(gateway.engine.statistics().requests[0].labels)["response_flags"] == "FI"
    assert not workload.requests


async def test_a_delay_comes_first_and_is_told_in_the_flags():
    workload = Workload()
    async with running(*parts(workload, fault=Fault(delay_ms=60, delay_share=EVERYBODY)), workloads=[workload]) as gateway:
        began = trio.current_time()
        assert (await gateway.get()).endswith(b"ok")
        assert trio.current_time() - began >= 0.06
        assert dict(gateway.engine.statistics().requests[0].labels)["response_flags"] == "DI"


async def test_a_client_that_leaves_during_a_delay_is_noticed():
    workload = Workload()
    async with running(*parts(workload, fault=Fault(delay_ms=60_000, delay_share=EVERYBODY)), workloads=[workload]) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while gateway.engine.statistics().downstream_connections:
            await trio.testing.wait_all_tasks_blocked(0.005)


async def test_grpc_faults_are_said_in_grpc():
    workload = Http2Workload()
    fault = Fault(abort_grpc=7, abort_share=EVERYBODY)
    async with running(*parts(workload, fault=fault), workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.ask(b"x", method="POST", headers=[("content-type", "application/grpc")])
        assert (talk.status, talk.head[b"grpc-status"]) == (200, b"7")


CORS = Cors(origins=(StringMatch(MatchKind.EXACT, "https://a.example"),), methods=("GET", "PUT"), credentials=True, expose=("x-b",))


async def test_preflights_are_answered_here_and_answers_carry_the_origin():
    workload = Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\naccess-control-allow-origin: *\r\n\r\nok")
    origin = "origin: https://a.example\r\n"
    async with running(*parts(workload, cors=CORS), workloads=[workload]) as gateway:
        ask = f"OPTIONS / HTTP/1.1\r\nhost: a\r\n{origin}access-control-request-method: PUT\r\nconnection: close\r\n\r\n"
        answer = await gateway.ask(ask.encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"access-control-allow-methods: GET,PUT\r\n" in answer
        assert not workload.requests
        answer = await gateway.get(headers=origin)
        assert answer.count(b"access-control-allow-origin: https://a.example\r\n") == 1
        assert b"access-control-allow-origin: *" not in answer
        assert b"access-control-expose-headers: x-b\r\n" in answer
        answer = await gateway.get(headers="origin: https://b.example\r\n")
        assert b"access-control-allow-origin: *\r\n" in answer  # the endpoint's own word
    assert len(workload.requests) == 2


async def test_cors_holds_for_errors_of_the_gateway_too():
    async with running(*parts(cors=CORS)) as gateway:
        answer = await gateway.get(headers="origin: https://a.example\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"access-control-allow-origin: https://a.example\r\n" in answer


@pytest.mark.parametrize(("timeout_ms", "expected"), [(0, b"200"), (2000, b"200"), (30, b"100")])
async def test_a_grpc_call_says_how_long_it_waits_and_the_route_caps_it(timeout_ms, expected):
    release = trio.Event()

    async def answer(peer, sid, head, body):
        heads.append(head)
        await release.wait()

    heads = []
    workload = Http2Workload(answer)
    made = parts(workload, timeout_ms=timeout_ms, http2=Http2(always=True))
    async with running(*made, workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        headers = [("content-type", "application/grpc"), ("grpc-timeout", "60m")]
        talk = await client.ask(b"x", method="POST", headers=headers)
        assert (talk.status, talk.head[b"grpc-status"]) == (200, b"4")
    wait = int(heads[0][b"x-envoy-expected-rq-timeout-ms"])
    assert wait == (30 if timeout_ms == 30 else 60)


@pytest.mark.parametrize(("kind", "expected"), [(ListenerKind.MESH, b"504"), (ListenerKind.GATEWAY, b"200")])
async def test_orders_about_timeouts_come_from_inside_only(kind, expected):
    async def slow(stream, data):
        with trio.move_on_after(0.3):  # longer than what is ordered
            await stream.receive_some()
        await stream.send_all(OK)
        return False

    workload = Workload(slow)
    async with running(*parts(workload), workloads=[workload], kind=kind) as gateway:
        answer = await gateway.get(headers="x-envoy-upstream-rq-timeout-ms: 50\r\n")
        assert answer.split()[1] == expected


@pytest.mark.parametrize("balance", [Balance.RING_HASH, Balance.MAGLEV])
async def test_a_header_decides_the_endpoint(balance):
    workloads = [Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number) for number in range(4)]
    size = 1024 if balance is Balance.RING_HASH else 251
    made = parts(*workloads, balance=balance, hash=HashPolicy("header", "x-user", size=size))
    async with running(*made, workloads=workloads) as gateway, await gateway.connect() as stream:
        chosen = {}
        for round_ in range(3):
            for user in range(12):
                await stream.send_all(f"GET / HTTP/1.1\r\nhost: a\r\nx-user: {user}\r\n\r\n".encode())
                answer = (await read_until(stream, b"\r\n\r\n")) + await stream.receive_some(1)
                assert chosen.setdefault(user, answer[-1:]) == answer[-1:], (round_, user)
        assert len(set(chosen.values())) > 1


async def test_a_cookie_is_made_for_who_brings_none_and_holds():
    workloads = [Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number) for number in range(4)]
    policy = HashPolicy("cookie", "session", path="/", ttl_ms=60_000)
    async with running(*parts(*workloads, balance=Balance.RING_HASH, hash=policy), workloads=workloads) as gateway:
        first = await gateway.get()
        line = next(each for each in first.split(b"\r\n") if each.startswith(b"set-cookie: "))
        assert line.startswith(b'set-cookie: session="')
        assert b"Max-Age=60" in line
        cookie = line.partition(b": ")[2].partition(b";")[0].decode()
        for _ in range(6):
            again = await gateway.get(headers=f"cookie: {cookie}\r\n")
            assert again[-1:] == first[-1:]
            assert b"set-cookie" not in again


async def test_the_address_that_trusted_proxies_say_decides():
    workloads = [Workload(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % number) for number in range(4)]
    made = parts(*workloads, balance=Balance.RING_HASH, hash=HashPolicy("source-ip"))
    async with running(*made, workloads=workloads, node=Node(name="gw", cluster="east", trusted_proxies=1)) as gateway:
        answers = {address: (await gateway.get(headers=f"x-forwarded-for: 1.1.1.1, {address}\r\n"))[-1:] for address in ADDRESSES}
        assert len(set(answers.values())) > 1
        for address, answer in answers.items():
            assert (await gateway.get(headers=f"x-forwarded-for: 2.2.2.2, {address}\r\n"))[-1:] == answer


ADDRESSES = [f"10.0.0.{number}" for number in range(12)]
