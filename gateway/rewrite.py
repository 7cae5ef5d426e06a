"""Substitution: every match of an RE2 expression in a path replaced (Envoy's regex_rewrite, Istio's uriRegexRewrite).

Theory of operation. RE2's own GlobalReplace, which Envoy calls, differs from Python's `sub` in two ways: an empty match right behind the
last match is no match, and in the replacement only `\\0` to `\\9` and `\\\\` mean something. So the loop is written out here; like RE2 it
goes on by whole characters of UTF-8. Pure.
"""

from __future__ import annotations

from gateway.matching import expression


class Substitution:
    """Raises ValueError when the pattern is not RE2 or the substitution names a group that is not there."""

    __slots__ = ("_pieces", "_search")

    def __init__(self, pattern: str, substitution: str) -> None:
        compiled = expression(pattern)
        self._search = compiled.search
        self._pieces = pieces(substitution)
        highest = max((piece for piece in self._pieces if isinstance(piece, int)), default=0)
        if highest > compiled.groups:
            raise ValueError(f"the rewrite {substitution!r} names group \\{highest}, the expression has {compiled.groups}")

    def replace_all(self, text: bytes) -> bytes:
        out: list[bytes] = []
        position, last = 0, -1
        while position <= len(text):
            match = self._search(text, position)
            if match is None:
                break
            start, end = match.span()
            out.append(text[position:start])
            if start == end == last:
                position = start + _rune(text, start)
                out.append(text[start:position])
                continue
            out += [(match.group(piece) or b"") if isinstance(piece, int) else piece for piece in self._pieces]
            position = last = end
        out.append(text[position:])
        return b"".join(out)


def _rune(text: bytes, at: int) -> int:
    """How many bytes the character at this place has: of UTF-8, else 1."""
    lead = text[at : at + 1]
    length = 1 if lead < b"\xc2" else 2 if lead < b"\xe0" else 3 if lead < b"\xf0" else 4
    try:
        text[at : at + length].decode()
    except UnicodeDecodeError:
        return 1
    return length


def pieces(substitution: str) -> list[bytes | int]:
    """Text and group numbers in turn. Raises ValueError for a backslash that is followed by neither a digit nor another one."""
    found: list[bytes | int] = []
    rest = substitution.encode()
    while rest:
        text, slash, rest = rest.partition(b"\\")
        if text:
            found.append(text)
        if slash:
            if rest[:1].isdigit():
                found.append(int(rest[:1]))
            elif rest[:1] == b"\\":
                found.append(b"\\")
            else:
                raise ValueError(
                    f"in the rewrite {substitution!r} a `\\` stands before neither a digit nor another `\\`; write `\\\\`"
                )
            rest = rest[1:]
    return found
