"""What header values with command operators become for one request (Envoy's substitution format, in custom request and response headers).

Theory of operation, Envoy's: at each level of operations what is removed goes first, then every value is made from the headers as they
are then, then they are set and added. An operator that knows nothing gives nothing; a value that is empty as a whole is not written,
and a header that it would have replaced stays as it came. REQ in a response reads the request as it was sent on. Pure: what is known of
the exchange is an argument.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from gateway.parts.substitution import Operator, Template
from gateway.policy.start_time import STANDARD, StartTime


class Takes(enum.Enum):
    """What may stand in an operator's parentheses."""

    NOTHING = "nothing"
    HEADER = "header"  # NAME or NAME?ALTERNATIVE, and a length may follow
    FORMAT = "format"  # of a time, or nothing


FACTS = (
    "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_LOCAL_PORT",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_REMOTE_ADDRESS",
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
    "DOWNSTREAM_REMOTE_PORT",
    "DOWNSTREAM_TLS_VERSION",
    "HOSTNAME",
    "PROTOCOL",
    "REQUESTED_SERVER_NAME",
    "RESPONSE_CODE",
    "RESPONSE_CODE_DETAILS",
    "RESPONSE_FLAGS",
    "ROUTE_NAME",
    "STREAM_ID",
    "UPSTREAM_CLUSTER",
    "UPSTREAM_HOST",
)
"""Operators without parentheses: what the data plane knows of an exchange."""

OPERATORS: Mapping[str, Takes] = {
    **dict.fromkeys(FACTS, Takes.NOTHING),
    "REQ": Takes.HEADER,
    "RESP": Takes.HEADER,
    "START_TIME": Takes.FORMAT,
}


class Facts(Protocol):
    """Of one exchange, at one level of operations."""

    def requested(self, name: bytes) -> bytes | None:
        """The first value of that header of the request, lower case, or pseudo-header; None = it has none."""

    def answered(self, name: bytes) -> bytes | None:
        """The same of the response; None also while there is none yet."""

    def told(self, fact: str) -> bytes:
        """One of FACTS; b"" = not known."""

    def began(self) -> float:
        """When the request began, in seconds since 1970."""


Piece = bytes | Callable[[Facts], bytes]


class Value:
    """A Template made ready."""

    __slots__ = ("_pieces",)

    def __init__(self, template: Template) -> None:
        self._pieces: list[Piece] = [part.encode() if isinstance(part, str) else _piece(part) for part in template.parts]

    def text(self, facts: Facts) -> bytes:
        return b"".join([piece if type(piece) is bytes else piece(facts) for piece in self._pieces])  # type: ignore[operator]


def _piece(operator: Operator) -> Piece:
    name, longest = operator.name, operator.longest
    if name == "START_TIME":
        start = StartTime(operator.argument or STANDARD)
        return lambda facts: start.text(facts.began())
    if name not in ("REQ", "RESP"):
        return lambda facts: facts.told(name)
    first, second = operator.argument.encode(), operator.alternative.encode()

    def value(facts: Facts) -> bytes:
        find = facts.requested if name == "REQ" else facts.answered
        found = find(first)
        if found is None and second:
            found = find(second)
        return b"" if found is None else found if longest < 0 else found[:longest]

    return value


def reads_request(value: str | Template) -> bool:
    """Whether the request's headers are asked for."""
    return isinstance(value, Template) and any(isinstance(part, Operator) and part.name == "REQ" for part in value.parts)


class Changes:
    """What one level of header operations sets and adds, where a value has operators. Names in lower case."""

    __slots__ = ("_adding", "_setting")

    def __init__(self, setting: Collection[tuple[str, str | Template]], adding: Collection[tuple[str, str | Template]]) -> None:
        self._setting = [(name.encode(), _ready(value)) for name, value in setting]
        self._adding = [(name.encode(), _ready(value)) for name, value in adding]

    def applied(self, lines: list[bytes], facts: Facts) -> list[bytes]:
        """The header lines after it. All values are made before the first line changes."""
        setting = [(name, text) for name, value in self._setting if (text := _text(value, facts))]
        adding = [(name, text) for name, value in self._adding if (text := _text(value, facts))]
        if setting:
            gone = {name for name, _ in setting}
            lines = [line for line in lines if line[: line.index(b":")].lower() not in gone]
        # Spaces at its ends are no part of a value, and HTTP/2 refuses them (RFC 9110 section 5.5, RFC 9113 section 8.2.1).
        return lines + [name + b": " + text.strip(b" \t") for name, text in (*setting, *adding)]


def _ready(value: str | Template) -> bytes | Value:
    return value.encode() if isinstance(value, str) else Value(value)


def _text(value: bytes | Value, facts: Facts) -> bytes:
    return value if isinstance(value, bytes) else value.text(facts)
