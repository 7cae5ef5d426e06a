"""Documents in files and directories, watched.

Theory of operation. `FileReader.look` walks the given paths, compares every file's stat with what it saw before and reads
what changed; `FileDocuments` does that twice a second, in a thread. Looking is chosen over inotify because it also sees what
inotify does not: network mounts, a ConfigMap's `..data` swapped by symlink, a directory that comes into being later; a
thousand files cost a few milliseconds a look.

A changed file is read when two looks in a row agree on it, so that an editor's half-written file is not taken for the whole
(one that never rests is read anyway, after a few looks). What cannot be read or is not YAML keeps the last good documents of
that file, and is an error until mended. A file that is gone from a directory takes its documents with it; a path given to
`-c` that is gone keeps them, because it is more likely an unmounted volume than a wish.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from discovery.document import DocumentError, Documents, Origin, Outcome, RawDocument, parse
from discovery.watch import Watchable

# Two looks and a rest between them: a change is noticed within a second.
LOOK_EVERY = 0.4
# A hundred thousand endpoints are 10 MB of YAML; more than this is a log or an image with a .yaml name.
MAX_BYTES = 16 << 20
# A tree with more files is a mistaken `-c /`.
MAX_FILES = 10_000
SUFFIXES = frozenset({".yaml", ".yml", ".json"})
# Looks after which a file that changes all the time is read all the same.
_PATIENCE = 5
_log = structlog.get_logger()

_Signature = tuple[int, int, int, int, int]


class Listing(msgspec.Struct, frozen=True):
    """The files below the given paths, as they are to be read, and what of the paths cannot be listed."""

    files: tuple[str, ...]
    errors: tuple[DocumentError, ...] = ()


def list_files(paths: Sequence[str | Path]) -> Listing:
    """Files as given, and below directories every *.yaml, *.yml and *.json that is not hidden, in order of their names.
    Symlinks are followed, each real file once. Blocks on the file system; raises nothing."""
    walk = _Walk()
    for path in paths:
        walk.add(os.fspath(path))
    return Listing(tuple(walk.files), tuple(walk.errors))


def read_file(path: str) -> tuple[tuple[RawDocument, ...], tuple[DocumentError, ...]]:
    """The documents of one file and its errors, as `parse`, with what keeps it from being read among them. Blocks on the file
    system; raises nothing."""
    try:
        with open(path, "rb", opener=_open_nonblocking) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return (), (_error(path, "is not a regular file", "give a file or a directory"),)
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        return (), (_error(path, f"cannot be read: {error.strerror}", "check that the file exists and its permissions"),)
    if len(data) > MAX_BYTES:
        return (), (_error(path, f"is larger than {MAX_BYTES >> 20} MiB", "split it, or take it out of the directory"),)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return (), (DocumentError(Origin(path, line), f"is not UTF-8: {error.reason}", "save it as UTF-8 text"),)
    return parse(text, path)


class FileReader:
    """What was read of some paths so far. Plain and synchronous: one call at a time, from any thread."""

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self._paths = tuple(os.fspath(path) for path in paths)
        self._files: dict[str, _File] = {}
        self._documents: Documents | None = None

    def look(self, *, again: bool = False) -> Documents:
        """The documents as of now; the same object as last time if nothing changed. again: read every file anew, at once.
        Blocks on the file system; raises nothing."""
        first = self._documents is None
        listing = list_files(self._paths)
        self._forget(listing)
        for path in listing.files:
            self._files.setdefault(path, _File(path)).look(at_once=again or first)
        ordered = sorted(self._files.values(), key=lambda file: file.path)
        documents = tuple(document for file in ordered for document in file.documents)
        errors = tuple(dict.fromkeys((*listing.errors, *(error for file in ordered for error in file.errors))))
        last = self._documents
        if last is None or not _same(last.documents, documents) or last.errors != errors:
            last = self._documents = Documents(documents, errors)
        return last

    def _forget(self, listing: Listing) -> None:
        """Drop the files that are gone, except those below what cannot be listed at the moment."""
        unlisted = [error.origin.file for error in listing.errors]
        for path in self._files.keys() - set(listing.files):
            if not any(_below(path, parent) for parent in unlisted):
                del self._files[path]


class FileDocuments:
    """The DocumentSource of the paths given to `-c`."""

    name = "file"
    shows = False

    def __init__(self, paths: Sequence[str | Path], *, every: float = LOOK_EVERY) -> None:
        self.documents: Watchable[Documents] = Watchable(Documents())
        self._reader = FileReader(paths)
        self._every = every
        self._wake = trio.Event()
        self._again = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """See DocumentSource. Cancellation waits for the look that is under way."""
        while True:
            again, self._again = self._again, False
            documents = await trio.to_thread.run_sync(partial(self._reader.look, again=again))
            if documents is not self.documents.value:
                _tell(self.documents.value, documents)
                self.documents.set(documents)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.move_on_after(self._every):
                await self._wake.wait()
            self._wake = trio.Event() if self._wake.is_set() else self._wake

    def reload(self) -> None:
        """See DocumentSource: at the next look, which is begun at once, every file is read anew."""
        self._again = True
        self._wake.set()

    def report(self, outcomes: Mapping[Origin, Outcome]) -> None:
        """Files take no status back: `fedgate get` and the log show it."""


class _File:
    """One file: its last good documents (those that can be read, if it never was good), and the errors of its last reading."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.documents: tuple[RawDocument, ...] = ()
        self.errors: tuple[DocumentError, ...] = ()
        self._read: _Signature | None = None
        self._seen: _Signature | None = None
        self._restless = 0
        self._good = False

    def look(self, *, at_once: bool) -> None:
        now = _signature(self.path)
        rests = now == self._seen
        self._seen = now
        if now == self._read and not at_once:
            self._restless = 0
            return
        self._restless += 1
        if at_once or rests or self._restless >= _PATIENCE:
            self._take(now)

    def _take(self, signature: _Signature | None) -> None:
        documents, self.errors = read_file(self.path)
        self._read = signature
        self._restless = 0
        self._good = self._good or not self.errors
        if (not self.errors or not self._good) and documents != self.documents:
            self.documents = documents


