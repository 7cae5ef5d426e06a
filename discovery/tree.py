"""YAML text into plain values that know their lines: `read(text)` gives one Tree per document, and every mistake.

Theory of operation. libyaml's event stream is folded into dicts, lists and scalars here, not by PyYAML's constructors, for
four reasons: each value's line is kept, so that a later complaint about `spec.servers[0].port` can name it; a key written
twice is an error and not a silent last-one-wins; an alias costs what it would cost written out, so a billion laughs is
refused; and nesting is bounded before any recursion in C sees it. Text is cut at `---` lines first (the marker is not
allowed inside content), so a mistake in one document leaves its neighbours readable and all mistakes come at once.

Values are JSON's: keys are strings as written, timestamps and sexagesimals (`10:30`) stay strings as in Kubernetes.
Pure: text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import yaml

# A hundred levels: the deepest schema users write here (VirtualService) has 9; Python's own stack allows about 300 of ours.
MAX_DEPTH = 100
# Values in one document, aliases counted as written out: a ServiceEntry with its 4,096 endpoints of 20 fields and labels
# each is about 170,000.
MAX_VALUES = 250_000
# Longer paths are not kept (the nearest known parent answers): otherwise one huge key above many values costs their product.
MAX_PATH = 512

_MARKER = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_ONLY_PREAMBLE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)*[ \t]*(?:#[^\n]*|%[^\n]*)?")
# JSON writes characters beyond U+FFFF as two escapes, which libyaml refuses; json.dumps does so by default.
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_CORE = "tag:yaml.org,2002:"
_CONSTRUCT = yaml.constructor.SafeConstructor()


class Fault(msgspec.Struct, frozen=True, order=True):
    """One mistake: the line it is on (1 is the first), what is wrong, what to do."""

    line: int
    message: str
    remedy: str


class Tree(msgspec.Struct, frozen=True):
    """One document: its value, the line each path stands on ("" is the document), and what is wrong with it (then `value`
    must not be used)."""

    value: Any
    lines: Mapping[str, int]
    faults: tuple[Fault, ...] = ()


class _Refused(Exception):
    """Ends the reading of one document; carries its Fault."""

    def __init__(self, line: int, message: str, remedy: str) -> None:
        super().__init__(message)
        self.fault = Fault(line, message, remedy)


def join(path: str, key: str | int) -> str:
    """The path of a child: `join("spec.servers", 0)` → `spec.servers[0]`, `join("spec", "hosts")` → `spec.hosts`."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def read(text: str) -> tuple[Tree, ...]:
    """Every document of `text` that is not empty. Never raises for what the text says: faults are in the Trees."""
    trees: list[Tree] = []
    if text.lstrip()[:1] == "{":
        text = _PAIR.sub(_joined, text)
    for chunk, first_line in _chunks(text):
        trees.extend(_Reader(chunk, first_line).documents())
    return tuple(trees)


def _joined(pair: re.Match[str]) -> str:
    return pair[1] + chr(0x10000 + ((int(pair[2], 16) & 0x3FF) << 10) + (int(pair[3], 16) & 0x3FF))


def _chunks(text: str) -> Iterator[tuple[str, int]]:
    """The text cut before each `---`, with the line each piece starts on; pieces of comments and directives alone are left out."""
    starts = [0, *(match.start() for match in _MARKER.finditer(text) if match.start())]
    line = 1
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        chunk = text[start:end]
        if not _ONLY_PREAMBLE.fullmatch(chunk):
            yield chunk, line
        line += chunk.count("\n")


