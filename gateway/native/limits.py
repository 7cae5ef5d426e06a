"""The limits of a backend at work, over all workers of the gateway: gates that count, the line for a connection, rate limits.

Theory of operation. A `Gate` is one circuit breaker: this worker's share is in shared memory, beside those of the others. A backend
without a limit has no gate, so a limit that is not there costs a look at an attribute.

`Line` is who waits for a connection to one endpoint because the limit of connections is reached: first come, first served. Whoever is given a
connection goes on at the end of the turn, in a turn of his own, so that giving never runs the taker inside the giver.

`Limiter` is a backend's rate limits: which of them are about a request, and their buckets; the arithmetic is policy/ratelimit.py's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.native.reactor import Reactor, Strand, suspend
from gateway.native.shared import Shared, counter_key
from gateway.native.tables import Counter, Mark
from gateway.policy.ratelimit import Asked, Bucket, descriptor, taken
from gateway.snapshot import RateLimit


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)

CONNECTIONS, PENDING, RETRIES = "connections", "pending", "retries"


class Gate:
    """One count of a backend, over all workers (of this one alone without shared memory). limit: 0 = only counted."""

    __slots__ = ("_counter", "_own", "limit")

    def __init__(self, shared: Shared | None, backend: str, of: str, own: int) -> None:
        """own: what this worker has of it already."""
        self.limit = 0
        self._own = own
        self._counter: Counter | None = None
        if shared is not None:
            self._counter = shared.counter(counter_key(backend, of))
            self._counter.add(own)

    def add(self, delta: int) -> None:
        """About 0.2 µs."""
        self._own += delta
        if self._counter is not None:
            self._counter.add(delta)

    def total(self) -> int:
        """About 0.2 µs for each worker."""
        return self._own if self._counter is None else self._counter.total()

    def full(self) -> bool:
        """Whether one more would be too many."""
        return 0 < self.limit <= self.total()

    def close(self) -> None:
        """It counts no more."""
        if self._counter is not None:
            self._counter.forget()
            self._counter = None

    def __repr__(self) -> str:
        return f"<Gate {self.total()} of {self.limit or 'any'}>"


class _Waiting(Generic[T]):
    __slots__ = ("given", "strand", "woken")

    def __init__(self, strand: Strand) -> None:
        self.strand = strand
        self.given: T | None = None
        self.woken = False


class Line(Generic[T]):
    """Who waits for a connection (T) to one endpoint. `len` = how many."""

    __slots__ = ("_line", "_reactor")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._line: deque[_Waiting[T]] = deque()

    def __len__(self) -> int:
        return len(self._line)

    async def wait(self, strand: Strand) -> T | None:
        """Wait until it is this strand's turn. Returns a connection, or None: one may be opened (look at the limit once more).

        Raises what the strand is thrown, DeadlineExceeded too. Interrupted, the place is given up, and a connection that was given just
        then goes to the next, or is closed."""
        mine: _Waiting[T] = _Waiting(strand)
        self._line.append(mine)
        try:
            while not mine.woken:
                await suspend()
        except BaseException:
            if not mine.woken:
                self._line.remove(mine)
            elif mine.given is None:
                self.freed()
            elif not self.offer(mine.given):
                mine.given.close()
            raise
        return mine.given

    def offer(self, connection: T) -> bool:
        """Give a free connection to the first in the line; False when nobody waits."""
        return self._wake(connection)

    def freed(self) -> None:
        """A connection was closed: the first in the line may open one in its place."""
        self._wake(None)

    def _wake(self, connection: T | None) -> bool:
        if not self._line:
            return False
        first = self._line.popleft()
        first.given, first.woken = connection, True
        self._reactor.soon(lambda: first.strand.wake(0))
        return True

    def __repr__(self) -> str:
        return f"<Line of {len(self._line)}>"


class Limiter:
    """A backend's rate limits. A request passes when every limit that is about it has a token; then it takes one of each."""

    __slots__ = ("_limits", "_shared", "limits")

    def __init__(self, limits: Sequence[RateLimit], shared: Shared, backend: str) -> None:
        self._shared = shared
        self.limits = tuple(limits)
        prefix = backend.encode() + b"\0"
        self._limits = [(limit, Bucket.of(limit), prefix + msgspec.json.encode(limit)) for limit in limits]

    def refuses(
        self, head: Asked, source: str, identity: str, now: float, claims: Mapping[str, str] | None = None
    ) -> RateLimit | None:
        """The limit that has no token for this request; None when it may pass. source: the client's address, after trusted proxies.
        identity: proven by its certificate, "" = none. claims: of its verified token, by path `a.b`. now: seconds, the clock of shared
        memory. About 3 µs for each limit."""
        now_ns = int(now * 1e9)
        passed: list[tuple[Mark, tuple[int, int]]] = []
        for limit, bucket, name in self._limits:
            values = descriptor(limit, head, source=source, identity=identity, claims=claims)
            if values is None:
                continue
            mark = self._shared.mark(name, values)
            after = taken(mark.own, mark.others(), bucket, now_ns)
            if after is None:
                return limit
            passed.append((mark, after))
        for mark, (epoch, count) in passed:
            mark.write(epoch, count)
        return None

    def __repr__(self) -> str:
        return f"<Limiter {', '.join(f'{limit.tokens}/{limit.per_ms} ms' for limit, _, _ in self._limits)}>"
