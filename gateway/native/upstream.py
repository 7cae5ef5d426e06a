"""All backends of a worker: what a Snapshot and Verdicts say of them, and what the other workers ejected.

The engine owns one `Upstreams`. It calls `apply` for each Snapshot, `assess` for each Verdicts, `sync` once a turn (an integer
compare when nothing changed), `tick` every 50 ms, and looks backends up in `states` per request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.engine import BackendStatistics, Ejected, EndpointStatistics, Report
from gateway.native.backend import BackendState
from gateway.native.fitness import UNCONFIRMED
from gateway.native.host import Host, Waiter
from gateway.native.shared import Ejection, Shared
from gateway.policy.balance import Random
from gateway.snapshot import Backend, LbEndpoint, Snapshot
from gateway.verdicts import AddressState, Verdicts

__all__ = ["BackendState", "Host", "Upstreams", "Waiter"]

TICK = 0.05
"""Seconds between ticks: silence is noticed within its limit and this."""


def _no_connections(host: Host) -> int:
    return 0


class Upstreams:
    """states: backend name → BackendState, for look-ups. suspects: addresses that control wants confirmed and that were not yet
    taken by `take_suspects`."""

    def __init__(self, *, random: Random, shared: Shared | None = None) -> None:
        self.states: dict[str, BackendState] = {}
        self._random = random
        self._shared = shared
        self._verdicts = Verdicts()
        self._suspects: list[str] = []
        self._unconfirmed: set[str] = set()  # suspect addresses that did not answer this worker
        self._by_address: dict[str, list[tuple[BackendState, Host]]] = {}
        self._by_shared: dict[int, tuple[BackendState, Host]] = {}
        self._ejections: Mapping[int, Ejection] = {}
        self._reports: list[Report] = []

    # ------------------------------------------------------------------------------------------------ what should be

    def apply(self, snapshot: Snapshot, now: float) -> list[Host]:
        """Make the states what the Snapshot says; parts that are the same objects as before cost a look each. Returns hosts that
        are no more, whose idle connections are to be closed. Requests in flight keep their state and host to their end."""
        removed: list[Host] = []
        wanted = {part.name: part for part in snapshot.backends()}
        for name in [name for name in self.states if name not in wanted]:
            state = self.states.pop(name)
            removed += state.hosts.values()
            self._harvest(state)
            state.close()
        for name, backend in wanted.items():
            removed += self._reconcile(name, backend, snapshot.endpoints(name), now)
        self._index(now)
        return removed

    def _reconcile(self, name: str, backend: Backend, endpoints: tuple[LbEndpoint, ...], now: float) -> list[Host]:
        state = self.states.get(name)
        if state is None:
            state = self.states[name] = BackendState(backend, random=self._random, shared=self._shared)
            state.assess(self._verdicts.endpoints.get(name, {}), self._verdicts.evacuated)
        elif state.backend is backend and state.endpoints is endpoints:
            return []
        return state.reconcile(backend, endpoints, now)

    def _index(self, now: float) -> None:
        self._by_address, self._by_shared = {}, {}
        for state in self.states.values():
            for host in state.hosts.values():
                self._by_address.setdefault(host.key, []).append((state, host))
                self._by_shared[host.shared_key] = (state, host)
                state.address_state(host, down=self._is_down(host.key))
        for key, ejection in self._ejections.items():  # for hosts that are new here
            if key in self._by_shared:
                state, host = self._by_shared[key]
                state.fitness.seen(host, ejection, now)
        self.sync(now)

    # -------------------------------------------------------------------------------------------------- what is known

    def assess(self, verdicts: Verdicts) -> None:
        """Take over Verdicts. Addresses newly SUSPECT are for the caller to confirm (`take_suspects`), DOWN ones are out at once."""
        old, self._verdicts = self._verdicts, verdicts
        everyone = old.evacuated != verdicts.evacuated
        for name, state in self.states.items():
            mine = verdicts.endpoints.get(name, {})
            if everyone or old.endpoints.get(name, {}) is not mine:
                state.assess(mine, verdicts.evacuated)
        for key in old.addresses.keys() | verdicts.addresses.keys():
            now_is = verdicts.addresses.get(key)
            if old.addresses.get(key) is now_is:
                continue
            if now_is is AddressState.SUSPECT:
                self._suspects.append(key)
            self._unconfirmed.discard(key)
            self._address_changed(key)

    def take_suspects(self) -> list[str]:
        """Addresses to be confirmed now: by a TLS connection that is read from, or a PING (DESIGN section 6). Each once per
        suspicion, only those that some backend uses."""
        taken, self._suspects = self._suspects, []
        return [key for key in taken if key in self._by_address and self._verdicts.addresses.get(key) is AddressState.SUSPECT]

    def confirmed(self, address: str, *, alive: bool) -> None:
        """The result. Not alive: out at once for every backend, until control says something else of the address."""
        if alive:
            self._unconfirmed.discard(address)
        else:
            self._unconfirmed.add(address)
            for state, host in self._by_address.get(address, ()):
                if not host.down:
                    state.reports.append(Ejected(state.backend.name, host.id, UNCONFIRMED, 0))
        self._address_changed(address)

    def _address_changed(self, key: str) -> None:
        for state, host in self._by_address.get(key, ()):
            state.address_state(host, down=self._is_down(key))

    def _is_down(self, key: str) -> bool:
        return key in self._unconfirmed or self._verdicts.addresses.get(key) is AddressState.DOWN

    # --------------------------------------------------------------------------------------------------- time passes

    def sync(self, now: float) -> None:
        """Take over what other workers ejected and brought back. About 0.3 µs when nothing changed."""
        if self._shared is None:
            return
        found = self._shared.ejections()
        if found is self._ejections:
            return
        old, self._ejections = self._ejections, found
        for key in old.keys() | found.keys():
            known = self._by_shared.get(key)
            if known is not None and old.get(key) != found.get(key):
                state, host = known
                state.fitness.seen(host, found.get(key), now)

    def tick(self, now: float) -> None:
        """Sweeps, silence, failback; at the end, everybody who waits on an endpoint that was found silent or gone is told."""
        self.sync(now)
        evictions: list[tuple[Waiter, Host]] = []
        for state in self.states.values():
            state.tick(now)
            evictions += state.take_evictions()
        for waiter, host in evictions:
            if waiter in host.waiting:
                waiter.evict(host)

    def take_reports(self) -> list[Report]:
        """What happened since the last call: Ejected, Restored, PriorityMoved."""
        for state in self.states.values():
            self._harvest(state)
        taken, self._reports = self._reports, []
        return taken

    def _harvest(self, state: BackendState) -> None:
        if state.reports:
            self._reports += state.reports
            state.reports.clear()

    # ---------------------------------------------------------------------------------------------------- statistics

    def backend_statistics(self) -> tuple[BackendStatistics, ...]:
        return tuple(state.statistics() for state in self.states.values())

    def endpoint_statistics(
        self, now: float, connections: Callable[[Host], int] = _no_connections
    ) -> tuple[EndpointStatistics, ...]:
        """connections: how many the pool has open to a host."""
        return tuple(found for state in self.states.values() for found in state.endpoint_statistics(now, connections))
