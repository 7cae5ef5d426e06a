"""Registered workloads at work: their leases run, their probes run, and those that are up are documents like a user's.

Theory of operation. The Desk knows who is registered. Each workload whose group has a probe is probed by a task of its own; it becomes a
document with the first probe that passes and stops being one after `failureThreshold` that did not, as Istio takes an unhealthy workload
out. What is registered, and which of it was up, is kept in a file of the state directory: a control process that starts again begins
where the last one was, and leases begin anew then, because a gateway that was away is no reason to give its workloads up.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import structlog
import trio

from discovery.document import Documents, Origin, Outcome
from discovery.supervise import TaskSet, describe
from discovery.watch import Watchable
from federation.probe import ProbeFailed
from federation.resources.document import Document
from federation.resources.workload_group import Probe, WorkloadGroup
from federation.thresholds import UNKNOWN, Standing, after
from federation.workloads.desk import Claim, Desk, Key, Registered
from federation.workloads.probing import check as probe_workload

FILE = "workloads.json"
AT_ONCE = 256  # probes under way; each holds a socket for its timeout at most
# What a kill loses comes back with the next heartbeat; so the file may be behind, but not by more than a moment.
SAVE_EVERY = 0.05
_REST = 20  # times what writing took: it shall not take more than a twentieth of a core, with ten thousand that renew all the time
FAILURES, SUCCESSES = 3, 1  # Kubernetes' thresholds

_log = structlog.get_logger("workloads")


class _Kept(msgspec.Struct, frozen=True):
    """The file. up: whose probe passed last."""

    registered: tuple[Registered, ...] = ()
    up: tuple[Key, ...] = ()


class WorkloadRow(msgspec.Struct, frozen=True):
    """A workload as people see it. state: up, down, or unknown (its first probe has not ended). reason: why it is down. expires: seconds."""

    namespace: str
    group: str
    address: str
    state: str
    reason: str
    expires: float


class Office:
    """A DocumentSource. directory: of the state. check: one probe of one address, which raises ProbeFailed."""

    name = "workloads"
    shows = False

    def __init__(
        self,
        directory: Path,
        *,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
        check: Callable[[str, Probe], Awaitable[None]] = probe_workload,
    ) -> None:
        self.documents: Watchable[Documents] = Watchable(Documents())
        self._path, self._wall, self._rng, self._check = directory / FILE, wall, rng, check
        kept = self._load()
        now = wall()
        renewed = (msgspec.structs.replace(each, expires=max(each.expires, now + each.claim.lease)) for each in kept.registered)
        self.desk = Desk(renewed)
        self._standings: dict[Key, tuple[Standing, str]] = {key: (Standing(True), "") for key in kept.up}
        self._probes: Watchable[Mapping[Key, Probe]] = Watchable({})
        self._changed = trio.Event()
        self._unsaved = trio.Event()
        self._limit = trio.CapacityLimiter(AT_ONCE)

    # ------------------------------------------------------------------------------------------------ what others call

    def agree(self, groups: Iterable[Document[WorkloadGroup]]) -> None:
        """The WorkloadGroups there are now: `documents` are theirs when this returns. Never blocks."""
        groups = tuple(groups)
        if {(each.namespace, each.name): each for each in groups} != self.desk.groups:
            self.desk.agree(groups)
            self._publish()
            self._touch()

    def register(self, namespace: str, group: str, address: str, claim: Claim) -> WorkloadRow:
        """Take or renew a registration. Raises desk.Refused. Never blocks."""
        before = set(self.desk.registered)
        made = self.desk.register(namespace, group, address, claim, self._wall())
        if made.key not in before:
            _log.info("workload.registered", group=f"{namespace}/{group}", address=made.key[2])
        self._touch()
        return self._row(made)

    def deregister(self, namespace: str, group: str, address: str) -> bool:
        """Whether it was registered. Never blocks."""
        found = self.desk.deregister((namespace, group, address))
        if found:
            _log.info("workload.deregistered", group=f"{namespace}/{group}", address=address)
            self._touch()
        return found

    def rows(self) -> tuple[WorkloadRow, ...]:
        return tuple(self._row(each) for _, each in sorted(self.desk.registered.items()))

    def reload(self) -> None:
        """There is nothing to read: what is known is what registered."""

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        """A claim that is wrong is refused when it is made."""

    # ------------------------------------------------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow leases and probes until cancelled. Cancellation leaves the last documents published."""
        tasks: TaskSet[Key, Probe] = TaskSet(self._keep_probing, rng=self._rng, report=_bug)
        async with trio.open_nursery() as nursery:
            self._publish()
            await nursery.start(tasks.run, self._probes)
            nursery.start_soon(self._keep_saved)
            task_status.started()
            while True:
                self._changed = trio.Event()
                expiry = self.desk.next_expiry
                with trio.move_on_after(float("inf") if expiry is None else max(0.0, expiry - self._wall())):
                    await self._changed.wait()
                for gone in self.desk.expire(self._wall()):
                    _log.info("workload.expired", group="/".join(gone.key[:2]), address=gone.key[2], lease=gone.claim.lease)
                    self._unsaved.set()
                self._publish()

    def _touch(self) -> None:
        self._changed.set()
        self._unsaved.set()

    def _publish(self) -> None:
        """What is registered, has its group, and is up."""
        probes: dict[Key, Probe] = {}
        documents = []
        for key in sorted(self.desk.registered):
            group = self.desk.groups.get(key[:2])
            if group is None:
                continue
            if group.spec.probe is not None:
                probes[key] = group.spec.probe
            made = self.desk.document(key) if group.spec.probe is None or self._standing(key)[0].healthy else None
            if made is not None:
                documents.append(made)
        for key in self._standings.keys() - self.desk.registered.keys():
            del self._standings[key]
        if probes != self._probes.value:
            self._probes.set(probes)
        if tuple(documents) != self.documents.value.documents:
            self.documents.set(Documents(tuple(documents)))

    def _row(self, registered: Registered) -> WorkloadRow:
        group = self.desk.groups.get(registered.key[:2])
        standing, reason = self._standing(registered.key)
        state = {None: "unknown", True: "up", False: "down"}[standing.healthy]
        if group is None:
            state, reason = "down", "its WorkloadGroup is not there"
        elif group.spec.probe is None:
            state, reason = "up", ""
        return WorkloadRow(*registered.key, state, reason, round(registered.expires - self._wall(), 1))

    # -------------------------------------------------------------------------------------------------------- probes

    def _standing(self, key: Key) -> tuple[Standing, str]:
        return self._standings.get(key, (UNKNOWN, ""))

    async def _keep_probing(self, key: Key, asked: Probe) -> None:
        """initialDelaySeconds runs from the registration; a workload that was up before this process began is not waited for."""
        registered = self.desk.registered.get(key)
        if registered is not None and self._standing(key)[0].healthy is None:
            await trio.sleep(max(0.0, registered.since + asked.initial_delay_seconds - self._wall()))
        while True:
            began = trio.current_time()
            async with self._limit:
                reason = await self._once(key, asked)
            self._note(key, asked, reason)
            # A tenth of spread, so that workloads which registered together are not probed together for ever.
            await trio.sleep_until(max(began + asked.period * (0.95 + 0.1 * self._rng()), trio.current_time()))

    async def _once(self, key: Key, asked: Probe) -> str:
        try:
            await self._check(key[2], asked)
        except ProbeFailed as error:
            return str(error)
        return ""

    def _note(self, key: Key, asked: Probe, reason: str) -> None:
        if key not in self.desk.registered:
            return
        old, said = self._standing(key)
        failures, successes = asked.failure_threshold or FAILURES, asked.success_threshold or SUCCESSES
        begun = Standing(False) if old.healthy is None else old  # not ready until so many pass, as in Kubernetes
        new = after(begun, not reason, unhealthy_threshold=failures, healthy_threshold=successes)
        if new.healthy is old.healthy:
            self._standings[key] = (new, said)
            return
        self._standings[key] = (new, reason)
        _log.info("workload.up" if new.healthy else "workload.down", group="/".join(key[:2]), address=key[2], reason=reason)
        self._touch()

    # ---------------------------------------------------------------------------------------------------------- file

    def _load(self) -> _Kept:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept()
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("workloads.unreadable", path=str(self._path), error=str(error), action="beginning without it")
            return _Kept()

    async def _keep_saved(self) -> None:
        """Cancelled, it writes what is not written yet."""
        try:
            while True:
                await self._unsaved.wait()
                self._unsaved = trio.Event()
                began = trio.current_time()
                await trio.to_thread.run_sync(self._save, self._kept())
                await trio.sleep(max(SAVE_EVERY, _REST * (trio.current_time() - began)))
        finally:
            if self._unsaved.is_set():
                self._save(self._kept())

    def _kept(self) -> _Kept:
        up = tuple(key for key, (standing, _) in sorted(self._standings.items()) if standing.healthy)
        return _Kept(tuple(self.desk.registered.values()), up)

    def _save(self, kept: _Kept) -> None:
        try:
            _replace(self._path, msgspec.json.encode(kept))
        except OSError as error:
            _log.error("workloads.unsaved", path=str(self._path), error=str(error), action="make the directory writable")

    def __repr__(self) -> str:
        return f"<Office {self.desk}>"


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, readable by this user only. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    beside.replace(path)


def _bug(key: Key, error: Exception) -> None:
    _log.error("workload.bug", workload="/".join(key), error=describe(error), exc_info=error)
