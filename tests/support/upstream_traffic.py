"""Simulated traffic over `Upstreams`, with a clock of its own: servers that answer, refuse, reset, stop or vanish; exchanges that pick,
wait, are evicted and try again as the native exchange does. Deterministic: one seed, one result; no sockets, no waiting.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable

from discovery.model import Locality
from gateway.native.host import Host
from gateway.native.shared import Shared
from gateway.native.upstream import TICK, Upstreams
from gateway.policy.failure import Failure
from gateway.policy.retry import Outcome, Request, decide
from gateway.snapshot import (
    Backend,
    EndpointSet,
    Failback,
    LbEndpoint,
    Node,
    Outlier,
    RetryPolicy,
    Silence,
    Snapshot,
)

FEDGATE_OUTLIER = Outlier(consecutive_gateway_errors=3, interval_ms=1000, base_ejection_ms=5000, max_ejection_percent=100)
FEDGATE_RETRY = RetryPolicy(immediate=True)


def fedgate_backend(**changes: object) -> Backend:
    """A backend as `defaults: fedgate` compiles it, with a short failback."""
    settings = {
        "name": "b",
        "host": "b.example",
        "port": 80,
        "connect_timeout_ms": 1000,
        "outlier": FEDGATE_OUTLIER,
        "silence": Silence(),
        "failback": Failback(hold_down_ms=3000, ramp_ms=4000),
        "panic_last_resort": True,
    }
    return Backend(**(settings | changes))  # type: ignore[arg-type]


def near_and_far(near: int = 2, far: int = 2) -> tuple[LbEndpoint, ...]:
    return tuple(
        LbEndpoint(f"{name}{index}", f"127.0.{priority}.{index + 1}", 80, cluster=name, locality=Locality(name), priority=priority)
        for priority, (name, count) in enumerate((("near", near), ("far", far)))
        for index in range(count)
    )


class Server:
    """One endpoint's behaviour. mode: up | killed (refuses, resets what it had) | stopped (takes connections, answers nothing; what
    it has is answered when it is up again) | blackhole (takes no connection)."""

    def __init__(self) -> None:
        self.mode = "up"
        self.latency = 0.002
        self.status = 200
        self.held: list[tuple[Exchange, int]] = []


class Exchange:
    """One request. result: its status, None while it runs; 0 = failed by this gateway, with `why`."""

    def __init__(self, world: World, upstreams: Upstreams, method: str) -> None:
        self.world, self.upstreams, self.method = world, upstreams, method
        self.began = world.now
        self.ended = 0.0
        self.result: int | None = None
        self.why = ""
        self.tried: list[Host] = []
        self.host: Host | None = None
        self.attempt = 0  # what an event must name to be about the running attempt
        self.connected = False
        self.retries = self.elsewhere = 0

    @property
    def took(self) -> float:
        return (self.ended or self.world.now) - self.began

    @property
    def state(self):
        return self.upstreams.states[self.world.backend.name]

    def begin(self) -> None:
        self._try(self.state.pick(self.world.now, repeatable=self.method == "GET"))

    def _try(self, host: Host | None) -> None:
        if host is None:
            return self._end(0, "no healthy upstream")
        self.host, self.connected = host, False
        self.attempt += 1
        self.tried.append(host)
        self.state.started(host, self, self.world.now)
        self.world.connect(self, host)
        return None

    def answer(self, status: int) -> None:
        assert self.host is not None
        self.state.answered(self.host, self, status, self.world.now)
        if status >= 500 and self._again(Outcome(status=status)):
            return
        self._finish()
        self._end(status, "")

    def fail(self, failure: Failure) -> None:
        assert self.host is not None
        self.state.failed(self.host, self, failure, self.world.now)
        if not self._again(Outcome(failure)):
            self._finish()
            self._end(0, failure.value)

    def evict(self, host: Host) -> None:
        assert host is self.host
        failure = Failure.SILENCE if self.connected else Failure.CONNECT
        if self._again(Outcome(failure)):
            self.world.evicted += 1

    def _again(self, outcome: Outcome) -> bool:
        request = Request(self.method, self.retries, self.elsewhere)
        untried = self.state.untried(self.tried)
        decision = decide(self.world.retry, request, outcome, untried=untried, random=self.world.rng.random)
        if not decision.retry:
            return False
        host = self.state.pick_again(self.world.now, self.tried, self.world.retry, elsewhere=decision.elsewhere)
        if host is None:
            return False
        self.elsewhere += decision.elsewhere
        self.retries += not decision.elsewhere
        self._finish()
        if decision.wait:
            self.attempt += 1
            self.world.at(self.world.now + decision.wait, lambda: self._try(host))
        else:
            self._try(host)
        return True

    def _finish(self) -> None:
        assert self.host is not None
        self.state.finished(self.host, self)

    def _end(self, status: int, why: str) -> None:
        self.result, self.why, self.ended = status, why, self.world.now


class World:
    """A gateway of one backend and some workers, its servers, and the clock."""

    def __init__(
        self,
        backend: Backend,
        endpoints: tuple[LbEndpoint, ...],
        *,
        workers: int = 1,
        seed: int = 1,
        retry: RetryPolicy | None = FEDGATE_RETRY,
        shared: Shared | None = None,
    ) -> None:
        self.now = 100.0
        self.rng = random.Random(seed)
        self.backend, self.retry = backend, retry
        self.evicted = 0
        self.servers = {endpoint.id: Server() for endpoint in endpoints}
        self.exchanges: list[Exchange] = []
        self.reports: list[object] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._turn = itertools.count()
        self.snapshot = Snapshot.of([Node("n", "near"), backend, EndpointSet(backend.name, endpoints)])
        self.workers = []
        for number in range(workers):
            memory = Shared.attach(shared.fd, number) if shared is not None else None
            upstreams = Upstreams(random=self.rng.random, shared=memory)
            upstreams.apply(self.snapshot, self.now)
            self.workers.append(upstreams)
            self.at(self.now + TICK * (number + 1) / workers, lambda upstreams=upstreams: self._tick(upstreams))

    def at(self, when: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), action))

    def _tick(self, upstreams: Upstreams) -> None:
        upstreams.tick(self.now)
        self.reports += upstreams.take_reports()
        self.at(self.now + TICK, lambda: self._tick(upstreams))

    def run(self, seconds: float, *, rate: float = 0.0, posts: float = 0.0) -> list[Exchange]:
        """Let time pass, with `rate` requests a second (open loop), of which the share `posts` is POST. Returns those begun."""
        until = self.now + seconds
        first = len(self.exchanges)
        for number in range(int(seconds * rate)):
            self.at(self.now + (number + 0.5) / rate, lambda: self._request(posts))
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until
        return self.exchanges[first:]

    def _request(self, posts: float) -> None:
        upstreams = self.workers[next(self._turn) % len(self.workers)]
        upstreams.sync(self.now)
        exchange = Exchange(self, upstreams, "POST" if self.rng.random() < posts else "GET")
        self.exchanges.append(exchange)
        exchange.begin()

    # ------------------------------------------------------------------------------------------------------ servers

    def connect(self, exchange: Exchange, host: Host) -> None:
        server, attempt = self.servers[host.id], exchange.attempt
        if server.mode == "killed":
            self.at(self.now + 0.0002, lambda: self._fail(exchange, attempt, Failure.CONNECT))
        elif server.mode == "blackhole":
            wait = self.backend.connect_timeout_ms / 1000
            self.at(self.now + wait, lambda: self._fail(exchange, attempt, Failure.CONNECT_TIMEOUT))
        else:
            exchange.connected = True
            server.held.append((exchange, attempt))
            delay = server.latency * (0.5 + self.rng.random())
            self.at(self.now + delay, lambda: self._serve(server, exchange, attempt))

    def _serve(self, server: Server, exchange: Exchange, attempt: int) -> None:
        if server.mode == "up" and (exchange, attempt) in server.held:
            server.held.remove((exchange, attempt))
            if exchange.attempt == attempt and exchange.result is None:
                exchange.answer(server.status)

    def _fail(self, exchange: Exchange, attempt: int, failure: Failure) -> None:
        if exchange.attempt == attempt and exchange.result is None:
            exchange.fail(failure)

    def put(self, mode: str, *names: str) -> None:
        """Change the mode of servers whose id begins so."""
        for name, server in self.servers.items():
            if not name.startswith(names):
                continue
            server.mode = mode
            held, server.held = server.held, [] if mode != "stopped" else server.held
            for exchange, attempt in held:
                if mode == "killed":
                    self._fail(exchange, attempt, Failure.RESET)
                elif mode == "up":
                    server.held.append((exchange, attempt))
                    self.at(self.now + 0.001, lambda e=exchange, a=attempt, s=server: self._serve(s, e, a))


def share(exchanges: list[Exchange]) -> dict[str, float]:
    """Cluster → its share of the requests that were answered."""
    seen = Counter(exchange.host.endpoint.cluster for exchange in exchanges if exchange.result and exchange.host)
    total = sum(seen.values())
    return {name: count / total for name, count in seen.items()}


def failures(exchanges: list[Exchange]) -> list[Exchange]:
    """Those that were not answered 200, hanging ones too."""
    return [exchange for exchange in exchanges if exchange.result != 200]


def slowest(exchanges: list[Exchange]) -> float:
    return max(exchange.took for exchange in exchanges)
