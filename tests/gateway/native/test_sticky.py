"""Balances that look at the request or at latency, through a running engine."""

import re

import pytest
import trio

from gateway.snapshot import Balance, EndpointSet, HashPolicy
from tests.support.native_engine import NAME, OK, Workload, backend, endpoint, forward, host, running

pytestmark = pytest.mark.slow


def parts(workloads, **options):
    return (
        backend(**options),
        EndpointSet(NAME, tuple(endpoint(each.port) for each in workloads)),
        host(forward()),
    )


def told(name):
    body = name.encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


def served(answer):
    return answer.rpartition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize(("kind", "size"), [(Balance.RING_HASH, 1024), (Balance.MAGLEV, 65_537)])
async def test_a_header_keeps_its_endpoint(kind, size):
    workloads = [Workload(told(str(number))) for number in range(4)]
    rules = parts(workloads, balance=kind, hash=HashPolicy("header", "x-user", size=size))
    async with running(*rules, workloads=workloads) as gateway:

        async def ask(user):
            return served(await gateway.get(headers=f"X-User: {user}\r\n"))

        first = {}
        with trio.fail_after(20):
            # A maglev table is being made meanwhile: what it decides in the end holds from then on.
            for _ in range(20 if kind is Balance.MAGLEV else 1):
                first = {user: await ask(user) for user in range(24)}
            assert set(first.values()) == {"0", "1", "2", "3"}
            for _ in range(3):
                assert {user: await ask(user) for user in range(24)} == first


async def test_a_cookie_is_made_once_and_brings_its_client_back():
    workloads = [Workload(told(str(number))) for number in range(4)]
    policy = HashPolicy("cookie", "sticky", path="/", ttl_ms=60_000, attributes=(("SameSite", "Lax"),))
    async with running(*parts(workloads, balance=Balance.RING_HASH, hash=policy), workloads=workloads) as gateway:
        places = set()
        for _ in range(12):
            answer = await gateway.get()
            (cookie,) = re.findall(
                rb'(?i)\r\nset-cookie: (sticky="[0-9a-f]{16}"); Max-Age=60; Path=/; SameSite=Lax; HttpOnly\r\n', answer
            )
            places.add(served(answer))
            for _ in range(3):
                again = await gateway.get(headers=f"Cookie: a=b; {cookie.decode()}\r\n")
                assert served(again) == served(answer)
                assert b"set-cookie" not in again.lower()
        assert len(places) > 1


async def test_passthrough_goes_where_the_host_header_says():
    listed, meant = Workload(told("listed")), Workload(told("meant"))
    rules = (backend(balance=Balance.PASSTHROUGH), EndpointSet(NAME, (endpoint(listed.port),)), host(forward()))
    async with running(*rules, workloads=[listed, meant]) as gateway:
        assert served(await gateway.get(host=f"127.0.0.1:{meant.port}")) == "meant"
        assert (await gateway.get(host="a.test")).startswith(b"HTTP/1.1 503")  # no address


async def test_the_slow_endpoint_is_asked_least():
    async def slowly(stream, data):
        await trio.sleep(0.05)
        await stream.send_all(OK)
        return True

    slow, quick = Workload(slowly), Workload()
    async with running(*parts([slow, quick], balance=Balance.PEAK_EWMA), workloads=[slow, quick]) as gateway:
        for _ in range(80):
            await gateway.get()
    assert 1 <= len(slow.requests) <= 35  # a quarter: drawn twice
    assert len(slow.requests) + len(quick.requests) == 80
