"""What a worker makes of the messages on its pipe: three slots that its engine watches.

No I/O. A pipe's first Snapshot is whole; parts that equal those already here stay the same objects, so that an engine that has
been running reconciles nothing when a new control process begins where the old one ended.
"""

from __future__ import annotations

from collections.abc import Sequence

from appliance.messages import Keys, Overlay, Pieces, SnapshotDelta
from discovery.watch import Watchable
from gateway.secret import Secret, Secrets
from gateway.snapshot import Delta, Part, Snapshot, part_name
from gateway.verdicts import Verdicts, applied


class Feed:
    """The latest Snapshot, Verdicts and keys that control has sent.

    A new control process begins with all its keys, then sends its Snapshot. Keys that it does not know are of the Snapshot that still
    runs, so they go with the first message after the new one: no chain is without its key in between."""

    def __init__(self) -> None:
        self._leaving: frozenset[str] = frozenset()  # digests of keys that only the Snapshot before knows
        self._replaced = False
        self._begun: _Begun | None = None
        self.snapshots: Watchable[Snapshot] = Watchable(Snapshot())
        self.verdicts: Watchable[Verdicts] = Watchable(Verdicts())
        self.secrets: Watchable[Secrets] = Watchable({})

    @property
    def fed(self) -> bool:
        """True once there is a Snapshot."""
        return self.snapshots.version > 0

    def begin(self) -> None:
        """A new pipe: what the last one did not finish never comes."""
        self._begun = None

    def take(self, message: Keys | Pieces | SnapshotDelta | Overlay) -> None:
        """Apply one message. Raises ValueError when a Delta does not fit; nothing has changed then, and the whole is needed."""
        if self._leaving and self._replaced:
            kept = {digest: key for digest, key in self.secrets.value.items() if digest not in self._leaving}
            self._leaving = frozenset()
            self.secrets.set(kept)
        match message:
            case Keys():
                if message.whole:
                    self._leaving, self._replaced = frozenset(self.secrets.value) - frozenset(message.keys), False
                self.secrets.set(_keys(self.secrets.value, message))
            case Pieces():
                if message.first:
                    self._begun = _Begun(self.snapshots.value)
                if self._begun is None:
                    raise ValueError("a piece of a Snapshot came without the first")
                self._begun.add(message.parts)
            case SnapshotDelta():
                begun, self._begun = self._begun or _Begun(self.snapshots.value), None
                self.snapshots.set(begun.finished(message.delta))
                self._replaced = True
            case Overlay():
                verdicts = applied(self.verdicts.value, message.delta)
                if verdicts != self.verdicts.value:
                    self.verdicts.set(verdicts)


def _keys(old: Secrets, message: Keys) -> Secrets:
    keys = {digest: secret for digest, secret in old.items() if digest not in message.remove}
    return keys | {digest: Secret(data) for digest, data in message.keys.items()}


def following(current: Snapshot, delta: Delta) -> Snapshot:
    """`current` with the delta, which may be a whole; equal parts keep their objects, and an equal Snapshot is `current` itself.

    Raises ValueError as Snapshot.apply does."""
    return _Begun(current).finished(delta)


class _Begun:
    """`current` while a Delta for it comes in pieces. Each piece costs what it has, so that traffic runs between two."""

    def __init__(self, current: Snapshot) -> None:
        self._current = current
        self._result = current
        self._names: set[str] = set()

    def add(self, parts: Sequence[Part]) -> None:
        self._result = self._result.changed(parts)
        self._names.update(part_name(part) for part in parts)

    def finished(self, delta: Delta) -> Snapshot:
        """With the rest. Raises ValueError as Snapshot.apply does."""
        current = self._current
        if delta.base and delta.base != current.version:
            raise ValueError(f"delta is from version {delta.base[:12]}…, but version {current.version[:12]}… is running")
        self.add(delta.set)
        remove = delta.remove if delta.base else [name for name in current.parts if name not in self._names]
        result = self._result.changed((), remove) if remove else self._result
        if result.version != delta.version:
            raise ValueError(f"delta promised version {delta.version[:12]}…, applying it gave {result.version[:12]}…")
        return current if result.version == current.version else result
