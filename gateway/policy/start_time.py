"""When a request began, in the formats that START_TIME takes: strftime's directives, and fractions of a second.

`%s` seconds since 1970, `%f` nanoseconds, `%3f` as many digits of the fraction as asked, `%E3S` seconds with their fraction; in UTC. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

STANDARD = "%Y-%m-%dT%H:%M:%E3SZ"  # Envoy's own, and its access log's

_DIRECTIVE = re.compile(r"%(?:([1-9])?f|E([1-9])S|(.?))", re.DOTALL)
_CALENDAR = {letter: f"%{letter}" for letter in "YmdHMSyjaAbBpIezZu%"} | {
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "D": "%m/%d/%y",
    "R": "%H:%M",
}
_FRACTION = 9  # digits of %f: Envoy counts in nanoseconds, our clock in microseconds

Piece = Callable[[datetime, int], str]
"""(moment, microseconds since 1970) → text."""


def format_fault(text: str) -> str | None:
    """What is wrong with a format, or None."""
    for found in _DIRECTIVE.finditer(text):
        if found[3] is not None and found[3] != "s" and found[3] not in _CALENDAR:
            known = " ".join(f"%{letter}" for letter in sorted((*_CALENDAR, "s", "f")))
            return f"`{found[0]}` is no directive of START_TIME; known are {known}, %3f and %E3S with any digit"
    return None


class StartTime:
    """A format made ready. It has no fault."""

    __slots__ = ("_pieces",)

    def __init__(self, text: str) -> None:
        self._pieces: list[Piece] = []
        end, plain = 0, ""
        for found in _DIRECTIVE.finditer(text):
            plain += text[end : found.start()].replace("%", "%%")
            end = found.end()
            if found[3] is not None and found[3] != "s":
                plain += _CALENDAR[found[3]]
                continue
            self._plain(plain)
            plain = ""
            self._pieces.append(_special(found))
        self._plain(plain + text[end:])

    def _plain(self, text: str) -> None:
        if text:
            self._pieces.append(lambda moment, _: moment.strftime(text))

    def text(self, seconds: float) -> bytes:
        """seconds: since 1970."""
        micros = int(seconds * 1_000_000)
        moment = datetime.fromtimestamp(micros // 1_000_000, UTC)
        return "".join([piece(moment, micros) for piece in self._pieces]).encode()


def _special(found: re.Match[str]) -> Piece:
    if found[3] == "s":
        return lambda _, micros: str(micros // 1_000_000)
    digits = int(found[1] or found[2] or _FRACTION)

    def fraction(_: datetime, micros: int) -> str:
        return f"{micros % 1_000_000 * 1000:09d}"[:digits]

    if found[2]:
        return lambda moment, micros: f"{moment:%S}.{fraction(moment, micros)}"
    return fraction
