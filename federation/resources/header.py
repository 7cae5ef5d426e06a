"""What is done to headers on the way (virtual_service.proto Headers)."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from federation.resources.checks import fault, header_name_fault, header_value_fault, warning
from federation.resources.message import Fault, Message, Path
from federation.resources.substitution import Misread, parse
from gateway.snapshot import Operator, Template

AUTHORITY = ("host", ":authority")  # one thing with two names: setting it rewrites the authority
_FRAMING = ("content-length", "transfer-encoding")
_OF_ANSWERS = ("RESP", "RESPONSE_CODE_DETAILS", "UPSTREAM_HOST")


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
                    yield from _operator_faults((side, verb, name), value)
                    yield from _framing((side, verb, name), name)
            for index, name in enumerate(operations.remove):
                yield from fault((side, "remove", index), _name_fault(name, authority=False))
                yield from _framing((side, "remove", index), name)


def _operator_faults(path: tuple[str, str, str], value: str) -> Iterator[Fault]:
    """What is wrong with the value's command operators."""
    try:
        template = parse(value)
    except Misread as misread:
        yield from fault(path, str(misread))
        return
    if not isinstance(template, Template):
        return
    side, _, name = path
    if name.lower() in AUTHORITY:
        yield from fault(path, "the authority is taken as it is written, without command operators (as in Istio); write a name")
    elif side == "request":
        for part in template.parts:
            if isinstance(part, Operator) and part.name in _OF_ANSWERS:
                yield from warning(path, f"`%{part.name}%` is empty in a request's headers: nothing has been answered yet")


def _framing(path: Path, name: str) -> Iterator[Fault]:
    """A warning for what would let one message's body be read as the next message."""
    if name.lower() in _FRAMING:
        yield from warning(path, f"`{name}` stays as it is: the gateway itself says where a body ends; leave it out")


def _name_fault(name: str, *, authority: bool) -> str | None:
    if name.lower() in AUTHORITY:
        return None if authority else f"`{name}` cannot be changed here; the authority is set on requests only"
    if name.startswith(":"):
        return f"`{name[:80]}` is a pseudo-header and cannot be changed; use rewrite"
    return header_name_fault(name)
