"""What is done to headers on the way (virtual_service.proto Headers)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from federation.resources.checks import fault, header_name_fault, header_value_fault
from federation.resources.message import Fault, Message

AUTHORITY = ("host", ":authority")  # one thing with two names: setting it rewrites the authority


class HeaderOperations(Message):
    set: dict[str, str] = Field(default_factory=dict)
    add: dict[str, str] = Field(default_factory=dict)
    remove: tuple[str, ...] = ()

    @property
    def authorities(self) -> list[str]:
        """Every value given to the authority."""
        return [value for values in (self.set, self.add) for name, value in values.items() if name.lower() in AUTHORITY]


class Headers(Message):
    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()

    def faults(self) -> Iterator[Fault]:
        for side, operations in (("request", self.request), ("response", self.response)):
            for verb, values in (("set", operations.set), ("add", operations.add)):
                for name, value in values.items():
                    yield from fault((side, verb, name), _name_fault(name, authority=side == "request"))
                    yield from fault((side, verb, name), header_value_fault(value))
            for index, name in enumerate(operations.remove):
                yield from fault((side, "remove", index), _name_fault(name, authority=False))


def _name_fault(name: str, *, authority: bool) -> str | None:
    if name.lower() in AUTHORITY:
        return None if authority else f"`{name}` cannot be changed here; the authority is set on requests only"
    if name.startswith(":"):
        return f"`{name[:80]}` is a pseudo-header and cannot be changed; use rewrite"
    return header_name_fault(name)
