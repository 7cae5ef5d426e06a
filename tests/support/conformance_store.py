"""What every federation.store.SharedStore promises. `key` must be one that is not there."""

from __future__ import annotations

import trio
import trio.testing


async def check_store(store, key="conformance/a"):
    """Get, check-and-set, waiting, by two writers."""
    other = f"{key}.b"
    absent = await store.get(key)
    assert (absent.value, absent.index) == (b"", 0)
    assert not await store.put_if(key, b"late", 7), "an index that never was is accepted"
    assert await store.put_if(key, b"one", 0)
    assert not await store.put_if(key, b"two", 0), "a key that is there was made again"
    one = await store.get(key)
    assert one.value == b"one"
    assert one.index > 0
    assert await store.wait_changed(key, 0) == one
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            seen = []

            async def wait():
                seen.append(await store.wait_changed(key, one.index))

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await store.put_if(other, b"elsewhere", 0)
            assert await store.put_if(key, b"two", one.index)
    two = await store.get(key)
    assert seen == [two]
    assert two.value == b"two"
    assert two.index > one.index
    assert not await store.put_if(key, b"three", one.index), "a stale index is accepted"
    assert (await store.get(other)).value == b"elsewhere"
    with trio.move_on_after(0.05) as scope:
        await store.wait_changed(key, two.index)
    assert scope.cancelled_caught
