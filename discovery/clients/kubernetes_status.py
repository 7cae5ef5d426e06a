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
        self._awake = trio.Event()

    def want(self, wish: Wish) -> None:
        """Never blocks. A wish that is fulfilled already costs nothing."""
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
        self._wishes.pop(uid, None)
        self._written.pop(uid, None)
        self._told.discard(uid)

    async def run(self, api: Kubernetes) -> None:
        """Write until cancelled. Raises httpx2.TransportError when the API cannot be reached: wishes stay for the next run."""
        while True:
            while self._wishes:
                uid, wish = next(iter(self._wishes.items()))
                await self._write(api, wish)
                if self._wishes.get(uid) is wish:
                    del self._wishes[uid]
                await trio.sleep(_PAUSE)
            self._awake = trio.Event()
            await self._awake.wait()

    async def _write(self, api: Kubernetes, wish: Wish) -> None:
        conditions = updated(wish.found, wish.conditions, generation=wish.generation, now=self._clock())
        if conditions is None:
            return
        said = self._written.get(wish.uid)
        self._written[wish.uid] = (wish.generation, wish.conditions)  # before: what comes of it may be seen before the answer
        written = False
        body = {"metadata": {"resourceVersion": wish.version, "uid": wish.uid}, "status": {"conditions": conditions}}
        try:
            await api.patch_status(wish.path, body)
            written = True
        except KubernetesError as error:
            written = error.status not in (404, 409)  # those were changed meanwhile: the watch says so, and a new wish comes of it
            if written and wish.path not in self._told:
                self._told.add(wish.path)
                _log.warning("kubernetes.status_not_written", object=wish.path, error=str(error))
        finally:
            if not written:
                self._unsay(wish, said)

    def _unsay(self, wish: Wish, before: tuple[int, tuple[Condition, ...]] | None) -> None:
        if before is None:
            self._written.pop(wish.uid, None)
        else:
            self._written[wish.uid] = before

    def __repr__(self) -> str:
        return f"<StatusWriter wishes={len(self._wishes)} written={len(self._written)}>"
