"""limits: a gate, the line for a connection, a backend's rate limits; the last between real processes."""

import os
import subprocess
import sys

import pytest

from gateway.native.limits import Gate, Limiter, Line, Place
from gateway.native.reactor import DeadlineExceeded, Reactor
from gateway.native.shared import Shared
from gateway.snapshot import RateLimit


class Head:
    def __init__(self, method=b"GET", path=b"/", **headers):
        self.method, self.path = method, path
        self.headers = {name.replace("_", "-").encode(): [value] for name, value in headers.items()}

    def values(self, name):
        return self.headers.get(name, [])


@pytest.fixture
def memory():
    shared = Shared.create(2)
    yield shared
    shared.close()
    os.close(shared.fd)


# ----------------------------------------------------------------------------------------------------------- a gate


def test_a_gate_of_one_process():
    gate = Gate(None, "b", "pending", 1)
    assert not gate.full()  # no limit
    gate.limit = 2
    assert not gate.full()
    gate.add(1)
    assert gate.full()
    assert repr(gate) == "<Gate 2 of 2>"
    gate.close()


def test_a_gate_begins_with_what_its_worker_has(memory):
    one, other = (Gate(Shared.attach(memory.fd, worker), "b", "pending", 2) for worker in (0, 1))
    assert (one.total(), other.total()) == (4, 4)
    other.close()
    assert one.total() == 2


# ----------------------------------------------------------------------------------------------------------- the line


class Connection:
    closed = False

    def close(self):
        self.closed = True


class Queue:
    """Strands that wait in one line, and what each got."""

    def __init__(self, reactor, number):
        self.reactor = reactor
        self.line = Line(reactor)
        self.got = []
        self.strands = [reactor.spawn(self.wait, index) for index in range(number)]

    async def wait(self, strand, index):
        try:
            self.got.append((index, await self.line.wait(Place(strand))))
        except DeadlineExceeded:
            self.got.append((index, "late"))


@pytest.fixture
def reactor():
    made = Reactor()
    yield made
    made.close()


def test_first_come_first_served_at_the_end_of_the_turn(reactor):
    queue = Queue(reactor, 3)
    connection = Connection()
    assert queue.line.offer(connection)
    assert queue.got == []  # never inside the one who gives
    queue.line.freed()
    reactor.run_timers()
    assert queue.got == [(0, connection), (1, None)]
    assert len(queue.line) == 1


def test_nobody_waits(reactor):
    line = Line(reactor)
    assert not line.offer(Connection())
    line.freed()
    assert repr(line) == "<Line of 0>"


def test_who_is_cancelled_or_late_leaves_the_line(reactor):
    queue = Queue(reactor, 3)
    queue.strands[0].cancel()
    queue.strands[1].until(reactor.now)
    reactor.now += 1.0
    reactor.run_timers()
    assert queue.got == [(1, "late")]
    connection = Connection()
    queue.line.offer(connection)
    reactor.run_timers()
    assert queue.got[1:] == [(2, connection)]


def test_who_finds_nothing_keeps_his_place(reactor):
    """First come, first served, also when somebody else was faster."""
    line, got = Line(reactor), []

    async def wait(strand, index):
        place = Place(strand)
        while await line.wait(place) is None:
            got.append(index)

    for index in range(3):
        reactor.spawn(wait, index)
    line.freed()
    line.freed()
    reactor.run_timers()
    assert got == [0, 1]
    assert len(line) == 3
    for _ in range(3):
        connection = Connection()
        line.offer(connection)
        line.freed()
        reactor.run_timers()
    assert got == [0, 1, 1, 2]
    assert len(line) == 0


def test_room_on_a_shared_connection_is_for_the_first_who_can_use_it(reactor):
    line, got = Line(reactor), []

    async def wait(strand, index):
        await line.wait(Place(strand, shares=index > 0))
        got.append(index)

    line.room()
    for index in range(3):
        reactor.spawn(wait, index)
    assert not line.first_shares
    line.room()
    reactor.run_timers()
    assert got == [1]
    line.freed()
    reactor.run_timers()
    assert got == [1, 0]
    assert line.first_shares


def test_a_connection_given_to_one_who_was_cancelled_goes_to_the_next_or_is_closed(reactor):
    queue = Queue(reactor, 2)
    connection = Connection()
    queue.line.offer(connection)
    queue.strands[0].cancel()
    reactor.run_timers()
    assert queue.got == [(1, connection)]
    queue = Queue(reactor, 1)
    queue.line.offer(connection)
    queue.strands[0].cancel()
    reactor.run_timers()
    assert connection.closed


