"""The Engine made of workers: one voice out of several, and what a worker's or control's death leaves."""

import contextlib
import itertools
import os
import socket

import pytest
import trio
import trio.testing
from conformance_engine import Running, check_engine, plain_snapshot
from gateway_processes import InLoop, in_loop, join, real
from recording import RecordingEngine

from appliance.messages import Wanted
from appliance.workers import wanted_sockets
from discovery.watch import Watchable
from gateway.engine import Applied, Ejected, PriorityMoved
from gateway.native.shared import Shared
from gateway.secret import Secret
from gateway.snapshot import Listener, ListenerKind
from gateway.verdicts import Verdicts


@contextlib.asynccontextmanager
async def workers_in_loop():
    async with in_loop(2) as (workers, _):
        yield workers


@contextlib.asynccontextmanager
async def real_workers():
    async with real(2) as (workers, _):
        yield workers


@contextlib.asynccontextmanager
async def recording():
    yield RecordingEngine()


async def test_the_recording_engine_conforms():
    await check_engine(recording)


async def test_workers_conform():
    await check_engine(workers_in_loop)


@pytest.mark.slow
async def test_worker_processes_conform():
    await check_engine(real_workers)


@contextlib.asynccontextmanager
async def running(count=2, **options):
    """Workers that run plain_snapshot(1), as (Running, [InLoop])."""
    async with in_loop(count, **options) as (workers, ends), trio.open_nursery() as nursery:
        said, heard = trio.open_memory_channel(100)
        slots = Watchable(plain_snapshot(1)), Watchable(Verdicts()), Watchable({})
        await nursery.start(workers.run, *slots, said)
        engine = Running(workers, *slots, heard)
        await engine.applied(plain_snapshot(1).version)
        yield engine, ends
        nursery.cancel_scope.cancel()


async def next_report(engine):
    with trio.fail_after(5):
        return await engine.heard.receive()


async def test_every_worker_gets_the_same_snapshot_verdicts_and_keys():
    async with running() as (engine, ends):
        key = Secret(b"private")
        engine.secrets.set({key.digest: key})
        engine.snapshots.set(plain_snapshot(2))
        await engine.applied(plain_snapshot(2).version)
        for end in ends:
            version, _, secrets = end.engine.given[-1]
            assert version == plain_snapshot(2).version
            assert secrets == {key.digest: key}, "keys come before the Snapshot that names them"


async def test_applied_is_said_once_and_only_when_all_have_it():
    async with running() as (engine, ends):
        await ends[0].engine.say(Applied("other"))
        await ends[1].engine.say(Ejected("b", "e", "silence", 5))
        assert await next_report(engine) == Ejected("b", "e", "silence", 5), "one of two does not make it applied"
        await ends[1].engine.say(Applied("other", ("bad certificate",)))
        assert await next_report(engine) == Applied("other", ("bad certificate",))


async def test_a_move_that_all_workers_see_is_told_once():
    async with running() as (engine, ends):
        for end in ends:
            await end.engine.say(PriorityMoved("b", (100, 0), (0, 100)))
        for end in ends:
            await end.engine.say(PriorityMoved("b", (0, 100), (100, 0)))
        moves = []
        while len(moves) < 2:
            moves.append(await next_report(engine))
        await ends[0].engine.say(Ejected("b", "e", "silence", 5))
        last = await next_report(engine)
        # The two workers' words may come in any order, but the last state is told and nothing is repeated in a row.
        assert all(first.after != second.after for first, second in itertools.pairwise(moves))
        assert isinstance(last, PriorityMoved | Ejected)


async def test_counters_are_summed_and_survive_a_dead_worker():
    async with running() as (engine, ends):
        ends[0].engine.count(10)
        ends[1].engine.count(5)
        await engine.engine.collect()
        assert engine.engine.statistics().requests[0].count == 15
        ends[1].kill()
        await ends[1].ended.wait()
        ends[0].engine.count(11)
        await engine.engine.collect()
        assert engine.engine.statistics().requests[0].count == 16
        up = {status.worker: status.up for status in engine.engine.workers()}
        assert up == {0: True, 1: False}


async def test_a_successor_gets_the_whole_and_the_rest_serve_on():
    async with running() as (engine, ends), trio.open_nursery() as nursery:
        ends[1].kill()
        await ends[1].ended.wait()
        shared = Shared.create(2)
        successor = InLoop(nursery, 1, shared)
        join(engine.engine, 1, successor.tell, pid=2, restarts=1)
        engine.snapshots.set(plain_snapshot(2))
        await engine.applied(plain_snapshot(2).version)
        assert successor.engine.running == plain_snapshot(2)
        assert [status.restarts for status in engine.engine.workers()] == [0, 1]
        nursery.cancel_scope.cancel()


async def test_last_words_of_a_drained_worker_are_counted():
    async with running(1) as (engine, ends):
        ends[0].engine.count(7)
        with trio.fail_after(5):
            await engine.engine.drain(trio.current_time() + 20)
        assert engine.engine.statistics().requests[0].count == 7


async def test_a_worker_serves_on_when_control_is_gone_and_takes_the_next():
    async with in_loop(1) as (workers, ends), trio.open_nursery() as nursery:
        said, heard = trio.open_memory_channel(100)
        slots = Watchable(plain_snapshot(1)), Watchable(Verdicts()), Watchable({})
        with trio.CancelScope() as first_control:
            async with trio.open_nursery() as control:
                await control.start(workers.run, *slots, said)
                first_control.cancel()
        async with in_loop(0) as (other, _):
            join(other, 0, ends[0].tell)
            await nursery.start(other.run, *slots, said)
            engine = Running(other, *slots, heard)
            await engine.applied(plain_snapshot(1).version)
            assert len(ends[0].engine.given) == 1, "an equal Snapshot changes nothing"
            slots[0].set(plain_snapshot(2))
            await engine.applied(plain_snapshot(2).version)
            nursery.cancel_scope.cancel()


