"""Files that hold keys: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from federation.trust.identity import TrustError


def private_directory(path: Path) -> None:
    """Makes `path` (and what is above it) with mode 0700; one that exists keeps its mode: it is somebody's. Raises TrustError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise TrustError(f"{path}: cannot make this directory for keys: {error.strerror or error}") from error


def write_private(path: Path, content: bytes) -> None:
    """Replaces `path` with `content`, mode 0600, in one step: a reader or a crash sees the old file or the new one. Raises TrustError."""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise TrustError(
            f"{path}: cannot write: {error.strerror or error}; check that the directory is there and writable"
        ) from error


def read_file(path: Path, what: str) -> bytes:
    """The file's bytes. Raises TrustError that names the path, `what` it should have been, and the reason."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise TrustError(f"{path}: no such file; it should be {what}") from error
    except OSError as error:
        raise TrustError(f"{path}: cannot read {what}: {error.strerror or error}") from error
