"""One epoll set inside one trio task, and the coroutines it steps.

Theory of operation. A worker's connections are *strands*: sequential coroutines that are not trio tasks. A strand waits by
yielding; what wakes it is a handler in `handlers` (descriptor → callable), most often the strand's own `wake`, or its deadline.
Descriptors are registered once, level-triggered; a handler treats the event it is given as a hint only and finds out by trying,
because a descriptor that was closed and reused inside one batch is told the events of its predecessor.

The reactor itself is one trio task: it waits for the epoll descriptor, runs bounded batches and goes back to trio, so ordinary trio
tasks (snapshots, statistics, drains) run beside it in the same thread, between two turns, never inside one.

Deadlines are kept in one heap, lazily: whoever has a deadline writes it to its own `deadline` and calls `arm` only if it is earlier
than the entry it already has (`armed`). An entry that comes due looks at the deadline as it is now and goes back if that has moved.
So a request that sets and clears its deadline costs two attribute writes, timers are exact, and the heap holds a few entries a
strand at most: an entry is never put further away than `_LOOK_AGAIN`, else those of long idle deadlines would pile up. What strands that
finished leave in it is swept out once that is more than half: 10,000 short connections a second would else be 600,000 entries.

Pure of policy: knows no HTTP, no TLS. The clock is an argument; a test drives `turn()` by hand over socketpairs.
"""

from __future__ import annotations

import contextlib
import heapq
import select
import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol

import structlog
import trio

log = structlog.get_logger("gateway.reactor")

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
NEVER = float("inf")

_BATCH = 256  # events of one epoll_wait: about 3 ms of work at 12 µs an event
_TURNS = 4  # polls before trio has its turn: its cycle costs about 6 µs, and 4 full batches stay near 10 ms
_SWEEP = 1024  # abandoned entries of the heap before it is looked through: under that they are not worth it
_LOOK_AGAIN = 60.0  # seconds; a strand's heap entry is looked at no later than this, see above

Handler = Callable[[int], object]


class DeadlineExceeded(Exception):
    """Thrown into a strand whose deadline passed while it waited."""


class Timed(Protocol):
    """Anything with a deadline: `deadline` as it is now, `armed` when the heap will look at it, `expired()` what happens then."""

    deadline: float
    armed: float

    def expired(self) -> None: ...


@types.coroutine
def suspend() -> Generator[None, int, int]:
    """Wait until a handler or a deadline wakes this strand. Returns the epoll events: a hint only."""
    return (yield)


class Timer:
    """A function to be called once, at `deadline`. `cancel()` any number of times."""

    __slots__ = ("armed", "deadline", "function")

    def __init__(self, deadline: float, function: Callable[[], object]) -> None:
        self.deadline = deadline
        self.armed = NEVER
        self.function: Callable[[], object] | None = function

    def cancel(self) -> None:
        self.deadline = NEVER
        self.function = None

    def expired(self) -> None:
        function, self.function = self.function, None
        self.deadline = NEVER
        if function is not None:
            function()


class Strand:
    """One sequential coroutine. `wake` is the handler that steps it; put it in the reactor's handlers before `await suspend()`.

    A strand is stepped only by the reactor (handlers, deadlines) and never while it runs: code that wants to interrupt another
    strand goes through `Reactor.soon`.
    """

    __slots__ = ("_coroutine", "_send", "armed", "deadline", "finished", "name", "reactor", "wake")

    def __init__(self, reactor: Reactor, name: str) -> None:
        self.reactor = reactor
        self.name = name
        self.deadline = NEVER
        self.armed = NEVER
        self.finished = False
        self.wake: Handler = self._step
        self._coroutine: Coroutine[None, int, None] | None = None

    def start(self, coroutine: Coroutine[None, Any, None]) -> None:
        self._coroutine = coroutine
        self._send = coroutine.send
        self._step(None)  # type: ignore[arg-type]  # a coroutine that was just made takes None only

    def _step(self, events: int) -> None:
        try:
            self._send(events)
        except StopIteration:
            self._finish()
        except Exception:
            self._crashed()

    def throw(self, error: BaseException) -> None:
        """Raise `error` at the strand's wait. Nothing if it has finished. Not from inside the strand itself."""
        if self.finished or self._coroutine is None:
            return
        try:
            self._coroutine.throw(error)
        except StopIteration:
            self._finish()
        except type(error):
            self._finish()
        except Exception:
            self._crashed()

    def cancel(self) -> None:
        """End the strand at its wait; its `finally` blocks run and must not wait. Not from inside the strand itself."""
        if not self.finished and self._coroutine is not None:
            try:
                self._coroutine.close()
            except Exception:
                self._crashed()
            self._finish()

    def until(self, when: float) -> None:
        """Set the deadline of this and all following waits; NEVER takes it away."""
        self.deadline = when
        if when < self.armed:
            self.reactor.arm(self)

    def expired(self) -> None:
        self.deadline = NEVER
        self.throw(DeadlineExceeded())

    def _finish(self) -> None:
        self.finished = True
        self.deadline = NEVER
        if self.armed != NEVER:
            self.armed = NEVER
            self.reactor.abandon()
        self.wake = nobody  # breaks the cycle strand → bound method → strand, so no collection is needed
        self.reactor.strands.discard(self)

    def _crashed(self) -> None:
        if self.finished:
            return  # woken by somebody who had taken `wake` before it finished
        log.exception("strand.crashed", strand=self.name)
        self._finish()

    def __repr__(self) -> str:
        return f"<Strand {self.name} {'finished' if self.finished else 'waiting'} deadline={self.deadline}>"


