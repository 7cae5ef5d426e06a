"""What pydantic refuses, in our words: what is wrong there, and what to write. Never the value itself, which may be a secret's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from federation.resources.message import Fault, Path

_WANTED = {
    "string_type": "must be text",
    "string_unicode": "must be text without lone surrogates",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, and this one is too large",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a whole number",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
}


def translated(error: Any) -> Fault:
    """pydantic's error in our words: what is wrong, what to write. Never the value itself."""
    path: Path = tuple(key for key in error["loc"] if key != "[key]")
    kind = error["type"]
    if kind == "missing":
        return Fault(path, f"`{path[-1]}` is required; write it")
    if kind == "value_error":
        return Fault(path, str(error["ctx"]["error"]))
    wanted = _WANTED.get(kind)
    if wanted is None:
        return Fault(path, f"cannot be read: {error['msg']}")
    given = _described(error["input"])
    hint = "; put it in quotes" if kind == "string_type" and given in ("a number", "true or false") else ""
    hint = "; write it as `- …` lines or in []" if kind == "tuple_type" else hint
    return Fault(path, f"{wanted}, not {given}{hint}")


def _described(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
