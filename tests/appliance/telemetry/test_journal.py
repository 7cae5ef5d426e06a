"""Events from the engine: logged, and counted where a metric asks for it."""

import pytest
import structlog.testing
import trio
import trio.testing
from conformance_engine import plain_snapshot

from appliance.telemetry.journal import Journal
from discovery.watch import Watchable
from gateway.engine import Applied, Confirmed, Ejected, PriorityMoved, Restored


def value(journal, name, **labels):
    return journal.instruments.registry.get_sample_value(name, labels)


@pytest.mark.parametrize(
    ("report", "event"),
    [
        (Ejected("b", "e", "silence", 5000), {"event": "endpoint.ejected", "endpoint": "e", "reason": "silence", "for_ms": 5000}),
        (Restored("b", "e"), {"event": "endpoint.restored", "endpoint": "e"}),
        (Confirmed("10.0.0.1:15443", False, 250), {"event": "peer.confirmed", "alive": False, "took_ms": 250}),
        (PriorityMoved("b", (100, 0), (0, 100)), {"event": "backend.moved", "before": (100, 0), "after": (0, 100)}),
        (Applied("v" * 64, ("bad",)), {"event": "snapshot.applied", "version": "v" * 12, "faults": ("bad",)}),
    ],
)
def test_each_event_is_one_line(report, event):
    with structlog.testing.capture_logs() as lines:
        Journal().note(report, 0.0)
    assert len(lines) == 1
    assert event.items() <= lines[0].items()


def test_moves_are_counted_by_backend():
    journal = Journal()
    for _ in range(2):
        journal.note(PriorityMoved("b", (100, 0), (0, 100)), 0.0)
    assert value(journal, "fedgate_failover_total", backend="b") == 2


def test_convergence_is_from_publication_to_the_last_worker():
    journal = Journal()
    journal.published("one", 10.0)
    journal.published("two", 11.0)
    journal.published("three", 12.0)
    journal.note(Applied("two"), 11.5)
    journal.note(Applied("two", ("a fault that came later",)), 20.0)
    assert value(journal, "fedgate_snapshot_convergence_seconds_count") == 1
    assert value(journal, "fedgate_snapshot_convergence_seconds_sum") == pytest.approx(0.5)
    journal.note(Applied("three"), 14.0)
    assert value(journal, "fedgate_snapshot_convergence_seconds_sum") == pytest.approx(2.5)
    assert journal.applied == Applied("three")


def test_what_was_overtaken_is_not_waited_for():
    journal = Journal()
    journal.published("one", 10.0)
    journal.published("two", 11.0)
    journal.note(Applied("two"), 11.5)
    journal.note(Applied("one"), 30.0)
    assert value(journal, "fedgate_snapshot_convergence_seconds_count") == 1


async def test_publications_are_timed(autojump_clock):
    journal, snapshots = Journal(), Watchable(plain_snapshot(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.time_convergence, snapshots)
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(3)
        journal.note(Applied(plain_snapshot(1).version), trio.current_time())
        snapshots.set(plain_snapshot(2))
        await trio.sleep(4)
        journal.note(Applied(plain_snapshot(2).version), trio.current_time())
        nursery.cancel_scope.cancel()
    assert value(journal, "fedgate_snapshot_convergence_seconds_sum") == pytest.approx(7.0)
