"""The table of virtual addresses in the state directory: `vips.json`, replaced whole, readable by its owner only."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from federation.trust.files import private_directory, write_private
from federation.vips import Ranges, Row

FILE = "vips.json"

log = structlog.get_logger("vips")


class _Kept(msgspec.Struct):
    """range: the rows' slots mean other addresses in another one, so they are of no use there."""

    range: str
    rows: list[Row]


def load(path: Path | None, ranges: Ranges) -> list[Row]:
    """What the file says of these ranges; nothing when there is none or it cannot be used (that is logged: names are hashed again)."""
    if path is None:
        return []
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError) as error:
        log.warning("vips.unreadable", path=str(path), error=str(error), action="addresses are found by the names' hashes again")
        return []
    return kept.rows if kept.range == _name(ranges) else []


def save(path: Path, ranges: Ranges, rows: list[Row]) -> None:
    """Raises TrustError, with what to do; the old file is whole then."""
    private_directory(path.parent)
    write_private(path, msgspec.json.encode(_Kept(_name(ranges), rows)))


def _name(ranges: Ranges) -> str:
    return "+".join(ranges.networks)