class _Walk:
    """Collects files below paths; a real directory or file is entered once, however many symlinks lead to it."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.errors: list[DocumentError] = []
        self._entered: set[str] = set()
        self._full = False

    def add(self, path: str) -> None:
        """One path as given: a file whatever its name, or a directory."""
        if not os.path.exists(path):
            self.errors.append(_error(path, "does not exist or may not be entered", "check the path given to -c"))
        elif os.path.isdir(path):
            self._directory(path)
        else:
            self._file(path)

    def _directory(self, path: str) -> None:
        if not self._enter(path):
            return
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            self.errors.append(_error(path, f"cannot be listed: {error.strerror}", "check the directory's permissions"))
            return
        for name in _visible(names):
            child = os.path.join(path, name)
            if os.path.isdir(child):
                self._directory(child)
            elif Path(name).suffix in SUFFIXES:
                self._file(child)

    def _file(self, path: str) -> None:
        if not self._enter(path):
            return
        if len(self.files) < MAX_FILES:
            self.files.append(path)
        elif not self._full:
            self._full = True
            self.errors.append(_error(path, f"is file number {MAX_FILES + 1}; no more are read", "give -c a narrower directory"))

    def _enter(self, path: str) -> bool:
        real = os.path.realpath(path)
        entered = real in self._entered
        self._entered.add(real)
        return not entered


def _visible(names: Iterable[str]) -> Iterator[str]:
    """Without hidden files and directories: editors' swap files, `.git`, and a ConfigMap's `..data` and its targets, whose files
    are symlinked beside them."""
    return (name for name in names if not name.startswith("."))


def _signature(path: str) -> _Signature | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _open_nonblocking(path: str, flags: int) -> int:
    """A FIFO named *.yaml must not hold the reader until somebody writes to it."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith(parent.rstrip(os.sep) + os.sep)


def _same(one: tuple[RawDocument, ...], other: tuple[RawDocument, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _error(path: str, message: str, remedy: str) -> DocumentError:
    return DocumentError(Origin(path), message, remedy)


def _tell(before: Documents, after: Documents) -> None:
    for error in set(after.errors) - set(before.errors):
        _log.warning("document.unreadable", origin=str(error.origin), error=error.message, remedy=error.remedy)
    for error in set(before.errors) - set(after.errors):
        _log.info("document.mended", origin=str(error.origin))
    _log.info("documents.read", documents=len(after.documents), errors=len(after.errors))
