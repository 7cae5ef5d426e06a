"""Which endpoints of a backend are fit for traffic: ejections of this worker and of the others, silence, and the way back.

Theory of operation. Faults are counted inline and eject inline; the sweep (every `interval`) only brings back. Under silence
detection (defaults: fedgate) the way back of an endpoint that gave no answer is cautious:

    in service → ejected → (sweep after base * times) → half-open → (one answer) → in service
                    ↑______________ no answer ______________↓

A half-open endpoint stands outside the balance: its priority does not count it, and of the requests that are safe to repeat the
next one is sent to it, one at a time. So a region that is still dead costs one request per endpoint and base time a pause of the
silence floor (it then goes elsewhere), and nobody a failure; a region that is back is known to answer before failback begins its
hold-down. If all requests are unsafe to repeat, one of those is sent after PATIENCE. When nothing else at all is in service,
half-open endpoints take everything. An endpoint ejected for the answers it gave (consecutive-5xx) comes back at once, as in Envoy.

An endpoint that answers while it is ejected for silence was not dead: it is back at that moment. What was not safe to move away
keeps waiting on it and so is the witness.

Every worker publishes its ejections in shared memory (`shared`, None in tests and single processes) and takes everybody's as its
own; each then finds its own way back through half-open. `max_ejection_percent` holds over the union; when two workers ejected at
the same moment and broke it together, the higher worker number withdraws.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.engine import Ejected, Report, Restored
from gateway.native.host import Host, Waiter
from gateway.native.shared import Ejection, Shared
from gateway.policy import outlier, silence
from gateway.policy.failure import Failure
from gateway.snapshot import Backend, Outlier

SILENCE, CONNECT_TIMEOUT, UNCONFIRMED = "silence", "connect-timeout", "unconfirmed"
MUTE = frozenset({SILENCE, CONNECT_TIMEOUT, UNCONFIRMED})
"""Reasons by which requests that wait on the endpoint will get no answer: they are evicted."""

# Silence without outlier detection still needs times: DESIGN section 6's for defaults fedgate.
_TIMES = Outlier(consecutive_5xx=0, interval_ms=1000, base_ejection_ms=5000, max_ejection_percent=100)
# How long a half-open endpoint waits for a request that is safe to repeat before any request is sent to it: one base time of
# defaults fedgate. A backend that only takes POSTs must get its endpoints back too.
PATIENCE = 5.0
# Ejections younger than this may not have been known to the worker that made the other one (shared memory is seen within one
# stamp, 25 ms; a turn may last longer).
_RACE = 1.0
# Another worker's ejection that is this much over its time (beside one sweep): that worker hangs, and the endpoint is tried.
_OVERDUE = 1.0


class Fitness:
    """Of one backend's hosts. changed: set when what is in service may differ from before; the reader clears it. asking: hosts that
    are to be sent a request on purpose. evictions: waiters to be told."""

    __slots__ = (
        "_next_sweep",
        "asking",
        "changed",
        "evictions",
        "hosts",
        "name",
        "policy",
        "reports",
        "shared",
        "silence",
        "timeout",
    )

    def __init__(self, backend: Backend, shared: Shared | None, reports: list[Report]) -> None:
        self.shared = shared
        self.reports = reports
        self.hosts: list[Host] = []
        self.asking: list[Host] = []
        self.evictions: list[tuple[Waiter, Host]] = []
        self._next_sweep = 0.0
        self.configure(backend)

    def configure(self, backend: Backend) -> None:
        """Take over a backend's policies; what is ejected stays so for its time."""
        self.name = backend.name
        self.policy = backend.outlier
        self.silence = backend.silence
        self.timeout = backend.connect_timeout_ms / 1000
        self.changed = True

    @property
    def _times(self) -> Outlier:
        return self.policy or _TIMES

    @property
    def restless(self) -> bool:
        """Whether time alone will change something: somebody is out or on the way back, or remembered for it."""
        return bool(self.asking) or any(host.ejected or host.half_open or host.times for host in self.hosts)

    # ------------------------------------------------------------------------------------------------- what happened

    def answered(self, host: Host, status: int, now: float) -> None:
        """For answers that may matter: errors, and any answer of a host that is not quite in service or has faults counted."""
        if self.policy is not None:
            reason = outlier.answered(host.tally, status, self.policy)
            if reason and not host.half_open:
                self.eject(host, reason, now)
        if host.asked:
            host.asked = 0
            self._unask(host)
        if host.half_open:
            self._back(host)
        elif host.own and host.reason in MUTE:
            self._release(host)
            if not host.ejected:
                self._back(host)

    def failed(self, host: Host, failure: Failure, now: float) -> None:
        """An attempt ended without an answer."""
        if failure is Failure.SILENCE or failure is Failure.RESET_UNSENT:
            return  # judged already; or an idle connection that its server closed, which is no fault
        reason = outlier.failed(host.tally, failure, self.policy) if self.policy is not None else ""
        if host.half_open:
            reason = host.reason
        elif failure is Failure.CONNECT_TIMEOUT and self.silence is not None and now - host.last_answer >= self.timeout:
            reason = CONNECT_TIMEOUT
        if reason:
            self.eject(host, reason, now)

    def eject(self, host: Host, reason: str, now: float) -> bool:
        """Take a host out for every worker, if max_ejection_percent allows it."""
        times = self._times
        if host.ejected or not outlier.may_eject(self._out(), len(self.hosts), times.max_ejection_percent):
            return False
        host.times = outlier.more_times(times, host.times)
        seconds = outlier.ejection_seconds(times, host.times)
        host.own, host.own_since, host.reason = True, now, reason
        host.ejected_until = now + seconds
        host.tally.clear()
        if self.shared is not None:
            until = int(host.ejected_until * 1e9)
            self.shared.eject(host.shared_key, until_ns=until, reason=reason, count=host.times)
        self._left(host)
        self.reports.append(Ejected(self.name, host.id, reason, int(seconds * 1000)))
        return True

    def _left(self, host: Host) -> None:
        host.ejected, host.half_open, host.asked = True, False, 0
        self.changed = True
        self._unask(host)
        if host.reason in MUTE:
            self.evict(host)

    def evict(self, host: Host) -> None:
        """What waits there is told, at the end of the tick or of the next one."""
        self.evictions += [(waiter, host) for waiter in host.waiting]

    def forget(self, host: Host) -> None:
        """The host is no more: it is not asked, and its ejection ends for everyone."""
        self._unask(host)
        if host.own:
            self._release(host)

    def _out(self) -> int:
        return sum(1 for host in self.hosts if host.ejected)

    # -------------------------------------------------------------------------------------------------- the way back

    def _release(self, host: Host) -> None:
        """End this worker's own ejection."""
        host.own = False
        host.ejected = host.foreign
        if self.shared is not None:
            self.shared.restore(host.shared_key)

    def _returns(self, host: Host, now: float) -> None:
        """Nobody holds it any more: half-open if it gave no answer, else in service."""
        if self.silence is not None and host.reason != outlier.CONSECUTIVE_5XX:
            host.half_open, host.half_open_since = True, now
            self._ask(host, 1)
            self.changed = True
        else:
            self._back(host)

    def _back(self, host: Host) -> None:
        host.half_open = False
        host.reason = ""
        self.changed = True
        self._unask(host)
        self.reports.append(Restored(self.name, host.id))

    def tick(self, now: float, *, busy: bool) -> None:
        """Judge silence (when something is in flight) and, when it is time, sweep. Every 50 ms or so."""
        if now >= self._next_sweep:
            self._next_sweep = now + self._times.interval_ms / 1000
            for host in self.hosts:
                self._sweep(host, now)
        if busy and self.silence is not None:
            for host in self.hosts:
                if host.waiting and not host.ejected:
                    self._judge(host, now)

    def _sweep(self, host: Host, now: float) -> None:
        host.latencies.roll(now)
        if host.foreign and now > host.foreign_until + self._times.interval_ms / 1000 + _OVERDUE:
            host.foreign = False
            host.ejected = host.own
            if not host.own:
                self._returns(host, now)
        if host.own and now >= host.ejected_until:
            self._release(host)
            if not host.ejected:
                self._returns(host, now)
        elif host.half_open:
            if not host.asked and not self._fresh(host):
                self._ask(host, 1)
        elif not host.ejected:
            host.times = outlier.fewer_times(host.times)

    # ------------------------------------------------------------------------------------------------------- silence

    def _judge(self, host: Host, now: float) -> None:
        policy = self.silence
        assert policy is not None
        newest_first = self._fresh(host)
        # The cheap look first: half of the floor is the least that anything here waits for.
        if not newest_first or now - newest_first[-1] < policy.floor_ms / 2000:
            return
        after = silence.limit(policy, host.latencies.usual or self._usual())
        needed = 1 if host.half_open else policy.waiting
        oldest = newest_first[-1]
        if len(newest_first) >= needed:
            dead = silence.silent(now=now, oldest=oldest, deciding=newest_first[-needed], after=after)
            if dead and not self.eject(host, SILENCE, now):
                self.evict(host)  # max_ejection_percent lets it keep its share, but nothing has to hang on it
        elif silence.doubted(now=now, oldest=oldest, after=after):
            self._ask(host, needed - len(newest_first))

    def _fresh(self, host: Host) -> Sequence[float]:
        """When the requests were given to it that were after its last answer (and return) and still wait; newest first."""
        after = max(host.last_answer, host.half_open_since)
        found = []
        for given in reversed(host.waiting.values()):
            if given < after:
                break
            found.append(given)
        return found

    def doubtful(self, host: Host, now: float) -> bool:
        """Whether it is under suspicion already: not where a request that waited once should wait again."""
        if self.silence is None or not host.waiting:
            return False
        fresh = self._fresh(host)
        return bool(fresh) and now - fresh[-1] >= self.silence.floor_ms / 2000

    def _usual(self) -> float:
        """That of the backend's other hosts, for one that has not answered yet."""
        return max((host.latencies.usual for host in self.hosts), default=0.0)

    def _ask(self, host: Host, requests: int) -> None:
        host.asked = requests
        if host not in self.asking:
            self.asking.append(host)

    def _unask(self, host: Host) -> None:
        if host in self.asking:
            self.asking.remove(host)

    def ask(self, now: float, *, repeatable: bool) -> Host | None:
        """The host that the next request is to be sent to on purpose; None = balance as usual."""
        for host in self.asking:
            patient = host.half_open and now - host.half_open_since < PATIENCE
            if (not repeatable and (patient or not host.half_open)) or host.down or host.ejected:
                continue
            if host.verdict is not None and not host.verdict.health.usable:
                continue
            host.asked -= 1
            if host.asked <= 0:
                self.asking.remove(host)
            return host
        return None

    # ------------------------------------------------------------------------------------------------- other workers

    def seen(self, host: Host, ejection: Ejection | None, now: float) -> None:
        """What shared memory now says of a host. Call it when that changed."""
        foreign = ejection is not None and not (host.own and self.shared is not None and ejection.worker == self.shared.worker)
        if foreign and ejection is not None:
            host.foreign_until = ejection.until_ns / 1e9
            if not host.ejected:
                host.reason, host.ejected_until = ejection.reason, host.foreign_until
                host.foreign = True
                self._left(host)
            host.foreign = True
            self._withdraw(now)
        elif host.foreign:
            host.foreign = False
            host.ejected = host.own
            if not host.own:
                self._returns(host, now)

    def _withdraw(self, now: float) -> None:
        """Two workers ejected at once and broke max_ejection_percent together: the higher number gives way."""
        surplus = self._out() - outlier.allowed(len(self.hosts), self._times.max_ejection_percent)
        if surplus <= 0 or self.shared is None:
            return
        lower = self.shared.ejections()
        mine = [host for host in self.hosts if host.own and not host.foreign and now - host.own_since < _RACE]
        others = [lower[host.shared_key].worker for host in self.hosts if host.foreign and host.shared_key in lower]
        if not others or min(others) > self.shared.worker:
            return
        for host in mine[-surplus:]:
            self._release(host)
            host.times = outlier.fewer_times(host.times)
            self._back(host)
