"""Who may use one backend, how often, and what its clients may name: what is decided before an endpoint is picked.

Theory of operation. What a Snapshot does not ask for is None, and asking costs a look at that. What a changed Snapshot leaves as it was keeps
its state: decisions, token buckets, the endpoints that clients meant.
"""

from __future__ import annotations

from gateway.native.breakers import Breakers
from gateway.native.host import Host
from gateway.native.limits import Limiter
from gateway.native.original import Originals
from gateway.native.shared import Shared
from gateway.policy.access import Access
from gateway.policy.reach import Reach
from gateway.snapshot import Backend, Balance


class Guarded(Breakers):
    """access: who may use it, None = everybody. limiter: its rate limits. reach: what its clients may name, where the backend is
    dynamic. originals: the endpoints that they meant, where the balance is PASSTHROUGH."""

    __slots__ = ("access", "limiter", "originals", "reach")

    def __init__(self) -> None:
        super().__init__()
        self.access: Access | None = None
        self.limiter: Limiter | None = None
        self.reach: Reach | None = None
        self.originals: Originals | None = None

    def guard(self, backend: Backend, shared: Shared | None) -> None:
        """As this Snapshot's part says, from now on."""
        if backend.allowed is None:
            self.access = None
        elif self.access is None or backend.allowed != self.access.rules:
            counts = self.access.counts if self.access is not None else {}
            self.access = Access(backend.allowed)
            self.access.counts = counts  # they only grow, whatever the rules
        self.reach = Reach(backend.dynamic_hosts, backend.dynamic_networks, backend.dynamic_except) if backend.dynamic_dns else None
        if backend.balance is not Balance.PASSTHROUGH:
            if self.originals is not None:
                self.originals.close()
            self.originals = None
        elif self.originals is None:
            self.originals = Originals(backend.name)
        if not backend.rate_limits or shared is None:
            self.limiter = None
        elif self.limiter is None or backend.rate_limits != self.limiter.limits:
            self.limiter = Limiter(backend.rate_limits, shared, backend.name)

    def named(self, name: str, addresses: tuple[str, ...], port: int, now: float) -> Host | None:
        """The endpoint for a name that the client asked for, whose addresses these are."""
        return None if self.originals is None else self.originals.named(name, addresses, port, now)
