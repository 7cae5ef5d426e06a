"""Shared memory between real processes, and its tables against plain dictionaries."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.native import shared as module
from gateway.native.shared import COUNTERS, EJECTIONS, SUPERVISOR, Shared, counter_key, ejection_key

KEY = ejection_key("outbound|80||a.example", "10.0.0.1:80")


@pytest.fixture
def memory() -> Iterator[Shared]:
    shared = Shared.create(3)
    yield shared
    shared.close()
    os.close(shared.fd)


def test_stamps_say_who_is_silent(memory: Shared) -> None:
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    assert first.absent(1000, silent_for_ns=50) == [1, 2]  # nobody has stamped yet
    second.stamp(970)
    assert first.absent(1000, silent_for_ns=50) == [2]
    assert first.absent(1021, silent_for_ns=50) == [1, 2]
    second.stamp(1021)
    second.drain()
    assert first.absent(1021, silent_for_ns=50) == [1, 2]
    assert memory.draining(1)
    assert memory.pid_of(1) == os.getpid()
    assert memory.stamp_of(1) == 1021
    memory.clear(1)
    assert (memory.draining(1), memory.pid_of(1), memory.stamp_of(1)) == (False, 0, 0)


def test_an_ejection_counts_for_every_worker(memory: Shared) -> None:
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    before = second.generation()
    assert second.ejections() == {}
    first.eject(KEY, until_ns=5000, reason="silence", count=2)
    assert second.generation() != before
    ejection = second.ejections()[KEY]
    assert (ejection.until_ns, ejection.reason, ejection.count, ejection.worker) == (5000, "silence", 2, 0)
    assert second.ejections() is second.ejections()
    first.eject(KEY, until_ns=6000, reason="silence", count=3)
    assert second.ejections()[KEY].until_ns == 6000
    first.restore(KEY)
    assert second.ejections() == {}
    assert not first.mine(KEY)


def test_of_two_ejections_the_longer_holds_and_the_lower_worker_is_named(memory: Shared) -> None:
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    first.eject(KEY, until_ns=5000, reason="silence")
    second.eject(KEY, until_ns=7000, reason="consecutive-5xx")
    seen = memory.ejections()[KEY]
    assert (seen.until_ns, seen.reason, seen.worker) == (7000, "consecutive-5xx", 0)
    second.restore(KEY)
    assert memory.ejections()[KEY].until_ns == 5000
    memory.clear(0)
    assert memory.ejections() == {}


def test_a_full_table_drops_what_ends_soonest(memory: Shared) -> None:
    worker = Shared.attach(memory.fd, 0)
    keys = [ejection_key("b", str(n)) for n in range(EJECTIONS + 1)]
    for n, key in enumerate(keys):
        worker.eject(key, until_ns=10_000 - n, reason="silence")
    seen = memory.ejections()
    assert len(seen) == EJECTIONS
    assert keys[EJECTIONS - 1] not in seen
    assert not worker.mine(keys[EJECTIONS - 1])
    worker.restore(keys[7])
    worker.eject(keys[EJECTIONS - 1], until_ns=1, reason="silence")  # takes the free place, not one more
    assert keys[7] not in memory.ejections()
    assert keys[EJECTIONS - 1] in memory.ejections()


def test_half_an_ejection_is_never_seen(memory: Shared) -> None:
    """Every mixture of an old and a new entry, as another processor might see it, is passed over and looked at again."""
    worker = Shared.attach(memory.fd, 0)
    start = 8 * (worker._base + 8)
    worker.eject(KEY, until_ns=5000, reason="silence", count=1)
    old = bytes(worker._memory[start : start + 40])
    worker.eject(KEY, until_ns=9000, reason="connect-timeout", count=2)
    new = bytes(worker._memory[start : start + 40])
    for mixture in range(32):
        words = [(new if mixture >> n & 1 else old)[8 * n : 8 * n + 8] for n in range(5)]
        entry = b"".join(words)
        worker._memory[start : start + 40] = entry
        reader = Shared(memory.fd, SUPERVISOR)
        seen = reader.ejections().get(KEY)
        reader.close()
        if entry in (old, new):
            assert seen is not None
        else:
            assert seen is None
    # the reader looks again although the generation is the same
    reader = Shared(memory.fd, SUPERVISOR)
    worker._memory[start : start + 40] = old[:32] + new[32:]
    assert reader.ejections() == {}
    worker._memory[start : start + 40] = new
    assert reader.ejections()[KEY].until_ns == 9000


def test_a_stamp_looks_again_without_a_new_generation(memory: Shared) -> None:
    writer, reader = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    generation = memory._words[2]
    writer.eject(KEY, until_ns=5000, reason="silence")
    late, memory._words[2] = memory._words[2], generation  # as if the word had not arrived yet … and then never did
    reader._seen = generation
    assert reader.ejections() == {}
    reader.stamp(1)
    assert KEY in reader.ejections()
    assert late != generation


def test_every_change_is_a_generation_of_its_own(memory: Shared) -> None:
    workers = [Shared.attach(memory.fd, n) for n in range(3)]
    seen = set()
    for n in range(50):
        workers[n % 3].eject(KEY, until_ns=n + 1, reason="silence")
        seen.add(memory.generation())
    assert len(seen) == 50


def test_counters_add_up(memory: Shared) -> None:
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    a, b = first.counter(counter_key("a")), second.counter(counter_key("a"))
    assert a.total() == 0
    a.add(2)
    b.add(3)
    assert (a.total(), b.total(), memory.total("a")) == (5, 5, 5)
    b.add(-4)
    assert a.total() == 2  # never under 0
    second.add("b", 1)
    assert first.total("b") == 1
    memory.clear(1)
    assert a.total() == 2
    assert first.total("b") == 0
    a.forget()
    assert memory.total("a") == 0
    a.add(1)
    assert memory.total("a") == 1


def test_a_place_given_back_is_used_again_and_not_mistaken(memory: Shared) -> None:
    first, second = Shared.attach(memory.fd, 0), Shared.attach(memory.fd, 1)
    same = [7 + COUNTERS * n for n in range(1, 4)]  # all begin at one place
    mine = [first.counter(key) for key in same]
    theirs = [second.counter(key) for key in same]
    for n, counter in enumerate(mine):
        counter.add(n + 1)
    assert [counter.total() for counter in theirs] == [1, 2, 3]
    mine[0].forget()
    assert [counter.total() for counter in theirs] == [0, 2, 3]
    newcomer = 7 + COUNTERS * 9
    first.counter(newcomer).add(9)
    assert [counter.total() for counter in theirs] == [0, 2, 3]
    assert second.counter(newcomer).total() == 9


def test_without_a_place_a_counter_is_its_workers_own(memory: Shared) -> None:
    worker = Shared.attach(memory.fd, 0)
    crowd = [worker.counter(7 + COUNTERS * n) for n in range(1, 40)]
    for counter in crowd:
        counter.add(1)
    assert [counter.total() for counter in crowd] == [1] * 39
    assert memory.counter(7 + COUNTERS * 39).total() == 0
    crowd[0].forget()
    crowd[-1].add(1)
    crowd[-1].add(-2)
    crowd[-1].add(1)  # it was 0, so now it may move to the free place
    assert memory.counter(7 + COUNTERS * 39).total() == 1


class _Model:
    """What the tables should say."""

    def __init__(self) -> None:
        self.ejected: dict[tuple[int, int], int] = {}
        self.counts: dict[tuple[int, int], int] = {}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("erafc"), st.integers(0, 2), st.integers(2, 9), st.integers(-3, 5)), max_size=40))
def test_the_tables_behave_like_dictionaries(steps: list[tuple[str, int, int, int]]) -> None:
    memory = Shared.create(3)
    workers = [Shared.attach(memory.fd, n) for n in range(3)]
    counters = [{key: worker.counter(key) for key in range(2, 10)} for worker in workers]
    model = _Model()
    for step, worker, key, number in steps:
        match step:
            case "e":
                workers[worker].eject(key, until_ns=100 + number, reason="silence")
                model.ejected[worker, key] = 100 + number
            case "r":
                workers[worker].restore(key)
                model.ejected.pop((worker, key), None)
            case "a":
                counters[worker][key].add(number)
                model.counts[worker, key] = max(0, model.counts.get((worker, key), 0) + number)
            case "f":
                counters[worker][key].forget()
                model.counts.pop((worker, key), None)
            case _:
                memory.clear(worker)
                workers[worker] = Shared.attach(memory.fd, worker)
                counters[worker] = {each: workers[worker].counter(each) for each in range(2, 10)}
                model.ejected = {k: v for k, v in model.ejected.items() if k[0] != worker}
                model.counts = {k: v for k, v in model.counts.items() if k[0] != worker}
        wanted: dict[int, int] = {}
        for (_, each), until in model.ejected.items():
            wanted[each] = max(until, wanted.get(each, 0))
        for reader in (memory, *workers):
            assert {each: ejection.until_ns for each, ejection in reader.ejections().items()} == wanted
        for each in range(2, 10):
            total = sum(count for (_, other), count in model.counts.items() if other == each)
            assert {table[each].total() for table in counters} == {total}
    os.close(memory.fd)


def test_refusals(memory: Shared) -> None:
    with pytest.raises(ValueError, match="worker 3 has no slot"):
        Shared.attach(memory.fd, 3)
    strange = os.memfd_create("strange")
    os.ftruncate(strange, 4096)
    with pytest.raises(ValueError, match="not a gateway's shared memory"):
        Shared.attach(strange, 0)
    os.close(strange)
    with pytest.raises(IndexError):  # a process without a slot writes nowhere
        memory.stamp(1)
    with pytest.raises(IndexError):
        memory.counter(5).add(1)
    with pytest.raises(ValueError, match="not in"):
        Shared.attach(memory.fd, 0).eject(KEY, until_ns=1, reason="mood")
    with pytest.raises(OSError, match="not permitted"):  # sealed
        os.ftruncate(memory.fd, 0)


CHILD = """
import sys, time
from gateway.native.shared import Shared, counter_key, ejection_key
fd, worker = int(sys.argv[1]), int(sys.argv[2])
shared = Shared.attach(fd, worker)
counter = shared.counter(counter_key("a"))
keys = [ejection_key("b", str(n)) for n in range(20)]
print("ready", flush=True)
sys.stdin.readline()
for turn in range(3000):
    counter.add(1)
    key = keys[turn % 20]
    until = turn * 1_000_003
    shared.eject(key, until_ns=until, reason="silence", count=until % 1009)
    if turn % 3 == 0:
        shared.restore(key)
    shared.stamp(turn + 1)
