"""Failback is slower than failover: a priority that lost its load gets it back after a hold-down, then along a ramp.

Theory of operation. Each priority has a *natural* availability (0..100, what balance.py computes from its health) and a *granted*
one. Granted follows natural down at once. It follows it up only after natural has been above granted for `hold_down` without a
break, and then linearly over `ramp`. A priority that has never had any availability is granted all of its first at once: the first
start is not a failback. The rest of the load goes where the arithmetic sends what a priority cannot take: to the priorities that
carried it; if those cannot, hold-down gives way (balance.loads).

A gateway has several workers, and each computes this for itself, from the same ejections and verdicts. One that starts anew
in the middle asks the others since when they hold a priority back (`held`), or it would be the one that sends everything at once.

Priorities are known by a name that outlives renumbering (their first locality and cluster), not by their index: when a region
vanishes from the registry the next one becomes priority 0, and its return is a failback all the same.

Pure: no clock; `now` is in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.snapshot import Failback

LOST = 1e-9
"""No time at which anything can have begun: a priority that is gone, and will be held back when it returns."""


class _Level:
    __slots__ = ("began", "carried", "floor", "granted")

    def __init__(self) -> None:
        self.granted = 0
        self.carried = False  # has ever had some
        self.began: float | None = None  # since when natural is above granted without a break
        self.floor = 0  # granted when that began

    def observe(self, natural: int, now: float, policy: Failback) -> None:
        if not self.carried or natural <= self.granted:
            self.granted = natural
            self.carried = self.carried or natural > 0
            self.began = None
            return
        if self.began is None:
            self.began, self.floor = now, self.granted
        held = (now - self.began) * 1000 - policy.hold_down_ms
        if held < 0:
            return
        if held >= policy.ramp_ms:
            self.granted, self.began = natural, None
        else:
            self.granted = max(self.granted, self.floor + int((natural - self.floor) * held / policy.ramp_ms))


class Ramp:
    """The failback of one backend. `moving` is True while some priority waits or climbs: then `observe` again soon."""

    __slots__ = ("_levels", "moving", "policy")

    def __init__(self, policy: Failback) -> None:
        self.policy = policy
        self._levels: dict[str, _Level] = {}
        self.moving = False

    def observe(
        self, now: float, natural: Iterable[tuple[str, int]], held: Callable[[str], float] | None = None
    ) -> tuple[int, ...]:
        """(name, natural availability) by priority → granted availability by priority. Names that were seen before and are not
        given now have none. held: since when others hold back a priority that is new here (as
        `holding`); 0.0 = they do not."""
        granted = []
        gone = set(self._levels)
        for name, value in natural:
            level = self._levels.get(name)
            if level is None:
                level = self._levels[name] = _Level()
                since = held(name) if held is not None else 0.0
                if since:
                    level.carried, level.began = True, since if since > LOST else None
            level.observe(value, now, self.policy)
            granted.append(level.granted)
            gone.discard(name)
        for name in gone:
            self._levels[name].observe(0, now, self.policy)
        self.moving = any(level.began is not None for level in self._levels.values())
        return tuple(granted)

    def holding(self) -> dict[str, float]:
        """Since when each priority is held back, by name, LOST for one that has nothing to hold back; without those that have what they
        can carry."""
        return {
            name: LOST if level.began is None else level.began
            for name, level in self._levels.items()
            if level.began is not None or (level.carried and not level.granted)
        }

    def __repr__(self) -> str:
        return f"<Ramp {' '.join(f'{name}:{level.granted}' for name, level in self._levels.items())}>"
