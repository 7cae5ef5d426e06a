"""Where real peers stay once they are built or installed."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """It is there when this returns."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedgate-peers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
