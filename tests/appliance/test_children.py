"""Child processes: the conversation with one, its end, and the pauses before the next."""

import os
import signal
import subprocess
import sys

import pytest
import trio
from gateway_processes import RECORDING_WORKER

from appliance.children import Child, pause_before_restart, settled
from appliance.messages import BeginWorker, Drain, Leave
from gateway.native.shared import Shared


@pytest.mark.parametrize(
    ("lived", "failures", "pause"),
    [(11, 5, 0), (0.1, 1, 0), (0.1, 2, 0.1), (0.1, 3, 0.2), (0.1, 4, 0.4), (0.1, 50, 5.0), (0.1, 5000, 5.0)],
)
def test_pauses_grow_for_what_dies_young(lived, failures, pause):
    assert pause_before_restart(lived, failures) == pytest.approx(pause)
    assert settled(lived) == (lived > 10)


async def worker(nursery):
    child = Child.start("worker 0", RECORDING_WORKER, object)
    nursery.start_soon(child.write)
    shared = Shared.create(1)
    child.tell(BeginWorker(0, 1), [shared.fd])
    return child


@pytest.mark.slow
async def test_a_worker_that_drains_ends_with_status_0():
    async with trio.open_nursery() as nursery:
        child = await worker(nursery)
        child.tell(Drain(1000))
        with trio.fail_after(10):
            assert await child.hear() is None
            await child.last_breath()
            assert await child.ended() == 0
        nursery.cancel_scope.cancel()
    child.close()


@pytest.mark.slow
async def test_a_worker_whose_supervisor_has_gone_ends_by_itself():
    async with trio.open_nursery() as nursery:
        child = await worker(nursery)
        nursery.cancel_scope.cancel()
    child.close()
    with trio.fail_after(10):
        assert await child.ended() == 1


@pytest.mark.slow
async def test_to_a_dead_child_nothing_is_said_and_no_descriptor_leaks():
    async with trio.open_nursery() as nursery:
        child = await worker(nursery)
        child.kill()
        with trio.fail_after(10):
            assert await child.ended() == -signal.SIGKILL
        nursery.cancel_scope.cancel()
    before = len(os.listdir("/proc/self/fd"))
    child.tell(Leave("x"), [0])
    assert len(os.listdir("/proc/self/fd")) == before
    child.close()


async def test_a_command_that_does_not_exist_is_an_error():
    with pytest.raises(OSError, match="no-such-program"):
        Child.start("x", ("/no-such-program",), object)


KILLED_PARENT = """
import subprocess, sys, os, time
child = subprocess.Popen([sys.executable, "-c",
    "import sys; from appliance.children import die_with_parent; die_with_parent(int(sys.argv[1]));"
    "print('ready', flush=True); sys.stdin.read()", str(os.getpid())], stdin=subprocess.PIPE)
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_a_child_dies_with_a_parent_that_is_killed():
    parent = subprocess.Popen([sys.executable, "-c", KILLED_PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        (pid,) = (int(word) for word in said if word.isdigit())
        watch = os.pidfd_open(pid)
        parent.kill()
        assert trio.run(_ended, watch)
        os.close(watch)


async def _ended(watch):
    with trio.move_on_after(5):
        await trio.lowlevel.wait_readable(watch)
        return True
    return False


def test_a_child_whose_parent_is_another_process_ends_at_once():
    code = "from appliance.children import die_with_parent; die_with_parent(1); print('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.slow
async def test_a_child_outlives_the_threads_of_its_parent():
    """The signal of a parent's death is sent when the thread that started the child ends; no thread but the main one may."""
    threads = set(os.listdir("/proc/self/task"))
    async with trio.open_nursery() as nursery:
        child = await worker(nursery)
        assert set(os.listdir("/proc/self/task")) <= threads, "a thread was made to start it"
        child.kill()
        with trio.fail_after(10):
            await child.ended()
        nursery.cancel_scope.cancel()
    child.close()
