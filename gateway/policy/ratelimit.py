"""Local rate limits: a token bucket that all workers take from, and what tells requests apart (FIELD j6, j8).

Theory of operation. A bucket holds at most `burst` tokens and gains `tokens` each `per`, evenly over that time (as Envoy 1.40; not all at
once). Its content is kept as what is missing, its *debt*: 0 = full, one more for each request, less by `rate` each second, never under
0. A request passes while debt + 1 <= burst.

No word of shared memory has two writers, so each worker writes how many it let through itself, and all read all. What makes that one
bucket is the *epoch*: the time at which a full bucket was first taken from. As long as the debt is over 0 nothing is cut off at 0,
so it is simply

    sum of what every worker let through since the epoch - rate * (now - epoch)

and who finds it paid begins a new epoch with himself as the first. Marks of an epoch that was paid when a newer one began count no
more. Two workers that find it paid at the same moment begin two epochs; all then read the later one, as it began while the
earlier was not paid, as part of the earlier, and so nothing is lost. Two that take the last token at the same moment do not see each
other: so a limit is exact to within one request a worker.

Pure: no clock; times are whole nanoseconds of a monotonic clock that is one for all processes of the machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.snapshot import RateLimit

Mark = tuple[int, int]
"""(epoch, how many were let through since): what one worker wrote; (0, 0) = nothing."""


class Asked(Protocol):
    """What a limit looks at in a request's head."""

    method: bytes
    path: bytes

    def values(self, name: bytes) -> list[bytes]: ...


class Bucket(NamedTuple):
    """A RateLimit in the units of the arithmetic. rate: tokens per nanosecond."""

    burst: int
    rate: float

    @classmethod
    def of(cls, limit: RateLimit) -> Bucket:
        return cls(limit.burst or limit.tokens, limit.tokens / (max(1, limit.per_ms) * 1e6))


def running(marks: Iterable[Mark], rate: float) -> Mark:
    """The epoch that runs, and how many all together were let through in it; (0, 0) = none ever."""
    epoch = count = 0
    for begun, let in sorted(marks):
        if begun != epoch and count - rate * (begun - epoch) <= 0.0:
            epoch, count = begun, let
        else:
            count += let
    return epoch, count


def debt(marks: Iterable[Mark], rate: float, now: int) -> float:
    """Tokens missing from the bucket."""
    epoch, count = running(marks, rate)
    return max(0.0, count - rate * max(0, now - epoch))


def taken(own: Mark, others: Sequence[Mark], bucket: Bucket, now: int) -> Mark | None:
    """This worker's mark after one more request; None when the bucket has no token for it."""
    epoch, count = running((own, *others), bucket.rate)
    missing = max(0.0, count - bucket.rate * max(0, now - epoch))
    if missing + 1.0 > bucket.burst:
        return None
    if missing <= 0.0:
        return now, 1
    return epoch, 1 + (own[1] if own[0] >= epoch else 0)


def descriptor(
    limit: RateLimit, head: Asked, *, source: str, identity: str, claims: Mapping[str, str] | None
) -> tuple[str | bytes, ...] | None:
    """What tells this request's bucket from others of the limit; None when the limit is not about this request: a `match` that does not
    hold, or something of `by` that it lacks. A header that came several times is its values joined, as in Envoy."""
    for name, value in limit.match:
        found = head.values(name.encode())
        if not found or (value and b",".join(found) != value.encode()):
            return None
    values: list[str | bytes] = []
    for kind, name in limit.by:
        value_of: str | bytes
        match kind:
            case "header":
                value_of = b",".join(head.values(name.encode()))
            case "source":
                value_of = source
            case "path":
                value_of = head.path
            case "method":
                value_of = head.method
            case "identity":
                value_of = identity
            case "claim":
                value_of = "" if claims is None else claims.get(name, "")
            case _:
                value_of = ""
        if not value_of:
            return None
        values.append(value_of)
    return tuple(values)
