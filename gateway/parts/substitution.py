"""Header values with command operators, taken apart (Envoy's substitution format, which Istio hands header values to)."""

from __future__ import annotations

import msgspec


class Operator(msgspec.Struct, frozen=True, gc=False):
    """`%NAME(argument?alternative):longest%`. argument: of REQ and RESP a header's name in lower case, or a pseudo-header's; of START_TIME
    a format, "" = ISO 8601. alternative: the header taken where there is none of the first name. longest: bytes of the value that are
    kept; -1 = all."""

    name: str
    argument: str = ""
    alternative: str = ""
    longest: int = -1


class Template(msgspec.Struct, frozen=True, gc=False):
    """Text and operators in turn, joined for each request; at least one operator. What an operator does not know is empty, and a value
    that becomes empty as a whole is not written at all."""

    parts: tuple[str | Operator, ...]
