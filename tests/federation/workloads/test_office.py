"""Leases and probes of registered workloads, on trio's own clock; the file of the state directory."""

import stat

import pytest
import trio
from workload_groups import group_document

from federation.probe import ProbeFailed
from federation.workloads.desk import Claim, Refused
from federation.workloads.office import FILE, Office

PROBE = "{periodSeconds: 10, failureThreshold: 3, tcpSocket: {port: 80}}"


class Workloads:
    """Probes by script: `bad` says which addresses fail."""

    def __init__(self):
        self.bad = set()
        self.asked = []

    async def check(self, address, asked):
        self.asked.append((trio.current_time(), address))
        if address in self.bad:
            raise ProbeFailed("no")


@pytest.fixture
def workloads():
    return Workloads()


async def office_of(nursery, folder, workloads, *groups):
    office = Office(folder, wall=trio.current_time, rng=lambda: 0.5, check=workloads.check)
    office.agree(groups or [group_document(probe=PROBE)])
    await nursery.start(office.run)
    return office


def shown(office):
    return [document.content["spec"]["address"] for document in office.documents.value.documents]


async def changed(office, seen):
    with trio.fail_after(1000):
        seen, _ = await office.documents.newer_than(seen)
    return seen


async def test_without_a_probe_it_is_there_until_its_lease_ends(nursery, tmp_path, workloads, autojump_clock):
    office = await office_of(nursery, tmp_path, workloads, group_document())
    row = office.register("shop", "reviews", "10.0.0.1", Claim(lease=30))
    assert (row.state, row.expires) == ("up", 30.0)
    seen = await changed(office, 0)
    assert shown(office) == ["10.0.0.1"]
    await trio.sleep(20)
    office.register("shop", "reviews", "10.0.0.1", Claim(lease=30))
    began = trio.current_time()
    await changed(office, seen)
    assert shown(office) == []
    assert trio.current_time() - began == pytest.approx(30, abs=0.1)
    assert workloads.asked == []
    nursery.cancel_scope.cancel()


async def test_a_probe_lets_in_takes_out_after_three_failures_and_lets_in_again(nursery, tmp_path, workloads, autojump_clock):
    office = await office_of(nursery, tmp_path, workloads)
    workloads.bad.add("10.0.0.1")
    office.register("shop", "reviews", "10.0.0.1", Claim(lease=1000))
    await trio.sleep(25)
    assert shown(office) == []
    (row,) = office.rows()
    assert (row.state, row.reason) == ("down", "no")
    workloads.bad.clear()
    seen = await changed(office, office.documents.version)
    assert shown(office) == ["10.0.0.1"]
    workloads.bad.add("10.0.0.1")
    began = trio.current_time()
    await changed(office, seen)
    assert shown(office) == []
    assert 20 <= trio.current_time() - began <= 31
    nursery.cancel_scope.cancel()


async def test_the_initial_delay_and_success_threshold_are_waited_for(nursery, tmp_path, workloads, autojump_clock):
    probe = "{initialDelaySeconds: 7, successThreshold: 2, periodSeconds: 10, tcpSocket: {port: 80}}"
    office = await office_of(nursery, tmp_path, workloads, group_document(probe=probe))
    began = trio.current_time()
    office.register("shop", "reviews", "10.0.0.1", Claim(lease=1000))
    await changed(office, 0)
    assert trio.current_time() - began == pytest.approx(17, abs=0.1)
    assert [round(when - began) for when, _ in workloads.asked] == [7, 17]
    nursery.cancel_scope.cancel()


async def test_leaving_ends_the_probe(nursery, tmp_path, workloads, autojump_clock):
    office = await office_of(nursery, tmp_path, workloads)
    office.register("shop", "reviews", "10.0.0.1", Claim(lease=1000))
    seen = await changed(office, 0)
    assert office.deregister("shop", "reviews", "10.0.0.1")
    assert not office.deregister("shop", "reviews", "10.0.0.1")
    await changed(office, seen)
    asked = len(workloads.asked)
    await trio.sleep(100)
    assert len(workloads.asked) == asked
    nursery.cancel_scope.cancel()


async def test_a_group_that_goes_and_comes_back(nursery, tmp_path, workloads, autojump_clock):
    office = await office_of(nursery, tmp_path, workloads, group_document())
    office.register("shop", "reviews", "10.0.0.1", Claim(lease=1000))
    seen = await changed(office, 0)
    office.agree([])
    seen = await changed(office, seen)
    assert shown(office) == []
    assert office.rows()[0].reason == "its WorkloadGroup is not there"
    with pytest.raises(Refused):
        office.register("shop", "reviews", "10.0.0.2", Claim())
    office.agree([group_document()])
    await changed(office, seen)
    assert shown(office) == ["10.0.0.1"]
    nursery.cancel_scope.cancel()


async def test_a_new_process_begins_where_the_last_one_was(tmp_path, workloads, autojump_clock):
    async with trio.open_nursery() as nursery:
        office = await office_of(nursery, tmp_path, workloads)
        workloads.bad.add("10.0.0.2")
        for number in (1, 2):
            office.register("shop", "reviews", f"10.0.0.{number}", Claim(lease=30))
        await changed(office, 0)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    await trio.sleep(500)  # a long absence, which is not the workloads' fault
    workloads.bad.add("10.0.0.1")
    async with trio.open_nursery() as nursery:
        office = await office_of(nursery, tmp_path, workloads)
        assert shown(office) == ["10.0.0.1"]  # before any probe has ended
        assert [row.expires for row in office.rows()] == [30.0, 30.0]
        nursery.cancel_scope.cancel()


async def test_a_file_that_cannot_be_read_costs_a_cold_start(tmp_path, workloads, autojump_clock, nursery):
    (tmp_path / FILE).write_text("{")
    office = await office_of(nursery, tmp_path, workloads)
    assert office.rows() == ()
    nursery.cancel_scope.cancel()


async def test_a_directory_that_cannot_be_written_is_no_end(nursery, tmp_path, workloads, autojump_clock):
    (tmp_path / "file").write_text("")
    office = await office_of(nursery, tmp_path / "file", workloads, group_document())
    office.register("shop", "reviews", "10.0.0.1", Claim())
    await changed(office, 0)
    await trio.sleep(3)
    assert shown(office) == ["10.0.0.1"]
    nursery.cancel_scope.cancel()
