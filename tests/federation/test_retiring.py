"""What a round replaced is kept for a while and then let go of in slices."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from compiling import inputs_of

from discovery.model import Endpoint, Port, Service
from federation.compile.incremental import recompile
from federation.compile.whole import Compiled, compile_all
from federation.retiring import KEPT, MANY, Retiring


def made(count: int) -> Compiled:
    services = [
        Service(f"s{number}.example.com", ports=(Port(80, "http"),), endpoints=(Endpoint("10.0.0.1"),)) for number in range(count)
    ]
    return compile_all(dataclasses.replace(inputs_of(""), services={each.hostname: each for each in services}))


@pytest.mark.slow
@pytest.mark.parametrize("everything", [True, False])
async def test_much_is_kept_for_a_while_and_freed_in_turns(autojump_clock, nursery, everything):
    retiring, previous = Retiring(), made(MANY)
    nursery.start_soon(retiring.run)
    await retiring.keep(previous, None if everything else list(previous.hosts))
    kept = 2 * len(previous.hosts) + sum(len(previous.dependents.get(name, ())) for name in previous.hosts)
    assert kept >= 3 * MANY  # the service, its backends, its virtual host
    await trio.sleep(KEPT - 0.1)
    assert repr(retiring) == f"<Retiring {kept}>"
    await retiring.keep(previous, None)  # of the next round
    await trio.sleep(0.2)
    await trio.testing.wait_all_tasks_blocked()
    assert repr(retiring) == "<Retiring 0>"


async def test_little_is_left_to_whoever_is_last():
    retiring, previous = Retiring(), made(3)
    await retiring.keep(previous, None)
    await retiring.keep(previous, ["s1.example.com"])
    assert repr(retiring) == "<Retiring 0>"


@pytest.mark.slow
def test_many_parts_are_taken_out_in_steps_and_leave_what_would_be_compiled():
    previous = made(MANY)
    gone = dataclasses.replace(previous.setting.inputs, services={})
    after = recompile(previous, gone, list(previous.setting.inputs.services))
    assert after.snapshot.version == compile_all(gone).snapshot.version
