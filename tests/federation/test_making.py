"""Computing in slices, and the Node that a gateway is."""

from __future__ import annotations

from collections.abc import Generator

import trio
from compiling import NODE, resources_of

from federation.making import SLICE, node_of, sliced


async def test_others_have_a_turn_between_slices_and_not_more_often() -> None:
    now, turns = 0.0, 0

    def steps() -> Generator[None, None, str]:
        nonlocal now
        for _ in range(100):
            now += SLICE / 3.9  # four steps are a slice
            yield
        return "done"

    async def other() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert await sliced(steps(), clock=lambda: now) == "done"
        nursery.cancel_scope.cancel()
    assert 22 <= turns <= 28  # trio shuffles who goes first


async def test_cancelled_between_slices_the_rest_is_not_taken() -> None:
    taken = 0

    def steps() -> Generator[None, None, None]:
        nonlocal taken
        for _ in range(10):
            taken += 1
            yield

    with trio.CancelScope() as scope:
        scope.cancel()
        await sliced(steps(), clock=iter(range(100)).__next__)
    assert scope.cancelled_caught
    assert taken == 1


def test_the_node_is_the_one_of_the_name_and_keeps_what_cannot_change() -> None:
    running = resources_of(NODE % "fedgate")[0].nodes[0]
    moved = resources_of((NODE % "istio").replace("r1/z1", "r9/z9"))[0]
    node, problems = node_of(moved, running)
    assert (node.spec.locality.region, problems) == ("r9", ())
    other = resources_of((NODE % "fedgate").replace("trustDomain: east", "trustDomain: north"))[0]
    node, problems = node_of(other, running)
    assert node is running
    assert [each.reason for each in problems] == ["NeedsRestart"]
    assert node_of(resources_of("# nothing")[0], running) == (running, ())