async def test_what_was_restored_is_for_workers_that_have_nothing():
    """The state directory may be a second older than what a worker runs when control dies."""
    async with in_loop(2, joined=False) as (first, ends), trio.open_nursery() as nursery:
        said, heard = trio.open_memory_channel(100)
        slots = Watchable(plain_snapshot(2)), Watchable(Verdicts()), Watchable({Secret(b"2").digest: Secret(b"2")})
        with trio.CancelScope() as first_control:
            async with trio.open_nursery() as control:
                join(first, 0, ends[0].tell)
                await control.start(first.run, *slots, said)
                first_control.cancel()
        old = plain_snapshot(1)
        async with in_loop(0) as (second, _):
            second.restored = old
            slots = Watchable(old), Watchable(Verdicts()), Watchable({Secret(b"1").digest: Secret(b"1")})
            for end in ends:
                join(second, end.number, end.tell)
            nursery.start_soon(second.run, *slots, said)
            while ends[1].engine is None or ends[1].engine.running is None:  # noqa: ASYNC110 (nobody hears its Applied)
                await trio.sleep(0.001)
            assert ends[1].engine.running == old
            assert ends[0].engine.running == plain_snapshot(2)
            assert set(ends[0].engine.secrets.value) == {Secret(b"2").digest}
            engine = Running(second, *slots, heard)
            slots[0].set(plain_snapshot(3))
            await engine.applied(plain_snapshot(3).version)
            assert Secret(b"1").digest in ends[0].engine.secrets.value
            nursery.cancel_scope.cancel()


async def test_a_worker_that_lost_its_place_asks_for_the_whole():
    async with running(1) as (engine, ends):
        feed = ends[0].worker._feed
        feed.snapshots.set(plain_snapshot(77))
        engine.snapshots.set(plain_snapshot(2))
        await engine.applied(plain_snapshot(2).version)
        assert ends[0].engine.running == plain_snapshot(2)


async def test_listeners_are_asked_for_when_they_change_and_faults_are_reported():
    asked = []
    listener = Listener("127.0.0.1", 80, ListenerKind.MESH)
    async with running(1, listen=asked.append) as (engine, _):
        engine.snapshots.set(plain_snapshot(2, parts=[listener]))
        await engine.applied(plain_snapshot(2, parts=[listener]).version)
        engine.snapshots.set(plain_snapshot(3, parts=[listener]))
        await engine.applied(plain_snapshot(3, parts=[listener]).version)
        assert asked == [(), (Wanted("127.0.0.1:80", "127.0.0.1", 80, ListenerKind.MESH),)]
        engine.engine.bound({"127.0.0.1:80": "in use"})
        report = await engine.applied(plain_snapshot(3, parts=[listener]).version, faults=True)
        assert report.faults == ("listener/127.0.0.1:80: in use",)


def test_admin_listeners_are_for_control():
    snapshot = plain_snapshot(
        1, parts=[Listener("127.0.0.1", 15000, ListenerKind.ADMIN), Listener("::1", 15021, ListenerKind.HEALTH)]
    )
    assert wanted_sockets(snapshot) == (
        Wanted("127.0.0.1:15000", "127.0.0.1", 15000, ListenerKind.ADMIN),
        Wanted("[::1]:15021", "::1", 15021, ListenerKind.HEALTH),
    )


def test_a_nameserver_listens_by_udp_too():
    snapshot = plain_snapshot(1, parts=[Listener("127.0.0.1", 53, ListenerKind.DNS)])
    assert wanted_sockets(snapshot) == (
        Wanted("127.0.0.1:53", "127.0.0.1", 53, ListenerKind.DNS),
        Wanted("udp:127.0.0.1:53", "127.0.0.1", 53, ListenerKind.DNS, datagrams=True),
    )


async def test_a_handed_off_connection_reaches_control_with_its_bytes():
    arrived, got = trio.open_memory_channel(1)
    async with running(1, handoff=lambda connection, hello: arrived.send_nowait((connection, hello))) as (_, ends):
        ours, theirs = socket.socketpair()
        with ours:
            ends[0].engine.place.handoff(theirs, b"client hello")
            with trio.fail_after(5):
                connection, hello = await got.receive()
            with connection:
                assert hello == b"client hello"
                connection.send(b"server hello")
                assert ours.recv(100) == b"server hello"
            assert theirs.fileno() == -1, "the worker's copy is closed"


async def test_a_hand_off_without_control_is_refused_and_the_connection_stays_the_engine_s():
    async with in_loop(1, joined=False) as (_, ends):
        await trio.testing.wait_all_tasks_blocked()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with pytest.raises(OSError, match="no control process"):
                ends[0].engine.place.handoff(theirs, b"x")
            assert theirs.fileno() >= 0


@pytest.mark.slow
async def test_a_stopped_worker_does_not_hold_up_a_reading():
    async with in_loop(0) as (workers, _), trio.open_nursery() as nursery:
        slots = Watchable(plain_snapshot(1)), Watchable(Verdicts()), Watchable({})
        said, _heard = trio.open_memory_channel(100)
        nursery.start_soon(workers.run, *slots, said)
        told = []
        join(workers, 0, lambda message, numbers: told.extend(os.dup(number) for number in numbers))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        await workers.collect()
        assert trio.current_time() - began == pytest.approx(1.0, abs=0.5)
        nursery.cancel_scope.cancel()
    for number in told:
        os.close(number)
