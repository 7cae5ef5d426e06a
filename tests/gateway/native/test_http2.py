"""One HTTP/2 connection's own: what it holds for a client that does not read, how long it waits, how it ends."""

import pytest
import trio
import trio.testing
from h2_dialogue import DATA, GET, GOAWAY, HEADERS, PREFACE, WINDOW_UPDATE, frame, frames_of, head, settings
from h2_talk import Client
from native_engine import OK, Workload, host, read_all, running

from gateway.native.reactor import NEVER
from gateway.snapshot import DirectResponse, Route, RouteMatch

WIDE = settings((4, 2**31 - 1)) + frame(WINDOW_UPDATE, payload=(2**31 - 1 - 65_535).to_bytes(4, "big"))
DIRECT = host(Route("direct", RouteMatch(), DirectResponse(200, b"x" * 4000)))


def connections(gateway):
    return [each for each in gateway.engine.runtime.connections if hasattr(each, "streams")]


async def flood(stream, count):
    """Requests, and not one answer read. Returns how many could be sent before nothing moved any more."""
    sent = 0
    with trio.move_on_after(1) as scope:
        while sent < count:
            await stream.send_all(b"".join(head(2 * (sent + number) + 1, GET) for number in range(50)))
            sent += 50
            scope.deadline = trio.current_time() + 0.5
    return sent


@pytest.mark.slow
async def test_a_client_that_reads_nothing_is_read_no_more():
    async with running(DIRECT) as gateway:
        stream = await gateway.connect()
        await stream.send_all(PREFACE + WIDE)
        assert await flood(stream, 20_000) < 20_000
        (connection,) = connections(gateway)
        assert connection.draining
        assert connection.codec.queued < 2000
        said = bytearray()
        with trio.move_on_after(2) as scope:  # and goes on once he does
            while True:
                said += await stream.receive_some(1 << 20)
                scope.deadline = trio.current_time() + 0.3
        answered = [sid for kind, _, sid, _ in frames_of(bytes(said)) if kind == HEADERS]
        assert len(answered) > 1000
        assert sum(len(data) for kind, _, _, data in frames_of(bytes(said)) if kind == DATA) == 4000 * len(answered)
        await stream.aclose()


async def test_what_drains_a_connection_ends_with_it():
    async with running(DIRECT) as gateway:
        stream = await gateway.connect()
        await stream.send_all(PREFACE + WIDE)
        sent = 0
        while not connections(gateway) or not connections(gateway)[0].draining:
            await stream.send_all(b"".join(head(2 * (sent + number) + 1, GET) for number in range(50)))
            sent += 50
            await trio.testing.wait_all_tasks_blocked(0.002)
        await stream.send_eof()
        with trio.fail_after(10):
            while gateway.engine.statistics().downstream_connections or gateway.engine.reactor.strands:
                await trio.testing.wait_all_tasks_blocked(0.005)
        await stream.aclose()


async def test_a_connection_whose_streams_were_all_reset_may_not_idle_for_ever():
    async def hang(stream, data):
        await stream.receive_some()
        return False

    workload = Workload(hang)
    async with running(workloads=[workload]) as gateway, Client.to(gateway.port) as client:
        talk = await client.start()
        while not workload.requests:
            await trio.testing.wait_all_tasks_blocked(0.005)
        (connection,) = connections(gateway)
        assert connection.strand.deadline == NEVER
        await client.reset(talk)
        while connection.streams:
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert connection.strand.deadline < NEVER


async def test_half_a_head_is_not_waited_for_as_long_as_a_request():
    async with running(workloads=[Workload(OK)]) as gateway:
        stream = await gateway.connect()
        await stream.send_all(PREFACE + settings())
        while not connections(gateway) or not connections(gateway)[0].codec.settled:
            await trio.testing.wait_all_tasks_blocked(0.005)
        (connection,) = connections(gateway)
        reactor = gateway.engine.reactor
        assert connection.strand.deadline > reactor.clock() + 1000
        whole = head(1, GET)
        await stream.send_all(whole[:20])
        while not connection.codec.midway:
            await trio.testing.wait_all_tasks_blocked(0.005)
        began = connection.strand.deadline
        assert began < reactor.clock() + 61
        await stream.send_all(whole[20:21])  # dribbling does not move it
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert connection.strand.deadline == began
        connection.strand.until(reactor.clock())
        assert GOAWAY in {kind for kind, _, _, _ in frames_of(await read_all(stream))}
        await stream.aclose()
