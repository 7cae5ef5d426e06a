"""Circuit breaker: how many requests of a backend may be in flight over all workers of the gateway.

Pure: the counts are arguments. They come from shared memory, each worker's own share exact and the others' as of their last write,
so the limit is exact to within one request a worker (DESIGN section 2).
"""

from __future__ import annotations


def admits(limit: int, in_flight: int) -> bool:
    """Whether one more request may begin. limit 0 = no limit."""
    return not limit or in_flight < limit
