"""Splices between socket pairs: exact counts, ends, back-pressure, and no pipe is lost."""

import contextlib
import os
import socket

import pytest

from gateway.native import splice
from gateway.native.reactor import DeadlineExceeded, Reactor
from gateway.native.splice import PIPES, Pipes, SourceEnded, splice_exact
from gateway.native.stream import Stream


@pytest.fixture
def reactor():
    splice.PIPES.close()
    reactor = Reactor()
    yield reactor
    reactor.close()
    splice.PIPES.close()


@pytest.fixture
def ends():
    """source's far end, source, target, target's far end."""
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    for each in (a, b, c, d):
        each.setblocking(False)
    with a, b, c, d:
        yield a, b, c, d


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def run(reactor, ends, count, feed, *, end=True, stall=0.0, turns=4000):
    """Feed the source, read the target; what came, what was raised."""
    far, source, target, sink = ends
    got, raised = bytearray(), []

    async def move(strand):
        a, b = Stream(reactor, source, strand.wake), Stream(reactor, target, lambda events: None)
        try:
            await splice_exact(strand, a, b, count, stall=stall)
        except (OSError, DeadlineExceeded) as error:
            raised.append(error)
        else:
            if a.paused:
                raised.append("paused")
        reactor.unregister(a.fd)
        reactor.unregister(b.fd)

    strand = reactor.spawn(move)
    fed = 0
    for _ in range(turns):
        if fed < len(feed):
            with contextlib.suppress(BlockingIOError):
                fed += far.send(feed[fed : fed + 200_000])
            if fed == len(feed) and end:
                far.shutdown(socket.SHUT_WR)
        reactor.turn()
        try:
            got += sink.recv(100_000)
        except BlockingIOError:
            if strand.finished:
                break
    return bytes(got), raised


@pytest.mark.parametrize("pipes", [True, False])
@pytest.mark.parametrize("count", [0, 1, 300_000, 5_000_000])
def test_exactly_so_many_bytes_and_not_one_more(reactor, ends, count, pipes, monkeypatch):
    monkeypatch.setattr(splice.PIPES, "most", splice.MOST if pipes else 0)
    data = os.urandom(count + 10)
    got, raised = run(reactor, ends, count, data)
    assert got == data[:count]
    assert raised == []
    assert ends[1].recv(100) == data[count:]


@pytest.mark.parametrize("pipes", [True, False])
def test_a_source_that_ends_early_is_told_apart(reactor, ends, pipes, monkeypatch):
    monkeypatch.setattr(splice.PIPES, "most", splice.MOST if pipes else 0)
    got, raised = run(reactor, ends, 1_000_000, b"x" * 400_000)
    assert len(got) <= 400_000
    assert [type(each) for each in raised] == [SourceEnded]


def test_a_target_that_is_gone_is_an_error_of_another_kind(reactor, ends):
    ends[3].close()
    ends[0].send(b"x" * 1000)

    async def move(strand):
        a, b = Stream(reactor, ends[1], strand.wake), Stream(reactor, ends[2], lambda events: None)
        with pytest.raises(BrokenPipeError):
            await splice_exact(strand, a, b, 1000)
        moved.append(True)

    moved = []
    reactor.spawn(move)
    reactor.turn()
    assert moved


def test_stalling_is_bounded(ends):
    now = [0.0]
    reactor = Reactor(lambda: now[0])
    raised = []

    async def move(strand):
        a, b = Stream(reactor, ends[1], strand.wake), Stream(reactor, ends[2], lambda events: None)
        strand.until(5.0)
        try:
            await splice_exact(strand, a, b, 1000, stall=5.0)
        except DeadlineExceeded as error:
            raised.append(error)

    reactor.spawn(move)
    now[0] = 4.0
    ends[0].send(b"x")
    reactor.turn()
    now[0] = 8.0
    reactor.turn()
    assert raised == []
    now[0] = 9.1
    reactor.turn()
    assert raised
    reactor.close()


def test_pipes_are_kept_and_dirty_ones_are_not(reactor, ends):
    before = descriptors()
    pipe = PIPES.take()
    PIPES.give(pipe)
    assert PIPES.take() is pipe
    ends[0].send(b"left over")
    assert pipe.fill(ends[1].fileno(), 100) == 9
    PIPES.give(pipe)
    other = PIPES.take()
    assert other is not pipe
    PIPES.give(other)
    splice.PIPES.close()
    assert descriptors() == before


def test_there_are_no_more_pipes_than_allowed_and_dirty_ones_make_room(ends):
    pipes = Pipes(2)
    one, two = pipes.take(), pipes.take()
    assert pipes.take() is None
    ends[0].send(b"left over")
    one.fill(ends[1].fileno(), 100)
    pipes.give(one)
    assert pipes.made == 1
    three = pipes.take()
    pipes.give(two)
    pipes.give(three)
    pipes.close()
    assert pipes.made == 0


def test_where_sockets_cannot_be_spliced_there_are_no_pipes(ends):
    pipes = Pipes(2)
    pipe, other = pipes.take(), pipes.take()
    pipes.give(other)
    assert not pipes.refuse(ConnectionResetError(104, "reset"), pipe)
    assert pipes.refuse(OSError(22, "invalid"), pipe)
    pipes.give(pipe)
    assert pipes.take() is None
    assert pipes.made == 0
