"""The values inside messages: durations, whole numbers, choices, addresses. Each refuses what it cannot read with what to write."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BeforeValidator, PlainValidator, StrictBool

from discovery.model import Locality

_DURATION = re.compile(r"([+-]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_TERM = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_MS = {
    "ns": Decimal("0.000001"),
    "us": Decimal("0.001"),
    "µs": Decimal("0.001"),
    "μs": Decimal("0.001"),
    "ms": Decimal(1),
    "s": Decimal(1000),
    "m": Decimal(60_000),
    "h": Decimal(3_600_000),
}
_LONGEST_MS = 315_576_000_000_000  # protobuf's Duration ends at ±10,000 years

E = TypeVar("E", bound=enum.Enum)


def parse_duration(value: object) -> int:
    """`1s`, `500ms`, `1.5s`, `1h30m` (protobuf and Go) → whole milliseconds. Raises ValueError; finer than 1 ms is refused, as in Istio."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError(f'must be a duration with its unit; write "{value}s" or "{value}ms"')
    match = _DURATION.fullmatch(value) if isinstance(value, str) and len(value) <= 64 else None
    if match is None or not isinstance(value, str):
        raise ValueError("is not a duration; write a number and its unit, such as 500ms, 1.5s or 1h30m")
    milliseconds = sum((Decimal(number) * _UNIT_MS[unit] for number, unit in _TERM.findall(value)), Decimal(0))
    if milliseconds > _LONGEST_MS:
        raise ValueError("is longer than 10,000 years, the longest there is; write a shorter one")
    if milliseconds != int(milliseconds):
        raise ValueError("is finer than a millisecond; write whole milliseconds")
    if match[1] == "-" and milliseconds:
        raise ValueError("is negative; a duration is 0 or more")
    return int(milliseconds)


def _milliseconds(value: object) -> object:
    return parse_duration(value) if not isinstance(value, _Milliseconds) else int(value)


class _Milliseconds(int):
    """Marks a number as milliseconds already (see `ms`)."""


def ms(milliseconds: int) -> int:
    """A duration for a constructor in code, where there is no text to parse: `HTTPRoute(timeout=ms(500))`."""
    return _Milliseconds(milliseconds)


def _whole(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")
    if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,10}", value):  # protobuf's JSON takes "5" for 5
        raise ValueError("must be a whole number")
    return value


def _number(value: object) -> object:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("must be a number")
    return number


Milliseconds = Annotated[int, BeforeValidator(_milliseconds)]
"""A duration as written ("1s"), as whole milliseconds. In code: `ms(1000)`."""

Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Flag = StrictBool


def _not_supported(word: str) -> str:
    return f"`{word}` is not supported yet"


def choice_reader(choices: type[E], *, later: tuple[str, ...] = (), same: Mapping[str, E] | None = None) -> Callable[[Any], E]:
    """Reads one of an enum's values. later: values that are known elsewhere and not built here. same: other spellings."""
    known = {**{str(member.value): member for member in choices}, **(same or {})}

    def read(value: object) -> E:
        if isinstance(value, choices):
            return value
        if isinstance(value, str):
            word = value if value in known or value in later else value.upper()
            if word in known:
                return known[word]
            if word in later:
                raise ValueError(f"{_not_supported(word)}; write one of {', '.join(known)}")
        near = get_close_matches(str(value).upper(), known, n=1) if isinstance(value, str) else []
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ValueError(f"must be one of {', '.join(known)}{hint}")

    return read


class HostPort(NamedTuple):
    """An address to listen on or to dial. host: a name or an IP without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_host_port(value: object) -> HostPort:
    """`gw.example.com:15443`, `[::1]:15443`. Port 0 is read (a listener's "any"). Raises ValueError."""
    if isinstance(value, HostPort):
        return value
    text = value if isinstance(value, str) else ""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    if not bare or (":" in bare and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("is not an address; write HOST:PORT, such as 127.0.0.1:15080 or [::1]:15080, with a port up to 65535")
    if re.search(r"[\s/@\[\]]", bare):
        raise ValueError("is not an address; the host has a character that no name or IP has; write HOST:PORT")
    return HostPort(bare.lower(), int(port))


def parse_locality(value: object) -> Locality:
    """`region[/zone[/subzone]]`. Raises ValueError."""
    if isinstance(value, Locality):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text: region, region/zone or region/zone/subzone")
    return Locality.parse(value)


Address = Annotated[HostPort, PlainValidator(parse_host_port)]
Place = Annotated[Locality, PlainValidator(parse_locality)]
