"""The limits of a backend at work, over all workers of the gateway: gates that count, the line for a connection, rate limits.

Theory of operation. A `Gate` is one circuit breaker: this worker's share is in shared memory, beside those of the others. A backend
without a limit has no gate, so a limit that is not there costs a look at an attribute.

`Line` is who waits for a connection to one endpoint because the limit of connections is reached: first come, first served, whatever version
of HTTP he speaks; only room on a connection of HTTP/2 goes to the first who speaks that. Whoever is told goes on at the end of the turn,
in a turn of his own, so that giving never runs the taker inside the giver; who then finds the place taken waits on where he stood.

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


class Place(Generic[T]):
    """Somebody's place in a line: kept while he is told that he may look, and finds nothing. shares: he wants a connection that many share,
    so room on one that stands will do, and one of HTTP/1 is of no use to him but for its place."""

    __slots__ = ("given", "number", "shares", "strand", "woken")

    def __init__(self, strand: Strand, *, shares: bool = False) -> None:
        self.strand = strand
        self.shares = shares
        self.given: T | None = None
        self.woken = False
        self.number = -1  # of the line, in the order of coming


class Line(Generic[T]):
    """Who waits for a connection (T) to one endpoint. `len` = how many."""

    __slots__ = ("_came", "_line", "_reactor")

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._line: deque[Place[T]] = deque()
        self._came = 0

    def __len__(self) -> int:
        return len(self._line)

    async def wait(self, place: Place[T]) -> T | None:
        """Wait until it is this place's turn. Returns a connection, or None: one may be opened, or a shared one has room (look once more,
        and wait again if it has not: the place is kept).

        Raises what the strand is thrown, DeadlineExceeded too. Interrupted, the place is given up, and a connection that was given just
        then goes to the next, or is closed."""
        place.given, place.woken = None, False
        self._enter(place)
        try:
            while not place.woken:
                await suspend()
        except BaseException:
            if not place.woken:
                self._line.remove(place)
            elif place.given is None:
                self.freed()
            elif not self.offer(place.given):
                place.given.close()
            raise
        return place.given

    def _enter(self, place: Place[T]) -> None:
        line = self._line
        if place.number < 0:
            self._came += 1
            place.number = self._came
            line.append(place)
            return
        at = next((at for at, other in enumerate(line) if other.number > place.number), len(line))
        line.insert(at, place)

    @property
    def first_shares(self) -> bool:
        """Whether the first in the line wants a shared connection."""
        return bool(self._line) and self._line[0].shares

    def offer(self, connection: T) -> bool:
        """Give a free connection to the first in the line; False when nobody waits."""
        return self._wake(self._line[0], connection) if self._line else False

    def freed(self) -> None:
        """A connection was closed: the first in the line may open one in its place."""
        if self._line:
            self._wake(self._line[0], None)

    def room(self) -> None:
        """A shared connection has room: for the first who can use that."""
        sharing = next((place for place in self._line if place.shares), None)
        if sharing is not None:
            self._wake(sharing, None)

    def _wake(self, place: Place[T], connection: T | None) -> bool:
        self._line.remove(place)
        place.given, place.woken = connection, True
        self._reactor.soon(lambda: place.strand.wake(0))
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
