"""Copies of requests: what a mirror gets, and that the client never notices."""

import trio
import trio.testing
from h2_talk import Client
from native_engine import NAME, OK, Workload, backend, endpoint, forward, host, read_until, running

from gateway.native.mirror import HELD, Tee
from gateway.snapshot import EndpointSet, Mirror, RetryPolicy

SHADOW = "outbound|80||shadow.test"


def parts(workload, shadow, share=1_000_000, **more):
    return (
        backend(),
        backend(SHADOW),
        EndpointSet(NAME, (endpoint(workload.port),)),
        EndpointSet(SHADOW, (endpoint(shadow.port),)),
        host(forward(retry=RetryPolicy(), mirrors=(Mirror(SHADOW, share),), **more)),
    )


async def arrived(workload, count=1):
    while len(workload.requests) < count:
        await trio.testing.wait_all_tasks_blocked(0.005)


async def test_a_copy_goes_to_the_mirror_under_another_authority():
    workload, shadow = Workload(), Workload(b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno")
    async with running(*parts(workload, shadow, rewrite_prefix="/new"), workloads=[workload, shadow]) as gateway:
        assert (await gateway.get("/old?q", "x-a: 1\r\n", host="a.test:8080")).endswith(b"ok")
        await arrived(shadow)
    head = shadow.requests[0]
    assert head.startswith(b"GET /newold?q HTTP/1.1\r\nhost: a.test-shadow:8080\r\n")
    assert b"x-a: 1\r\n" in head
    assert b"\r\nHost: a.test:8080\r\n" in workload.requests[0] or b"\r\nhost: a.test:8080\r\n" in workload.requests[0]
    series = gateway.engine.statistics().requests
    assert [(dict(each.labels)["destination_service"], each.count) for each in series] == [("a.test", 1)]


async def test_the_share_is_drawn_for_each_request():
    workload, shadow = Workload(), Workload()
    drawn = iter([0.0, 0.3, 0.6, 0.9] * 50)
    async with running(*parts(workload, shadow, 500_000), workloads=[workload, shadow], rng=lambda: next(drawn)) as gateway:
        async with await gateway.connect() as stream:
            for _ in range(20):
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
                await read_until(stream, b"ok")
        await arrived(shadow, 1)
    assert 0 < len(shadow.requests) < 20
    assert len(workload.requests) == 20


async def test_a_body_is_copied_as_it_passes():
    def whole(data):
        return OK

    async def collecting(stream, data):
        while not data.endswith(b"0\r\n\r\n"):
            data += await stream.receive_some(65536)
        bodies.append(data.partition(b"\r\n\r\n")[2])
        await stream.send_all(OK)
        return True

    bodies = []
    workload, shadow = Workload(collecting), Workload(collecting)
    async with running(*parts(workload, shadow), workloads=[workload, shadow]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start(method="POST", end=False)
        await client.send(talk, b"hello")
        await arrived(shadow)
        await client.send(talk, b"there", end=True)
        await talk.ended.wait()
        assert talk.body == b"ok"
        while len(bodies) < 2:
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert bodies[0] == bodies[1]
    assert b"hello" in bodies[1]


async def test_a_mirror_that_does_not_answer_or_is_gone_costs_the_client_nothing():
    async def never(stream, data):
        await trio.sleep_forever()

    for shadow in (Workload(never), Workload(b"nonsense\r\n\r\n")):
        workload = Workload()
        async with running(*parts(workload, shadow), workloads=[workload, shadow]) as gateway:
            for _ in range(3):
                assert (await gateway.get()).endswith(b"ok")
    gone, workload = Workload(), Workload()
    gone.sock.close()
    async with running(*parts(workload, gone), workloads=[workload]) as gateway:
        assert (await gateway.get()).endswith(b"ok")
        while any(strand.name == "mirror" for strand in gateway.engine.reactor.strands):
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert all(each.active == 0 for each in gateway.engine.statistics().endpoints)


async def test_a_mirror_that_is_too_slow_loses_its_copy_not_our_memory():
    tee = Tee(None)
    tee.put(b"x" * (HELD - 1))
    assert not tee.lost
    assert tee.next_event() == b"x" * (HELD - 1)
    tee.put(b"x" * HELD)
    assert not tee.lost
    tee.put(b"x")
    assert tee.lost
    assert tee.next_event() is None


async def test_a_client_that_breaks_off_ends_the_copy_too():
    workload, shadow = Workload(), Workload()

    async def wait(stream, data):
        while await stream.receive_some():
            pass
        return False

    workload.answer = shadow.answer = wait
    async with running(*parts(workload, shadow), workloads=[workload, shadow]) as gateway:
        async with await gateway.connect() as stream:
            await stream.send_all(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhel")
            await arrived(shadow)
        while workload.open or shadow.open:
            await trio.testing.wait_all_tasks_blocked(0.005)
