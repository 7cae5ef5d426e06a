"""rateLimits of a ServicePolicy: how many requests, of whom, in which time (FIELD j6, j8).

rateLimits:
- {requests: 100, per: 1s}                                  # all together
- {requests: 10, per: 1s, burst: 20, by: [source]}          # each client address
- {requests: 5, per: 1m, by: [header:x-api-key, path], match: {x-plan: free}}
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from federation.resources.checks import duplicates, duration_fault, fault, header_name_fault, range_fault
from federation.resources.message import Fault, Message
from federation.resources.scalars import Milliseconds, Whole, ms

PLAIN = ("source", "path", "method", "identity")
NAMED = ("header", "claim")
_MOST = 1_000_000_000  # more is no limit; keeps the arithmetic far from where floats count no more


def parse_by(text: str) -> tuple[str, str] | None:
    """`source` → ("source", ""), `header:X-User` → ("header", "x-user"), `claim:a.b` → ("claim", "a.b"); None when it is neither."""
    kind, colon, name = text.partition(":")
    if not colon:
        return (kind, "") if kind in PLAIN else None
    if kind not in NAMED or not name:
        return None
    return kind, name.lower() if kind == "header" else name


class RateLimit(Message):
    """A token bucket: `requests` tokens come in each `per`, at most `burst` (default: requests) are kept. by: what requests are told apart
    by, each combination of values with a bucket of its own. match: only requests with these headers ("" = with any value)."""

    requests: Whole
    per: Milliseconds = ms(1000)
    burst: Whole | None = None
    by: tuple[str, ...] = ()
    match: dict[str, str] = Field(default_factory=dict)
    name: str = ""

    def faults(self) -> Iterator[Fault]:
        yield from fault(("requests",), range_fault(self.requests, 1, _MOST))
        yield from fault(("per",), duration_fault(self.per))
        yield from fault(("burst",), range_fault(self.burst, 1, _MOST))
        for index, text in enumerate(self.by):
            found = parse_by(text)
            if found is None:
                known = ", ".join((*PLAIN, *(f"{kind}:NAME" for kind in NAMED)))
                yield Fault(("by", index), f"`{text[:80]}` is nothing that requests are told apart by; write one of {known}")
            elif found[0] == "header":
                yield from fault(("by", index), header_name_fault(found[1]))
            elif found[0] == "claim":
                message = (
                    "no request has a verified claim as long as no RequestAuthentication is read; until then this limits nobody"
                )
                yield Fault(("by", index), message, warning=True)
        for index, _ in duplicates([parse_by(text) or text for text in self.by]):
            yield Fault(("by", index), f"`{self.by[index]}` is written twice; remove one")
        for name in self.match:
            yield from fault(("match", name), header_name_fault(name))
