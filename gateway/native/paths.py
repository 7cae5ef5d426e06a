"""Path normalisation before anything looks at a path: what Istio's default (BASE) does, RFC 3986 section 5.2.4.

`/public/../admin` and `/public/%2e%2e/admin` are `/admin`, and a backslash is a slash: a route or policy that looked at one form
while the workload resolves the other would be passed by. Pure.
"""

from __future__ import annotations

import re

_DOT = re.compile(rb"%2[eE]")


def needs_normalising(target: bytes) -> bool:
    """Cheap; true for all that `normalised` would change, and some more."""
    return b"/." in target or b"%2" in target or b"\\" in target


def normalised(target: bytes) -> bytes:
    """The target with dot segments resolved; the query is left alone."""
    path, mark, query = target.partition(b"?")
    path = path.replace(b"\\", b"/")
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for index, segment in enumerate(segments):
        plain = _DOT.sub(b".", segment) if b"%" in segment else segment
        last = index == len(segments) - 1
        if plain == b"..":
            if kept:
                kept.pop()
            if last:
                kept.append(b"")
        elif plain == b".":
            if last:
                kept.append(b"")
        else:
            kept.append(plain)
    return b"/" + b"/".join(kept) + mark + query
