"""Circuit breakers: how many connections, waiting requests, requests and retries a backend may have over all workers of the gateway.

Pure: the counts are arguments. They come from shared memory, each worker's own share exact and the others' as of their last write,
so every limit is exact to within one request a worker (DESIGN section 2).
"""

from __future__ import annotations

from gateway.snapshot import RetryBudget


def admits(limit: int, in_flight: int) -> bool:
    """Whether one more may begin. limit 0 = no limit."""
    return not limit or in_flight < limit


def may_connect(limit: int, opened: int, own: int) -> bool:
    """Whether one more connection may be opened. opened: over all endpoints of the backend; own: to the endpoint in question. One
    that has none may always open its first, whatever the others hold: else it would never get a request done (Envoy's pools do
    the same)."""
    return not own or admits(limit, opened)


def may_retry(limit: int, budget: RetryBudget | None, active: int, retrying: int) -> bool:
    """Whether one more retry may run beside `retrying` others while `active` requests are in flight. A budget takes the limit's place."""
    if budget is None:
        return admits(limit, retrying)
    return retrying < max(budget.least, active * budget.percent // 100)
