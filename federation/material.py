"""Files that documents name (certificates, keys, peers' bundles): read, watched, handed on as data.

Theory of operation. What is wanted changes with the documents, what is in the files changes by itself: both are looked at once a second,
with one stat call a file, and at once when something new is wanted. A file that cannot be read is a FileContent with a fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import trio

from discovery.signature import Signature, signature
from discovery.watch import Watchable
from federation.compile.credentials import FileContent
from federation.compile.inputs import elsewhere

LOOK_EVERY = 1.0  # seconds: one stat call a file, and an operator's patience
LARGEST = 1 << 20  # bytes; a certificate chain has some 10 KiB, a bundle of a thousand roots fits


class FileMaterial:
    """`contents` is what the wanted files hold now; `want` says which. Keys are the paths as they were asked for."""

    def __init__(self) -> None:
        self.contents: Watchable[Mapping[str, FileContent]] = Watchable({})
        self._wanted: frozenset[str] = frozenset()
        self._seen: dict[str, Signature] = {}

    def want(self, paths: Iterable[str]) -> Mapping[str, FileContent]:
        """Watch these files and no others; returns what is in them now."""
        self._wanted = frozenset(paths)
        self._look()
        return self.contents.value

    def reload(self) -> None:
        """Look again now. Never waits for anything but the disk."""
        self._look()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look every second until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY)
            self._look()

    def _look(self) -> None:
        signatures = {path: signature(path) for path in self._wanted}
        if signatures == self._seen:
            return
        old = self.contents.value
        contents = {
            path: old[path] if path in old and self._seen.get(path) == now else _content(path) for path, now in signatures.items()
        }
        self._seen = signatures
        if contents != old:
            self.contents.set(contents)

    def __repr__(self) -> str:
        return f"<FileMaterial {len(self._wanted)} files>"


def _content(path: str) -> FileContent:
    if why := elsewhere(path):
        return FileContent(fault=why)
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return FileContent(fault="no such file")
    except (OSError, ValueError) as error:
        return FileContent(fault=f"cannot be read: {getattr(error, 'strerror', None) or error}")
    return FileContent(fault=f"has over {LARGEST} bytes; is it the right file?") if len(data) > LARGEST else FileContent(data)
