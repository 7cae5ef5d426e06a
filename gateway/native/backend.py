"""One backend at work in one worker: picks endpoints, follows what becomes of requests, keeps the counts.

The life of an attempt, in the order the exchange calls it:

    host = state.pick(now)                       or None: NoHealthyEndpoint
    state.started(host, exchange, now)           before it asks the pool for a connection
    state.answered(host, exchange, status, now)  the head of a final answer is here
      or state.failed(host, exchange, failure, now)   there will be none from this attempt
    state.finished(host, exchange)               exactly once for each `started`, whatever happened

Another attempt: `host = state.pick_again(now, tried, retry)`. `now` is `time.monotonic()`: the clock of shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from discovery.model import Health
from gateway.engine import BackendStatistics, EndpointStatistics, PriorityMoved, Report
from gateway.native.accounts import Where, backend_statistics, carrying, endpoint_statistics, where
from gateway.native.elsewhere import Entries, draw, next_on_ring, pick_untried
from gateway.native.fitness import Fitness
from gateway.native.guard import Guarded
from gateway.native.host import Host, Waiter
from gateway.native.returning import Returning
from gateway.native.shared import Ejection, Shared
from gateway.native.spread import EMPTY, NEVER, ByKey, gather, natural, spread
from gateway.policy.balance import Random
from gateway.policy.failure import Failure
from gateway.policy.retry import excluded_priorities
from gateway.snapshot import Backend, Balance, LbEndpoint, RetryPolicy
from gateway.verdicts import Verdict

# A ramp moves in steps of a per cent; the journal wants the movement, not each step.
_MOVE_REPORTS = 0.25
# The shortest ramp still has steps that one can see, and a long one is not computed more often than it has per cents.
_STEP = 0.1


class BackendState(Guarded):
    """See the module. Create and change it through `Upstreams`. retries, overflow: counted by the exchange. fitness: which of its
    endpoints are fit. closed: the Snapshot has it no more."""

    __slots__ = (
        "_entries",
        "_evacuated",
        "_gone",
        "_hashed",
        "_moved_at",
        "_ramp",
        "_random",
        "_reported",
        "_returned",
        "_spread",
        "_step_at",
        "_suspicious",
        "_timed",
        "_verdicts",
        "_wakeful",
        "_without",
        "awake",
        "backend",
        "closed",
        "endpoints",
        "fitness",
        "hosts",
        "overflow",
        "reports",
        "retries",
        "used",
    )

    def __init__(
        self,
        backend: Backend,
        *,
        random: Random,
        shared: Shared | None = None,
        reports: list[Report] | None = None,
        awake: list[BackendState] | None = None,
    ) -> None:
        """reports: where to say what happened. awake: where to put itself when it wants to be ticked."""
        super().__init__()
        self.backend = backend
        self.reports = [] if reports is None else reports
        self.awake = self.closed = self.used = False  # used: something was sent to it, or learnt of it, ever
        self._wakeful = [] if awake is None else awake
        self.endpoints: Sequence[LbEndpoint] = ()
        self.hosts: dict[str, Host] = {}
        self.retries = self.overflow = 0
        self._random = random
        self._verdicts: Mapping[str, Verdict] = {}
        self._evacuated: Mapping[str, int] = {}
        self._gone: dict[Where, int] = {}  # traffic of hosts that are no more, or were elsewhere before
        self.fitness = Fitness(backend, shared, self.reports)
        self._ramp: Returning | None = None
        self._spread = EMPTY
        self._entries: Entries = []
        self._without: dict[frozenset[int], Entries] = {}  # the same without some priorities
        self._hashed: ByKey | None = None
        self._returned: list[Host] = []  # by a check, since the last rebuild: they warm up
        self._reported: tuple[int, ...] = ()
        self._moved_at = self._step_at = float("-inf")
        self._configure(backend)

    # ------------------------------------------------------------------------------------------------------- picking

    def pick(self, now: float, *, repeatable: bool = True, key: int | None = None, original: str = "") -> Host | None:
        """The endpoint for a request's first attempt, None when there is none in service. repeatable: it may be sent again if this
        endpoint does not answer; such requests also find out whether an endpoint that was silent is back. key: the request's hash, where the
        balance wants one (None: any endpoint). original: `ADDRESS:PORT` that the client meant, where the balance is PASSTHROUGH.
        About 0.5 µs."""
        fitness = self.fitness
        if fitness.changed:
            self._rebuild(now)
        if fitness.asking:
            host = fitness.ask(now, repeatable=repeatable)
            if host is not None:
                return host
        if key is not None and self._hashed is not None:
            return self._hashed(key)
        entries = self._entries
        if len(entries) == 1:
            return entries[0][1]()
        if not entries:
            return None if self.originals is None else self.originals.pick(original, now)
        point = self._random() * 100.0
        for bound, choose in entries:
            if point < bound:
                return choose()
        return entries[-1][1]()

    def pick_again(
        self, now: float, tried: Sequence[Host], policy: RetryPolicy, *, elsewhere: bool = False, key: int | None = None
    ) -> Host | None:
        """The endpoint for another attempt. elsewhere: only one that was not tried, else None (`untried` tells beforehand). key: as for
        `pick`. tried: in order. Under policy.immediate (defaults: fedgate) an untried one, wherever it is (native/elsewhere.py), if there
        is one. Otherwise as Envoy: the balance picks anew up to host_attempts times to find another (previous_hosts), after every second
        attempt not in the priorities tried so far (previous_priorities)."""
        if self.fitness.changed:
            self._rebuild(now)
        if self.originals is not None:
            return self.originals.again(tried, now, elsewhere=elsewhere)
        hashed = None if key is None else self._hashed
        if policy.immediate or elsewhere:
            host = None if hashed is None or key is None else next_on_ring(hashed, key, tried, self.fitness, now)
            host = host or pick_untried(self._spread, self.fitness, tried, now, self._random)
            if host is not None or elsewhere:
                return host
        entries = self._entries
        if policy.previous_priorities:
            entries = self._entries_without(excluded_priorities([host.priority for host in tried]))
        attempts = policy.host_attempts if policy.previous_hosts else 0
        for attempt in range(attempts + 1):
            host = draw(entries, self._random) if hashed is None or key is None else hashed(key, attempt)
            if host not in tried:
                break
        return host

    def _entries_without(self, excluded: frozenset[int]) -> Entries:
        """As if those priorities had nobody; as ever when then nobody is left."""
        if not excluded:
            return self._entries
        found = self._without.get(excluded)
        if found is None:
            others = [host for host in self.fitness.hosts if host.priority not in excluded]
            found = spread(self.backend, gather(others, self._evacuated), None, self._random).entries or self._entries
            self._without[excluded] = found
        return found

    def untried(self, tried: Sequence[Host]) -> int:
        """How many endpoints in service a request has not tried."""
        if self.originals is not None:
            return self.originals.untried(tried)
        return sum(1 for hosts in self._spread.in_service for host in hosts if host not in tried)

    # ------------------------------------------------------------------------------------------- the life of an attempt

    def started(self, host: Host, waiter: Waiter, now: float) -> None:
        """An attempt is given to the host; it waits from here on."""
        host.active += 1
        host.requests += 1
        host.waiting[waiter] = now
        self.active += 1
        self.used = True
        if not self.awake:
            self.wake()
        if self._requests is not None:
            self._requests.add(1)

    def answered(self, host: Host, waiter: Waiter, status: int, now: float) -> None:
        """The head of the final answer is here. Of gRPC: `errors.to_http` of its grpc-status, if that is in the head; one in the trailers
        does not count (as in Envoy)."""
        began = host.waiting.pop(waiter, None)
        if began is not None:
            host.latencies.record(now - began)
            if self._timed:
                host.observe(now - began, now)
        host.last_answer = now
        if status >= 500:
            host.failures += 1
            self.fitness.answered(host, status, now)
        elif host.tally.faulty or host.asked or host.half_open or host.own or status >= self._suspicious:
            self.fitness.answered(host, status, now)

    def failed(self, host: Host, waiter: Waiter, failure: Failure, now: float) -> None:
        """The attempt ended without an answer, or broke off in the middle of one. Not for a client that went away."""
        host.waiting.pop(waiter, None)
        host.failures += 1
        self.fitness.failed(host, failure, now)

    def finished(self, host: Host, waiter: Waiter) -> None:
        """The attempt is over: once for each `started`."""
        host.waiting.pop(waiter, None)
        host.active -= 1
        self.active -= 1
        if self._requests is not None:
            self._requests.add(-1)

    def wake(self) -> None:
        """Have it ticked from now on, until nothing is in flight, out, or on its way."""
        if not self.awake:
            self.awake = True
            self._wakeful.append(self)

    def tick(self, now: float, *, rebuild: bool = True) -> bool:
        """Silence, sweep, failback. Call it every 50 ms, through Upstreams. rebuild: there is time to compute anew what changed;
        else the next request or the next tick does. Returns whether it did."""
        fitness = self.fitness
        fitness.tick(now, busy=self.active > 0)
        if self._ramp is not None and self._ramp.moving and now >= self._step_at:
            self._step_at = now + max(_STEP, self._ramp.policy.ramp_ms / 100_000)
            fitness.changed = True
        if now >= self._spread.step_at:
            fitness.changed = True
        rebuilt = rebuild and fitness.changed
        if rebuilt:
            self._rebuild(now)
        loads = self._spread.loads
        whole = self._spread.build()
        moving = self._ramp is not None and self._ramp.moving
        # A ramp is two reports, not one a step: when a priority begins to carry traffic again, and when it carries all of its share.
        moved = loads != self._reported and (not moving or carrying(loads) != carrying(self._reported))
        if moved and now - self._moved_at >= _MOVE_REPORTS:
            if self._reported:
                self.reports.append(PriorityMoved(self.backend.name, self._reported, loads))
            self._reported, self._moved_at, moved = loads, now, False
        waits = fitness.changed or fitness.evictions or fitness.restless or self._spread.step_at < NEVER
        self.awake = bool(self.active or moved or moving or waits or not whole)
        return rebuilt

    def take_evictions(self) -> list[tuple[Waiter, Host]]:
        """Who is to be told that its host gives no answer."""
        taken, self.fitness.evictions = self.fitness.evictions, []
        return taken

    # ---------------------------------------------------------------------------------------------- what is known

    def reconcile(self, backend: Backend, endpoints: Sequence[LbEndpoint], now: float) -> list[Host]:
        """Take over a Snapshot's parts. Hosts keep their state as long as the endpoint's id and address stay. Returns those that are
        no more: their idle connections are to be closed, requests on them end as they would."""
        self.endpoints = endpoints
        removed = []
        wanted = {endpoint.id: endpoint for endpoint in endpoints}
        for key, host in list(self.hosts.items()):
            endpoint = wanted.get(key)
            if endpoint is None or endpoint.key != host.key:
                self._fold(host)
                self.fitness.forget(host)
                removed.append(self.hosts.pop(key))
        for endpoint in endpoints:
            known = self.hosts.get(endpoint.id)
            if known is None:
                self.hosts[endpoint.id] = Host(backend.name, endpoint, now)
            elif known.endpoint != endpoint:
                self._fold(known)
                known.endpoint, known.priority = endpoint, endpoint.priority
        self.fitness.hosts = list(self.hosts.values())
        if backend != self.backend:
            self._configure(backend)
        self.assess(self._verdicts, self._evacuated)
        if backend.hash is not None:
            self.wake()  # its hash tables are built by ticks: at once, not when the first request comes
        return removed

    def _configure(self, backend: Backend) -> None:
        self.backend = backend
        codes = backend.outlier.error_codes if backend.outlier is not None else ()
        self._suspicious = min(400, *codes) if codes else 400  # statuses from here on are looked at
        self._timed = backend.balance is Balance.PEAK_EWMA
        self.fitness.configure(backend)
        if backend.failback is None:
            if self._ramp is not None:
                self._ramp.close()
            self._ramp = None
        elif self._ramp is None:
            self._ramp = Returning(backend.failback, backend.name, self.fitness.shared)
        else:
            self._ramp.policy = backend.failback
        shared = self.fitness.shared
        self.limit(backend, shared, sum(host.opened for host in self.hosts.values()))
        self.guard(backend, shared)

    def assess(self, verdicts: Mapping[str, Verdict], evacuated: Mapping[str, int]) -> None:
        """Take over what control knows of this backend's endpoints, by id or group."""
        self._verdicts, self._evacuated = verdicts, evacuated
        for host in self.fitness.hosts:
            verdict = verdicts.get(host.endpoint.group or host.id)
            if host.verdict is verdict:
                continue
            usable = host.verdict is None or host.verdict.health.usable
            host.verdict = verdict
            # What waits at an endpoint that just failed its checks goes elsewhere if it may. One that drains answers what it has.
            if usable and verdict is not None and verdict.health is Health.UNHEALTHY:
                self.fitness.evict(host)
            elif not usable and (verdict is None or verdict.health.usable):
                self._returned.append(host)
        self.fitness.changed = True
        self.wake()

    def address_state(self, host: Host, *, down: bool) -> None:
        """The host's address is gone (what waits there is evicted), or is back."""
        if host.down != down:
            host.down = down
            self.fitness.changed = True
            self.wake()
            if down:
                self.fitness.evict(host)

    def seen(self, host: Host, ejection: Ejection | None, now: float) -> None:
        """What shared memory now says of a host; call it when that changed."""
        self.fitness.seen(host, ejection, now)
        self.used = True
        self.wake()

    def reached(self) -> list[Host]:
        """Everybody who may have connections: listed, or meant by a client."""
        return [*self.hosts.values(), *(self.originals.hosts.values() if self.originals is not None else ())]

    def close(self) -> None:
        """The backend is gone: its ejections and counters count no more."""
        self.closed = True
        for host in self.fitness.hosts:
            self.fitness.forget(host)
        self.unlimit()
        if self._ramp is not None:
            self._ramp.close()
        if self.originals is not None:
            self.originals.close()

    def _rebuild(self, now: float) -> None:
        hosts = self.fitness.hosts
        priorities = gather(hosts, self._evacuated)
        if not any(priority.in_healthy or priority.in_degraded for priority in priorities):
            priorities = gather(hosts, self._evacuated, half_open=True)
        granted = None
        if self._ramp is not None:
            over = self.backend.overprovisioning
            granted = self._ramp.grant(now, [(priority.name, natural(priority, over)) for priority in priorities])
        for host in self._returned:
            host.since = now
        self._returned.clear()
        self._spread = spread(self.backend, priorities, granted, self._random, now=now)
        self._entries = self._spread.entries
        self._hashed = self._spread.hashed
        self._without.clear()
        self.fitness.changed = False

    # ---------------------------------------------------------------------------------------------------- statistics

    def _fold(self, host: Host) -> None:
        """Keep what the host carried under its present priority and locality, before these change."""
        key = where(host)
        self._gone[key] = self._gone.get(key, 0) + host.requests - host.folded
        host.folded = host.requests

    def statistics(self) -> BackendStatistics:
        """loads are those of the last request or tick."""
        return backend_statistics(
            self.backend.name,
            self._spread,
            self.fitness.hosts,
            self._gone,
            retries=self.retries,
            overflow=self.overflow,
            guarded=self,
        )

    def endpoint_statistics(self, now: float, connections: Callable[[Host], int]) -> list[EndpointStatistics]:
        """connections: how many the pool has open to a host."""
        return endpoint_statistics(self.backend.name, self.fitness.hosts, now, connections)

    def __repr__(self) -> str:
        return f"<BackendState {self.backend.name} loads={self._spread.loads} active={self.active} {self.fitness.hosts}>"