class _Reader:
    """Folds the events of one piece of text. `_next` is the only place that meets libyaml."""

    def __init__(self, text: str, first_line: int) -> None:
        self._base = first_line
        self._last = text.rstrip("\n").count("\n")
        self._events = yaml.parse(text, Loader=yaml.CSafeLoader)
        self._start()

    def _start(self) -> None:
        self._faults: list[Fault] = []
        self._lines: dict[str, int] = {}
        self._anchors: dict[str, tuple[Any, int] | None] = {}

    def documents(self) -> Iterator[Tree]:
        """Each document; one that has to be refused is the last, for nothing after it can be trusted to begin where it seems to."""
        try:
            while (event := self._next()) is not None:
                if not isinstance(event, yaml.DocumentStartEvent):
                    continue
                self._start()
                value, _ = self._value(self._next(), "", 0)
                if value is not None or self._faults:
                    yield Tree(value, self._lines, tuple(sorted(self._faults)))
        except _Refused as refused:
            yield Tree(None, {"": self._lines.get("", self._base)}, tuple(sorted([*self._faults, refused.fault])))

    def _next(self) -> Any:
        try:
            return next(self._events, None)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            if error.problem in _BEGAN_EARLIER and error.context_mark:
                mark = error.context_mark
            line = min(mark.line if mark else 0, self._last)
            what = " ".join(part for part in (error.context, error.problem) if part)
            raise _Refused(self._base + line, f"not YAML: {what}", _HINTS.get(error.problem or "", _HINT)) from error
        except (yaml.YAMLError, UnicodeError) as error:
            raise _Refused(self._base, f"not YAML: {str(error).splitlines()[0]}", "save the file as UTF-8 text") from error

    def _line(self, event: Any) -> int:
        return int(self._base + event.start_mark.line)

    def _value(self, event: Any, path: str, depth: int) -> tuple[Any, int]:
        """The value that begins with `event`, and how many values it is made of, aliases written out."""
        line = self._line(event)
        self._note(path, line)
        if depth > MAX_DEPTH:
            raise _Refused(line, f"nested more than {MAX_DEPTH} levels deep", "no resource needs this; look for a runaway template")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            result = self._scalar(event, line), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            result = self._sequence(path, depth)
        else:
            result = self._mapping(path, depth)
        if result[1] > MAX_VALUES:
            raise _Refused(
                line,
                f"holds more than {MAX_VALUES} values, aliases written out",
                "split it, or write out the aliases that multiply",
            )
        if anchor is not None:
            self._anchors[anchor] = result
        return result

    def _note(self, path: str, line: int) -> None:
        if len(path) <= MAX_PATH:
            self._lines.setdefault(path, line)

    def _alias(self, event: Any, line: int) -> tuple[Any, int]:
        if event.anchor not in self._anchors:
            raise _Refused(
                line, f"alias *{event.anchor} has no anchor &{event.anchor} before it", "define the anchor in this document"
            )
        found = self._anchors[event.anchor]
        if found is None:
            raise _Refused(line, f"alias *{event.anchor} stands inside its own anchor", "write the value out")
        return found

    def _sequence(self, path: str, depth: int) -> tuple[Any, int]:
        items: list[Any] = []
        size = 1
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item, cost = self._value(event, join(path, len(items)), depth + 1)
            items.append(item)
            size += cost
        return items, size

    def _mapping(self, path: str, depth: int) -> tuple[Any, int]:
        result: dict[str, Any] = {}
        written: dict[str, int] = {}
        merged: list[tuple[Any, int]] = []
        size = 1
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            line = self._line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise _Refused(line, f"a key of {path or 'the document'} is not a plain text", "write keys as plain strings")
            key = event.value
            child = join(path, key)
            self._note(child, line)
            value, cost = self._value(self._next(), child, depth + 1)
            size += cost
            if key == "<<" and event.implicit[0]:
                merged.append((value, line))
            elif key in written:
                message = f"{child} is written twice, first on line {written[key]}"
                self._faults.append(Fault(line, message, "keep one of them"))
            else:
                written[key] = line
                result[key] = value
        for value, line in merged:
            self._merge(result, value, path, line)
        return result, size

    def _merge(self, result: dict[str, Any], value: Any, path: str, line: int) -> None:
        """YAML's `<<`: keys of other mappings where the mapping itself has none."""
        for other in value if isinstance(value, list) else [value]:
            if not isinstance(other, dict):
                raise _Refused(
                    line, f"{join(path, '<<')} does not name a mapping", "give << an alias of a mapping, or a list of them"
                )
            for key, inner in other.items():
                if key not in result:
                    result[key] = inner
                    self._note(join(path, key), line)

    def _scalar(self, event: Any, line: int) -> Any:
        text: str = event.value
        tag = event.tag if event.tag not in (None, "!") else (_implicit(text) if event.implicit[0] else _CORE + "str")
        if tag == _CORE + "str" or tag == _CORE + "timestamp":
            return text
        if tag in (_CORE + "int", _CORE + "float") and ":" in text:
            return text
        if tag not in _SCALARS:
            raise _Refused(
                line, f"the tag {tag.replace(_CORE, '!!')} is not for configuration", "leave the tag out, or quote the value"
            )
        try:
            return _SCALARS[tag](yaml.ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError) as error:
            raise _Refused(line, f"{text[:40]!r} is not a {tag.removeprefix(_CORE)}", "quote it if it is meant as text") from error


_SCALARS: Mapping[str, Any] = {
    _CORE + "null": lambda node: None,
    _CORE + "bool": _CONSTRUCT.construct_yaml_bool,
    _CORE + "int": _CONSTRUCT.construct_yaml_int,
    _CORE + "float": _CONSTRUCT.construct_yaml_float,
}
# What is missing was due where the thing began; libyaml notices lines later.
_BEGAN_EARLIER = frozenset({"could not find expected ':'", "found unexpected end of stream"})
_HINT = "mend the YAML near that line: indentation, quotes, brackets"
_HINTS = {
    "found character that cannot start any token": "indent with spaces instead of tabs; quote values that begin with @, ` or %",
    "mapping values are not allowed in this context": "put a space after each colon, quote values that contain ': ', check the indentation",
}


def _implicit(text: str) -> str:
    """The tag that YAML 1.1 gives plain text, as Kubernetes reads it."""
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text) and tag not in (_CORE + "merge", _CORE + "value"):
            return str(tag)
    return _CORE + "str"
