"""Path normalisation before anything looks at a path: what Istio's default (BASE) does, RFC 3986 sections 5.2.4 and 6.2.2.

`/public/../admin`, `/public/%2e%2e/admin` and `/%61dmin` are `/admin`, and a backslash is a slash: a route or policy that looked at one
form while the workload resolves the other would be passed by. As Envoy's normalize_path: escapes of unreserved characters are undone,
what a path may not hold bare is escaped, and an escaped NUL is refused. Pure.
"""

from __future__ import annotations

import re

from gateway.errors import BadRequest

_ESCAPED = re.compile(rb"%(?:([0-9A-Fa-f]{2}))?")
_LONE = b"\xff"  # stands for a bare %; no target holds this byte
_BECOMING = re.compile(_LONE + rb"(?=[0-9A-Fa-f]{2})")
_BARE = re.compile(rb'["<>^`{|}]')
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986 section 2.3
_PLAIN = bytes(set(range(256)) - set(b'%\\"<>^`{|}'))


def needs_normalising(target: bytes) -> bool:
    """Cheap; true for all that `normalised` would change, and some more."""
    return b"/." in target or bool(target.translate(None, _PLAIN))


def normalised(target: bytes) -> bytes:
    """The target with its path in normal form; the query is left alone. Raises BadRequest."""
    path, mark, query = target.partition(b"?")
    path = path.replace(b"\\", b"/")
    if b"%" in path:
        # A bare % must not become one of an escape: whoever undoes those once more would find what was hidden by it.
        path = _BECOMING.sub(b"%25", _ESCAPED.sub(_unescaped, path)).replace(_LONE, b"%")
    path = _BARE.sub(lambda match: b"%%%02X" % match[0][0], path)
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == b"..":
            if kept:
                kept.pop()
            if last:
                kept.append(b"")
        elif segment == b".":
            if last:
                kept.append(b"")
        else:
            kept.append(segment)
    return b"/" + b"/".join(kept) + mark + query


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1] is None:
        return _LONE
    code = int(match[1], 16)
    if not code:
        raise BadRequest("path_normalization_failed")
    return bytes((code,)) if code in _UNRESERVED else match[0]
