"""The state directory's last good Snapshot and keys: what a new control process begins with.

    DIR/snapshot.json   {"version", "parts"}: the Snapshot's canonical form; nothing secret
    DIR/keys.json       {digest: base64}: the private keys that it names, mode 0600
    DIR/remembered.json what the plane wants to be told again: good documents (Secrets among them) and shards, mode 0600

Each file is replaced whole (written beside, synced, renamed), keys first, so that a Snapshot never names a key that is not there.
The directory is 0700.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec
import structlog
import trio

from discovery.watch import Watchable
from federation.remembered import Remembered
from gateway.secret import Secret, Secrets
from gateway.snapshot import Part, Snapshot, canonical

log = structlog.get_logger("control")

# Endpoints may come and go many times a second in a large federation; what is on disk is for a restart, and may be this old.
_EVERY_S = 1.0
# And writing takes no more than a twentieth of the time: a second of encoding 100,000 endpoints, while everything else in this process
# waits for its turns, must not be had again each second only because endpoints come and go.
_REST = 20.0
_AGAIN_S = 30.0


class _Stored(msgspec.Struct):
    version: str
    parts: dict[str, Part]


class StateDirectory:
    """`path` is made with mode 0700 when it is first written to."""

    def __init__(self, path: Path, *, every_s: float = _EVERY_S, again_s: float = _AGAIN_S) -> None:
        self.path = path
        self.saved: Watchable[str] = Watchable("")  # version of what `follow` wrote last; an error's text when it could not
        self.fault = ""
        self._every_s = every_s
        self._again_s = again_s

    def prepare(self) -> None:
        """Make the directory. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.chmod(0o700)

    def load(self) -> tuple[Snapshot, Secrets] | None:
        """What was saved last; None when there is nothing or it cannot be used (that is logged: it costs a cold start only)."""
        try:
            stored = msgspec.json.decode((self.path / "snapshot.json").read_bytes(), type=_Stored)
            keys = msgspec.json.decode((self.path / "keys.json").read_bytes(), type=dict[str, bytes])
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as exc:
            log.warning("state.unreadable", directory=str(self.path), error=str(exc), action="beginning without it")
            return None
        snapshot = Snapshot(stored.parts)
        if snapshot.version != stored.version:
            log.warning("state.unreadable", directory=str(self.path), error="its version does not fit its parts")
            return None
        return snapshot, {digest: Secret(key) for digest, key in keys.items()}

    def save(self, snapshot: Snapshot, secrets: Secrets) -> None:
        """Replace what is there. Raises OSError; the old files are whole then."""
        self.prepare()
        _replace(self.path / "keys.json", [msgspec.json.encode({digest: key.reveal() for digest, key in secrets.items()})])
        _replace(self.path / "snapshot.json", _snapshot(snapshot))

    def load_remembered(self) -> Remembered:
        """What `save_remembered` wrote last; empty when there is nothing or it cannot be used."""
        try:
            return msgspec.json.decode((self.path / "remembered.json").read_bytes(), type=Remembered)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.DecodeError) as exc:
            log.warning("state.unreadable", directory=str(self.path), error=str(exc), action="beginning without it")
            return Remembered()

    def save_remembered(self, remembered: Remembered) -> None:
        """Replace what is there. Raises OSError."""
        self.prepare()
        _replace(self.path / "remembered.json", _remembered(remembered))

    async def follow_remembered(self, rounds: Watchable[int], remembered: Callable[[], Remembered]) -> None:
        """Save what a plane wants to be told again, after rounds in which it changed, until cancelled."""
        saved: Remembered | None = None
        while True:
            seen = rounds.version
            if rounds.value and (now := remembered()) != saved:
                began = trio.current_time()
                saved = now if await self._save(self.save_remembered, now) else None
                await trio.sleep(_REST * (trio.current_time() - began))
            await trio.sleep(self._every_s)
            with trio.move_on_after(math.inf if saved else self._again_s):
                await rounds.newer_than(seen)

    async def follow(self, snapshots: Watchable[Snapshot], secrets: Watchable[Secrets]) -> None:
        """Save each Snapshot, at most once a second, until cancelled. A disk that is full or gone is logged and tried again."""
        saved: Snapshot | None = None
        while True:
            seen, snapshot = snapshots.version, snapshots.value
            if snapshot.parts and snapshot != saved:
                began = trio.current_time()
                saved = snapshot if await self._save(self.save, snapshot, secrets.value) else None
                self.saved.set(saved.version if saved else self.fault)
                await trio.sleep(_REST * (trio.current_time() - began))
            await trio.sleep(self._every_s)
            with trio.move_on_after(math.inf if saved else self._again_s):
                await snapshots.newer_than(seen)

    async def _save(self, save: Callable[..., None], *what: object) -> bool:
        try:
            await trio.to_thread.run_sync(save, *what)
        except OSError as exc:
            self.fault = str(exc)
            log.error("state.unwritable", directory=str(self.path), error=self.fault, retry_in_s=self._again_s)
            return False
        return True


def _snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Its canonical JSON, part by part: one call for 100,000 endpoints would keep the whole process waiting."""
    yield b'{"version":' + msgspec.json.encode(snapshot.version) + b',"parts":{'
    for index, (name, part) in enumerate(snapshot.parts.items()):
        yield (b"," if index else b"") + msgspec.json.encode(name) + b":" + canonical(part)
    yield b"}}"


def _remembered(remembered: Remembered) -> Iterator[bytes]:
    yield b'{"documents":['
    yield from _listed(remembered.documents)
    yield b'],"shards":['
    for index, shard in enumerate(remembered.shards):
        yield (b"," if index else b"") + b'{"key":' + msgspec.json.encode(shard.key) + b',"services":['
        yield from _listed(shard.services)
        yield b"]}"
    yield b"]}"


def _listed(items: Iterable[object]) -> Iterator[bytes]:
    for index, item in enumerate(items):
        yield (b"," if index else b"") + msgspec.json.encode(item)


def _replace(path: Path, pieces: Iterable[bytes]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
