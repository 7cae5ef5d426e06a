"""Messages over socket pairs: borders, descriptors, ends, and what does not belong."""

import collections
import functools
import itertools
import os
import socket

import pytest
import trio
import trio.testing

from appliance.channel import Closed, Descriptors, Frames, Packets, encode, packet_pair, receive_packet, send_packet, stream_pair
from appliance.messages import Collect, FromControlToWorker, Keys, Leave, SetLogLevel, SnapshotDelta, Take, ToWorker
from gateway.snapshot import Delta, Node

consume = functools.partial(collections.deque, maxlen=0)


def packets():
    left, right = packet_pair()
    return Packets(left, object), Packets(right, ToWorker)


async def test_a_packet_carries_its_message_and_its_descriptors():
    ours, theirs = packets()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await ours.send(Take("127.0.0.1:80"), [listener.fileno(), listener.fileno()])
        message, descriptors = await theirs.receive()
        with descriptors:
            assert message == Take("127.0.0.1:80")
            assert len(descriptors) == 2
            with descriptors.socket() as first:
                assert first.getsockname() == listener.getsockname()
                assert not first.getblocking()
    ours.close()
    theirs.close()


async def test_descriptors_that_nobody_took_are_closed():
    read, write = os.pipe()
    with Descriptors([read]):
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)


async def test_a_message_without_its_descriptor_is_a_broken_conversation():
    with Descriptors() as none, pytest.raises(Closed, match="without the descriptor"):
        none.take()


async def test_the_end_of_a_conversation_is_closed_on_both_sides():
    ours, theirs = packets()
    ours.close()
    with pytest.raises(Closed):
        await theirs.receive()
    with pytest.raises(Closed, match="Leave"):
        await theirs.send(Leave("x"))
    theirs.close()


async def test_a_packet_of_another_conversation_is_refused():
    ours, theirs = packets()
    await ours.send(Collect(1))
    with pytest.raises(Closed, match="does not belong"):
        await theirs.receive()
    ours.close()
    theirs.close()


async def test_a_sender_waits_for_a_slow_reader():
    ours, theirs = packets()
    count = 5000
    async with trio.open_nursery() as nursery:

        async def send():
            for number in range(count):
                await ours.send(Leave(str(number)))

        nursery.start_soon(send)
        for number in range(count):
            message, _ = await theirs.receive()
            assert message == Leave(str(number))
    ours.close()
    theirs.close()


def test_a_packet_never_blocks_and_never_outgrows_its_limit():
    left, right = packet_pair()
    with left, right:
        with pytest.raises(BlockingIOError):
            receive_packet(right)
        with pytest.raises(ValueError, match="over the limit"):
            send_packet(left, b"x" * 200_000)
        with pytest.raises(BlockingIOError):
            consume(send_packet(left, b"x" * 1000) for _ in itertools.count())


def frames():
    left, right = stream_pair()
    return Frames.over(left, FromControlToWorker), Frames.over(right, FromControlToWorker)


async def test_frames_of_any_size_arrive_whole_and_in_order():
    ours, theirs = frames()
    messages = [
        Collect(1),
        Keys({"d": b"k" * 1_000_000}),
        SnapshotDelta(Delta("", "v", set=(Node("n", "c"),))),
        SetLogLevel("info"),
    ]
    async with trio.open_nursery() as nursery:

        async def send():
            for message in messages:
                await ours.send(message)

        nursery.start_soon(send)
        assert [await theirs.receive() for _ in messages] == messages
    await ours.aclose()
    with pytest.raises(Closed):
        await theirs.receive()
    await theirs.aclose()


async def test_frames_arrive_whole_however_they_are_cut():
    ours, theirs = trio.testing.memory_stream_pair()
    reader = Frames(theirs, FromControlToWorker)
    data = encode(Collect(7))
    whole = (len(data).to_bytes(4, "big") + data) * 3
    async with trio.open_nursery() as nursery:

        async def send():
            for byte in whole:
                await ours.send_all(bytes([byte]))

        nursery.start_soon(send)
        assert [await reader.receive() for _ in range(3)] == [Collect(7)] * 3


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\xff\xff\xff\xff", "over the limit"),
        (b"\0\0\0\1\xc1", "does not belong"),
        (b"\0\0\0", "closed the conversation"),
    ],
)
async def test_a_broken_stream_is_closed(data, says):
    ours, theirs = trio.testing.memory_stream_pair()
    await ours.send_all(data)
    await ours.aclose()
    with pytest.raises(Closed, match=says):
        await Frames(theirs, FromControlToWorker).receive()


def test_keys_do_not_print_themselves():
    assert "hidden" not in repr(Keys({"digest": b"hidden"}))
