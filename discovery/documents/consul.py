"""Documents in Consul's KV: every key under a prefix is a file of YAML or JSON.

Theory of operation. One blocking query reads the whole prefix and returns when any key under it changes, so a change is published
milliseconds later. What is not YAML keeps the last good documents of its key, and is an error until mended; a Consul that cannot be read
keeps everything, and is an error of its own. A prefix that is empty is believed only if Consul was there all the time and its index went on:
a Consul that lost its disk begins anew (and soon has an index as high, if the old one was young), and a configuration is not withdrawn by
accident. YAML is read in a thread: a value has 512 KiB at most, which takes a third of a second.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
import trio

from discovery.backoff import DEFAULT, Backoff
from discovery.clients.consul import ConsulClient, ConsulConnection, Failed, Refused
from discovery.document import DocumentError, Documents, Origin, Outcome, RawDocument, parse
from discovery.watch import Watchable

MOST_KEYS = 10_000  # as many as files below a path: more is a prefix that was not meant
FIRST_WITHIN = 5.0  # seconds that the start waits for Consul; then it goes on without, and the documents come when they come
CONNECTIONS = 4
# A writer that stores key by key is read so often, in seconds, not at every key.
_EVERY = 0.2

_log = structlog.get_logger("documents")


class ConsulDocuments:
    """The DocumentSource of one prefix. See DocumentSource."""

    name = "consul"
    shows = False

    def __init__(self, connection: ConsulConnection, prefix: str) -> None:
        self.documents: Watchable[Documents] = Watchable(Documents())
        self._connection = connection
        self._prefix = prefix.strip("/") + "/"
        self._keys: dict[str, _Key] = {}
        self._again = trio.Event()
        self._index = 0  # of the last answer, over all connections
        self._away = False  # it could not be read since then

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See DocumentSource. `started()` when the prefix was read, cannot be, or FIRST_WITHIN is over."""
        async with trio.open_nursery() as nursery:
            first = trio.Event()
            nursery.start_soon(self._follow, first)
            with trio.move_on_after(FIRST_WITHIN):
                await first.wait()
            if not first.is_set():
                self._publish(f"did not answer within {FIRST_WITHIN:g} s")
            task_status.started()

    def reload(self) -> None:
        """See DocumentSource: the prefix is read anew at once."""
        self._again.set()

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        """Consul's keys take no status back: `fedgate get` and the log show it."""

    async def _follow(self, first: trio.Event) -> None:
        backoff = Backoff(DEFAULT, random.random)
        async with ConsulClient(self._connection, connections=CONNECTIONS) as client:
            index = 0
            while True:
                self._again = trio.Event()
                pause = _EVERY
                try:
                    index = await self._read(client, index)
                    backoff.succeeded()
                except* Failed as group:
                    index, pause, self._away = 0, backoff.failed(), True
                    self._publish(str(group.exceptions[0]))
                first.set()
                with trio.move_on_after(pause):
                    await self._again.wait()
                if self._again.is_set():
                    index = 0

    async def _read(self, client: ConsulClient, index: int) -> int:
        """Wait for a change, or for somebody who wants it read anew, and publish. Returns the index to go on with."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_up, nursery.cancel_scope)
            answer = await client.keys(self._prefix, index)
            went_back = answer.restarted or answer.index < self._index
            if not answer.data and self._keys and (went_back or self._away):
                since = "Consul's index went back" if went_back else "Consul could not be read"
                what = "write the documents again, restore Consul, or start the gateway anew if that is meant"
                raise Refused(0, f"{self._prefix} is empty since {since}; {what}")
            self._index, self._away = answer.index, False
            await self._take(answer.data)
            nursery.cancel_scope.cancel()
            return answer.index
        return 0

    async def _give_up(self, scope: trio.CancelScope) -> None:
        await self._again.wait()
        scope.cancel()

    async def _take(self, found: Sequence[Mapping[str, Any]]) -> None:
        try:
            pairs = msgspec.convert(found[:MOST_KEYS], list[_Pair])
        except msgspec.ValidationError as error:
            raise Refused(0, f"{self._prefix}: not what Consul's keys are ({error}); check the address") from None
        texts = {pair.Key: (pair.ModifyIndex, pair.Value or b"") for pair in pairs}
        files = {key: said for key, said in texts.items() if not key.endswith("/")}  # Consul's own page makes folders so
        changed = {key: text for key, (index, text) in files.items() if key not in self._keys or self._keys[key].index != index}
        parsed = await trio.to_thread.run_sync(_parsed, changed) if changed else {}
        for key in self._keys.keys() - files.keys():
            del self._keys[key]
        for key, (documents, errors) in parsed.items():
            self._keys.setdefault(key, _Key()).take(files[key][0], documents, errors)
        self._publish(
            "" if len(found) <= MOST_KEYS else f"has {len(found)} keys, of which {MOST_KEYS} are read; name a narrower prefix"
        )

    def _publish(self, fault: str) -> None:
        ordered = [self._keys[key] for key in sorted(self._keys)]
        errors = [error for key in ordered for error in key.errors]
        if fault:
            errors.insert(0, DocumentError(Origin(f"consul:{self._prefix}"), fault, "its last good documents stand meanwhile"))
        now = Documents(tuple(document for key in ordered for document in key.documents), tuple(errors))
        last = self.documents.value
        if now != last:
            _tell(last, now)
            self.documents.set(now)

    def __repr__(self) -> str:
        return f"<ConsulDocuments {self._connection.address} {self._prefix} keys={len(self._keys)}>"


class _Pair(msgspec.Struct):
    """A key as Consul says it."""

    Key: str
    ModifyIndex: int
    Value: bytes | None = None


class _Key:
    """One key: its last good documents (those that can be read, if it never was good), and the errors of its last reading."""

    def __init__(self) -> None:
        self.index = -1
        self._good = False
        self.documents: tuple[RawDocument, ...] = ()
        self.errors: tuple[DocumentError, ...] = ()

    def take(self, index: int, documents: tuple[RawDocument, ...], errors: tuple[DocumentError, ...]) -> None:
        self.index, self.errors = index, errors
        self._good = self._good or not errors
        if not errors or not self._good:
            self.documents = documents


def _parsed(texts: Mapping[str, bytes]) -> dict[str, tuple[tuple[RawDocument, ...], tuple[DocumentError, ...]]]:
    """What is written under each key. Pure; run in a thread."""
    found = {}
    for key, value in texts.items():
        origin = f"consul:{key}"
        try:
            found[key] = parse(value.decode("utf-8-sig"), origin)
        except UnicodeDecodeError as error:
            found[key] = (), (DocumentError(Origin(origin), f"is not UTF-8: {error.reason}", "write YAML or JSON text"),)
    return found


def _tell(before: Documents, after: Documents) -> None:
    for error in set(after.errors) - set(before.errors):
        _log.warning("document.unreadable", origin=str(error.origin), error=error.message, remedy=error.remedy)
    for error in set(before.errors) - set(after.errors):
        _log.info("document.mended", origin=str(error.origin))
    _log.info("documents.read", documents=len(after.documents), errors=len(after.errors))
