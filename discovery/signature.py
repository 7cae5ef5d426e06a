"""Whether a file is still the one that was read."""

from __future__ import annotations

import os
from pathlib import Path

Signature = tuple[int, int, int] | None


def signature(path: str | Path) -> Signature:
    """Differs when the file was written or replaced; None when it cannot be looked at. Blocks on the file system; raises nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
