"""What commands print: plain columns for people, JSON for programs."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence


class Output(enum.Enum):
    """`-o table`, `-o wide` (more columns, where there are more), `-o json`."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, two spaces apart, as wide as their widest cell: nothing is cut, so that it can be piped on."""
    lines = [list(titles), *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)
