"""What every Engine promises, as one function: `await check_engine(make)`.

make: an async context manager factory; its engine may listen on the Snapshot's listeners (or needs none). snapshot(n): the n-th of
a series of valid Snapshots, all different.
"""

import math

import trio

from discovery.watch import Watchable
from gateway.engine import Applied
from gateway.secret import Secret
from gateway.snapshot import Listener, ListenerKind, Node, Snapshot, VirtualHost
from gateway.verdicts import AddressState, Verdicts


def plain_snapshot(number, *, parts=()):
    """A Snapshot that every engine can run: nothing but a node, told apart by its name."""
    return Snapshot.of([Node(name=f"node-{number}", cluster="east"), *parts])


class Running:
    """An engine that runs: its slots, and what it says."""

    def __init__(self, engine, snapshots, verdicts, secrets, heard):
        self.engine = engine
        self.snapshots, self.verdicts, self.secrets = snapshots, verdicts, secrets
        self.heard = heard

    async def applied(self, version, *, faults=False):
        """Wait until the engine says that it runs this version (with faults, or without)."""
        with trio.fail_after(10):
            async for report in self.heard:
                if isinstance(report, Applied) and report.version == version and bool(report.faults) == faults:
                    return report
        raise AssertionError("the engine closed its channel")


async def check_engine(make, snapshot=plain_snapshot):
    """Raises AssertionError on a broken promise."""
    for check in (_starts_and_follows, _refuses_what_is_broken, _drains, _cancels, _full_channel):
        async with make() as engine:
            await check(engine, snapshot)


async def _run(nursery, engine, first, *, room=math.inf):
    said, heard = trio.open_memory_channel(room)
    slots = Watchable(first), Watchable(Verdicts()), Watchable({})
    running = Running(engine, *slots, heard)
    with trio.fail_after(10):
        await nursery.start(engine.run, *slots, said)
    return running


async def _starts_and_follows(engine, snapshot):
    async with trio.open_nursery() as nursery:
        running = await _run(nursery, engine, snapshot(1))
        await running.applied(snapshot(1).version)
        running.secrets.set({Secret(b"k").digest: Secret(b"k")})
        running.verdicts.set(Verdicts(addresses={"127.0.0.1:1": AddressState.DOWN}))
        running.snapshots.set(snapshot(2))
        await running.applied(snapshot(2).version)
        running.snapshots.set(snapshot(3))
        running.snapshots.set(snapshot(4))
        await running.applied(snapshot(4).version)
        nursery.cancel_scope.cancel()


async def _refuses_what_is_broken(engine, snapshot):
    """A Snapshot that cannot be applied changes nothing and is reported with the running version and its faults."""
    async with trio.open_nursery() as nursery:
        running = await _run(nursery, engine, snapshot(1))
        await running.applied(snapshot(1).version)
        nowhere = VirtualHost(table="t", name="h", domains=("*",), routes=())
        port = Listener(address="127.0.0.1", port=0, kind=ListenerKind.MESH)
        running.snapshots.set(snapshot(1).changed([nowhere, port]))
        report = await running.applied(snapshot(1).version, faults=True)
        assert any("port 0" in fault for fault in report.faults), report.faults
        running.snapshots.set(snapshot(2))
        await running.applied(snapshot(2).version)
        nursery.cancel_scope.cancel()


async def _drains(engine, snapshot):
    """drain returns when nothing is left, long before its deadline."""
    async with trio.open_nursery() as nursery:
        await _run(nursery, engine, snapshot(1))
        with trio.fail_after(10):
            await engine.drain(trio.current_time() + 30)
        nursery.cancel_scope.cancel()


async def _cancels(engine, snapshot):
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await _run(nursery, engine, snapshot(1))
            assert engine.statistics().requests == engine.statistics().requests
            nursery.cancel_scope.cancel()


async def _full_channel(engine, snapshot):
    """Reports are dropped when nobody reads them: the engine goes on."""
    async with trio.open_nursery() as nursery:
        running = await _run(nursery, engine, snapshot(1), room=0)
        running.snapshots.set(snapshot(2))
        with trio.fail_after(10):
            await engine.drain(trio.current_time() + 30)
        nursery.cancel_scope.cancel()
