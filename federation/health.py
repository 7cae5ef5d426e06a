"""Active health checks: what the Snapshot's backends want checked, against the checks that run.

Theory of operation. Each backend with a `health_check` names its workloads in this cluster (not peers' gateways: those push their counts).
One task checks one (endpoint, check), however many backends share it, every interval, thresholds applied by `thresholds.after`. What
fails is in `results`; what passes or was not checked yet is not, so a healthy endpoint costs no message to any worker. A Snapshot
that changes something else leaves the running checks and their counts as they are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import structlog
import trio

from discovery.model import Health
from discovery.supervise import TaskSet
from discovery.watch import Watchable
from federation.probe import ProbeFailed, Target, probe
from federation.thresholds import UNKNOWN, Standing, after
from gateway.native.identity import PeerRefused
from gateway.native.tls import ClientTls, Contexts, TlsFault
from gateway.secret import Secrets
from gateway.snapshot import Backend, EndpointSet, LbEndpoint, Snapshot, UpstreamTls
from gateway.verdicts import Verdict

AT_ONCE = 256  # checks under way; each holds a socket for its timeout at most, and 1,024 descriptors are a common limit
FIRST_WITHIN = 1.0  # seconds in which a new check begins at random, so that a start does not dial everybody in one instant
SPREAD = 0.05  # of the interval, either way, so that many gateways do not check one endpoint in step

Results = Mapping[str, Mapping[str, Verdict]]
"""backend → endpoint id → why it is out; what is not named passes"""

_log = structlog.get_logger("health")


class _Wanted(msgspec.Struct, frozen=True):
    """One running check. tls: of the backend, None = plain."""

    target: Target
    tls: UpstreamTls | None


class HealthChecker:
    """`run(snapshots)`; read `results`."""

    def __init__(
        self,
        secrets: Watchable[Secrets] | None = None,
        *,
        rng: Callable[[], float] = random.random,
        wall: Callable[[], float] = time.time,
        check: Callable[[Target, ClientTls | None], Awaitable[None]] = probe,
    ) -> None:
        """secrets: keys of client certificates, for backends whose TLS is mutual."""
        self.results: Watchable[Results] = Watchable({})
        self._secrets, self._rng, self._check = secrets, rng, check
        self._contexts, self._keyed = Contexts(clock=wall), -1
        self._desired: Watchable[Mapping[_Wanted, None]] = Watchable({})
        self._followed: Snapshot | None = None
        self._parts: dict[str, tuple[object, object, dict[str, _Wanted]]] = {}  # backend → its two parts, and endpoint id → check
        self._standings: dict[_Wanted, tuple[Standing, str]] = {}
        self._users: dict[_Wanted, set[str]] = {}
        self._limit = trio.CapacityLimiter(AT_ONCE)

    async def run(self, snapshots: Watchable[Snapshot], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled, following the Snapshot; then `results` stays as it was."""
        tasks: TaskSet[_Wanted, None] = TaskSet(self._keep, rng=self._rng, report=self._bug)
        async with trio.open_nursery() as nursery:
            seen = snapshots.version
            self._follow(snapshots.value)
            await nursery.start(tasks.run, self._desired)
            task_status.started()
            while True:
                seen, snapshot = await snapshots.newer_than(seen)
                self._follow(snapshot)

    def standings(self) -> list[tuple[Target, bool | None, str]]:
        """Every running check: what it checks, whether it passes (None: no result yet), why not."""
        return [(wanted.target, standing.healthy, reason) for wanted, (standing, reason) in self._standings.items()]

    # ------------------------------------------------------------------------------------------------ what is wanted

    def _follow(self, snapshot: Snapshot) -> None:
        """Compare the Snapshot's checks with those that run, in the backends that changed if that is known."""
        cluster = snapshot.node.cluster if snapshot.node else ""
        names = snapshot.differing(self._followed)
        self._followed = snapshot
        if names is None or "node" in names:
            parts: dict[str, tuple[object, object, dict[str, _Wanted]]] = {}
            backends = snapshot.backends()
        else:
            reached = {name.partition("/")[2] for name in names if name.startswith(("backend/", "endpoints/"))}
            parts = {name: known for name, known in self._parts.items() if name not in reached}
            backends = [part for name in reached if isinstance(part := snapshot.parts.get(f"backend/{name}"), Backend)]
        touched = set()
        for backend in backends:
            if backend.health_check is None:
                continue
            endpoints = snapshot.parts.get(f"endpoints/{backend.name}")
            old = self._parts.get(backend.name)
            if old is not None and old[0] is backend and old[1] is endpoints:
                parts[backend.name] = old
                continue
            found = endpoints.endpoints if isinstance(endpoints, EndpointSet) else ()
            parts[backend.name] = (backend, endpoints, {e.id: _wanted(backend, e) for e in found if _own(e, cluster)})
            touched.add(backend.name)
        touched |= self._parts.keys() - parts.keys()
        if not touched:
            return
        self._parts = parts
        self._users = {}
        for name, (_, _, checks) in parts.items():
            for wanted in checks.values():
                self._users.setdefault(wanted, set()).add(name)
        self._standings = {wanted: self._standings.get(wanted, (UNKNOWN, "")) for wanted in self._users}
        self._desired.set(dict.fromkeys(self._users))
        self._publish(touched)

    # ------------------------------------------------------------------------------------------------------ checking

    async def _keep(self, wanted: _Wanted, _: None) -> None:
        check = wanted.target.check
        await trio.sleep(self._rng() * min(FIRST_WITHIN, check.interval_ms / 1000))
        while True:
            began = trio.current_time()
            async with self._limit:
                reason = await self._once(wanted)
            self._record(wanted, reason)
            pause = check.interval_ms / 1000 * (1 + SPREAD * (2 * self._rng() - 1))
            await trio.sleep_until(max(began + pause, trio.current_time()))

    async def _once(self, wanted: _Wanted) -> str:
        """Why the check failed, "" when it passed."""
        try:
            await self._check(wanted.target, None if wanted.tls is None else self._tls(wanted.tls))
        except (ProbeFailed, PeerRefused) as error:
            return str(error)
        except TlsFault as error:
            return f"cannot be checked: {error}"
        return ""

    def _tls(self, tls: UpstreamTls) -> ClientTls:
        """Raises TlsFault."""
        if self._secrets is not None and self._secrets.version != self._keyed:
            self._keyed = self._secrets.version
            self._contexts.renew(self._secrets.value)
        return self._contexts.client(tls)

    def _record(self, wanted: _Wanted, reason: str) -> None:
        if wanted not in self._standings:
            return  # it was taken away while it was under way
        check = wanted.target.check
        old, said = self._standings[wanted]
        new = after(old, not reason, unhealthy_threshold=check.unhealthy_threshold, healthy_threshold=check.healthy_threshold)
        if new.healthy is old.healthy:
            self._standings[wanted] = (new, said)  # the reason that was published stands, so that nothing changes with each check
            return
        self._standings[wanted] = (new, reason)
        if not new.healthy or old.healthy is not None:
            event = "health.passes" if new.healthy else "health.fails"
            _log.info(event, endpoint=f"{wanted.target.address}:{wanted.target.port}", host=wanted.target.host, reason=reason)
            self._publish(self._users[wanted])

    def _publish(self, backends: set[str]) -> None:
        """Results of these backends anew, in one change."""
        new = dict(self.results.value)
        for name in backends:
            checks = self._parts[name][2] if name in self._parts else {}
            inner = {key: verdict for key, wanted in checks.items() if (verdict := self._verdict(wanted)) is not None}
            if inner:
                new[name] = inner
            else:
                new.pop(name, None)
        if new != self.results.value:
            self.results.set(new)

    def _verdict(self, wanted: _Wanted) -> Verdict | None:
        standing, reason = self._standings[wanted]
        return Verdict(Health.UNHEALTHY, healthy=0, total=1, reason=reason) if standing.healthy is False else None

    def _bug(self, wanted: _Wanted, error: Exception) -> None:
        _log.error("health.bug", endpoint=f"{wanted.target.address}:{wanted.target.port}", exc_info=error)

    def __repr__(self) -> str:
        failing = sum(standing.healthy is False for standing, _ in self._standings.values())
        return f"<HealthChecker {len(self._standings)} checks, {failing} failing>"


def _own(endpoint: LbEndpoint, cluster: str) -> bool:
    return not endpoint.peer and endpoint.cluster in ("", cluster)


def _wanted(backend: Backend, endpoint: LbEndpoint) -> _Wanted:
    check = backend.health_check
    assert check is not None
    http2 = check.kind == "grpc" or (check.kind == "http" and backend.http2 is not None and backend.http2.always)
    tls = backend.tls
    if tls is not None:
        spoken = "h2" if http2 else "http/1.1"
        tls = msgspec.structs.replace(tls, alpn=() if check.kind == "tcp" else (spoken,))
    port = check.port or endpoint.port
    target = Target(endpoint.address, port, check, check.host or backend.host, backend.source_address, http2)
    return _Wanted(target, tls)
