"""Shares of requests in per cent (virtual_service.proto Percent): as fine as a millionth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.message import Fault, Message

_FINEST = 0.0001  # per cent: one in a million, what Envoy counts in


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("must be a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a number") from None
    if not math.isfinite(number):
        raise ValueError("must be a number")
    return number


class Percent(Message):
    value: Annotated[float, BeforeValidator(_number)] = 0.0

    @property
    def millionths(self) -> int:
        return int(round(self.value * 10_000, 3))

    def faults(self) -> Iterator[Fault]:
        if not 0 <= self.value <= 100:
            yield Fault(("value",), f"{self.value:g} is no percentage; write 0 to 100")
        elif 0 < self.value < _FINEST:
            yield Fault(("value",), f"{self.value:g} is finer than one in a million; write 0, or {_FINEST} or more")


def share(percentage: Percent | None, deprecated: int | None, *, otherwise: int) -> int:
    """Parts per million of `percentage`, else of the deprecated whole number beside it, else `otherwise`."""
    if percentage is not None:
        return percentage.millionths
    return otherwise if deprecated is None else deprecated * 10_000
