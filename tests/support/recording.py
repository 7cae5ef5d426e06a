"""The recording fake of an Engine: keeps what it was given, says what it is told to say. Passes check_engine.

`python recording.py --channel FD --parent PID` is a whole worker process with this engine in it.
"""

import contextlib
import sys

import msgspec
import trio

from gateway.engine import Applied, RequestSeries, Statistics
from gateway.faults import validate


class RecordingEngine:
    """given: every (Snapshot version, Verdicts, keys) it was run with, in order."""

    def __init__(self, *, worker=0, place=None):
        self.worker = worker
        self.place = place
        self.given = []
        self.running = None
        self.reports = None
        self.counters = Statistics(worker=worker)
        self.draining = trio.Event()
        self.idle = trio.Event()
        self.idle.set()

    async def run(self, snapshots, verdicts, secrets, reports, *, task_status=trio.TASK_STATUS_IGNORED):
        self.reports = reports
        self.verdicts, self.secrets = verdicts, secrets
        seen, snapshot = snapshots.version, snapshots.value
        while True:
            faults = validate(snapshot)
            if not faults:
                self.running = snapshot
                self.given.append((snapshot.version, verdicts.value, secrets.value))
            if self.running is not None:
                await self.say(Applied(self.running.version, tuple(faults)))
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
            seen, snapshot = await snapshots.newer_than(seen)

    async def say(self, report):
        with contextlib.suppress(trio.WouldBlock):
            self.reports.send_nowait(report)

    def count(self, requests):
        """Pretend that so many more requests were served."""
        series = RequestSeries(
            labels=(("destination_service", "a"),),
            count=requests,
            duration_buckets=(requests, 0),
            duration_sum_ms=float(requests),
            request_bytes=0,
            response_bytes=0,
        )
        self.counters = msgspec.structs.replace(self.counters, duration_bounds=(1.0,), requests=(series,))

    async def drain(self, deadline):
        self.draining.set()
        with trio.move_on_at(deadline):
            await self.idle.wait()

    def statistics(self):
        return msgspec.structs.replace(
            self.counters, version=self.running.version if self.running else "", draining=self.draining.is_set()
        )


def make(place):
    engine = RecordingEngine(worker=place.worker, place=place)
    engine.count(place.worker + 1)
    return engine


if __name__ == "__main__":
    from appliance.worker import main

    sys.exit(main(sys.argv[1:], make))
