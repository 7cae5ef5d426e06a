"""Control's side of one worker's pipe: what has been sent, what is to be sent next, what the worker says.

Theory of operation. State is sent by difference from what was sent last, so a worker that reads slowly gets fewer and larger
differences, never a queue: one writer wakes when any of the three Watchables changed, and sends keys first, then the Snapshot that
names them, then Verdicts, then forgets keys that nothing names any more. A worker that asks gets everything again. What control
only found in the state directory may be older than what a worker runs: it is sent to workers that have nothing.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Callable, Iterator

import msgspec
import structlog
import trio

from appliance.channel import Closed, Frames, encode, receive_packet
from appliance.messages import Collect, Collected, FromWorker, Have, Keys, Overlay, Pieces, Reported, Resend, SnapshotDelta
from discovery.watch import Watchable
from gateway.engine import Report, Statistics
from gateway.native.sockets import Handoff
from gateway.secret import Secrets
from gateway.snapshot import Delta, EndpointSet, Part, Snapshot
from gateway.verdicts import Verdicts, difference

log = structlog.get_logger("control")


class State(msgspec.Struct, frozen=True):
    """What engines are given, and where handed-off connections go. restored: the Snapshot that came from the state directory."""

    snapshots: Watchable[Snapshot]
    verdicts: Watchable[Verdicts]
    secrets: Watchable[Secrets]
    handoff: Handoff
    restored: Snapshot | None = None


# What one message holds, a part counted as 8 and each endpoint of it as 1: about a millisecond to encode, and five for a worker to decode
# and to compare.
_PIECE = 2000
_PART = 8
_LOOKED_AT = 5000  # names, half a microsecond each: where few parts of many differ, a turn ends after so many


class Encoded:
    """What turns `base` (None: nothing) into `snapshot` as messages: Pieces of it, if it is much, and the rest. Each is put together and
    encoded when it is first asked for, so that the turn of whoever asks takes what one message takes."""

    def __init__(self, base: Snapshot | None, snapshot: Snapshot) -> None:
        self._base, self._snapshot = base, snapshot
        self._gone: list[str] = []
        self._left = self._differing()
        self._data: list[bytes] = []
        self._finished = False

    def message(self, index: int) -> bytes | None:
        """None after the last. The messages have to be asked for in their order, by each who sends them."""
        if index == len(self._data) and not self._finished:
            self._data.append(self._next())
        return self._data[index] if index < len(self._data) else None

    def _next(self) -> bytes:
        parts: list[Part] = []
        weight = 0
        for looked_at, part in enumerate(self._left, 1):
            if part is not None:
                parts.append(part)
                weight += _PART + (len(part.endpoints) if isinstance(part, EndpointSet) else 0)
            if weight >= _PIECE or looked_at >= _LOOKED_AT:
                return encode(Pieces(not self._data, tuple(parts)))
        self._finished = True
        base = self._base.version if self._base is not None else ""
        return encode(SnapshotDelta(Delta(base=base, version=self._snapshot.version, set=tuple(parts), remove=tuple(self._gone))))

    def _differing(self) -> Iterator[Part | None]:
        """For every name that may differ its part; None if it does not, or if it is gone, which is noted."""
        names = self._snapshot.differing(self._base)
        parts, old = self._snapshot.parts, self._base.parts if self._base is not None else {}
        for name in sorted(names) if names is not None else parts:
            part = parts.get(name)
            yield part if part is not None and not (names is None and old.get(name) == part) else None
        for name in sorted(names) if names is not None else old:
            if name in old and name not in parts:
                self._gone.append(name)
            yield None


class Encoder:
    """Remembers the last difference as long as somebody sends it: all workers are sent the same one, a whole Snapshot costs a tenth of a
    second, and 40 MB with 100,000 endpoints."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._encoded: Callable[[], Encoded | None] = lambda: None

    def delta(self, base: Snapshot | None, snapshot: Snapshot) -> Encoded:
        key = (base.version if base else "", snapshot.version)
        encoded = self._encoded() if key == self._last else None
        if encoded is None:
            encoded = Encoded(base, snapshot)
            self._last, self._encoded = key, weakref.ref(encoded)
        return encoded


