"""Strands, handlers and timers, turned by hand under a clock that a test moves."""

import socket

import pytest
import structlog
import trio

from gateway.native.reactor import NEVER, DeadlineExceeded, Reactor, suspend


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def reactor(clock):
    reactor = Reactor(clock)
    yield reactor
    reactor.close()


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    a.setblocking(False)
    b.setblocking(False)
    with a, b:
        yield a, b


def test_a_strand_waits_for_input_and_goes_on(reactor, pair):
    a, b = pair
    seen = []

    async def read(strand):
        reactor.register(a.fileno(), strand.wake)
        for _ in range(2):
            await suspend()
            seen.append(a.recv(10))
        reactor.unregister(a.fileno())

    strand = reactor.spawn(read)
    assert reactor.turn() == 0
    for data in (b"one", b"two"):
        b.send(data)
        reactor.turn()
    assert seen == [b"one", b"two"]
    assert strand.finished
    b.send(b"three")
    assert reactor.turn() == 0


def test_a_deadline_is_exact_and_may_move_both_ways(reactor, clock):
    expired = []

    async def wait(strand):
        strand.until(clock.now + 10)
        strand.until(clock.now + 1)
        strand.until(clock.now + 5)
        try:
            await suspend()
        except DeadlineExceeded:
            expired.append(clock.now)

    reactor.spawn(wait)
    for step in range(1, 60):
        clock.now = 100 + step / 10
        reactor.turn()
    assert expired == [105.0]


def test_a_deadline_that_is_taken_away_does_not_fire(reactor, clock):
    async def wait(strand):
        strand.until(clock.now + 1)
        strand.until(NEVER)
        await suspend()

    strand = reactor.spawn(wait)
    clock.now += 1000
    reactor.turn()
    assert not strand.finished


def test_many_deadlines_do_not_pile_up_in_the_heap(reactor, clock):
    async def wait(strand):
        while True:
            await suspend()

    strand = reactor.spawn(wait)
    for _ in range(10_000):
        strand.until(clock.now + 15)
        clock.now += 0.1
        strand.until(clock.now + 3600)
        reactor.turn()
    assert len(reactor._heap) <= 5


def test_timers_fire_once_and_can_be_cancelled(reactor, clock):
    fired = []
    reactor.call_later(2, lambda: fired.append("two"))
    reactor.call_later(1, lambda: fired.append("one"))
    reactor.call_later(1.5, lambda: fired.append("never")).cancel()
    for _ in range(5):
        clock.now += 1
        reactor.turn()
    assert fired == ["one", "two"]


def test_soon_runs_after_the_strands_of_a_turn(reactor, pair):
    a, b = pair
    order = []

    async def read(strand):
        reactor.register(a.fileno(), strand.wake)
        await suspend()
        reactor.soon(lambda: order.append("soon"))
        order.append("strand")
        reactor.unregister(a.fileno())

    reactor.spawn(read)
    b.send(b"x")
    reactor.turn()
    assert order == ["strand", "soon"]


def test_a_strand_that_crashes_is_logged_and_others_go_on(reactor, pair):
    a, b = pair

    async def crash(strand):
        reactor.register(a.fileno(), strand.wake)
        try:
            await suspend()
            raise RuntimeError("ours")
        finally:
            reactor.unregister(a.fileno())

    strand = reactor.spawn(crash)
    b.send(b"x")
    with structlog.testing.capture_logs() as logs:
        reactor.turn()
    assert strand.finished
    assert [log["event"] for log in logs] == ["strand.crashed"]


def test_cancelling_runs_what_a_strand_has_to_clean_up(reactor):
    cleaned = []

    async def wait(strand):
        try:
            await suspend()
        finally:
            cleaned.append(True)

    strand = reactor.spawn(wait)
    strand.cancel()
    strand.cancel()
    strand.throw(RuntimeError())
    assert cleaned == [True]
    assert not reactor.strands


def test_an_error_thrown_in_is_raised_at_the_wait(reactor):
    class Told(Exception):
        pass

    seen = []

    async def wait(strand):
        try:
            await suspend()
        except Told:
            seen.append("told")
        await suspend()

    strand = reactor.spawn(wait)
    strand.throw(Told())
    assert seen == ["told"]
    assert not strand.finished
    strand.throw(Told())
    assert strand.finished


async def test_under_trio_it_wakes_for_events_timers_and_soon():
    reactor = Reactor()
    done = trio.Event()
    a, b = socket.socketpair()
    a.setblocking(False)
    with a, b:

        async def read(strand):
            reactor.register(a.fileno(), strand.wake)
            await suspend()
            reactor.unregister(a.fileno())
            reactor.call_later(0.01, lambda: reactor.soon(done.set))

        async with trio.open_nursery() as nursery:
            await nursery.start(reactor.run)
            reactor.spawn(read)
            b.send(b"x")
            with trio.fail_after(5):
                await done.wait()
            nursery.cancel_scope.cancel()
    assert not reactor.strands


def test_strands_that_finished_leave_no_entries_behind():
    """A short connection with a deadline an hour away must not be remembered for it."""
    reactor = Reactor()

    async def short(strand):
        strand.until(reactor.now + 30.0)

    for _ in range(10_000):
        reactor.spawn(short)
    assert len(reactor._heap) < 3000
    late = []
    reactor.call_at(reactor.now, lambda: late.append(True))
    reactor.turn()
    assert late == [True]
    reactor.close()
