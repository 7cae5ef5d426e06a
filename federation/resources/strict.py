"""One mapping read strictly against one Message class: the message, and every fault of it at once.

Theory of operation. Three passes. (1) Names: every key is compared with what the class knows; unknown keys and those of `later` become
faults and are left out, nulls are left out (protobuf: not set), snake_case becomes camelCase. (2) Types: pydantic; what it refuses
is a fault and is cut out (what is required and missing gets a stand-in), and the rest is read again, so that a wrong number does not
hide the rest. (3) Rules: `faults()` of every message
that came to be; a rule about a place where something was cut out is not believed. Texts never quote a value they do not have to:
Secrets are read here too.
"""

from __future__ import annotations

import functools
import itertools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from federation.resources.message import Fault, Message, Path
from federation.resources.patch import cut, filled
from federation.resources.wording import translated

M = TypeVar("M", bound=Message)

MOST_FAULTS = 200  # of one document: enough for any author, and a bound on what hostile input can cost


class _Field(msgspec.Struct, frozen=True):
    """Which message class stands in a field, if any, and how: itself, in a list, or by name in a mapping."""

    message: type[Message] | None = None
    container: str = ""


class _Names(msgspec.Struct, frozen=True):
    fields: Mapping[str, _Field]  # by the name in documents
    spellings: Mapping[str, str]  # every accepted spelling → the name in documents
    later: frozenset[str]
    passed_over: frozenset[str]


class _Reading:
    """What pass 1 leaves behind for the others."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.cut: list[Path] = []
        self.meant: set[Path] = set()  # fields that a misspelt key probably meant: not "missing" as well
        self.filled: set[Path] = set()  # places that were treated once
        self.spelt: dict[Path, str] = {}  # by canonical path: the key as it was written

    def refuse(self, path: Path, message: str) -> None:
        self.faults.append(Fault(path, message))
        self.cut.append(path)

    def cut_at(self, path: Path) -> bool:
        """Something at, above or below `path` was taken out, so what is said about it may not be the author's doing."""
        return any(_touches(path, cut) for cut in self.cut)

    def written(self, path: Path) -> Path:
        """A canonical path with the keys as the author spelt them, so that lines are found."""
        return tuple(self.spelt.get(path[: index + 1], key) for index, key in enumerate(path))


def read_message(model: type[M], data: object) -> tuple[M | None, tuple[Fault, ...]]:
    """The message, or None when anything is wrong; all faults, warnings included. Raises nothing, whatever `data` is made of."""
    reading = _Reading()
    shaped = _shaped(data, model, (), reading)
    message = _typed(shaped, model, reading)
    warnings: list[Fault] = []
    if message is not None:
        for found in itertools.islice(_rules(message, ()), MOST_FAULTS):
            if found.warning:
                warnings.append(found)
            elif not reading.cut_at(found.path) and found.path not in reading.meant:
                reading.faults.append(found)
    errors = reading.faults[:MOST_FAULTS]
    faults = tuple(Fault(reading.written(one.path), one.message, one.warning) for one in (*errors, *warnings))
    return (None if errors else message), faults