print("done", flush=True)
sys.stdin.readline()
"""


def spawn(fd: int, worker: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(fd), str(worker)],
        pass_fds=[fd],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_write_while_a_third_reads(memory: Shared) -> None:
    """Nothing read is ever torn: each entry's count is that of its until. What both counted is there at the end."""
    children = [spawn(memory.fd, worker) for worker in (0, 1)]
    try:
        for child in children:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("\n")  # type: ignore[union-attr]
            child.stdin.flush()  # type: ignore[union-attr]
        reads, highest = 0, 0
        while min(memory.stamp_of(0), memory.stamp_of(1)) < 3000:
            for ejection in memory.ejections().values():
                assert ejection.count == ejection.until_ns % 1009
                reads += 1
            total = memory.total("a")
            assert highest <= total <= 6000
            highest = total
        assert reads > 100
        for child in children:
            assert child.stdout.readline() == "done\n"  # type: ignore[union-attr]
        assert memory.total("a") == 6000
        assert memory.pid_of(0) == children[0].pid
        children[0].kill()
        children[0].wait()
        assert memory.total("a") == 6000
        memory.clear(0)
        assert memory.total("a") == 3000
        successor = Shared.attach(memory.fd, 0)
        assert successor.total("a") == 3000
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_names_hash_the_same_everywhere() -> None:
    """Fixed values: processes of two versions meet in one memory during an upgrade."""
    assert ejection_key("a", "b") == 0xA3BA52031751C1FF
    assert counter_key("a") == 0x2F42665B399EF840
    assert ejection_key("a", "b") != ejection_key("a\0b", "")
    assert module.REASONS[:2] == ("", "consecutive-5xx")