class Conversation:
    """With one worker process. `hear` is called for each report, `counted` for each reading of its statistics."""

    def __init__(self, *, worker: int, pid: int, restarts: int, frames: Frames[FromWorker], handoffs: socket.socket) -> None:
        self.worker = worker
        self.pid = pid
        self.restarts = restarts
        self.scope = trio.CancelScope()  # cancelled when a newer process has its number
        self._frames = frames
        self._handoffs = handoffs
        self._news = trio.Event()
        self._pending: list[msgspec.Struct] = []
        self._has: str | None = None  # the version that the worker had at the beginning; None until it said so
        self._sent_snapshot: Snapshot | None = None
        self._sent_verdicts: Verdicts | None = None
        self._sent_keys: Secrets | None = None
        self._asked = 0
        self._answered: dict[int, trio.Event] = {}

    async def run(
        self,
        state: State,
        encoder: Encoder,
        *,
        hear: Callable[[Conversation, Report], None],
        counted: Callable[[Conversation, Statistics], None],
    ) -> None:
        """Converse until the worker is gone; returns then. Cancelled: the pipe is closed, the worker serves on."""
        try:
            with self.scope:
                await self._converse(state, encoder, hear, counted)
        except* Closed:
            pass  # told to the supervisor by the process's end; a fresh pair comes with its successor
        finally:
            for event in self._answered.values():
                event.set()
            trio.lowlevel.notify_closing(self._handoffs)
            self._handoffs.close()
            await self._frames.aclose()

    async def _converse(
        self,
        state: State,
        encoder: Encoder,
        hear: Callable[[Conversation, Report], None],
        counted: Callable[[Conversation, Statistics], None],
    ) -> None:
        async with trio.open_nursery() as nursery:
            for slot in (state.snapshots, state.verdicts, state.secrets):
                nursery.start_soon(self._watch, slot)
            nursery.start_soon(self._write, state, encoder)
            nursery.start_soon(self._receive_handoffs, state.handoff)
            await self._read(hear, counted)

    def say(self, message: msgspec.Struct) -> None:
        """Queue a message that is not state."""
        self._pending.append(message)
        self._news.set()

    async def collect(self) -> None:
        """Ask for statistics; returns when `counted` was called or the worker is gone. Cancelled: the answer is still taken."""
        self._asked += 1
        answered = self._answered[self._asked] = trio.Event()
        self.say(Collect(self._asked))
        await answered.wait()

    # -------------------------------------------------------------------------------------------------------- writing

    async def _watch(self, slot: Watchable[Snapshot] | Watchable[Verdicts] | Watchable[Secrets]) -> None:
        seen = slot.version
        while True:
            self._news.set()
            seen, _ = await slot.newer_than(seen)

    async def _write(self, state: State, encoder: Encoder) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            await self._send_state(state, encoder)
            pending, self._pending = self._pending, []
            for message in pending:
                await self._frames.send(message)

    async def _send_state(self, state: State, encoder: Encoder) -> None:
        snapshot, verdicts, secrets = state.snapshots.value, state.verdicts.value, state.secrets.value
        if self._has is None or (state.snapshots.version == 0 and not snapshot.parts):
            return  # control has nothing yet; the worker may have more from before
        if snapshot is state.restored and self._has not in ("", snapshot.version):
            return
        await self._send_keys(secrets)
        if snapshot is not self._sent_snapshot:
            encoded = encoder.delta(self._sent_snapshot, snapshot)
            index = 0
            while (message := encoded.message(index)) is not None:
                await self._frames.send_encoded(message)
                index += 1
            self._sent_snapshot = snapshot
        # Before control knows anything it must not tell a worker that has been running that all is well.
        if verdicts is not self._sent_verdicts and (state.verdicts.version or verdicts != Verdicts()):
            await self._frames.send(Overlay(difference(self._sent_verdicts, verdicts)))
            self._sent_verdicts = verdicts
        await self._forget_keys(secrets)

    async def _send_keys(self, secrets: Secrets) -> None:
        known = self._sent_keys
        new = {digest: key.reveal() for digest, key in secrets.items() if known is None or digest not in known}
        if new or known is None:
            await self._frames.send(Keys(new, whole=known is None))
        self._sent_keys = {**(known or {}), **secrets}

    async def _forget_keys(self, secrets: Secrets) -> None:
        gone = tuple(digest for digest in self._sent_keys or {} if digest not in secrets)
        if gone:
            await self._frames.send(Keys({}, remove=gone))
            self._sent_keys = dict(secrets)

    def _forget_sent(self) -> None:
        self._sent_snapshot = self._sent_verdicts = self._sent_keys = None
        self._news.set()

    # -------------------------------------------------------------------------------------------------------- reading

    async def _read(
        self, hear: Callable[[Conversation, Report], None], counted: Callable[[Conversation, Statistics], None]
    ) -> None:
        while True:
            match await self._frames.receive():
                case Have(version):
                    self._has = version
                    self._news.set()
                case Reported(report):
                    hear(self, report)
                case Collected(number, statistics):
                    counted(self, statistics)
                    # Answers come in the order of the questions.
                    for asked in [asked for asked in self._answered if asked <= number]:
                        self._answered.pop(asked).set()
                case Resend(reason):
                    log.warning("worker.resend", worker=self.worker, reason=reason)
                    self._forget_sent()

    async def _receive_handoffs(self, handoff: Handoff) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._handoffs)
            try:
                hello, descriptors = receive_packet(self._handoffs)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise Closed(f"no more connections from worker {self.worker}: {exc.strerror}") from exc
            with descriptors:
                if not hello:
                    raise Closed(f"no more connections from worker {self.worker}")
                connection = descriptors.socket()
            try:
                handoff(connection, hello)
            except OSError as exc:
                connection.close()
                log.warning("peering.refused", worker=self.worker, error=str(exc))

    def __repr__(self) -> str:
        version = self._sent_snapshot.version[:12] if self._sent_snapshot else "nothing"
        return f"<Conversation worker {self.worker} pid {self.pid} sent {version}>"
