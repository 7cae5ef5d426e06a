"""The state directory's last good Snapshot and keys: what a new control process begins with.

    DIR/snapshot.json   {"version", "parts"}: the Snapshot's canonical form; nothing secret
    DIR/keys.json       {digest: base64}: the private keys that it names, mode 0600
    DIR/documents.json  the last good version of every document (Secrets among them), for files that are broken at the next start

Each file is replaced whole (written beside, synced, renamed), keys first, so that a Snapshot never names a key that is not there.
The directory is 0700.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import structlog
import trio

from discovery.document import RawDocument
from discovery.watch import Watchable
from gateway.secret import Secret, Secrets
from gateway.snapshot import Part, Snapshot

log = structlog.get_logger("control")

# Endpoints may come and go many times a second in a large federation; what is on disk is for a restart, and may be this old.
_EVERY_S = 1.0
_AGAIN_S = 30.0


class _Stored(msgspec.Struct):
    version: str
    parts: dict[str, Part]


class StateDirectory:
    """`path` is made with mode 0700 when it is first written to."""

    def __init__(self, path: Path, *, every_s: float = _EVERY_S, again_s: float = _AGAIN_S) -> None:
        self.path = path
        self.saved: Watchable[str] = Watchable("")  # version of what `follow` wrote last; an error's text when it could not
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
        _replace(self.path / "keys.json", msgspec.json.encode({digest: key.reveal() for digest, key in secrets.items()}))
        _replace(self.path / "snapshot.json", snapshot.json())

    def load_documents(self) -> tuple[RawDocument, ...]:
        """What `save_documents` wrote last; () when there is nothing or it cannot be used."""
        try:
            return msgspec.json.decode((self.path / "documents.json").read_bytes(), type=tuple[RawDocument, ...])
        except FileNotFoundError:
            return ()
        except (OSError, msgspec.DecodeError) as exc:
            log.warning("state.unreadable", directory=str(self.path), error=str(exc), action="beginning without it")
            return ()

    def save_documents(self, documents: Sequence[RawDocument]) -> None:
        """Replace what is there. Raises OSError."""
        self.prepare()
        _replace(self.path / "documents.json", msgspec.json.encode(documents))

    async def follow_documents(self, rounds: Watchable[int], good: Callable[[], Sequence[RawDocument]]) -> None:
        """Save what is good after each round in which it changed, until cancelled. The old stays when the disk refuses."""
        seen, saved = rounds.version, None
        while True:
            if rounds.value and (documents := good()) != saved:
                saved = documents
                try:
                    await trio.to_thread.run_sync(self.save_documents, documents)
                except OSError as exc:
                    log.error("state.unwritable", directory=str(self.path), error=str(exc))
            await trio.sleep(self._every_s)
            seen, _ = await rounds.newer_than(seen)

    async def follow(self, snapshots: Watchable[Snapshot], secrets: Watchable[Secrets]) -> None:
        """Save each Snapshot, at most once a second, until cancelled. A disk that is full or gone is logged and tried again."""
        saved: Snapshot | None = None
        while True:
            seen, snapshot = snapshots.version, snapshots.value
            if snapshot.parts and snapshot != saved:
                saved = snapshot if await self._save(snapshot, secrets.value) else None
            await trio.sleep(self._every_s)
            with trio.move_on_after(math.inf if saved else self._again_s):
                await snapshots.newer_than(seen)

    async def _save(self, snapshot: Snapshot, secrets: Secrets) -> bool:
        try:
            await trio.to_thread.run_sync(self.save, snapshot, secrets)
        except OSError as exc:
            log.error("state.unwritable", directory=str(self.path), error=str(exc), retry_in_s=self._again_s)
            self.saved.set(str(exc))
            return False
        self.saved.set(snapshot.version)
        return True


def _replace(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
