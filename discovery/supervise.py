"""TaskSet: a desired mapping against the tasks that run. What is wanted is started, what changed is restarted, what is no
longer wanted is stopped, what fails is started again with backoff.

Theory of operation. `run` holds one nursery that outlives every task. Each key has at most one task at any time: a restart
waits until the old task has ended, its cleanup included, so that two never hold the same port or file. Reading the desired
mapping from a Watchable means that a burst of changes costs one reconciliation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Generic, TypeVar

import msgspec
import trio

from discovery.backoff import DEFAULT, Backoff, BackoffPolicy, Random
from discovery.watch import Watchable

K = TypeVar("K", bound=Hashable)
S = TypeVar("S")


class TaskState(msgspec.Struct, frozen=True):
    """One task as seen from outside. failures: in a row. error: the last failure's words, "" while there is none."""

    running: bool
    failures: int = 0
    error: str = ""


class _Task(Generic[S]):
    def __init__(self, spec: S) -> None:
        self.spec = spec
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        self.state = TaskState(running=False)


class TaskSet(Generic[K, S]):
    """Keeps `start(key, spec)` running for each pair of the desired mapping.

    start: the task's body. Returning means it has finished: it is not started again until its spec changes. Raising an
        Exception means it failed: it is reported and started again after a backoff; one that had run for the backoff's cap
        begins with a short delay again.
    rng: the backoff's jitter.
    report: told of each failure, as (key, exception); must not block nor raise. A failure in the cleanup of a task that is
        being stopped is reported too.
    """

    def __init__(
        self,
        start: Callable[[K, S], Awaitable[None]],
        *,
        rng: Random,
        report: Callable[[K, Exception], None],
        policy: BackoffPolicy = DEFAULT,
    ) -> None:
        self._start = start
        self._rng = rng
        self._report = report
        self._policy = policy
        self._tasks: dict[K, _Task[S]] = {}
        self._ending: dict[K, trio.Event] = {}  # keys whose last task was told to stop and has not ended yet

    def states(self) -> Mapping[K, TaskState]:
        """Each wanted key's state now. Never blocks."""
        return {key: task.state for key, task in self._tasks.items()}

    async def run(
        self, desired: Watchable[Mapping[K, S]], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Reconcile with `desired.value` and with each newer one; never returns. `started()` once the first tasks are begun.

        Cancellation stops every task and returns when all have ended; nothing is left running. Raises only what `report`
        raises, and what is not an Exception (KeyboardInterrupt). To be run once at a time.
        """
        self._tasks.clear()
        self._ending.clear()
        async with trio.open_nursery() as nursery:
            seen = desired.version
            self._reconcile(nursery, desired.value)
            task_status.started()
            while True:
                seen, mapping = await desired.newer_than(seen)
                self._reconcile(nursery, mapping)

    def _reconcile(self, nursery: trio.Nursery, desired: Mapping[K, S]) -> None:
        for key in [key for key in self._tasks if key not in desired]:
            self._stop(key)
        for key, spec in desired.items():
            current = self._tasks.get(key)
            if current is not None and (current.spec is spec or current.spec == spec):
                continue
            if current is not None:
                self._stop(key)
            task = self._tasks[key] = _Task(spec)
            nursery.start_soon(self._keep, key, task, self._ending.get(key))

    def _stop(self, key: K) -> None:
        task = self._tasks.pop(key)
        task.scope.cancel()
        self._ending[key] = task.ended

    async def _keep(self, key: K, task: _Task[S], before: trio.Event | None) -> None:
        try:
            if before is not None:
                with trio.CancelScope(shield=True):  # the old task was asked to end: this waits for its cleanup only
                    await before.wait()
            backoff = Backoff(self._policy, self._rng)
            with task.scope:
                await trio.lowlevel.checkpoint_if_cancelled()  # it may have been withdrawn while it waited
                while True:
                    if not await self._fails(key, task, backoff):
                        return
                    await trio.sleep(backoff.failed())
        finally:
            task.state = TaskState(running=False, failures=task.state.failures, error=task.state.error)
            task.ended.set()
            if self._ending.get(key) is task.ended:
                del self._ending[key]

    async def _fails(self, key: K, task: _Task[S], backoff: Backoff) -> bool:
        """Run the task's body once. True if it failed, which has then been reported."""
        task.state = TaskState(running=True, failures=backoff.failures, error=task.state.error)
        began = trio.current_time()
        failed = False
        try:
            await self._start(key, task.spec)
        except* Exception as group:  # a task being cancelled may raise Cancelled and its cleanup's failure together
            failed = True
            error = group.exceptions[0] if len(group.exceptions) == 1 else group
            if trio.current_time() - began >= self._policy.cap:
                backoff.succeeded()
            task.state = TaskState(running=False, failures=backoff.failures + 1, error=describe(error))
            self._report(key, error)
        return failed


def describe(error: BaseException) -> str:
    """An exception in one line: type and words, of the first leaf if it is a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
