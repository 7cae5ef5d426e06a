"""Writes conditions into objects' status: only what changed, slowly, and never twice against somebody else.

Theory of operation. What should be written is a wish per object, the latest counts. A write names the version that it was made for, so
two gateways of a cluster cannot overwrite each other unseen: the slower one is refused, sees the new object and finds that it says
the same. When what we once wrote was changed by another writer while our opinion is the same, it stays as the other left it: two
programs that correct each other for ever are worse than one that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
import trio

from discovery.clients.kubernetes import Kubernetes, KubernetesError
from discovery.document import Condition
from discovery.kubernetes.conditions import updated

_PAUSE = 0.05  # seconds between two writes: a thousand documents take a minute, and the API server does not notice
_log = structlog.get_logger()


class Wish(msgspec.Struct, frozen=True):
    """path: of the object, below which `/status` is written. found: the conditions that it has."""

    path: str
    uid: str
    version: str
    generation: int
    found: Sequence[Mapping[str, Any]]
    conditions: tuple[Condition, ...]


class StatusWriter:
    """`want` what should be there, `run` writes it."""

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._wishes: dict[str, Wish] = {}
        self._written: dict[str, tuple[int, tuple[Condition, ...]]] = {}  # uid → what we said, of which generation
        self._told: set[str] = set()
        self._writing = ""  # the uid that a write is under way for, and what is wanted of it since
        self._next: Wish | None = None
        self._awake = trio.Event()

    def want(self, wish: Wish) -> None:
        """Never blocks. A wish that is fulfilled already costs nothing."""
        if wish.uid == self._writing:
            self._next = wish  # to be judged when it is known what became of the write
            return
        said = (wish.generation, wish.conditions)
        if updated(wish.found, wish.conditions, generation=wish.generation, now=self._clock()) is None:
            self._written[wish.uid] = said
            self._wishes.pop(wish.uid, None)
        elif self._written.get(wish.uid) != said:
            self._wishes[wish.uid] = wish
            self._awake.set()
        elif wish.uid not in self._wishes and wish.uid not in self._told:
            self._told.add(wish.uid)
            _log.warning("kubernetes.status_contended", object=wish.path, done="another writer changed it; left as it is")

    def forget(self, uid: str) -> None:
        """The object is gone."""
        if uid != self._writing:
            self._wishes.pop(uid, None)
        self._written.pop(uid, None)
        self._told.discard(uid)

    async def run(self, api: Kubernetes) -> None:
        """Write until cancelled. Raises httpx2.TransportError when the API cannot be reached: wishes stay for the next run."""
        while True:
            while self._wishes:
                await self._write_one(api)
                await trio.sleep(_PAUSE)
            self._awake = trio.Event()
            await self._awake.wait()

    async def _write_one(self, api: Kubernetes) -> None:
        uid, wish = next(iter(self._wishes.items()))
        self._writing = uid
        try:
            if await self._write(api, wish):
                self._written[uid] = (wish.generation, wish.conditions)
            del self._wishes[uid]
        finally:
            self._writing, later, self._next = "", self._next, None
            if later is not None:
                self.want(later)

    async def _write(self, api: Kubernetes, wish: Wish) -> bool:
        """Whether it is said now, or cannot be: not when the object was changed meanwhile, of which the watch brings a new wish."""
        conditions = updated(wish.found, wish.conditions, generation=wish.generation, now=self._clock())
        if conditions is None:
            return True
        body = {"metadata": {"resourceVersion": wish.version, "uid": wish.uid}, "status": {"conditions": conditions}}
        try:
            await api.patch_status(wish.path, body)
        except KubernetesError as error:
            if error.status in (404, 409):
                return False
            if wish.path not in self._told:
                self._told.add(wish.path)
                _log.warning("kubernetes.status_not_written", object=wish.path, error=str(error))
        return True

    def __repr__(self) -> str:
        return f"<StatusWriter wishes={len(self._wishes)} written={len(self._written)}>"
