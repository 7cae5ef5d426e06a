"""Damping of what comes and goes often: an endpoint that has just been away several times is used after the others for a while.

Theory of operation. What leaves, leaves at once: nothing is ever delayed that takes an endpoint out. What returns is counted against:
each time that an endpoint goes away (or is said to be unhealthy) is one more flap, each CALM seconds without are one less. One that
returns with FREE flaps or fewer is taken back at once (a rollout takes an endpoint away once, a pod that starts slowly twice); beyond
that it returns DEGRADED, which sends it traffic only when the others cannot carry it, for HOLD seconds, twice as long with each further
flap, LONGEST at most. It is never held out altogether: a service whose every endpoint flaps would have none.

The shape is that of outlier ejection (FIELD section 0: a base times how often, capped, one step back per quiet interval) and of BGP's route
flap damping (RFC 2439). Pure: `now` is passed in. Memory is bounded by what has flapped lately.
"""

from __future__ import annotations

import msgspec

from discovery.model import Endpoint, Health, Service

FREE = 2  # flaps that cost nothing
CALM = 60.0  # seconds that forgive one flap: a rollout of ten minutes is over by then, a crash loop is not (its back-off ends at 5 minutes)
HOLD = 5.0  # seconds for the first flap too many: the base ejection time of fedgate's defaults (DESIGN section 6)
LONGEST = 300.0  # seconds: Envoy's cap of ejections, and Kubernetes' of restarts
_FEW = 64  # endpoints that have flapped, up to which nothing is looked through
MOST = 16  # flaps counted at most, so that the last is forgiven after as many minutes

Key = tuple[str, str, tuple[tuple[str, int], ...]]
"""hostname, address, ports"""


class _Flaps(msgspec.Struct):
    """count at the time `since`. until: it is degraded as long, 0 = not. health: what its registry says meanwhile."""

    count: int
    since: float
    until: float = 0.0
    health: Health = Health.UNKNOWN

    def at(self, now: float) -> int:
        return max(0, self.count - int((now - self.since) / CALM))


class Damper:
    """Of one shard. `damped` sees every change of a service; `due` says when to ask for `released`."""

    def __init__(self) -> None:
        self._known: dict[Key, _Flaps] = {}
        self._held: dict[str, dict[Key, _Flaps]] = {}  # by hostname
        self._look_at = _FEW

    @property
    def held(self) -> int:
        """How many endpoints are degraded because they come and go."""
        return sum(map(len, self._held.values()))

    def damped(self, old: Service | None, new: Service | None, now: float) -> Service | None:
        """What is to be believed instead of `new`, where `old` was: the same, or with some endpoints degraded."""
        before = _usable(old)
        after = _usable(new) if before or self._known else {}
        for key in before.keys() - after.keys():
            self._left(key, now)
        if new is None or not self._known:
            return new
        changed = {endpoint: held for key, endpoint in after.items() if (held := self._returned(key, endpoint, key in before, now))}
        if not changed:
            return new
        endpoints = tuple(changed.get(endpoint, endpoint) for endpoint in new.endpoints)
        return msgspec.structs.replace(new, endpoints=endpoints)

    def due(self) -> float | None:
        """When the next one has waited long enough; None if none waits."""
        return min((flaps.until for of in self._held.values() for flaps in of.values()), default=None)

    def released(self, now: float) -> frozenset[str]:
        """Hostnames with an endpoint whose time is up: each of them is to be given to `restored`."""
        return frozenset(name for name, of in self._held.items() if any(flaps.until <= now for flaps in of.values()))

    def restored(self, hostname: str, service: Service | None, now: float) -> Service | None:
        """The service, as the shard has it, with the endpoints whose time is up as their registry has them."""
        ready = {key: flaps for key, flaps in self._held.get(hostname, {}).items() if flaps.until <= now}
        for key, flaps in ready.items():
            flaps.until = 0.0
            self._release(key)
        self._forget(now)
        if service is None or not ready:
            return service
        endpoints = []
        for endpoint in service.endpoints:
            known = ready.get(_key(service, endpoint))
            if known is not None and endpoint.health is Health.DEGRADED:
                endpoint = msgspec.structs.replace(endpoint, health=known.health)
            endpoints.append(endpoint)
        return msgspec.structs.replace(service, endpoints=tuple(endpoints))

    def _left(self, key: Key, now: float) -> None:
        flaps = self._known.get(key)
        if flaps is None:
            self._forget(now)
            self._known[key] = _Flaps(1, now)
            return
        flaps.count, flaps.since, flaps.until = min(MOST, flaps.at(now) + 1), now, 0.0
        self._release(key)

    def _release(self, key: Key) -> None:
        held = self._held.get(key[0], {})
        held.pop(key, None)
        if not held:
            self._held.pop(key[0], None)

    def _returned(self, key: Key, endpoint: Endpoint, was_there: bool, now: float) -> Endpoint | None:
        """The endpoint as it is to be believed; None: as it is."""
        flaps = self._known.get(key)
        if flaps is None:
            return None
        if endpoint.health is Health.DEGRADED:  # by its registry, which nobody makes better than it says
            flaps.until = 0.0
            self._release(key)
            return None
        if not was_there:
            more = flaps.at(now) - FREE
            if more <= 0:
                return None
            flaps.until = now + min(LONGEST, HOLD * 2.0 ** (more - 1))
        elif flaps.until <= now:
            return None
        flaps.health = endpoint.health
        self._held.setdefault(key[0], {})[key] = flaps
        return msgspec.structs.replace(endpoint, health=Health.DEGRADED)

    def _forget(self, now: float) -> None:
        """Of what has been calm long enough. Looked at when twice as much is known as the last look left: else a registry that loses
        thousands at once would be looked through for each of them."""
        if len(self._known) >= self._look_at:
            for key in [key for key, flaps in self._known.items() if not flaps.at(now) and not flaps.until]:
                del self._known[key]
            self._look_at = max(_FEW, 2 * len(self._known))

    def __repr__(self) -> str:
        return f"<Damper {len(self._known)} flapped lately, {self.held} held>"


def _key(service: Service, endpoint: Endpoint) -> Key:
    return (service.hostname, endpoint.address, endpoint.ports)


def _usable(service: Service | None) -> dict[Key, Endpoint]:
    if service is None:
        return {}
    return {_key(service, endpoint): endpoint for endpoint in service.endpoints if endpoint.health.usable}
