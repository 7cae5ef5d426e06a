"""All backends of a worker: what a Snapshot and Verdicts say of them, and what the other workers ejected.

The engine owns one `Upstreams`. It calls `prepare` and `finish` for each Snapshot, `assess` for each Verdicts, `sync` once a turn (an integer
compare when nothing changed), `tick` every 50 ms, and looks backends up in `states` per request.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from gateway.engine import BackendStatistics, Ejected, EndpointStatistics, Report
from gateway.native.backend import BackendState
from gateway.native.fitness import UNCONFIRMED
from gateway.native.host import Host, Waiter
from gateway.native.shared import Ejection, Shared
from gateway.policy.balance import Random
from gateway.snapshot import Backend, LbEndpoint, Part, Snapshot
from gateway.verdicts import AddressState, Verdict, Verdicts

__all__ = ["BackendState", "Host", "Upstreams", "Waiter"]

TICK = 0.05
"""Seconds between ticks: silence is noticed within its limit and this."""

# A peer's counts may change thousands of backends at once. A request to one computes it anew; the idle ones take their turns, as
# many a tick as fit in 2 ms (60 µs each for 4 endpoints; no turn may last over 5 ms).
_REBUILDS = 30


_TOLD = 1000  # backends: 5 ms to count and to read


_NOTHING: Mapping[str, Verdict] = {}  # one object, so that `is` tells "still nothing"


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
        self._awake: list[BackendState] = []
        self._parts: Mapping[str, Part] = {}
        self._prepared: Snapshot | None = None
        self._touched: set[str] = set()  # backends that are not yet as the last Snapshot says

    # ------------------------------------------------------------------------------------------------ what should be

    def apply(self, snapshot: Snapshot, now: float) -> list[Host]:
        """`prepare` and `finish` in one go."""
        removed = [host for hosts in self.prepare(snapshot, now) for host in hosts]
        return removed + self.finish(snapshot, now)

    def prepare(self, snapshot: Snapshot, now: float) -> Iterator[list[Host]]:
        """Make the states of all backends that the Snapshot has what it says, one a step: traffic may run between the steps, on the old
        tables. Yields hosts that are no more, whose idle connections are to be closed; requests in flight keep their state and host to
        their end. Costs what changed, beside one look at each part (1 ms for 10,000), then about 50 µs a backend. A Snapshot that was
        not prepared to its end is made good by the next one."""
        old = self._parts
        touched: Collection[str] | None = snapshot.differing(self._prepared)
        if touched is None:
            touched = {name for name, part in snapshot.parts.items() if old.get(name) is not part}
            touched.update(name for name in old if name not in snapshot.parts)
        self._prepared = snapshot
        self._touched |= {name.partition("/")[2] for name in touched if name.startswith(("backend/", "endpoints/"))}
        self._parts = snapshot.parts
        for name in list(self._touched):
            backend = snapshot.parts.get(f"backend/{name}")
            if isinstance(backend, Backend):
                self._touched.discard(name)
                yield self._reconcile(backend, snapshot.endpoints(name), now)

    def finish(self, snapshot: Snapshot, now: float) -> list[Host]:
        """Let go of the backends that the Snapshot does not have: when its tables are in use, or in the same turn before. Returns hosts as
        `prepare`."""
        gone = [name for name in self._touched if f"backend/{name}" not in snapshot.parts]
        self._touched.difference_update(gone)
        removed = [host for name in gone if name in self.states for host in self._remove(name)]
        self.sync(now)
        return removed

    def _reconcile(self, backend: Backend, endpoints: tuple[LbEndpoint, ...], now: float) -> list[Host]:
        name = backend.name
        state = self.states.get(name)
        if state is None:
            state = self.states[name] = BackendState(
                backend, random=self._random, shared=self._shared, reports=self._reports, awake=self._awake
            )
            state.assess(self._verdicts.endpoints.get(name, _NOTHING), self._verdicts.evacuated)
        elif state.backend == backend and state.endpoints == endpoints:
            return []
        if backend.logical:
            self._readdress(state, endpoints)
        removed = state.reconcile(backend, endpoints, now)
        for host in removed:
            self._unindex(state, host)
        for host in state.hosts.values():
            if host.shared_key not in self._by_shared:
                self._index(state, host, now)
        return removed

    def _readdress(self, state: BackendState, endpoints: tuple[LbEndpoint, ...]) -> None:
        """One name, one address at a time: connections that stand go on, new ones are opened to the new address."""
        for endpoint in endpoints:
            host = state.hosts.get(endpoint.id)
            if host is not None and host.key != endpoint.key:
                self._unindex(state, host)
                host.endpoint, host.key = endpoint, endpoint.key

    def _remove(self, name: str) -> list[Host]:
        state = self.states.pop(name)
        state.close()
        for host in state.hosts.values():
            self._unindex(state, host)
        return list(state.hosts.values())

    def _index(self, state: BackendState, host: Host, now: float) -> None:
        self._by_address.setdefault(host.key, []).append((state, host))
        self._by_shared[host.shared_key] = (state, host)
        state.address_state(host, down=self._is_down(host.key))
        ejection = self._ejections.get(host.shared_key)
        if ejection is not None:
            state.seen(host, ejection, now)

    def _unindex(self, state: BackendState, host: Host) -> None:
        left = [known for known in self._by_address[host.key] if known[1] is not host]
        if left:
            self._by_address[host.key] = left
        else:
            del self._by_address[host.key]
        del self._by_shared[host.shared_key]

    # -------------------------------------------------------------------------------------------------- what is known

    def assess(self, verdicts: Verdicts) -> None:
        """Take over Verdicts. Addresses newly SUSPECT are for the caller to confirm (`take_suspects`), DOWN ones are out at once."""
        old, self._verdicts = self._verdicts, verdicts
        everyone = old.evacuated != verdicts.evacuated
        for name, state in self.states.items():
            mine = verdicts.endpoints.get(name, _NOTHING)
            if everyone or old.endpoints.get(name, _NOTHING) is not mine:
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

    def at(self, address: str) -> list[tuple[BackendState, Host]]:
        """Every backend's host behind an address (`ADDRESS:PORT`)."""
        return self._by_address.get(address, [])

    def alone(self, address: str) -> bool:
        """Whether some backend with traffic would have no endpoint in service without this address. About 0.5 µs a backend behind it."""
        return any(
            state.used and all(other.out or other.key == address for other in state.hosts.values())
            for state, _ in self._by_address.get(address, ())
        )

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
                state.seen(host, found.get(key), now)

    def tick(self, now: float) -> None:
        """Sweeps, silence, failback, of those backends where something goes on; at the end, everybody who waits on an endpoint that
        was found silent or gone is told."""
        self.sync(now)
        evictions: list[tuple[Waiter, Host]] = []
        budget = _REBUILDS
        # One that could not be rebuilt in this tick is the first in the next: those are put in front.
        first: list[BackendState] = []
        rest: list[BackendState] = []
        for state in self._awake:
            if state.closed:
                continue
            if budget <= 0 and not state.active and not state.fitness.evictions:
                first.append(state)  # nothing there is urgent
                continue
            budget -= state.tick(now, rebuild=budget > 0)
            if state.awake:
                (first if state.fitness.changed else rest).append(state)
            evictions += state.take_evictions()
        self._awake[:] = first + rest
        for waiter, host in evictions:
            if waiter in host.waiting:
                waiter.evict(host)

    def take_reports(self) -> list[Report]:
        """What happened since the last call: Ejected, Restored, PriorityMoved."""
        taken = list(self._reports)
        self._reports.clear()
        return taken

    # ---------------------------------------------------------------------------------------------------- statistics

    def backend_statistics(self) -> tuple[BackendStatistics, ...]:
        """Of all; of very many, only of those that did something: the others' are what the Snapshot says, and all of 10,000 would keep
        worker and control busy for longer than others may wait, whenever they are counted."""
        found = (state.statistics() for state in self._counted())
        if len(self.states) <= _TOLD:
            return tuple(found)
        return tuple(each for each in found if each.traffic or each.retries or each.overflow or each.panic or each.access)

    def _counted(self) -> Iterable[BackendState]:
        """Those that there is something to count of: a look at each of 100,000 endpoints holds traffic up for 80 ms."""
        every = self.states.values()
        return (
            every if len(every) <= _TOLD else [state for state in every if state.used or state.overflow or state.access is not None]
        )

    def endpoint_statistics(
        self, now: float, connections: Callable[[Host], int] = _no_connections
    ) -> tuple[EndpointStatistics, ...]:
        """connections: how many the pool has open to a host."""
        return tuple(found for state in self._counted() for found in state.endpoint_statistics(now, connections))
