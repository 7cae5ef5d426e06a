"""A copy of one collection of a Kubernetes API that is kept up to date: list once, then watch, for ever.

Theory of operation. A list is read in pages and compared with what was known, so that a list which follows a loss says exactly what
changed meanwhile; nothing is forgotten before the whole new list has been read. Then the watch goes on from the list's version. A watch
that ends is begun again from the last version seen, once also when its connection broke: an API server that is rolled is three of
them, and the next one takes over without a list. "410 Gone" (the version was compacted away) means a list. Everything else raises, and
whoever follows us backs off; what is known stays known, also over that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import httpx2
import msgspec
import structlog
import trio

from discovery.clients.kubernetes import PAGE, Event, Kubernetes, KubernetesError

T = TypeVar("T")
# Seconds: a watch that did not last as long was no good one, and what ends or breaks so early must not be asked for again at once.
_SHORT = 1.0
_log = structlog.get_logger()


class ObjectMeta(msgspec.Struct, rename="camel", frozen=True):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None

    @property
    def key(self) -> str:
        """`namespace/name`; `name` alone for what has no namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class _Named(msgspec.Struct):
    metadata: ObjectMeta


class Mirror(Generic[T]):
    """path: of the collection. decode: an object's JSON → what is kept of it, None for what is of no use; may raise
    msgspec.ValidationError. changed: told of each
    difference as (key, before, after), None for "there is none"; equal objects are no difference; must not block nor raise. at_once: so
    many objects of a list are told before others run, who then see what was and what is together; 0: all of them."""

    def __init__(
        self,
        path: str,
        decode: Callable[[msgspec.Raw], T | None],
        changed: Callable[[str, T | None, T | None], None],
        *,
        parameters: Mapping[str, str] | None = None,
        at_once: int = 0,
    ) -> None:
        self.path = path
        self.items: dict[str, T] = {}
        self._decode = decode
        self._changed = changed
        self._parameters = parameters or {}
        self._at_once = at_once
        self._version = ""

    async def run(self, api: Kubernetes, *, listed: Callable[[], None]) -> None:
        """List, say `listed`, then watch until cancelled or lost. Raises what Kubernetes.watch raises. `items` stay."""
        while True:
            began = trio.current_time()
            await self._list(api)
            listed()
            try:
                await self._follow(api)
            except KubernetesError as error:
                if error.status != 410:
                    raise
                await _pause(began)
                _log.info("kubernetes.relisted", collection=self.path, why="the version to go on from was compacted away")

    def restore(self, items: Mapping[str, T]) -> None:
        """Begin with what an earlier mirror knew: it holds until the first list."""
        for key, item in items.items():
            self._put(key, item)

    def forget(self) -> None:
        """The server has no such collection any more."""
        for key in list(self.items):
            self._put(key, None)

    async def _list(self, api: Kubernetes) -> None:
        try:
            found, version = await self._read(api, limit=PAGE)
        except KubernetesError as error:
            if error.status != 410:  # a list of many pages that was slower than etcd's compaction: once more, in one piece
                raise
            found, version = await self._read(api, limit=0)
        for number, (key, item) in enumerate(found.items(), 1):
            self._put(key, item)
            if self._at_once and number % self._at_once == 0:
                await trio.lowlevel.checkpoint()
        for key in [key for key in self.items if key not in found]:  # last: who looks meanwhile never sees less
            self._put(key, None)
        self._version = version

    async def _read(self, api: Kubernetes, *, limit: int) -> tuple[dict[str, T], str]:
        found: dict[str, T] = {}
        after = ""
        while True:
            page = await api.page(self.path, self._parameters, limit=limit, after=after)
            for raw in page.items or ():
                key, item = self._read_item(raw)
                if item is not None:
                    found[key] = item
            after = page.metadata.next
            if not after:
                return found, page.metadata.resource_version
            await trio.lowlevel.checkpoint()

    def _read_item(self, raw: msgspec.Raw) -> tuple[str, T | None]:
        """An object that cannot be read is as it was; the others are not lost for it."""
        key = self._metadata(raw).key
        try:
            return key, self._decode(raw)
        except msgspec.ValidationError as error:  # says the path and the types, never the value
            _log.warning("kubernetes.object_unreadable", collection=self.path, object=key, error=str(error))
            return key, self.items.get(key)

    def _metadata(self, raw: msgspec.Raw) -> ObjectMeta:
        try:
            return msgspec.json.decode(raw, type=_Named).metadata
        except msgspec.MsgspecError as error:  # nobody knows which object it is, so what stands cannot be kept for it alone
            raise KubernetesError(
                0, "NoObject", f"{self.path}: what came is no Kubernetes object ({error}); check the server"
            ) from None

    async def _follow(self, api: Kubernetes) -> None:
        """Watch, and watch again from where it ended."""
        while True:
            began = trio.current_time()
            begun = trio.Event()
            try:
                await api.watch(self.path, self._parameters, self._version, self._take, begun=begun.set)
            except httpx2.TransportError:
                if not begun.is_set() or trio.current_time() - began < _SHORT:
                    raise
            else:
                await _pause(began)

    def _take(self, event: Event) -> None:
        metadata = self._metadata(event.object)
        if metadata.resource_version:
            self._version = metadata.resource_version
        if event.type == "DELETED":
            self._put(metadata.key, None)
        elif event.type in ("ADDED", "MODIFIED"):
            self._put(*self._read_item(event.object))

    def _put(self, key: str, item: T | None) -> None:
        before = self.items.get(key)
        if before == item:
            return
        if item is None:
            del self.items[key]
        else:
            self.items[key] = item
        self._changed(key, before, item)

    def __repr__(self) -> str:
        return f"<Mirror {self.path} items={len(self.items)} version={self._version or 'none'}>"


async def _pause(began: float) -> None:
    if trio.current_time() - began < _SHORT:
        await trio.sleep(_SHORT)