def test_a_place_given_to_one_who_was_cancelled_goes_to_the_next(reactor):
    queue = Queue(reactor, 2)
    queue.line.freed()
    queue.strands[0].cancel()
    reactor.run_timers()
    assert queue.got == [(1, None)]


# -------------------------------------------------------------------------------------------------------- rate limits


def limiters(memory, *limits):
    return [Limiter(limits, Shared.attach(memory.fd, worker), "b") for worker in (0, 1)]


def test_two_workers_have_one_bucket_and_every_client_its_own(memory):
    limit = RateLimit(3, 60_000, by=(("source", ""),))
    one, other = limiters(memory, limit)
    assert [each.refuses(Head(), "192.0.2.1", "", 1.0) for each in (one, other, one)] == [None] * 3
    assert one.refuses(Head(), "192.0.2.1", "", 1.0) is limit
    assert other.refuses(Head(), "192.0.2.1", "", 1.0) is limit
    assert other.refuses(Head(), "192.0.2.2", "", 1.0) is None
    assert other.refuses(Head(), "192.0.2.1", "", 22.0) is None  # a token every 20 seconds


def test_every_limit_must_have_a_token_and_none_is_taken_in_vain(memory):
    each, everyone = RateLimit(1, 60_000, by=(("header", "x-key"),), name="each"), RateLimit(3, 60_000, name="everyone")
    limiter, _ = limiters(memory, everyone, each)
    assert limiter.refuses(Head(x_key=b"a"), "", "", 1.0) is None
    for _ in range(5):
        assert limiter.refuses(Head(x_key=b"a"), "", "", 1.0) is each
    assert limiter.refuses(Head(x_key=b"b"), "", "", 1.0) is None
    assert limiter.refuses(Head(), "", "", 1.0) is None  # has no key: only the other limit is about it
    assert limiter.refuses(Head(x_key=b"c"), "", "", 1.0) is everyone


def test_backends_and_limits_of_other_numbers_have_buckets_of_their_own(memory):
    view = Shared.attach(memory.fd, 0)
    for backend, limit in (("b", RateLimit(1)), ("c", RateLimit(1)), ("b", RateLimit(1, 2000))):
        assert Limiter((limit,), view, backend).refuses(Head(), "", "", 1.0) is None
    assert Limiter((RateLimit(1),), view, "b").refuses(Head(), "", "", 1.0) is not None


def test_claims_that_somebody_verified_tell_requests_apart(memory):
    limiter, _ = limiters(memory, RateLimit(1, 60_000, by=(("claim", "tenant.id"),)))
    assert limiter.refuses(Head(), "", "", 1.0, {"tenant.id": "a"}) is None
    assert limiter.refuses(Head(), "", "", 1.0, {"tenant.id": "a"}) is not None
    assert limiter.refuses(Head(), "", "", 1.0, {"tenant.id": "b"}) is None
    assert limiter.refuses(Head(), "", "", 1.0) is None
    assert "1/60000 ms" in repr(limiter)


CHILD = """
import sys, time
from gateway.native.limits import Limiter
from gateway.native.shared import Shared
from gateway.snapshot import RateLimit

class Head:
    method, path = b"GET", b"/"
    def values(self, name):
        return []

fd, worker, tokens, burst, seconds = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
limiter = Limiter((RateLimit(tokens, 1000, burst),), Shared.attach(fd, worker), "b")
print("ready", flush=True)
sys.stdin.readline()
passed = 0
begin = now = time.monotonic()
while now < begin + seconds:
    passed += limiter.refuses(Head(), "", "", now) is None
    now = time.monotonic()
print(passed, begin, now, flush=True)
"""


@pytest.mark.slow
def test_two_processes_that_ask_as_fast_as_they_can_get_what_one_bucket_has(memory):
    tokens, burst, seconds = 500, 100, 1.0
    arguments = [str(each) for each in (tokens, burst, seconds)]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(memory.fd), str(worker), *arguments],
            pass_fds=[memory.fd],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for worker in (0, 1)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    said = [child.communicate(timeout=20)[0].split() for child in children]
    passed = sum(int(each[0]) for each in said)
    took = max(float(each[2]) for each in said) - min(float(each[1]) for each in said)
    allowed = burst + tokens * took
    # Each time a token comes both may see it: one request a worker too many at any moment, but paid for by the next.
    assert allowed * 0.9 < passed <= allowed + len(children)