def nearest(word: str, known: Sequence[str]) -> str:
    """`; did you mean `X`?`, or "" when nothing is near."""
    near = get_close_matches(word[:80], known, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


# ------------------------------------------------------------------------------------------------------------ pass 1: names


@functools.cache
def _names(model: type[Message]) -> _Names:
    fields: dict[str, _Field] = {}
    spellings: dict[str, str] = {}
    for name, info in model.model_fields.items():
        alias = info.alias or name
        fields[alias] = _field(info.annotation)
        spellings[alias] = alias
        spellings.setdefault(name.rstrip("_"), alias)
    return _Names(fields, spellings, frozenset(model.later), frozenset(model.passed_over))


def _field(annotation: Any, container: str = "") -> _Field:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return _Field(annotation, container)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        inner = [_field(argument) for argument in arguments]
        return next((field for field in inner if field.message), _Field())
    if origin is tuple:
        return _field(arguments[0], "list")
    if origin is dict:
        return _field(arguments[1], "map")
    return _Field()


def _shaped(data: object, model: type[Message], at: Path, reading: _Reading) -> object:
    if not isinstance(data, Mapping):
        return data
    names = _names(model)
    shaped: dict[str, object] = {}
    for key, value in data.items():
        alias = names.spellings.get(key) if isinstance(key, str) else None
        if alias is None:
            _unknown(key, value, names, at, reading)
        elif alias in shaped:
            reading.refuse((*at, alias), f"`{alias}` is written twice, in two spellings; keep one")
        elif value is not None:
            if alias != key:
                reading.spelt[(*at, alias)] = key
            shaped[alias] = _descended(value, names.fields[alias], (*at, alias), reading)
    return shaped


def _descended(value: object, field: _Field, at: Path, reading: _Reading) -> object:
    if field.message is None:
        return value
    if field.container == "list" and isinstance(value, list | tuple):
        return [_shaped(item, field.message, (*at, index), reading) for index, item in enumerate(value)]
    if field.container == "map" and isinstance(value, Mapping):
        return {key: _shaped(item, field.message, (*at, key), reading) for key, item in value.items()}
    return _shaped(value, field.message, at, reading) if not field.container else value


def _unknown(key: object, value: object, names: _Names, at: Path, reading: _Reading) -> None:
    if not isinstance(key, str):
        reading.faults.append(Fault(at, "a field's name must be text; put it in quotes"))
        return
    if len(reading.faults) >= MOST_FAULTS:
        return  # it is refused already; hints cost time
    name = key if "_" not in key else to_camel(key)
    if name in names.passed_over:
        return
    path = (*at, key)
    if name in names.later:
        if value is not None and value is not False:  # false is protobuf's "not set"
            reading.refuse(path, f"`{key}` is not supported yet; remove it")
        return
    known = (*names.fields, *names.later)
    hint = nearest(name, known)
    near = get_close_matches(name[:80], known, n=1, cutoff=0.6)
    if near:
        reading.meant.add((*at, near[0]))
    there = ", ".join(sorted(names.fields)) or "nothing"
    reading.refuse(path, f"unknown field `{key[:80]}`{hint or f'; known here: {there}'}")


# ------------------------------------------------------------------------------------------------------------ pass 2: types


def _typed(shaped: object, model: type[M], reading: _Reading) -> M | None:
    """None when what is left after cutting is no message any more."""
    while True:  # each round cuts something, or ends
        try:
            return model.model_validate(shaped)
        except ValidationError as refused:
            errors = refused.errors(include_url=False)
        faults = [translated(error) for error in errors[:MOST_FAULTS]]
        reading.faults += [one for one in faults if one.path not in reading.meant and not reading.cut_at(one.path)]
        if len(errors) > MOST_FAULTS:
            return None
        fresh: list[Path] = []
        for one in faults:
            if any(one.path[: len(cut)] == cut for cut in fresh):
                continue
            if one.path in reading.filled:  # a stand-in that does not fit either: go higher, so that this ends
                place = cut(shaped, one.path[:-1])
            else:
                place = filled(shaped, model, one.path) or cut(shaped, one.path)
                reading.filled.add(one.path)
            if place is None:
                return None
            fresh.append(place)
        reading.cut += fresh


# ------------------------------------------------------------------------------------------------------------ pass 3: rules


def _rules(message: Message, at: Path) -> Iterator[Fault]:
    for found in message.faults():
        yield Fault((*at, *found.path), found.message, found.warning)
    for name, info in type(message).model_fields.items():
        alias = info.alias or name
        if _names(type(message)).fields[alias].message is not None:
            yield from _rules_in(getattr(message, name), (*at, alias))


def _rules_in(value: object, at: Path) -> Iterator[Fault]:
    if isinstance(value, Message):
        yield from _rules(value, at)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _rules(item, (*at, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _rules(item, (*at, key))


def _touches(first: Path, second: Path) -> bool:
    """One lies within the other."""
    length = min(len(first), len(second))
    return first[:length] == second[:length]
