"""Who may read answers across origins (virtual_service.proto CorsPolicy)."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator

from federation.resources.checks import duration_fault, fault, header_name_fault, warning
from federation.resources.match import StringMatch
from federation.resources.message import Fault, Message
from federation.resources.scalars import Flag, Milliseconds, choice_reader

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*")


class UnmatchedPreflights(enum.Enum):
    UNSPECIFIED = "UNSPECIFIED"
    FORWARD = "FORWARD"
    IGNORE = "IGNORE"


class CorsPolicy(Message):
    """allowOrigins before the older allowOrigin. unmatchedPreflights UNSPECIFIED = FORWARD."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Milliseconds | None = None
    allow_credentials: Flag | None = None
    unmatched_preflights: Annotated[UnmatchedPreflights, BeforeValidator(choice_reader(UnmatchedPreflights))] = (
        UnmatchedPreflights.UNSPECIFIED
    )

    @property
    def origins(self) -> tuple[StringMatch, ...]:
        return self.allow_origins or tuple(StringMatch(exact=origin) for origin in self.allow_origin)

    def faults(self) -> Iterator[Fault]:
        for index, origin in enumerate(self.allow_origins):
            if not (origin.exact or origin.prefix or origin.regex):
                yield Fault(("allowOrigins", index), "the origin is empty; write exact, prefix or regex")
        if self.allow_origin:
            yield from warning(("allowOrigin",), "`allowOrigin` is deprecated; write allowOrigins: [{exact: …}]")
        for index, method in enumerate(self.allow_methods):
            if method not in _METHODS:
                yield Fault(("allowMethods", index), f"`{method[:40]}` is no method; write one of {', '.join(_METHODS)}")
        for name, headers in (("allowHeaders", self.allow_headers), ("exposeHeaders", self.expose_headers)):
            for index, header in enumerate(headers):
                yield from fault((name, index), None if header == "*" else header_name_fault(header))
        yield from fault(("maxAge",), duration_fault(self.max_age))
        if self.max_age is not None and self.max_age % 1000:
            yield Fault(("maxAge",), "maxAge is in whole seconds, as the header that it becomes; write for example 600s")
