"""overload: when a worker sheds, when it stops, and that the real readings are what they say."""

import pytest
import trio

from gateway.native.overload import LAG_S, LOOK, OverloadMonitor, memory_allowed, resident
from gateway.native.reactor import Reactor
from gateway.snapshot import Overload

MB = 1 << 20


class Machine:
    def __init__(self, **limits):
        self.bytes = 0
        self.monitor = OverloadMonitor(Reactor(lambda: 0.0), memory=lambda: self.bytes)
        self.monitor.configure(Overload(**{"memory_mb": 100, **limits}))

    def look(self, *, late=0.0, times=1, megabytes=0):
        self.bytes = megabytes * MB
        for _ in range(times):
            self.monitor.look(late)
        return self.monitor.shedding


def test_a_loop_that_is_late_for_a_second_or_two_sheds_until_it_is_well_again():
    machine = Machine()
    looks = 0
    while not machine.look(late=2 * LAG_S):
        looks += 1
    assert machine.monitor.shedding == "lag"
    assert looks * (2 * LAG_S + LOOK) < 2.5
    assert machine.look(late=LAG_S * 0.9, times=200) == "lag"  # under the limit, but not well under it
    assert machine.look(times=60) == ""


def test_one_pause_however_long_is_not_overload():
    assert Machine().look(late=60.0) == ""


def test_a_loop_that_is_late_as_busy_ones_are_serves():
    assert Machine().look(late=LAG_S * 0.9, times=1000) == ""


def test_the_limits_can_be_set_and_switched_off():
    assert Machine(lag_ms=10).look(late=0.02, times=100) == "lag"
    assert Machine(lag_ms=-1).look(late=10.0, times=100) == ""
    assert Machine(memory_mb=-1).look(megabytes=10**6, times=20) == ""
    assert Machine(memory_mb=0).monitor._memory_limit == memory_allowed(1) > 0


def test_memory_over_the_limit_sheds_until_it_is_under_it_by_some():
    machine = Machine()
    assert machine.look(megabytes=99, times=10) == ""
    assert machine.look(megabytes=101, times=10) == "memory"
    assert machine.look(megabytes=97, times=10) == "memory"
    assert machine.look(megabytes=94, times=10) == ""


def test_memory_is_looked_at_at_every_tenth_look_only():
    assert Machine().look(megabytes=101, times=9) == ""


def test_what_is_refused_is_counted_by_reason():
    machine = Machine()
    machine.look(megabytes=101, times=10)
    machine.monitor.count()
    machine.monitor.count()
    assert machine.monitor.shed == {"overload-memory": 2}
    assert "memory" in repr(machine.monitor)


def test_this_process_holds_memory_and_may_hold_some():
    assert 5 * MB < resident() < memory_allowed(1)
    assert memory_allowed(4) == pytest.approx(memory_allowed(1) / 4, abs=4)


def test_where_nobody_says_how_much_there_is(tmp_path):
    assert resident(tmp_path / "statm") == 0
    assert memory_allowed(2, tmp_path / "none", tmp_path / "none") == 0
    machine, group = tmp_path / "meminfo", tmp_path / "memory.max"
    machine.write_text("MemTotal:  1000 kB\nMemFree: 1 kB\n")
    assert memory_allowed(2, group, machine) == 409_600
    group.write_text("512000\n")
    assert memory_allowed(2, group, machine) == 204_800
    group.write_text("max\n")
    assert memory_allowed(2, group, machine) == 409_600


@pytest.mark.slow
async def test_the_reactors_own_timer_measures_what_holds_it_up():
    reactor = Reactor()
    monitor = OverloadMonitor(reactor)
    monitor.configure(Overload(lag_ms=20))
    seen = trio.Event()

    def hold_up():
        end = reactor.clock() + 0.05
        while reactor.clock() < end:
            pass
        if monitor.shedding:
            seen.set()
        else:
            reactor.call_later(0.0, hold_up)

    async with trio.open_nursery() as nursery:
        await nursery.start(reactor.run)
        monitor.start()
        hold_up()
        with trio.fail_after(20):
            await seen.wait()
        assert monitor.shedding == "lag"
        nursery.cancel_scope.cancel()
