"""Answers kept by the bytes of their questions, so that most are given without reading the question.

Theory of operation. A question's key is its bytes without the id, an answer's value likewise. Two halves: a full one becomes the old one, and
what is asked for is taken over from there; so a flood of names that are asked for once pushes out only what nobody asks for.

Three kinds do not stay as long as the Snapshot does:
- `fleeting` ones go every second: forwarded ones, whose TTLs count down, and spellings of a question that others stand for;
- those of several addresses are kept in several orders, which are given in turn, and go every second too, to be drawn anew;
- those made of endpoints go as soon as a look finds others in service. Each tick looks at a bounded number of services.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from gateway.native.nameserver_places import Place
from gateway.native.reactor import NEVER
from gateway.parts.name import Name

HALF = 10_000  # answers in each half, about 200 bytes each with their keys: 4 MB in all
ORDERS = 8  # orders of one answer's addresses: enough that first places are spread well
FLEETING_S = 1.0
_LOOKS = 200  # services looked at in a tick
_ENDPOINTS = 2000  # of these services: 1.5 µs each, so 3 ms in a tick however large they are

Look = Callable[[Name], list[Place]]


class _Orders:
    """Answers with the same addresses in different orders."""

    __slots__ = ("next", "wires")

    def __init__(self) -> None:
        self.wires: list[bytes] = []
        self.next = 0

    def take(self) -> bytes | None:
        """The next one's; None as long as there are not enough."""
        if len(self.wires) < ORDERS:
            return None
        self.next = (self.next + 1) % ORDERS
        return self.wires[self.next]


class Kept:
    """`young` is for the hot path to look into; everybody else asks `find`. look: the endpoints that a service is answered by now."""

    def __init__(self, look: Look) -> None:
        self.young: dict[bytes, bytes] = {}
        self._look = look
        self._old: dict[bytes, bytes] = {}
        self._orders: dict[bytes, _Orders] = {}
        self._fleeting: list[bytes] = []
        self._made_of: dict[str, tuple[Name, list[Place], list[bytes]]] = {}  # service → its endpoints then, and the keys
        self._to_look: deque[str] = deque()
        self._swept = -NEVER

    def find(self, key: bytes) -> bytes | None:
        answer = self.young.get(key)
        if answer is None:
            answer = self._old.pop(key, None)
            if answer is not None:
                self.keep(key, answer)
            elif (orders := self._orders.get(key)) is not None:
                answer = orders.take()
        return answer

    def keep(self, key: bytes, answer: bytes) -> None:
        """Until `clear`."""
        if len(self.young) >= HALF:
            self._old, self.young = self.young, {}
        self.young[key] = answer

    def keep_fleeting(self, key: bytes, answer: bytes) -> None:
        """For a second at most."""
        self.keep(key, answer)
        self._fleeting.append(key)

    def keep_made_of(self, name: Name, key: bytes, answer: bytes, *, several: bool) -> None:
        """As long as `look` says of `name` what it says now. several: in another order the answer would be as good."""
        made = self._made_of.get(name.name)
        if made is None:
            made = self._made_of[name.name] = name, self._look(name), []
            self._to_look.append(name.name)
        if len(made[2]) >= HALF:
            return  # a service asked for in so many ways is asked for by nobody in earnest
        made[2].append(key)
        if not several:
            self.keep(key, answer)
        elif key in self._orders or len(self._orders) < HALF:
            self._orders.setdefault(key, _Orders()).wires.append(answer)

    def tick(self, now: float) -> None:
        """Let go of what may have become wrong. Every 50 ms or so."""
        if now - self._swept >= FLEETING_S:
            self._swept = now
            self._sweep()
            self._orders.clear()
        endpoints = 0
        for _ in range(min(_LOOKS, len(self._to_look))):
            if endpoints >= _ENDPOINTS:
                break
            name, places, keys = self._made_of[self._to_look[0]]
            endpoints += len(places)
            if self._look(name) == places:
                self._to_look.rotate(-1)
            else:
                del self._made_of[self._to_look.popleft()]
                self._drop(keys)
                self._sweep()  # there may be other spellings of them

    def clear(self) -> None:
        """Nothing may be true any more."""
        for table in (self.young, self._old, self._orders, self._made_of):
            table.clear()
        self._fleeting.clear()
        self._to_look.clear()

    def _sweep(self) -> None:
        fleeting, self._fleeting = self._fleeting, []
        self._drop(fleeting)

    def _drop(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            self.young.pop(key, None)
            self._old.pop(key, None)
            self._orders.pop(key, None)

    def __len__(self) -> int:
        return len(self.young) + len(self._old) + len(self._orders)

    def __repr__(self) -> str:
        return f"<Kept {len(self.young)}+{len(self._old)} answers, {len(self._orders)} in orders, of {len(self._made_of)} services>"
