"""One slot, the latest wins."""

from __future__ import annotations

import trio
import trio.testing

from discovery.watch import Watchable


async def test_a_reader_waits_for_something_newer_and_skips_what_it_missed() -> None:
    slot = Watchable(0)
    got: list[int] = []

    async def read() -> None:
        seen = -1
        while not got or got[-1] != 3:
            seen, value = await slot.newer_than(seen)
            got.append(value)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            slot.set(1)
            slot.set(2)
            await trio.testing.wait_all_tasks_blocked()
            slot.set(3)
    assert got == [0, 2, 3]


async def test_setting_the_same_object_wakes_nobody() -> None:
    value = ("x",)
    slot = Watchable(value)
    slot.set(value)
    assert slot.version == 0


async def test_a_cancelled_wait_leaves_the_slot_usable() -> None:
    slot = Watchable(0)
    with trio.move_on_after(0):
        await slot.newer_than(0)
    slot.set(1)
    assert await slot.newer_than(0) == (1, 1)