def nobody(events: int) -> None:
    """The handler of what has ended."""


class Reactor:
    """See the module. `now` is the clock, read once a turn."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.now = clock()
        self.handlers: dict[int, Handler] = {}
        self.strands: set[Strand] = set()
        self.at_turn_end: list[Callable[[], object]] = []  # run after every turn that had events or timers
        self._epoll = select.epoll()
        self._heap: list[tuple[float, int, Timed]] = []
        self._abandoned = 0  # entries of finished strands in the heap, about
        self._order = 0  # ties in the heap are broken by order of arrival, Timed things do not compare
        self._soon: list[Callable[[], object]] = []
        self._alarm: trio.CancelScope | None = None
        self._alarm_at = NEVER
        self.modify = self._epoll.modify

    # ------------------------------------------------------------------------------------------------ descriptors

    def register(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call `handler(events)` whenever the descriptor is ready, level-triggered, until `unregister`."""
        self.handlers[fd] = handler
        self._epoll.register(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget a descriptor; call it before closing. Nothing if it is not registered."""
        if self.handlers.pop(fd, None) is not None:
            with contextlib.suppress(OSError, ValueError):  # it was closed first, and so left the set by itself
                self._epoll.unregister(fd)

    # ------------------------------------------------------------------------------------------------------ strands

    def spawn(self, function: Callable[..., Coroutine[None, Any, None]], *args: object, name: str = "") -> Strand:
        """Start `function(strand, *args)`; it runs up to its first wait before this returns."""
        strand = Strand(self, name or function.__name__)
        self.strands.add(strand)
        strand.start(function(strand, *args))
        return strand

    def soon(self, function: Callable[[], object]) -> None:
        """Call `function` at the end of this turn, when no strand is running."""
        self._soon.append(function)
        if self._alarm_at > self.now:
            self._set_alarm(self.now)

    # ------------------------------------------------------------------------------------------------------- timers

    def call_at(self, when: float, function: Callable[[], object]) -> Timer:
        """Call `function` at `when` of the reactor's clock, from the loop, when no strand is running."""
        timer = Timer(when, function)
        self.arm(timer)
        return timer

    def call_later(self, seconds: float, function: Callable[[], object]) -> Timer:
        return self.call_at(self.clock() + seconds, function)

    def arm(self, timed: Timed) -> None:
        """Have the heap look at `timed.deadline`. Needed only when `deadline < armed`."""
        when = min(timed.deadline, self.now + _LOOK_AGAIN)
        timed.armed = when
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, timed))
        if when < self._alarm_at:
            self._set_alarm(when)

    def abandon(self) -> None:
        """Somebody whose entry is in the heap waits for nothing any more."""
        self._abandoned += 1
        heap = self._heap
        if self._abandoned > _SWEEP and self._abandoned * 2 > len(heap):
            self._abandoned = 0
            heap[:] = [entry for entry in heap if entry[2].armed == entry[0]]
            heapq.heapify(heap)

    def run_timers(self) -> None:
        """Expire what is due at `now`, then what `soon` was given."""
        heap, now = self._heap, self.now
        while heap and heap[0][0] <= now:
            when, _, timed = heapq.heappop(heap)
            if timed.armed != when:
                continue  # an earlier entry took its place
            timed.armed = NEVER
            if timed.deadline <= now:
                timed.expired()
            if timed.deadline < timed.armed:
                self.arm(timed)
        while self._soon:
            batch, self._soon = self._soon, []
            for function in batch:
                function()

    # --------------------------------------------------------------------------------------------------------- turns

    def turn(self) -> int:
        """One batch of events, then what is due. Returns how many events there were."""
        events = self._epoll.poll(0, _BATCH)
        self.now = now = self.clock()
        find = self.handlers.get
        for fd, event in events:
            handler = find(fd)
            if handler is not None:
                handler(event)
        if self._soon or (self._heap and self._heap[0][0] <= now):
            self.run_timers()
        for function in self.at_turn_end:
            function()
        return len(events)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. Cancelled, every strand has been closed (its `finally` blocks run) and the epoll set too."""
        fd = self._epoll.fileno()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_time)
                task_status.started()
                while True:
                    await trio.lowlevel.wait_readable(fd)
                    for _ in range(_TURNS):
                        if not self.turn():
                            break
        finally:
            self.close()

    async def _keep_time(self) -> None:
        """Runs timers when no event does. Sleeps in a scope whose deadline `_set_alarm` moves."""
        while True:
            self.now = self.clock()
            self._alarm_at = self._heap[0][0] if self._heap else NEVER
            if self._soon:
                self._alarm_at = self.now
            with trio.CancelScope(deadline=self._trio_time(self._alarm_at)) as self._alarm:
                await trio.sleep_forever()
            self.now = self.clock()
            self.run_timers()
            for function in self.at_turn_end:
                function()

    def _set_alarm(self, when: float) -> None:
        self._alarm_at = when
        if self._alarm is not None:
            self._alarm.deadline = self._trio_time(when)

    def _trio_time(self, when: float) -> float:
        return trio.current_time() + (when - self.clock())

    def close(self) -> None:
        """End every strand at its wait, and the epoll set."""
        for strand in list(self.strands):
            strand.cancel()
        self.strands.clear()
        self.handlers.clear()
        self._epoll.close()

    def __repr__(self) -> str:
        return f"<Reactor {len(self.handlers)} descriptors {len(self.strands)} strands {len(self._heap)} timers>"
