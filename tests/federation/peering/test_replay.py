"""The client hello that was read before, in front of what comes."""

import trio
import trio.testing

from federation.peering.replay import ReplayStream


async def test_first_what_was_read_then_what_comes():
    ours, theirs = trio.testing.memory_stream_pair()
    stream = ReplayStream(b"hello", ours)
    await theirs.send_all(b" world")
    assert [await stream.receive_some(3), await stream.receive_some(3), await stream.receive_some(99)] == [b"hel", b"lo", b" world"]
    await stream.send_all(b"back")
    assert await theirs.receive_some() == b"back"
    await stream.aclose()
    assert await theirs.receive_some() == b""


async def test_a_cancelled_read_keeps_the_first_bytes():
    ours, _ = trio.testing.memory_stream_pair()
    stream = ReplayStream(b"hello", ours)
    with trio.CancelScope() as scope:
        scope.cancel()
        await stream.receive_some()
    assert scope.cancelled_caught
    assert await stream.receive_some() == b"hello"
