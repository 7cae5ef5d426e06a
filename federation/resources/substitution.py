"""Command operators in header values, as Envoy reads them: `%REQ(x-user?x-account):20%`, `%START_TIME(%s)%`, `%%` for a per cent sign."""

from __future__ import annotations

import re

from gateway.policy.start_time import format_fault
from gateway.policy.substitution import OPERATORS, Takes
from gateway.snapshot import Operator, Template

_OPERATOR = re.compile(r"%([A-Z0-9_]+)(?:\(([^)]*)\))?(?::([0-9]{1,9}))?%")  # a longer length is longer than any header may be
_NAME = re.compile(r":?[!#$&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2, or a pseudo-header


class Misread(ValueError):
    """A value that cannot be read: what, where, and what to do."""


def parse(value: str) -> str | Template:
    """The value's text where it has no operators, `%%` being a per cent sign. Raises Misread."""
    if "%" not in value:
        return value
    parts: list[str | Operator] = []
    text, position = "", 0
    while position < len(value):
        if value[position] != "%":
            end = value.find("%", position)
            end = len(value) if end < 0 else end
            text += value[position:end]
            position = end
        elif value.startswith("%%", position):
            text += "%"
            position += 2
        else:
            operator, end = _operator(value, position)
            parts += [text, operator] if text else [operator]
            text, position = "", end
    if not parts:
        return text
    return Template((*parts, text) if text else tuple(parts))


def _operator(value: str, position: int) -> tuple[Operator, int]:
    """The operator that begins there, and where it ends."""
    where = f"at character {position + 1}"
    found = _OPERATOR.match(value, position)
    if found is None:
        raise Misread(f"{where}: no command operator begins here; write `%%` for a per cent sign, or {_known()}")
    name, argument = found[1], found[2] or ""
    takes = OPERATORS.get(name)
    if takes is None:
        raise Misread(f"{where}: there is no command operator `%{name}%` here; known are {_known()}")
    if found[3] and takes is not Takes.HEADER:
        raise Misread(f"{where}: `%{name}%` takes no length; remove `:{found[3]}`")
    operator = Operator(name, longest=int(found[3]) if found[3] else -1)
    if takes is Takes.HEADER:
        operator = _of_header(operator, argument, where)
    elif takes is Takes.FORMAT:
        if fault := format_fault(argument):
            raise Misread(f"{where}: {fault}")
        operator = Operator(name, argument)
    elif argument:
        raise Misread(f"{where}: `%{name}%` takes no parameters; remove `({argument[:80]})`")
    return operator, found.end()


def _of_header(operator: Operator, argument: str, where: str) -> Operator:
    first, asked, second = argument.partition("?")
    for name in (first, second) if second else (first,):
        if not _NAME.fullmatch(name):
            raise Misread(
                f"{where}: `{name[:80]}` is no header name; write %{operator.name}(NAME)% or %{operator.name}(NAME?OTHER):LENGTH%"
            )
    return Operator(operator.name, first.lower(), second.lower() if asked else "", operator.longest)


def _known() -> str:
    forms = {Takes.NOTHING: "", Takes.HEADER: "(NAME?OTHER):LENGTH", Takes.FORMAT: "(FORMAT)"}
    return ", ".join(f"%{name}{forms[takes]}%" for name, takes in sorted(OPERATORS.items()))
